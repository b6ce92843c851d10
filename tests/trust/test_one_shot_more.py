"""What all shots answer better than a fit to a part of them is foreseen from the step before."""

import numpy as np
import pytest

from tip_adapter.trust.calibration import Calibration
from tip_adapter.trust.one_shot_more import foreseen_gain, next_step, odds_of, raised


@pytest.mark.parametrize(("shots", "n_folds"), [(2, 2), (3, 3), (8, 8), (16, 8), (12, 4)])
def test_the_next_step_goes_on_along_a_curve_that_falls_with_the_shots(shots, n_folds):
    less, fewer = shots * (n_folds - 1) / n_folds, shots * (n_folds - 2) / n_folds

    def curve(k):
        return 5.0 - 7.0 / (k + 2)

    step = next_step(shots, n_folds)
    assert curve(less) + step * (curve(less) - curve(fewer)) == pytest.approx(curve(shots))


def test_a_gain_is_never_a_loss_and_ignores_what_is_unknown():
    now, before = np.array([1.0, 2.0, np.nan, 4.0]), np.array([2.0, 2.5, 0.0, np.nan])
    assert foreseen_gain(now, before, 0.5) == 0.0
    assert foreseen_gain(before, now, 0.5) == pytest.approx(0.375)
    assert foreseen_gain(np.full(3, np.nan), np.zeros(3), 0.5) == 0.0


def test_raised_odds_are_higher_by_the_gain():
    rng = np.random.default_rng(0)
    logits, labels = 2 * rng.normal(size=(20, 5)), rng.integers(5, size=20)
    np.testing.assert_allclose(odds_of(raised(logits, labels, 0.7), labels), odds_of(logits, labels) + 0.7)
    assert np.isfinite(odds_of(np.array([[900.0, 0.0], [0.0, 900.0]]), np.array([0, 0]))).all()


def answers(seed, shots, n):
    """Classes around axes; photos answered by class means of so many shots."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(20, size=n)
    means = np.eye(20) + rng.normal(size=(20, 20)) / np.sqrt(shots) * 0.5
    photos = np.eye(20)[labels] + 0.5 * rng.normal(size=(n, 20))
    return 6 * photos @ means.T - 3 * (means**2).sum(axis=1), labels


def test_sets_from_fits_to_fewer_shots_do_not_cover_too_much():
    keys = np.eye(20, dtype=np.float32)[np.repeat(np.arange(20), 4)]
    owners, folds = np.repeat(np.arange(20), 4), np.tile(np.arange(4), 20)
    errors = {"plain": [], "foreseen": []}
    for seed in range(40):
        less, labels = answers(seed, 3, 80)
        fewer, _ = answers(seed, 2, 80)
        new, truth = answers(1000 + seed, 4, 500)
        for how, before in (("plain", None), ("foreseen", fewer)):
            calibration = Calibration.of(
                less,
                labels,
                (keys, keys, owners),
                folds=(folds, folds),
                shots=2.0,  # temperature 1
                fewer=before,
            )
            rows = np.arange(500)
            odds = odds_of(new, truth)[rows]
            covered = 1 / (1 + np.exp(-odds)) >= 1 - calibration.scores.threshold(0.9, allow_empty=True)
            errors[how].append(covered.mean() - 73 / 81)
    assert abs(np.mean(errors["foreseen"])) < abs(np.mean(errors["plain"]))
