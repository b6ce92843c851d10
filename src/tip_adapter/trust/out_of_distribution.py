"""Detect photos that show none of the classes."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

import numpy as np

from tip_adapter.errors import InputError
from tip_adapter.trust.conformal import NOTHING_LEFT_OUT, check_share
from tip_adapter.typing import Float32Array, FloatArray, IntArray

SMALLEST = 1e-9
"""Probabilities nearer to 0 or 1 than this say no more."""

LEAST_WORTH = 1e-3
"""Weight of a sign that tells nothing, beside one of weight 1."""


def familiarity_parts(
    probabilities: FloatArray,
    features: Float32Array,
    keys: Float32Array,
    labels: IntArray,
    key_folds: IntArray,
    *,
    query_folds: IntArray | None = None,
) -> FloatArray:
    """Measure two signs that a photo shows a known class: the odds of the answer, and a shot of it that is near.

    A left-out shot is compared with the shots of the other folds, so a new photo is, too: its cosine is the mean over
    what may be left out. The nearest of K shots is nearer than the nearest of K - 1.

    Shapes: `probabilities` (B, C), `features` (B, D), `keys` (N, D), `labels` and `key_folds` (N,), `query_folds` (B,),
    where the photos are shots → (B, 2), NaN where the class has no shots.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.trust.out_of_distribution import familiarity_parts
    >>> keys, both = np.eye(2, dtype=np.float32), np.array([0, 1])
    >>> photo = np.array([[0.6, 0.8]], dtype=np.float32)
    >>> familiarity_parts(np.array([[0.5, 0.5]]), photo, keys, both, np.array([0, 0]))
    array([[0.        , 0.60000002]])
    """
    best, n_folds = probabilities.argmax(axis=1), int(key_folds.max(initial=0)) + 1
    near = np.full(len(best), np.nan)
    for answer in np.unique(best):
        rows, shots = np.flatnonzero(best == answer), np.flatnonzero(labels == answer)
        if not len(shots):
            continue
        folds = np.unique(key_folds[shots])
        cosines = features[rows] @ keys[shots].T
        nearest = np.stack([cosines[:, key_folds[shots] == fold].max(axis=1) for fold in folds], axis=1)
        if query_folds is not None:
            nearest[query_folds[rows][:, None] == folds] = -np.inf
            highest = nearest.max(axis=1)
            near[rows] = np.where(np.isfinite(highest), highest, np.nan)
            continue
        ranked = np.sort(nearest, axis=1)
        near[rows] = ranked[:, -1]
        if len(folds) > 1:
            near[rows] -= (ranked[:, -1] - ranked[:, -2]) / n_folds
    return np.column_stack([log_odds(probabilities), near])


def log_odds(probabilities: FloatArray) -> FloatArray:
    """Log-odds of the most probable class, (B,).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.trust.out_of_distribution import log_odds
    >>> log_odds(np.array([[0.5, 0.5]]))
    array([0.])
    """
    top = np.clip(probabilities.max(axis=1), SMALLEST, 1 - SMALLEST)
    odds: FloatArray = np.log(top) - np.log1p(-top)
    return odds


def without_own(probabilities: FloatArray, labels: IntArray) -> FloatArray:
    """Take each photo's class away: what is left is how a classifier answers that does not know it.

    Shapes: `probabilities` (B, C), `labels` (B,) → (B, C).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.trust.out_of_distribution import without_own
    >>> without_own(np.array([[0.6, 0.3, 0.1]]), np.array([0])).round(2)
    array([[0.  , 0.75, 0.25]])
    """
    rest: FloatArray = probabilities.astype(np.float64)
    rest[np.arange(len(labels)), labels] = 0.0
    rest /= np.maximum(rest.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    return rest


@dataclass(frozen=True, eq=False)
class Familiarity:
    """What is usual for photos of known classes, so that others can be told from them.

    The score of a photo is the sum of its two `familiarity_parts`, each less its mean among photos whose class is known
    and over its spread: the standard deviation there, divided by how much the sign tells.
    """

    means: FloatArray
    spreads: FloatArray
    """means and spreads: (2,)."""
    scores: FloatArray
    """(n,): of the photos whose class is known, ascending."""

    @classmethod
    def of(cls, parts: FloatArray, unknown: FloatArray | None = None) -> Familiarity:
        """Learn from held-out photos of known classes, and how much each sign counts from photos of unknown ones.

        Without those both signs count alike.

        Shapes: `parts`, `unknown` (n, 2).

        Examples
        --------
        >>> import numpy as np
        >>> from tip_adapter.trust.out_of_distribution import Familiarity
        >>> Familiarity.of(np.array([[1.0, 0.5], [3.0, 0.7]])).scores.round(6)
        array([-2.,  2.])
        """
        known = np.isfinite(parts)
        counts = np.maximum(known.sum(axis=0), 1)
        means = np.where(known, parts, 0.0).sum(axis=0) / counts
        spreads = np.sqrt(np.where(known, (parts - means) ** 2, 0.0).sum(axis=0) / counts)
        spreads = np.where(spreads > 0, spreads, 1.0)
        if unknown is not None:
            spreads = spreads / _worth((parts - means) / spreads, (unknown - means) / spreads)
        return cls(means, spreads, np.sort(_sum(parts, means, spreads)))

    def score(self, parts: FloatArray) -> FloatArray:
        """How familiar photos are.

        Shapes: `parts` (B, 2) → (B,).
        """
        return _sum(parts, self.means, self.spreads)

    def threshold(self, false_alarm_rate: float) -> float:
        """Find the score below which a photo shows none of the classes.

        Examples
        --------
        >>> import numpy as np
        >>> from tip_adapter.trust.out_of_distribution import Familiarity
        >>> familiarity = Familiarity(np.zeros(2), np.ones(2), np.arange(19.0))
        >>> familiarity.threshold(0.1)
        1.0
        """
        check_share("the false-alarm rate", false_alarm_rate)
        n = len(self.scores)
        rank = math.floor((n + 1) * false_alarm_rate + 1e-9)
        if rank < 1:
            needed = math.ceil(1 / max(false_alarm_rate, sys.float_info.min) - 1e-9) - 1
            raise InputError(
                f"A false-alarm rate of {false_alarm_rate:g} needs at least {needed:.6g} calibration photos, got {n}: "
                + (f"add photos, or ask for at least {math.ceil(1000 / (n + 1)) / 1000:g}" if n else NOTHING_LEFT_OUT)
            )
        return float(self.scores[rank - 1])


def _sum(parts: FloatArray, means: FloatArray, spreads: FloatArray) -> FloatArray:
    # A class without shots has no near one: that part then says nothing.
    result: FloatArray = np.nan_to_num((parts - means) / spreads, nan=0.0).sum(axis=1)
    return result


def _worth(known: FloatArray, unknown: FloatArray) -> FloatArray:
    """Weigh signs as Fisher's linear discriminant does, (2,): none counts against a photo, the larger weight is 1."""
    known, unknown = (rows[np.isfinite(rows).all(axis=1)] for rows in (known, unknown))
    equal, n = np.ones(2), min(len(known), len(unknown))
    if n < 2:
        return equal
    pooled = (np.cov(known, rowvar=False) + np.cov(unknown, rowvar=False)) / 2
    apart = known.mean(axis=0) - unknown.mean(axis=0)
    pooled[[0, 1], [1, 0]] *= n / (n + 2)  # few photos say little of how signs go together
    if not (np.diag(pooled) > 0).all() or not (apart > 0).any():
        return equal
    weights = np.linalg.solve(pooled, apart)
    if (weights <= 0).any():
        weights = np.maximum(apart, 0) / np.diag(pooled) * (weights > 0)
    if not weights.max() > 0:
        return equal
    result: FloatArray = np.maximum(weights / weights.max(), LEAST_WORTH)
    return result
