"""Metrics of probabilities: calibration error, reliability, negative log-likelihood."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tip_adapter.errors import InputError
from tip_adapter.methods.heads import base as heads
from tip_adapter.trust.metrics.checks import checked_probabilities, checked_scores
from tip_adapter.typing import FloatArray, IntArray


def expected_calibration_error(probabilities: ArrayLike, labels: ArrayLike, *, n_bins: int = 15) -> float:
    """Return how far confidence is from accuracy, on average over bins of confidence.

    ``ECE = Σ_m |B_m| / B · |accuracy(B_m) − confidence(B_m)|``, where bin m holds the queries whose highest probability
    is in ((m − 1)/M, m/M].

    Shapes: `probabilities` (B, C), `labels` (B,).

    References
    ----------
    Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equations 2 and 3.

    Examples
    --------
    >>> from tip_adapter.trust.metrics import expected_calibration_error
    >>> round(expected_calibration_error([[0.8, 0.2], [0.8, 0.2]], [0, 1]), 3)
    0.3
    """
    scores, true = checked_probabilities(probabilities, labels)
    confidence, correct, bins = _binned(scores, true, n_bins)
    # |B_m|/B · |mean − mean| is |sum − sum|/B: no division by empty bins
    gaps = np.bincount(bins, weights=correct - confidence, minlength=n_bins)
    return float(np.abs(gaps).sum() / len(true))


def reliability(
    probabilities: ArrayLike, labels: ArrayLike, *, n_bins: int = 10
) -> tuple[IntArray, FloatArray, FloatArray]:
    """Return what a reliability diagram shows: queries, mean confidence and accuracy by bins of confidence.

    Shapes: → (n_bins,).

    Examples
    --------
    >>> from tip_adapter.trust.metrics import reliability
    >>> counts, confidence, right = reliability([[0.8, 0.2], [0.7, 0.3], [0.4, 0.6]], [0, 1, 1], n_bins=2)
    >>> counts, confidence.round(2), right.round(2)
    (array([0, 3]), array([nan, 0.7]), array([ nan, 0.67]))
    """
    scores, true = checked_probabilities(probabilities, labels)
    confidence, correct, bins = _binned(scores, true, n_bins)
    counts = np.bincount(bins, minlength=n_bins)
    sums = [np.bincount(bins, weights=values, minlength=n_bins) for values in (confidence, correct)]
    means = [np.divide(total, counts, out=np.full(n_bins, np.nan), where=counts > 0) for total in sums]
    return counts, means[0], means[1]


def _binned(scores: FloatArray, true: IntArray, n_bins: int) -> tuple[FloatArray, NDArray[np.bool_], IntArray]:
    """Confidence of every query, whether it is right, and its bin: bin m of M holds ((m − 1)/M, m/M]."""
    if n_bins < 1:
        raise InputError(f"Expected at least 1 bin, got {n_bins}")
    confidence = np.minimum(scores.max(axis=1), 1.0)
    bins = np.maximum(np.ceil(confidence * n_bins).astype(np.intp) - 1, 0)
    return confidence, scores.argmax(axis=1) == true, bins


def negative_log_likelihood(scores: ArrayLike, labels: ArrayLike, *, from_logits: bool = False) -> float:
    """Return the mean of −log p(true class).

    Shapes: `scores` (B, C), `labels` (B,).

    Examples
    --------
    >>> from tip_adapter.trust.metrics import negative_log_likelihood
    >>> negative_log_likelihood([[1000.0, 0.0]], [1], from_logits=True)
    1000.0
    """
    if from_logits:
        values, true = checked_scores(scores, labels)
        log_probabilities = log_softmax(values)
    else:
        values, true = checked_probabilities(scores, labels)
        with np.errstate(divide="ignore"):
            log_probabilities = np.log(values)
    picked = np.take_along_axis(log_probabilities, true[:, None], axis=1)
    return float(0.0 - picked.mean())  # not the negative, which would be −0.0 for a perfect prediction


def log_softmax(logits: ArrayLike) -> FloatArray:
    """Return the logarithm of the softmax of each row, without overflow or underflow.

    Shapes: `logits` (B, C) → (B, C).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.trust.metrics import log_softmax
    >>> np.exp(log_softmax([[5000.0, 5000.0, -np.inf]]))
    array([[0.5, 0.5, 0. ]])
    """
    values = np.asarray(logits, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] == 0:
        raise InputError(f"Expected logits of shape (B, C), got {values.shape}")
    highest = values.max(axis=1, keepdims=True)
    if not np.isfinite(highest).all():  # NaN and +∞ surface in the maximum, as does a row of −∞
        row = int(np.flatnonzero(~np.isfinite(highest))[0])
        raise InputError(f"Expected logits with a finite maximum, got {highest[row, 0]} in row {row}")
    return heads.log_softmax(values)
