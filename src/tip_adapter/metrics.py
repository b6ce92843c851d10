"""Scores or predictions and true labels go in; accuracy, its interval, errors per class and calibration come out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tip_adapter.errors import InputError
from tip_adapter.typing import IntArray

__all__ = [
    "accuracy",
    "bootstrap_interval",
    "confusion_matrix",
    "expected_calibration_error",
    "log_softmax",
    "negative_log_likelihood",
    "per_class_recall",
    "reliability",
    "top_k_accuracy",
]

Float64Array = NDArray[np.float64]


def accuracy(predictions: ArrayLike, labels: ArrayLike) -> float:
    """Return the share of right predictions.

    Parameters
    ----------
    predictions : array-like of shape (B,) or (B, C)
        Class indices, or scores (logits or probabilities), of which the highest is the prediction.
    labels : array-like of shape (B,)
        True class indices.

    Returns
    -------
    accuracy : float
        In [0, 1].

    Raises
    ------
    InputError
        When shapes do not match, labels are out of range, or scores are NaN.

    Examples
    --------
    >>> from tip_adapter.metrics import accuracy
    >>> accuracy([0, 1, 1, 1], [0, 1, 1, 0])
    0.75
    """
    predicted, true = _predicted(predictions, labels)
    return float(np.mean(predicted == true))


def top_k_accuracy(logits: ArrayLike, labels: ArrayLike, k: int) -> float:
    """Return the share of queries whose true class is among the k highest scores.

    A tie counts against the true class only where the other class comes first, as it does for ``argmax``; so k = 1 is
    the accuracy.

    Parameters
    ----------
    logits : array-like of shape (B, C)
        Or probabilities.
    labels : array-like of shape (B,)
        True class indices.
    k : int
        From 1 to C.

    Returns
    -------
    accuracy : float
        In [0, 1].

    Raises
    ------
    InputError
        When shapes do not match, labels or k are out of range, or scores are NaN.

    Examples
    --------
    >>> from tip_adapter.metrics import top_k_accuracy
    >>> top_k_accuracy([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]], [1, 2], k=2)
    0.5
    """
    scores, true = _scores(logits, labels)
    if not 1 <= k <= scores.shape[1]:
        raise InputError(f"Expected k from 1 to the {scores.shape[1]} classes, got {k}")
    own = np.take_along_axis(scores, true[:, None], axis=1)
    earlier = np.arange(scores.shape[1]) < true[:, None]
    ahead = (scores > own) | ((scores == own) & earlier)
    return float(np.mean(ahead.sum(axis=1) < k))


def per_class_recall(predictions: ArrayLike, labels: ArrayLike, *, n_classes: int | None = None) -> Float64Array:
    """Return the share of each class's queries that are predicted right.

    Parameters
    ----------
    predictions, labels, n_classes
        As in `confusion_matrix`.

    Returns
    -------
    recall : ndarray of shape (C,), float64
        NaN for a class without queries.

    Raises
    ------
    InputError
        As in `confusion_matrix`.

    Examples
    --------
    >>> from tip_adapter.metrics import per_class_recall
    >>> per_class_recall([0, 1, 1, 1], [0, 1, 0, 0]).round(3)
    array([0.333, 1.   ])
    """
    counts = confusion_matrix(predictions, labels, n_classes=n_classes)
    totals = counts.sum(axis=1)
    recall = np.full(len(counts), np.nan)
    np.divide(np.diagonal(counts), totals, out=recall, where=totals > 0)
    return recall


def confusion_matrix(predictions: ArrayLike, labels: ArrayLike, *, n_classes: int | None = None) -> IntArray:
    """Count how often each class is taken for each other.

    Parameters
    ----------
    predictions : array-like of shape (B,) or (B, C)
        Class indices, or scores, of which the highest is the prediction.
    labels : array-like of shape (B,)
        True class indices.
    n_classes : int, optional
        C; by default the columns of the scores, or the highest index that occurs plus one.

    Returns
    -------
    counts : ndarray of shape (C, C), intp
        Rows are true classes, columns predicted ones.

    Raises
    ------
    InputError
        When shapes do not match, indices are out of range, or scores are NaN.

    Examples
    --------
    >>> from tip_adapter.metrics import confusion_matrix
    >>> confusion_matrix([0, 1, 1], [0, 0, 1])
    array([[1, 1],
           [0, 1]])
    """
    predicted, true = _predicted(predictions, labels)
    columns = np.shape(predictions)[1] if np.ndim(predictions) == 2 else 0
    highest = int(max(predicted.max(), true.max(), columns - 1))
    size = highest + 1 if n_classes is None else n_classes
    if highest >= size:
        raise InputError(f"Expected class indices below n_classes = {size}, got {highest}")
    return np.bincount(true * size + predicted, minlength=size * size).reshape(size, size)


def expected_calibration_error(probabilities: ArrayLike, labels: ArrayLike, *, n_bins: int = 15) -> float:
    """Return how far confidence is from accuracy, on average over bins of confidence.

    ``ECE = Σ_m |B_m| / B · |accuracy(B_m) − confidence(B_m)|``, where bin m holds the queries whose highest probability
    is in ((m − 1)/M, m/M].

    Parameters
    ----------
    probabilities : array-like of shape (B, C)
        Rows sum to 1.
    labels : array-like of shape (B,)
        True class indices.
    n_bins : int, default=15
        M, at least 1.

    Returns
    -------
    error : float
        In [0, 1].

    Raises
    ------
    InputError
        When shapes do not match, labels are out of range, or rows are no probabilities.

    References
    ----------
    Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equations 2 and 3.

    Examples
    --------
    >>> from tip_adapter.metrics import expected_calibration_error
    >>> round(expected_calibration_error([[0.8, 0.2], [0.8, 0.2]], [0, 1]), 3)
    0.3
    """
    scores, true = _probabilities(probabilities, labels)
    confidence, correct, bins = _binned(scores, true, n_bins)
    # |B_m|/B · |mean − mean| is |sum − sum|/B: no division by empty bins
    gaps = np.bincount(bins, weights=correct - confidence, minlength=n_bins)
    return float(np.abs(gaps).sum() / len(true))


def reliability(
    probabilities: ArrayLike, labels: ArrayLike, *, n_bins: int = 10
) -> tuple[IntArray, Float64Array, Float64Array]:
    """Return what a reliability diagram shows: queries, mean confidence and accuracy by bins of confidence.

    Parameters
    ----------
    probabilities, labels
        As in `expected_calibration_error`.
    n_bins : int, default=10
        At least 1.

    Returns
    -------
    counts : ndarray of shape (n_bins,), intp
    confidence, accuracy : ndarray of shape (n_bins,), float64
        NaN for an empty bin.

    Raises
    ------
    InputError
        As in `expected_calibration_error`.

    Examples
    --------
    >>> from tip_adapter.metrics import reliability
    >>> counts, confidence, right = reliability([[0.8, 0.2], [0.7, 0.3], [0.4, 0.6]], [0, 1, 1], n_bins=2)
    >>> counts, confidence.round(2), right.round(2)
    (array([0, 3]), array([nan, 0.7]), array([ nan, 0.67]))
    """
    scores, true = _probabilities(probabilities, labels)
    confidence, correct, bins = _binned(scores, true, n_bins)
    counts = np.bincount(bins, minlength=n_bins)
    sums = [np.bincount(bins, weights=values, minlength=n_bins) for values in (confidence, correct)]
    means = [np.divide(total, counts, out=np.full(n_bins, np.nan), where=counts > 0) for total in sums]
    return counts, means[0], means[1]


def _binned(scores: Float64Array, true: IntArray, n_bins: int) -> tuple[Float64Array, NDArray[np.bool_], IntArray]:
    """Confidence of every query, whether it is right, and its bin: bin m of M holds ((m − 1)/M, m/M]."""
    if n_bins < 1:
        raise InputError(f"Expected at least 1 bin, got {n_bins}")
    confidence = np.minimum(scores.max(axis=1), 1.0)
    bins = np.maximum(np.ceil(confidence * n_bins).astype(np.intp) - 1, 0)
    return confidence, scores.argmax(axis=1) == true, bins


def negative_log_likelihood(scores: ArrayLike, labels: ArrayLike, *, from_logits: bool = False) -> float:
    """Return the mean of −log p(true class).

    Parameters
    ----------
    scores : array-like of shape (B, C)
        Probabilities, or logits with ``from_logits=True``.
    labels : array-like of shape (B,)
        True class indices.
    from_logits : bool, default=False
        Whether `scores` still need a softmax. It is done on the logarithms, so no probability underflows.

    Returns
    -------
    loss : float
        In nats; infinite when a true class has probability 0.

    Raises
    ------
    InputError
        When shapes do not match, labels are out of range, or scores are not what `from_logits` says.

    Examples
    --------
    >>> from tip_adapter.metrics import negative_log_likelihood
    >>> negative_log_likelihood([[1000.0, 0.0]], [1], from_logits=True)
    1000.0
    """
    if from_logits:
        values, true = _scores(scores, labels)
        log_probabilities = log_softmax(values)
    else:
        values, true = _probabilities(scores, labels)
        with np.errstate(divide="ignore"):
            log_probabilities = np.log(values)
    picked = np.take_along_axis(log_probabilities, true[:, None], axis=1)
    return float(0.0 - picked.mean())  # not the negative, which would be −0.0 for a perfect prediction


def log_softmax(logits: ArrayLike) -> Float64Array:
    """Return the logarithm of the softmax of each row, without overflow or underflow.

    Parameters
    ----------
    logits : array-like of shape (B, C)
        May hold −∞ for classes that are ruled out, though not for all of a row.

    Returns
    -------
    log_probabilities : ndarray of shape (B, C), float64

    Raises
    ------
    InputError
        When a logit is NaN or +∞, or a row has only −∞.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.metrics import log_softmax
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
    shifted: Float64Array = values - highest
    shifted -= np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return shifted


def bootstrap_interval(
    correct: ArrayLike, *, level: float = 0.95, n_resamples: int = 2000, random_state: int = 0
) -> tuple[float, float]:
    """Return a percentile bootstrap interval of the accuracy.

    The number of right answers in a resample of B queries is binomial with the observed accuracy, so it is drawn
    directly and no resample is ever formed.

    Parameters
    ----------
    correct : array-like of shape (B,), bool
        Whether each query was predicted right.
    level : float, default=0.95
        Coverage, in (0, 1).
    n_resamples : int, default=2000
    random_state : int, default=0

    Returns
    -------
    low, high : float
        In [0, 1]. Both are 1 when all are right: the bootstrap knows nothing beyond its sample.

    Raises
    ------
    InputError
        When `correct` is empty or not boolean, or another argument is out of range.

    References
    ----------
    Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.

    Examples
    --------
    >>> from tip_adapter.metrics import bootstrap_interval
    >>> low, high = bootstrap_interval([True] * 80 + [False] * 20)
    >>> 0.70 < low < 0.75 and 0.85 < high < 0.90
    True
    """
    values = np.asarray(correct)
    if values.ndim != 1 or values.size == 0 or values.dtype != np.bool_:
        raise InputError(f"Expected booleans of shape (B,), at least one, got {values.dtype} of shape {values.shape}")
    if not 0 < level < 1 or n_resamples < 1 or random_state < 0:
        got = f"{level}, {n_resamples} and {random_state}"
        raise InputError(f"Expected a level in (0, 1), at least 1 resample and a random_state of at least 0, got {got}")
    rng = np.random.default_rng(random_state)
    means = rng.binomial(values.size, values.mean(), size=n_resamples) / values.size
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _predicted(predictions: ArrayLike, labels: ArrayLike) -> tuple[IntArray, IntArray]:
    if np.ndim(predictions) == 2:
        scores, true = _scores(predictions, labels)
        return scores.argmax(axis=1), true
    predicted, true = _indices(predictions, "predictions"), _indices(labels, "labels")
    if len(predicted) != len(true):
        raise InputError(f"Expected as many predictions as labels, got {len(predicted)} and {len(true)}")
    return predicted, true


def _scores(scores: ArrayLike, labels: ArrayLike) -> tuple[Float64Array, IntArray]:
    values, true = np.asarray(scores, dtype=np.float64), _indices(labels, "labels")
    if values.ndim != 2 or len(values) != len(true):
        raise InputError(f"Expected scores of shape ({len(true)}, C) to match the labels, got {values.shape}")
    if true.max() >= values.shape[1]:
        raise InputError(f"Expected labels below the {values.shape[1]} columns of the scores, got {true.max()}")
    if np.isnan(values).any():
        raise InputError(f"Expected scores without NaN, got one in row {int(np.argwhere(np.isnan(values))[0, 0])}")
    return values, true


def _probabilities(probabilities: ArrayLike, labels: ArrayLike) -> tuple[Float64Array, IntArray]:
    values, true = _scores(probabilities, labels)
    wrong = (values.min(axis=1) < 0) | (np.abs(values.sum(axis=1) - 1) > 1e-3)  # 1e-3: float16 rows
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        got = f"a sum of {values[row].sum():.4g} and a minimum of {values[row].min():.4g} in row {row}"
        raise InputError(f"Expected probabilities, that is rows ≥ 0 that sum to 1, got {got}: are these logits?")
    return values, true


def _indices(values: ArrayLike, what: str) -> IntArray:
    array: NDArray[Any] = np.asarray(values)
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iu" or array.min() < 0:
        got = f"{array.dtype} of shape {array.shape}"
        raise InputError(f"Expected {what} as class indices ≥ 0 of shape (B,), at least one, got {got}")
    return array.astype(np.intp)
