"""What each shot adds to the logits, and the logits without it, for every kind of head.

Every part is exact: summed up, the shots give the logits of the formula. Sums are in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from tip_adapter.methods.heads.cache import neighbour_votes
from tip_adapter.methods.heads.gaussian import TextMeans
from tip_adapter.typing import Float32Array, FloatArray, IntArray


class ShotPart(Protocol):
    """Logits (B, C) that come from N shots."""

    @property
    def is_sum(self) -> bool:
        """Whether the logits are a sum with one term per shot."""
        ...

    def logits(self) -> FloatArray:
        """Logits of all queries, (B, C)."""
        ...

    def to_class(self, query: int, column: int) -> FloatArray:
        """What every shot adds to one class's logit of one query, (N,)."""
        ...

    def logits_without(self, query: int, shot: int) -> FloatArray:
        """Logits of one query without one of the shots, (C,); whatever was fitted to all of them stays as it is."""
        ...


@dataclass(frozen=True, eq=False)
class KernelSum:
    """Shots that each say something about every class: a kernel regression.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.explain.shot_terms import KernelSum
    >>> part = KernelSum(np.array([[1.0, 0.5]]), np.array([[2.0, -2.0], [-1.0, 1.0]]))
    >>> part.logits(), part.to_class(0, 1), part.logits_without(0, 1)
    (array([[ 1.5, -1.5]]), array([-2. ,  0.5]), array([ 2., -2.]))
    """

    values: FloatArray
    """(B, N): kernels between queries and shots."""
    coefficients: FloatArray
    """(N, C): what every shot says about every class, per unit of its kernel."""
    inverse: FloatArray | None = None
    """(N, N), or None: M of the system whose solution, ``M·R``, the coefficients are. With it, the other shots'
    coefficients are solved again where a shot is left out; without it they stay."""
    is_sum = True

    def logits(self) -> FloatArray:
        """Logits of all queries, (B, C)."""
        return self._all

    @cached_property
    def _all(self) -> FloatArray:
        result: FloatArray = self.values @ self.coefficients
        return result

    def to_class(self, query: int, column: int) -> FloatArray:
        """What every shot adds to one class's logit of one query, (N,)."""
        result: FloatArray = self.values[query] * self.coefficients[:, column]
        return result

    def logits_without(self, query: int, shot: int) -> FloatArray:
        """Logits of one query without one of the shots, (C,)."""
        taken = self.values[query, shot] if self.inverse is None else self._weights[query, shot]
        result: FloatArray = self._all[query] - taken * self.coefficients[shot]
        return result

    @cached_property
    def _weights(self) -> FloatArray:
        """What leaving each shot out takes away, per unit of its coefficients, (B, N).

        Without shot i the coefficients are ``A - M_:i·A_i / M_ii``: its own become 0.
        """
        if self.inverse is None:
            return self.values
        result: FloatArray = (self.values @ self.inverse) / np.diag(self.inverse)
        return result

    def taken_from_class(self, query: int, column: int) -> FloatArray:
        """What leaving each shot out takes from one class's logit, (N,)."""
        result: FloatArray = self._weights[query] * self.coefficients[:, column]
        return result


@dataclass(frozen=True, eq=False)
class GaussianSum:
    """Shots whose class means, seen through one precision, are a Gaussian classifier.

    The logit ``α(f - ½μ)·P·μ`` is linear in the last μ, a mean of shots, in which the text has a share where they are
    few. Logits are centred over the classes that have shots. Without a shot, its class has another mean; the precision
    P, made of all shots, stays.
    """

    queries: FloatArray
    solved_queries: FloatArray
    """queries and solved_queries: (B, D): f and f·P."""
    features: FloatArray
    """(N, D): the shots."""
    labels: IntArray
    means: FloatArray
    solved_means: FloatArray
    """means and solved_means: (C, D): means m of the shots, and m·P."""
    own: FloatArray
    """(N,): ``x·P·μ`` of every shot and its own class."""
    solve: Callable[[FloatArray], FloatArray]
    """From rows (R, D) to rows·P."""
    scale: float
    """α."""
    lost: float
    """Logit of a class whose last shot is left out, and whose text lets expect nothing."""
    text_means: TextMeans
    """What the texts tell of the means."""
    solved_texts: FloatArray
    """(C, D): what they let expect, times P."""
    by_text: FloatArray
    """(B, C): the share of the texts in the logits, before centring; `logits` are without it."""
    is_sum = True

    @cached_property
    def _counts(self) -> IntArray:
        return np.bincount(self.labels, minlength=len(self.means))

    @cached_property
    def _values(self) -> FloatArray:
        """What every shot adds to its own class before centring, (B, N)."""
        seen = self.solved_queries @ self.features.T
        parts = (1 - self.text_means.shares) / np.maximum(self._counts, 1)
        result: FloatArray = self.scale * (seen - 0.5 * self.own) * parts[self.labels]
        return result

    @cached_property
    def _raw(self) -> FloatArray:
        return by_class(self._values, self.labels, len(self.means))

    def logits(self) -> FloatArray:
        """Logits of all queries, (B, C)."""
        present = self._counts > 0
        centre = self._raw[:, present].mean(axis=1, keepdims=True)
        result: FloatArray = np.where(present, self._raw - centre, 0.0)
        return result

    def to_class(self, query: int, column: int) -> FloatArray:
        """What every shot adds to one class's logit of one query, (N,)."""
        if self._counts[column] == 0:
            return np.zeros(len(self.labels))
        values = self._values[query]
        result: FloatArray = np.where(self.labels == column, values, 0.0) - values / np.count_nonzero(self._counts)
        return result

    def logits_without(self, query: int, shot: int) -> FloatArray:
        """Logits of one query without one of the shots, (C,)."""
        own, present = self.labels[shot], self._counts > 0
        shares, whole = self.by_text[query], self._raw[query] + self.by_text[query]
        stated = np.where(present, shares, whole) - np.where(present, shares[present].mean(), whole[present].mean())
        whole[own] = self._own_without(query, shot)
        present[own] = self._counts[own] > 1
        centre = whole[present].mean() if present.any() else 0.0
        answered = present | (self.text_means.shares_of(present.astype(int)) > 0)
        lost = np.where(np.arange(len(whole)) == own, self.lost, 0.0)
        result: FloatArray = np.where(answered, whole - centre - stated, lost)
        return result

    def _own_without(self, query: int, shot: int) -> float:
        """Logit of a shot's own class without it, before centring."""
        own, counts = self.labels[shot], self._counts.copy()
        counts[own] -= 1
        share, left = self.text_means.shares_of(counts)[own], counts[own]
        mean, solved = share * np.nan_to_num(self.text_means.expected[own]), share * self.solved_texts[own]
        if left:
            feature = self.features[shot]
            mean = mean + (1 - share) * ((left + 1) * self.means[own] - feature) / left
            others = (left + 1) * self.solved_means[own] - self.solve(feature[None])[0]
            solved = solved + (1 - share) * others / left
        return self.scale * float((self.queries[query] - 0.5 * mean) @ solved)


@dataclass(frozen=True, eq=False)
class PrototypeSum:
    """Shots whose sum, normalised, is the direction of their class.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.explain.shot_terms import PrototypeSum
    >>> shots = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    >>> sums = np.array([[1.0, 1.0], [0.6, 0.8]])
    >>> part = PrototypeSum(shots[:1] @ shots.T, shots, np.array([0, 0, 1]), sums, 1.0, -9.0)
    >>> part.logits().round(3), part.logits_without(0, 1).round(3)
    (array([[0.707, 0.6  ]]), array([1. , 0.6]))
    """

    cosines: FloatArray
    """(B, N): between queries and shots."""
    features: FloatArray
    """(N, D): the shots."""
    labels: IntArray
    sums: FloatArray
    """(C, D): sum of every class's shots."""
    scale: float
    """What a cosine counts."""
    lost: float
    """Logit of a class whose last shot is left out."""
    is_sum = True

    @cached_property
    def _mass(self) -> FloatArray:
        return by_class(self.cosines, self.labels, len(self.sums))

    @cached_property
    def _weights(self) -> FloatArray:
        norms = np.linalg.norm(self.sums, axis=1)
        weights: FloatArray = np.divide(self.scale, norms, out=np.zeros_like(norms), where=norms > 0)
        return weights

    def logits(self) -> FloatArray:
        """Logits of all queries, (B, C)."""
        result: FloatArray = self._mass * self._weights
        return result

    def to_class(self, query: int, column: int) -> FloatArray:
        """What every shot adds to one class's logit of one query, (N,)."""
        result: FloatArray = np.where(self.labels == column, self.cosines[query] * self._weights[column], 0.0)
        return result

    def logits_without(self, query: int, shot: int) -> FloatArray:
        """Logits of one query without one of the shots, (C,)."""
        own = self.labels[shot]
        result: FloatArray = self._mass[query] * self._weights
        if np.count_nonzero(self.labels == own) == 1:
            result[own] = self.lost
            return result
        norm = float(np.linalg.norm(self.sums[own] - self.features[shot]))
        mass = float(self._mass[query, own] - self.cosines[query, shot])
        result[own] = self.scale * mass / norm if norm > 0 else 0.0
        return result


@dataclass(frozen=True, eq=False)
class NeighbourVotes:
    """Shots of which the nearest vote; the logarithm of a share of votes is no sum over shots.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.explain.shot_terms import NeighbourVotes
    >>> part = NeighbourVotes(np.array([[0.9, 0.8, 0.1]], dtype=np.float32), np.array([0, 1, 1]), 2, 1)
    >>> part.logits().round(2), part.logits_without(0, 0).round(2)
    (array([[-0.29, -1.39]]), array([-1.39, -0.29]))
    """

    cosines: Float32Array
    """(B, N): between queries and shots."""
    labels: IntArray
    n_classes: int
    neighbours: int
    """How many vote."""
    is_sum = False

    def logits(self) -> FloatArray:
        """Logits of all queries, (B, C)."""
        votes = neighbour_votes(self.cosines, self.labels, self.n_classes, self.neighbours)
        return votes.astype(np.float64)

    def to_class(self, query: int, column: int) -> FloatArray:
        """Nothing, (N,): votes are counted before the logarithm."""
        return np.zeros(len(self.labels))

    def logits_without(self, query: int, shot: int) -> FloatArray:
        """Logits of one query without one of the shots, (C,): the next nearest votes in its place."""
        cosines = np.delete(self.cosines[query], shot)[None]
        k = min(self.neighbours, cosines.shape[1])
        if k == 0:
            return np.full(self.n_classes, -np.log(self.n_classes))
        votes = neighbour_votes(cosines, np.delete(self.labels, shot), self.n_classes, k).astype(np.float64)
        row: FloatArray = votes[0]
        return row


def by_class(values: Float32Array | FloatArray, labels: IntArray, n_classes: int) -> FloatArray:
    """Sum the columns of every class, (B, C), in float64."""
    sums = np.zeros((len(values), n_classes))
    for row, out in zip(values, sums, strict=True):
        out[:] = np.bincount(labels, weights=row, minlength=n_classes)
    return sums
