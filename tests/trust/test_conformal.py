"""Sets cover as promised where photos are exchangeable, and too few photos are an error that says how many."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tip_adapter.errors import InputError
from tip_adapter.trust.conformal import ConformalScores, prediction_sets


def drawn(seed, n, n_classes=8, sharpness=1.5):
    rng = np.random.default_rng(seed)
    powers = np.exp(sharpness * rng.normal(size=(n, n_classes)))
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    labels = (rng.random((n, 1)) > probabilities.cumsum(axis=1)).sum(axis=1).clip(0, n_classes - 1)
    # What is answered is not what is true: the sets cover all the same.
    wrong = powers**1.7
    return wrong / wrong.sum(axis=1, keepdims=True), labels


@pytest.mark.parametrize("kind", ["lac", "aps"])
@pytest.mark.parametrize("allow_empty", [True, False])
def test_coverage_is_as_wanted(kind, allow_empty):
    covered = []
    for seed in range(30):
        scores = ConformalScores.of(*drawn(seed, 200))
        probabilities, labels = drawn(1000 + seed, 500)
        threshold = scores.threshold(0.8, kind, allow_empty=allow_empty)
        shares = np.random.default_rng(seed).random(500)
        sets = prediction_sets(probabilities, threshold, kind, allow_empty=allow_empty, shares=shares)
        covered.append(sets[np.arange(500), labels].mean())
        assert allow_empty or sets.any(axis=1).all()
    # Exact for exchangeable photos: 161 of 201, give or take chance.
    assert np.mean(covered) == pytest.approx(161 / 201, abs=0.02)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), kind=st.sampled_from(["lac", "aps"]), empty=st.booleans())
def test_sets_grow_with_the_coverage_and_calibration_photos_obey(seed, kind, empty):
    probabilities, labels = drawn(seed, 40)
    scores = ConformalScores.of(probabilities, labels)
    before = np.zeros(probabilities.shape, dtype=bool)
    for coverage in (0.3, 0.6, 0.9):
        threshold = scores.threshold(coverage, kind, allow_empty=empty, random_state=seed)
        shares = np.random.default_rng(seed).random(40)
        sets = prediction_sets(probabilities, threshold, kind, allow_empty=empty, shares=shares)
        assert (sets >= before).all()
        before = sets
        assert sets[np.arange(40), labels].sum() >= np.ceil(41 * coverage)


def test_scores_against_a_loop():
    probabilities, labels = drawn(0, 30)
    scores = ConformalScores.of(probabilities, labels)
    for row, label in enumerate(labels):
        more = probabilities[row][probabilities[row] > probabilities[row, label]].sum()
        assert scores.ahead[row] == pytest.approx(more)
        assert scores.true[row] == probabilities[row, label]


@pytest.mark.parametrize("coverage", [0.0, 1.0, -0.5, 1.5, float("nan")])
def test_coverage_out_of_range(coverage):
    with pytest.raises(InputError, match="Expected coverage above 0 and below 1"):
        ConformalScores.of(*drawn(0, 30)).threshold(coverage)


@pytest.mark.parametrize(("coverage", "needed"), [(0.9, 9), (0.8, 4), (0.95, 19), (0.99, 99)])
def test_too_few_photos_say_how_many_are_needed(coverage, needed):
    ConformalScores.of(*drawn(0, needed)).threshold(coverage)
    with pytest.raises(InputError, match=f"needs at least {needed} calibration photos, got {needed - 1}"):
        ConformalScores.of(*drawn(0, needed - 1)).threshold(coverage)


def test_no_photos_and_unknown_kinds():
    with pytest.raises(InputError, match="got 0: give two shots"):
        ConformalScores(np.zeros(0), np.zeros(0)).threshold(0.9)
    with pytest.raises(InputError, match="lac or aps, got 'raps'"):
        ConformalScores.of(*drawn(0, 30)).threshold(0.9, "raps")
