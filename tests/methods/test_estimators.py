"""Every method is a scikit-learn classifier."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from tip_adapter.methods import METHODS

ON_ENCODERS = {"coop", "full-fine-tuning"}
"""Exempt from scikit-learn's checks, which feed random features: these need an encoder, or photos. Their own tests look
at the same things on a tiny CLIP."""


def test_only_methods_on_encoders_are_exempt():
    assert {name for name, cls in METHODS.items() if cls.needs_encoder or cls.takes_images} == ON_ENCODERS


@parametrize_with_checks([cls() for name, cls in METHODS.items() if not cls.needs_text and name not in ON_ENCODERS])
@pytest.mark.filterwarnings("ignore::tip_adapter.errors.FeatureWarning")
def test_estimator_check(estimator, check):
    check(estimator)
