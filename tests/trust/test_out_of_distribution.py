"""Photos of unknown classes score lower, and the share of known photos turned away is the one asked for."""

import numpy as np
import pytest

from tip_adapter.errors import InputError
from tip_adapter.trust.out_of_distribution import Familiarity, familiarity_parts, without_own


def test_parts_against_a_loop():
    rng = np.random.default_rng(0)
    features, keys = (rng.normal(size=(n, 6)).astype(np.float32) for n in (9, 12))
    labels, folds = np.arange(12) % 3, np.arange(12) // 3
    probabilities = rng.dirichlet(np.ones(4), 9)
    asked = np.arange(9) % 4
    parts = familiarity_parts(probabilities, features, keys, labels, folds, query_folds=asked)
    for row in range(9):
        best = probabilities[row].argmax()
        near = [features[row] @ keys[n] for n in range(12) if labels[n] == best and folds[n] != asked[row]]
        p = probabilities[row, best]
        assert parts[row, 0] == pytest.approx(np.log(p / (1 - p)))
        # Class 3 has no shots: there is nothing near.
        assert parts[row, 1] == pytest.approx(max(near)) if near else np.isnan(parts[row, 1])


def test_a_new_photo_is_compared_as_a_left_out_shot_is():
    rng = np.random.default_rng(3)
    features, keys = (rng.normal(size=(n, 6)).astype(np.float32) for n in (9, 12))
    labels, folds = np.arange(12) % 3, np.arange(12) // 3
    probabilities = rng.dirichlet(np.ones(3), 9)
    parts = familiarity_parts(probabilities, features, keys, labels, folds)
    left_out = [
        familiarity_parts(probabilities, features, keys, labels, folds, query_folds=np.full(9, fold))[:, 1]
        for fold in range(4)
    ]
    np.testing.assert_allclose(parts[:, 1], np.mean(left_out, axis=0), rtol=1e-5)


def test_signs_count_by_how_well_they_tell_unknown_photos():
    rng = np.random.default_rng(4)
    known, unknown = rng.normal(size=(200, 2)), rng.normal(size=(200, 2)) - [2.0, 0.0]
    familiarity = Familiarity.of(known, unknown)
    assert familiarity.spreads[1] > 5 * familiarity.spreads[0]
    # A sign that points the wrong way counts nothing, rather than against a photo.
    backwards = Familiarity.of(known, known + np.array([-2.0, 1.0]))
    assert backwards.score(np.array([[0.0, 5.0]])) == pytest.approx(backwards.score(np.zeros((1, 2))), abs=0.01)
    assert (Familiarity.of(known[:1], unknown[:1]).spreads > 0).all()


def test_own_classes_taken_away_leave_the_odds_of_the_others():
    probabilities = np.array([[0.6, 0.3, 0.1], [1.0, 0.0, 0.0]])
    np.testing.assert_allclose(without_own(probabilities, np.array([0, 0])), [[0, 0.75, 0.25], [0, 0, 0]])


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
