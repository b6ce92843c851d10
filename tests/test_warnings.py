"""Warnings name the line that called, however deep inside the reason was found."""

import warnings

import numpy as np
import pytest

from tip_adapter import ImageClassifier
from tip_adapter.methods import METHODS, method_class

EYE = np.eye(4, dtype=np.float32)


def caught_by(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return caught


def test_of_a_classifier(photos):
    caught = caught_by(lambda: ImageClassifier("fake", "gda").fit(photos / "train", shots=9))
    assert [warning.filename for warning in caught] == [__file__]
    assert "Fewer than 9 photos" in str(caught[0].message)


@pytest.mark.parametrize("name", [name for name, cls in METHODS.items() if not (cls.needs_torch or cls.transductive)])
def test_of_a_method(name):
    method = method_class(name)(EYE, logit_scale=10.0)
    rows = np.repeat(EYE, 3, axis=0)
    for call in (lambda: method.fit(3 * rows, np.repeat(range(4), 3)), lambda: method.predict(3 * rows)):
        caught = caught_by(call)
        assert {warning.filename for warning in caught} == {__file__}
        assert all("unit length" in str(warning.message) for warning in caught)
