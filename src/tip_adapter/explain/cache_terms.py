"""What each shot of a cache adds to the logits, and the logits without it; of all shots, or of the nearest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from tip_adapter.explain.shot_terms import by_class
from tip_adapter.typing import BoolArray, Float32Array, FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class CacheSum:
    """Shots that speak for their own classes: a cache.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.explain.cache_terms import CacheSum
    >>> part = CacheSum(np.array([[1.0, 2.0, 4.0]]), np.array([0, 0, 1]), 2, balanced=True)
    >>> part.logits(), part.to_class(0, 0), part.logits_without(0, 0)
    (array([[2.25, 6.  ]]), array([0.75, 1.5 , 0.  ]), array([2., 4.]))
    """

    values: Float32Array | FloatArray
    """(B, N): how strongly every shot speaks."""
    labels: IntArray
    n_classes: int
    balanced: bool
    """Whether a shot counts ``mean shots per class / shots of its class``, as in
    `tip_adapter.methods.heads.affinity.Cache`."""
    with_text: BoolArray | None = None
    """(C,): classes that have text: without shots, they have those of the runner-up. Default: none."""
    is_sum = True

    @cached_property
    def _counts(self) -> IntArray:
        return np.bincount(self.labels, minlength=self.n_classes)

    @cached_property
    def _mass(self) -> FloatArray:
        return by_class(self.values, self.labels, self.n_classes)

    def _class_weights(self, counts: IntArray) -> FloatArray:
        if not self.balanced:
            return np.ones(len(counts))
        present = np.count_nonzero(counts)
        weights: FloatArray = np.divide(counts.sum(), present * counts, out=np.zeros(len(counts)), where=counts > 0)
        return weights

    def _weighed(self, mass: FloatArray, counts: IntArray) -> FloatArray:
        """Logits of mass (..., C), the lent ones among them."""
        result: FloatArray = mass * self._class_weights(counts)
        if self.with_text is not None and counts.any():
            lent = self.with_text & (counts == 0)
            result[..., lent] = np.take_along_axis(result, _runner_up(result, counts)[..., None], axis=-1)
        return result

    def logits(self) -> FloatArray:
        """Logits of all queries, (B, C)."""
        return self._weighed(self._mass, self._counts)

    def to_class(self, query: int, column: int) -> FloatArray:
        """What every shot adds to one class's logit of one query, (N,)."""
        weights = self._class_weights(self._counts)
        if self.with_text is not None and self.with_text[column] and not self._counts[column] and self._counts.any():
            column = int(_runner_up(self._mass[query] * weights, self._counts))
        result: FloatArray = np.where(self.labels == column, self.values[query] * weights[column], 0.0)
        return result

    def logits_without(self, query: int, shot: int) -> FloatArray:
        """Logits of one query without one of the shots, (C,)."""
        counts, mass, own = self._counts.copy(), self._mass[query].copy(), self.labels[shot]
        counts[own] -= 1
        # No rounding error of a difference after the last shot.
        mass[own] = mass[own] - float(self.values[query, shot]) if counts[own] else 0.0
        return self._weighed(mass, counts)


@dataclass(frozen=True, eq=False)
class TopKSum:
    """Shots of which the nearest alone speak for their classes; without one of them, the next takes its place.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.explain.cache_terms import CacheSum, TopKSum
    >>> every = CacheSum(np.array([[3.0, 2.0]]), np.array([0, 1]), 2, balanced=False)
    >>> part = TopKSum(every, np.array([[0.9, 0.8]]), 1)
    >>> part.logits(), part.to_class(0, 0), part.logits_without(0, 0)
    (array([[3., 0.]]), array([3., 0.]), array([0., 2.]))
    """

    every: CacheSum
    """The sum, if all shots spoke."""
    cosines: Float32Array
    """(B, N): how near every shot is."""
    neighbours: int
    is_sum = True

    @cached_property
    def _sum(self) -> CacheSum:
        return self._of_nearest(self.every.values, self.cosines)

    def _of_nearest(self, values: Float32Array | FloatArray, cosines: Float32Array | FloatArray) -> CacheSum:
        first = max(0, cosines.shape[1] - self.neighbours)
        rows = np.argpartition(cosines, first, axis=1)[:, first:] if first else np.arange(cosines.shape[1])[None]
        kept = np.zeros(values.shape, dtype=np.float64)
        np.put_along_axis(kept, rows, np.take_along_axis(values, rows, axis=1), axis=1)
        return replace(self.every, values=kept)

    def logits(self) -> FloatArray:
        """Logits of all queries, (B, C)."""
        return self._sum.logits()

    def to_class(self, query: int, column: int) -> FloatArray:
        """What every shot adds to one class's logit of one query, (N,)."""
        return self._sum.to_class(query, column)

    def logits_without(self, query: int, shot: int) -> FloatArray:
        """Logits of one query without one of the shots, (C,)."""
        values, cosines = self.every.values[query : query + 1].copy(), self.cosines[query : query + 1].copy()
        values[:, shot], cosines[:, shot] = 0.0, -np.inf
        return self._of_nearest(values, cosines).logits_without(0, shot)


def _runner_up(logits: FloatArray, counts: IntArray) -> IntArray:
    """Column with the second largest logit (..., C) of the classes that have shots, or the only one."""
    present = np.flatnonzero(counts)
    place = max(0, len(present) - 2)
    result: IntArray = present[np.argpartition(logits[..., present], place, axis=-1)[..., place]]
    return result
