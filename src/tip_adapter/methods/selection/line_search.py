"""The best α for one β, without a grid, from zero-shot logits, cache logits and labels.

For one β the logits ``a + α·c`` are linear in α, so the likelihood is convex in α, and every image is right on one
interval of α, which makes accuracy as a function of α exactly known.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tip_adapter.methods.heads.base import nll_per_sample
from tip_adapter.typing import FloatArray, IntArray

BLOCK = 2**16
"""Logits that are worked on at a time: in the cache of the processor, where the same takes half as long."""

MAX_RATIO = 50.0
"""Largest α considered for accuracy, as the ratio of spreads over classes: beyond it the text no longer speaks, and
where images are all right for every large α, the largest would say nothing but overflow."""


def best_likelihood_alpha(
    text: FloatArray, cache: FloatArray, labels: IntArray, *, start: float = 0.0
) -> tuple[float, float]:
    """Find the α ≥ 0 that minimises the negative log-likelihood of ``text + α·cache``, a convex function of α.

    Shapes: `text, cache` (B, C), `labels` (B,).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.selection.line_search import best_likelihood_alpha
    >>> alpha, nll = best_likelihood_alpha(np.zeros((4, 2)), np.eye(2)[[0, 0, 0, 1]], np.array([0, 0, 1, 1]))
    >>> round(alpha, 3), round(nll, 3)
    (1.099, 0.562)
    """
    rows = np.arange(len(labels))
    text, cache = (np.asarray(part - part[rows, labels][:, None], dtype=np.float32) for part in (text, cache))
    spread = float(cache.std()) or 1.0
    low, high, alpha = 0.0, 1e4 / spread, start

    nll_of, mean, square = np.empty(len(labels)), np.empty(len(labels)), np.empty(len(labels))

    def loss(alpha: float) -> tuple[float, float, float]:
        for part in _blocks(text):
            logits = text[part] + np.float32(alpha) * cache[part]
            top = logits.max(axis=1, keepdims=True)
            logits -= top
            weights = np.exp(logits, out=logits)
            total = weights.sum(axis=1, dtype=np.float64)
            mean[part] = np.einsum("bc,bc->b", weights, cache[part]) / total
            square[part] = np.einsum("bc,bc,bc->b", weights, cache[part], cache[part]) / total
            nll_of[part] = np.log(total) + top[:, 0]
        return float(nll_of.mean()), float(mean.mean()), float(np.mean(square - mean**2))

    for _ in range(60):
        nll, slope, curvature = loss(alpha)
        low, high = (alpha, high) if slope < 0 else (low, alpha)
        if abs(slope) * spread < 1e-6 * spread**2 or high - low < 1e-5 * (high + 1e-9):
            break
        step = alpha - slope / max(curvature, 1e-12)
        # Newton's step where it stays inside what is known, else half-way (in logarithms where that is possible).
        alpha = (
            step if low < step < high else (np.sqrt(low * high) if low > 0 else high / 2 if high < 1e-6 else high / 8)
        )
    return (0.0, loss(0.0)[0]) if alpha * spread < 1e-6 else (float(alpha), nll)


def best_accuracy_alpha(text: FloatArray, cache: FloatArray, labels: IntArray) -> tuple[float, float]:
    """Find an α ≥ 0 with the highest accuracy of ``text + α·cache``, exactly and for all α at once.

    Every image is right on one interval of α: its true class y must lead each class j, ``α (c_y - c_j) > a_j - a_y``.
    Sorting the ends of those intervals gives accuracy as a function of α.

    Shapes: `text, cache` (B, C), `labels` (B,).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.selection.line_search import best_accuracy_alpha
    >>> best_accuracy_alpha(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([[0.5, 1.0], [1.0, 0.0]]), np.array([1, 0]))
    (3.0, 1.0)
    """
    low, high = _correct_intervals(text, cache, labels)
    limit = _largest_alpha(text, cache)
    right = (low < high) & (high > 0) & (low < limit)
    low, high = low[right], high[right]
    ends = np.unique(np.concatenate([[0.0], low[low > 0], high[high < limit]]))
    # Inside the stretch that begins at ends[i]: intervals begun by then, less those over by then.
    counts = np.searchsorted(np.sort(low), ends, side="right") - np.searchsorted(np.sort(high), ends, side="right")
    at_zero = int(np.sum((low < 0) & (high > 0)))
    if counts.size == 0 or counts.max() <= at_zero:
        return 0.0, at_zero / len(labels)
    beyond = min(max(2 * ends[-1], 1.0), limit)
    widths = np.where(counts == counts.max(), np.diff(np.append(ends, beyond)), -1)
    best = int(widths.argmax())
    return float(ends[best] + widths[best] / 2), float(counts[best] / len(labels))


def nll_along(text: FloatArray, term: FloatArray, labels: IntArray, weight: float) -> FloatArray:
    """Negative log-likelihood of every image under ``text + weight·term``, in nats.

    Shapes: `text, term` (B, C), `labels` (B,) → (B,).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.selection.line_search import nll_along
    >>> nll_along(np.zeros((1, 2)), np.eye(2)[:1], np.array([0]), 2.0).round(3)
    array([0.127])
    """
    # In float64 whatever the logits are: differences of such sums over many images find the best weight.
    result, weight = np.empty(len(labels)), np.float64(weight)
    for part in _blocks(text):
        result[part] = nll_per_sample(text[part] + weight * term[part], labels[part])
    return result


def _blocks(logits: FloatArray) -> Iterator[slice]:
    size = max(1, BLOCK // logits.shape[1])
    return (slice(start, start + size) for start in range(0, len(logits), size))


def _largest_alpha(text: FloatArray, cache: FloatArray) -> float:
    """Where the cache outweighs the text `MAX_RATIO` times; infinite where one of them says nothing."""
    spreads = text.std(axis=1).mean(), cache.std(axis=1).mean()
    return float(MAX_RATIO * spreads[0] / spreads[1]) if min(spreads) > 0 else float("inf")


def _correct_intervals(text: FloatArray, cache: FloatArray, labels: IntArray) -> tuple[FloatArray, FloatArray]:
    """Between which two α every image is right; from below 0 where it is right without the cache."""
    rows = np.arange(len(labels))
    behind = text - text[rows, labels][:, None]
    gain = cache[rows, labels][:, None] - cache
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = behind / gain
    low = np.where(gain > 0, crossing, -np.inf).max(axis=1)
    high = np.where(gain < 0, crossing, np.inf).min(axis=1)
    tied = (gain == 0) & (behind >= 0)
    tied[rows, labels] = False
    high[tied.any(axis=1)] = -np.inf
    return np.where(low < 0, -1.0, low), high
