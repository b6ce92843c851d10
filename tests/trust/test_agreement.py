"""What photos show is compared with what left-out shots promised, and told where chance is no reason."""

import numpy as np
import pytest

from tip_adapter.trust.agreement import disagreement
from tip_adapter.trust.conformal import ConformalScores


def answers(right, n=200):
    """Probabilities of photos of the first class, of which so many are right, and their labels."""
    true = np.concatenate([np.linspace(0.51, 1, right), np.linspace(0.01, 0.49, n - right)])
    return np.stack([true, 1 - true], axis=1), np.zeros(n, dtype=int)


def stated(right, n=200):
    return ConformalScores.of(*answers(right, n))


def away(share, n=200):
    return np.arange(n) < share * n


def test_what_agrees_is_not_told():
    assert disagreement(stated(160), *answers(155), away(0.12)) == ""


def test_photos_that_are_harder_are_told_with_what_to_do():
    told = disagreement(stated(190), *answers(140))
    assert told.startswith("the shots promised an accuracy of 95.0 %")
    assert "these photos give 70.0 %" in told
    assert "tip-adapter calibrate" in told


@pytest.mark.parametrize(("share", "what"), [(0.2, "differ from each other more"), (0.01, "easier than the shots")])
def test_a_false_alarm_rate_that_is_not_kept_is_told(share, what):
    told = disagreement(stated(160), *answers(160), away(share))
    assert told.startswith(f"the shots promised a false-alarm rate of 10.0 %, these photos give {100 * share:.1f} %")
    assert what in told


def test_few_photos_tell_nothing():
    assert disagreement(stated(16, 20), *answers(16, 20), away(0.2, 20)) == ""
