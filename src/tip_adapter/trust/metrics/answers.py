"""Metrics of predicted classes: accuracy, its interval, confusion matrix."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from tip_adapter.errors import InputError
from tip_adapter.trust.metrics.checks import checked_indices, checked_scores
from tip_adapter.typing import FloatArray, IntArray


def accuracy(predictions: ArrayLike, labels: ArrayLike) -> float:
    """Return the share of right predictions.

    Shapes: `predictions` (B,), class indices, or (B, C), scores of which the highest is the prediction; `labels` (B,).

    Examples
    --------
    >>> from tip_adapter.trust.metrics import accuracy
    >>> accuracy([0, 1, 1, 1], [0, 1, 1, 0])
    0.75
    """
    predicted, true = _predicted(predictions, labels)
    return float(np.mean(predicted == true))


def top_k_accuracy(logits: ArrayLike, labels: ArrayLike, k: int) -> float:
    """Return the share of queries whose true class is among the k highest scores.

    A tie counts against the true class only where the other class comes first, as it does for ``argmax``; so k = 1 is
    the accuracy.

    Shapes: `logits` (B, C), `labels` (B,).

    Examples
    --------
    >>> from tip_adapter.trust.metrics import top_k_accuracy
    >>> top_k_accuracy([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]], [1, 2], k=2)
    0.5
    """
    scores, true = checked_scores(logits, labels)
    if not 1 <= k <= scores.shape[1]:
        raise InputError(f"Expected k from 1 to the {scores.shape[1]} classes, got {k}")
    own = np.take_along_axis(scores, true[:, None], axis=1)
    earlier = np.arange(scores.shape[1]) < true[:, None]
    ahead = (scores > own) | ((scores == own) & earlier)
    return float(np.mean(ahead.sum(axis=1) < k))


def per_class_recall(predictions: ArrayLike, labels: ArrayLike, *, n_classes: int | None = None) -> FloatArray:
    """Return the share of each class's queries that are predicted right.

    Shapes: → (C,).

    Examples
    --------
    >>> from tip_adapter.trust.metrics import per_class_recall
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

    Shapes: `predictions` (B,), `labels` (B,) → (C, C).

    Examples
    --------
    >>> from tip_adapter.trust.metrics import confusion_matrix
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


def bootstrap_interval(
    correct: ArrayLike, *, level: float = 0.95, n_resamples: int = 2000, random_state: int = 0
) -> tuple[float, float]:
    """Return a percentile bootstrap interval of the accuracy.

    The number of right answers in a resample of B queries is binomial with the observed accuracy, so it is drawn
    directly and no resample is ever formed.

    Shapes: `correct` (B,).

    References
    ----------
    Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.

    Examples
    --------
    >>> from tip_adapter.trust.metrics import bootstrap_interval
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


def wilson_interval(right: int, n: int, *, level: float = 0.95) -> tuple[float, float]:
    r"""Give the score interval of a share, which has a width even where all or none are right.

    With p = right / n and z the normal quantile of (1 + level) / 2:
    :math:`\frac{p + z^2/2n \pm z\sqrt{p(1-p)/n + z^2/4n^2}}{1 + z^2/n}`.

    References
    ----------
    Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927.

    Examples
    --------
    >>> from tip_adapter.trust.metrics import wilson_interval
    >>> low, high = wilson_interval(20, 20)
    >>> round(low, 3), high
    (0.839, 1.0)
    """
    if not 0 < level < 1:
        raise InputError(f"Expected a level in (0, 1), got {level}")
    if n < 1 or not 0 <= right <= n:
        raise InputError(f"Expected 0 to n right answers of at least 1, got {right} of {n}")
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = right / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (0.0 if right == 0 else middle - half), (1.0 if right == n else middle + half)


def _predicted(predictions: ArrayLike, labels: ArrayLike) -> tuple[IntArray, IntArray]:
    if np.ndim(predictions) == 2:
        scores, true = checked_scores(predictions, labels)
        return scores.argmax(axis=1), true
    predicted, true = checked_indices(predictions, "predictions"), checked_indices(labels, "labels")
    if len(predicted) != len(true):
        raise InputError(f"Expected as many predictions as labels, got {len(predicted)} and {len(true)}")
    return predicted, true
