"""Answers, photos and shots in; how much each photo is like anything the classifier knows out: "none of these"."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

import numpy as np

from tip_adapter.errors import InputError
from tip_adapter.trust.conformal import check_share
from tip_adapter.typing import Float32Array, FloatArray, IntArray

SMALLEST = 1e-9
"""Probabilities nearer to 0 or 1 than this say no more."""


def familiarity_parts(
    probabilities: FloatArray,
    features: Float32Array,
    keys: Float32Array,
    labels: IntArray,
    *,
    query_folds: IntArray | None = None,
    key_folds: IntArray | None = None,
) -> FloatArray:
    """Measure two signs that a photo shows a known class: the odds of the answer, and a shot of it that is near.

    Shapes: `probabilities` (B, C), `features` (B, D), `keys` (N, D), `labels` (N,), `query_folds,
    key_folds` (B,) → (B, 2).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.trust.out_of_distribution import familiarity_parts
    >>> keys = np.eye(2, dtype=np.float32)
    >>> familiarity_parts(np.array([[0.5, 0.5]]), np.array([[0.6, 0.8]], dtype=np.float32), keys, np.array([0, 1]))
    array([[0.        , 0.60000002]])
    """
    best = probabilities.argmax(axis=1)
    top = np.clip(probabilities.max(axis=1), SMALLEST, 1 - SMALLEST)
    near = np.full(len(best), np.nan)
    for answer in np.unique(best):
        rows, shots = np.flatnonzero(best == answer), np.flatnonzero(labels == answer)
        if not len(shots):
            continue
        cosines = features[rows] @ keys[shots].T
        if query_folds is not None and key_folds is not None:
            cosines[query_folds[rows][:, None] == key_folds[shots]] = -np.inf
        highest = cosines.max(axis=1)
        near[rows] = np.where(np.isfinite(highest), highest, np.nan)
    return np.column_stack([np.log(top) - np.log1p(-top), near])


@dataclass(frozen=True, eq=False)
class Familiarity:
    """What is usual for photos of known classes, so that others can be told from them.

    The score of a photo is the sum of its two `familiarity_parts`, each less its mean and over its standard deviation
    among photos whose class is known.

    Attributes
    ----------
    means, spreads : ndarray of shape (2,)
    scores : ndarray of shape (n,)
        Of the photos whose class is known, ascending.
    """

    means: FloatArray
    spreads: FloatArray
    scores: FloatArray

    @classmethod
    def of(cls, parts: FloatArray) -> Familiarity:
        """Look at photos of known classes that the classifier has not seen.

        Parameters
        ----------
        parts : ndarray of shape (n, 2)

        Returns
        -------
        Familiarity

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
                "add photos, or ask for a higher rate."
            )
        return float(self.scores[rank - 1])


def _sum(parts: FloatArray, means: FloatArray, spreads: FloatArray) -> FloatArray:
    # A class without shots has no near one: that part then says nothing.
    result: FloatArray = np.nan_to_num((parts - means) / spreads, nan=0.0).sum(axis=1)
    return result
