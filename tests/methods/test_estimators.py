"""Every method is a scikit-learn classifier."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from tip_adapter.methods import METHODS


@parametrize_with_checks([cls() for cls in METHODS.values() if not cls.needs_text])
@pytest.mark.filterwarnings("ignore::tip_adapter.errors.FeatureWarning")
def test_estimator_check(estimator, check):
    check(estimator)
