"""Every method is a scikit-learn classifier."""

import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from tip_adapter.methods import METHODS, TipAdapterF

ON_ENCODERS = {"coop", "full-fine-tuning"}
"""Exempt from scikit-learn's checks, which feed random features: these need an encoder, or photos. Their own tests look
at the same things on a tiny CLIP."""


def test_only_methods_on_encoders_are_exempt():
    assert {name for name, cls in METHODS.items() if cls.needs_encoder or cls.takes_images} == ON_ENCODERS


@parametrize_with_checks([cls() for name, cls in METHODS.items() if not cls.needs_text and name not in ON_ENCODERS])
@pytest.mark.filterwarnings("ignore::tip_adapter.errors.FeatureWarning")
def test_estimator_check(estimator, check):
    if isinstance(estimator, TipAdapterF) and check.func.__name__ == "check_methods_subset_invariance":
        pytest.skip("asks for 1e-7, the rounding of float32; at 1e-6 in test_batches_do_not_matter")
    check(estimator)


@pytest.mark.filterwarnings("ignore::tip_adapter.errors.FeatureWarning")
def test_batches_do_not_matter():
    rng = np.random.default_rng(0)
    X, y = 3 * rng.random((20, 3)), np.repeat([0, 1], 10)
    method = TipAdapterF().fit(X, y)
    alone = np.concatenate([method.predict_proba(row[None]) for row in X])
    np.testing.assert_allclose(method.predict_proba(X), alone, atol=1e-6)
