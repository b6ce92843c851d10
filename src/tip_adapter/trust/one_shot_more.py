"""Predict how much better predictions get when no fold is left out, from what one fold more brought."""

from __future__ import annotations

import numpy as np

from tip_adapter.methods.heads.base import log_sum_exp
from tip_adapter.methods.selection.prior import HALF_KNOWN
from tip_adapter.typing import FloatArray, IntArray

SURE = 20.0
"""Log-odds beyond which an answer cannot get better."""


def next_step(shots: float, n_folds: int) -> float:
    """Compare the step from one fold less to all shots with the step before it, from two folds less to one.

    What is unknown of a class falls as 1 / (K + 2) with its shots, as `tip_adapter.methods.selection.prior` argues.

    Examples
    --------
    >>> from tip_adapter.trust.one_shot_more import next_step
    >>> [round(next_step(shots, min(shots, 8)), 2) for shots in (2, 4, 16)]
    [0.5, 0.67, 0.78]
    """
    two, one, none = (1 / (shots * (n_folds - out) / n_folds + HALF_KNOWN) for out in (2, 1, 0))
    return (one - none) / (two - one)


def foreseen_gain(now: FloatArray, before: FloatArray, step: float) -> float:
    """Foresee by how much a figure grows, from photos that were seen with a fold less and with two: by the median.

    Shapes: `now` (B,), `before` (B,).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.trust.one_shot_more import foreseen_gain
    >>> foreseen_gain(np.array([3.0, 2.0, 9.0]), np.array([1.0, 1.0, 1.0]), 0.5)
    1.0
    """
    gains = (now - before)[np.isfinite(now) & np.isfinite(before)]
    return max(0.0, step * float(np.median(gains))) if len(gains) else 0.0


def odds_of(logits: FloatArray, labels: IntArray) -> FloatArray:
    """Log-odds of the true class.

    Shapes: `logits` (B, C), `labels` (B,) → (B,).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.trust.one_shot_more import odds_of
    >>> odds_of(np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([0, 0]))
    array([ 2., -1.])
    """
    lead = logits.astype(np.float64) - logits[np.arange(len(labels)), labels][:, None]
    lead[np.arange(len(labels)), labels] = -np.inf
    return np.clip(-log_sum_exp(lead), -SURE, SURE)


def raised(logits: FloatArray, labels: IntArray, gain: float) -> FloatArray:
    """Raise the log-odds of the true classes.

    Shapes: `logits` (B, C), `labels` (B,) → (B, C).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.trust.one_shot_more import raised
    >>> raised(np.zeros((1, 2)), np.array([1]), 0.5)
    array([[0. , 0.5]])
    """
    result: FloatArray = logits.astype(np.float64)
    result[np.arange(len(labels)), labels] += gain
    return result
