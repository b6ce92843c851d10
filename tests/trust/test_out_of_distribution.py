"""Photos of unknown classes score lower, and the share of known photos turned away is the one asked for."""

import numpy as np
import pytest

from tip_adapter.errors import InputError
from tip_adapter.trust.out_of_distribution import Familiarity, familiarity_parts


def test_parts_against_a_loop():
    rng = np.random.default_rng(0)
    features, keys = (rng.normal(size=(n, 6)).astype(np.float32) for n in (9, 12))
    labels, folds = np.arange(12) % 3, np.arange(12) // 3
    probabilities = rng.dirichlet(np.ones(4), 9)
    asked = np.arange(9) % 4
    parts = familiarity_parts(probabilities, features, keys, labels, query_folds=asked, key_folds=folds)
    for row in range(9):
        best = probabilities[row].argmax()
        near = [features[row] @ keys[n] for n in range(12) if labels[n] == best and folds[n] != asked[row]]
        p = probabilities[row, best]
        assert parts[row, 0] == pytest.approx(np.log(p / (1 - p)))
        # Class 3 has no shots: there is nothing near.
        assert parts[row, 1] == pytest.approx(max(near)) if near else np.isnan(parts[row, 1])


def test_false_alarms_are_as_wanted():
    rng = np.random.default_rng(1)
    rates = []
    for _ in range(40):
        familiarity = Familiarity.of(rng.normal(size=(99, 2)))
        rates.append(np.mean(familiarity.score(rng.normal(size=(400, 2))) < familiarity.threshold(0.1)))
    assert np.mean(rates) == pytest.approx(0.1, abs=0.02)


def test_a_class_without_shots_is_neither_near_nor_far():
    familiarity = Familiarity.of(np.array([[0.0, np.nan], [2.0, np.nan], [1.0, 0.5], [1.0, 0.7]]))
    assert familiarity.score(np.array([[1.0, np.nan]])) == pytest.approx(0.0)
    assert np.isfinite(familiarity.scores).all()


@pytest.mark.parametrize("rate", [0.0, 1.0, 2.0, float("nan")])
def test_rate_out_of_range(rate):
    with pytest.raises(InputError, match="Expected the false-alarm rate above 0 and below 1"):
        Familiarity.of(np.zeros((30, 2))).threshold(rate)


def test_too_few_photos_say_how_many_are_needed():
    Familiarity.of(np.zeros((19, 2))).threshold(0.05)
    with pytest.raises(InputError, match="needs at least 19 calibration photos, got 18"):
        Familiarity.of(np.zeros((18, 2))).threshold(0.05)
    with pytest.raises(InputError, match="add photos"):
        Familiarity.of(np.zeros((18, 2))).threshold(5e-324)
