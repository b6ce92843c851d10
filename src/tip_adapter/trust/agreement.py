"""Compare what held-out shots promised with what labelled photos show."""

from __future__ import annotations

import numpy as np

from tip_adapter.errors import InputError
from tip_adapter.trust.conformal import ConformalScores, prediction_sets
from tip_adapter.typing import BoolArray, FloatArray, IntArray

BEYOND_CHANCE = 2.58
"""Standard errors that chance reaches once in a hundred times."""

COVERAGE, FALSE_ALARMS = 0.9, 0.1


def disagreement(
    stated: ConformalScores, probabilities: FloatArray, labels: IntArray, turned_away: BoolArray | None = None
) -> str:
    """Say in one sentence where photos differ from what the left-out shots promised; nothing where chance may be why.

    Accuracy (two proportions), loss (Welch's test), the coverage of 90 % sets, and the share of photos that are turned
    away where 10 % may be, are compared.

    Shapes: `probabilities` (B, C), `labels` (B,), `turned_away` (B,) at `FALSE_ALARMS`.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.trust.agreement import disagreement
    >>> from tip_adapter.trust.conformal import ConformalScores
    >>> stated = ConformalScores(np.full(40, 0.9), np.zeros(40))
    >>> disagreement(stated, np.tile([0.9, 0.1], (40, 1)), np.zeros(40, dtype=int))
    ''
    >>> disagreement(stated, np.tile([0.9, 0.1], (40, 1)), np.repeat([0, 1], 20))[:52]
    'the shots promised an accuracy of 100.0 %, a loss of'
    """
    if not len(stated) or not len(labels):
        return ""
    promised, shown, signs = [], [], []
    figures = _figures(stated, probabilities, labels)
    if turned_away is not None:
        figures.append(_false_alarms(len(stated), turned_away))
    for name, unit, before, after, errors in figures:
        if abs(errors) > BEYOND_CHANCE:
            promised.append(f"{name} of {before:.{unit[0]}f}{unit[1]}")
            shown.append(f"{after:.{unit[0]}f}{unit[1]}")
            signs.append(errors < 0)
    if not promised:
        return ""
    said = f"the shots promised {_listed(promised)}, these photos give {_listed(shown)}"
    if not any(signs):
        return f"{said}: they are easier than the shots"
    return (
        f"{said}: they differ from each other more than the shots do; calibrate with labelled photos like these "
        "(tip-adapter calibrate), or add shots that are more varied"
    )


Figure = tuple[str, tuple[int, str], float, float, float]


def _false_alarms(n: int, turned_away: BoolArray) -> Figure:
    share = float(turned_away.mean())
    errors = -_proportions(np.array([FALSE_ALARMS, share]), np.array([n, len(turned_away)]))
    return "a false-alarm rate", (1, " %"), 100 * FALSE_ALARMS, 100 * share, errors


def _figures(stated: ConformalScores, probabilities: FloatArray, labels: IntArray) -> list[Figure]:
    """Name, digits and unit, promised, shown, and by how many standard errors photos are better."""
    true = probabilities[np.arange(len(labels)), labels]
    right = np.array([float(np.mean(stated.ahead == 0)), float(np.mean(probabilities.argmax(axis=1) == labels))])
    sizes = np.array([len(stated), len(labels)])
    found = [("an accuracy", (1, " %"), *(100 * right), _proportions(right, sizes))]
    losses = [-np.log(np.maximum(one, 1e-12)) for one in (stated.true, true)]
    spread = float(np.sqrt(sum(np.var(one) / max(1, len(one) - 1) for one in losses)))
    before, after = (float(one.mean()) for one in losses)
    found.append(("a loss", (2, ""), before, after, (before - after) / spread if spread > 0 else 0.0))
    try:
        threshold = stated.threshold(COVERAGE)
    except InputError:  # too few left-out shots for it
        return found
    covered = float(prediction_sets(probabilities, threshold)[np.arange(len(labels)), labels].mean())
    # Where answers alone are right more often than that, sets cover more than wanted.
    wanted = max(COVERAGE, float(right[0]))
    found.append(
        ("a coverage", (1, " %"), 100 * wanted, 100 * covered, _proportions(np.array([wanted, covered]), sizes))
    )
    return found


def _proportions(shares: FloatArray, sizes: IntArray) -> float:
    """Two proportions' difference, in standard errors of their common share."""
    common = float((shares * sizes).sum() / sizes.sum())
    error = np.sqrt(common * (1 - common) * (1 / sizes).sum())
    return float((shares[1] - shares[0]) / error) if error > 0 else 0.0


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
