"""The cache model of the nearest keys alone, found exactly or by an index, for caches of many keys."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import Protocol

import numpy as np

from tip_adapter.libraries import require_extra
from tip_adapter.methods.heads.affinity import Cache, runner_up
from tip_adapter.methods.heads.base import TextHead, row_chunks, with_text
from tip_adapter.typing import Float32Array, FloatArray, IntArray

INDEXES = ("exact", "faiss")

BLOCK = 65_536
"""Keys that many queries are compared with at a time."""

SURE = 0.95
"""Share of the nearest keys that an index finds at least, where it is not said how many cells it looks into."""

POINTS_PER_CELL = 40
"""Keys of each cell that k-means sees, as faiss recommends at least."""


class KeyIndex(Protocol):
    """Finds the keys nearest to a query."""

    def nearest(self, queries: Float32Array, count: int) -> tuple[Float32Array, IntArray]:
        """Cosines and rows (B, count) of the nearest keys, in any order; a row of -1 where there is none."""
        ...


class ExactKeys:
    """Looks at every key.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.heads.top_k import ExactKeys
    >>> ExactKeys(np.eye(2, dtype=np.float32)).nearest(np.array([[0.6, 0.8]], dtype=np.float32), 1)
    (array([[0.8]], dtype=float32), array([[1]]))
    """

    def __init__(self, keys: Float32Array) -> None:
        self.keys = keys

    def nearest(self, queries: Float32Array, count: int) -> tuple[Float32Array, IntArray]:
        """Cosines and rows of the nearest keys."""
        rows = np.empty((len(queries), count), dtype=np.intp)
        cosines = np.empty((len(queries), count), dtype=np.float32)
        for chunk in row_chunks(len(queries), min(len(self.keys), BLOCK)):
            found = [
                _largest(queries[chunk] @ self.keys[start : start + BLOCK].T, count, start)
                for start in range(0, len(self.keys), BLOCK)
            ]
            near, places = (np.concatenate(parts, axis=1) for parts in zip(*found, strict=True))
            cosines[chunk], best = _largest(near, count) if len(found) > 1 else (near, np.arange(count)[None])
            rows[chunk] = np.take_along_axis(places, best, axis=1)
        return cosines, rows


def _largest(values: Float32Array, count: int, start: int = 0) -> tuple[Float32Array, IntArray]:
    """The largest of each row, at most so many, and where they are, counted from `start`."""
    first = max(0, values.shape[1] - count)
    places = np.argpartition(values, first, axis=1)[:, first:] if first else np.arange(values.shape[1])[None]
    return np.take_along_axis(values, places, axis=1), np.broadcast_to(places + start, (len(values), places.shape[1]))


class CellKeys:
    """Looks at the keys of the nearest cells of a k-means clustering: faiss' IVF index, built when it is first used."""

    def __init__(self, keys: Float32Array, probes: int) -> None:
        faiss = require_extra("faiss", "index")
        # The square root makes finding the nearest cells cost as much as one of them.
        cells = max(1, min(int(np.sqrt(len(keys))), len(keys) // POINTS_PER_CELL))
        self.index = faiss.IndexIVFFlat(
            faiss.IndexFlatIP(keys.shape[1]), keys.shape[1], cells, faiss.METRIC_INNER_PRODUCT
        )
        self.index.cp.niter = 10
        step = max(1, len(keys) // (POINTS_PER_CELL * cells))
        self.index.train(np.ascontiguousarray(keys[::step]))
        self.index.add(np.ascontiguousarray(keys))
        self.index.nprobe = min(probes, cells)

    @property
    def probes(self) -> int:
        """Cells that are looked into."""
        return int(self.index.nprobe)

    def widen(self) -> bool:
        """Look into twice as many cells; False where all are looked into already."""
        before = self.probes
        self.index.nprobe = min(2 * before, self.index.nlist)
        return self.probes > before

    def nearest(self, queries: Float32Array, count: int) -> tuple[Float32Array, IntArray]:
        """Cosines and rows of most of the nearest keys."""
        cosines, rows = self.index.search(np.ascontiguousarray(queries), count)
        return cosines, rows


def key_index(kind: str, keys: Float32Array, probes: int) -> KeyIndex:
    """Make an index of keys."""
    return CellKeys(keys, probes) if kind == "faiss" else ExactKeys(keys)


def measured_recall(index: CellKeys, keys: Float32Array, asked: IntArray, count: int, wanted: float = 0.0) -> float:
    """Share of the other keys nearest to some keys that an index finds; it looks wider until that is what is wanted.

    Shapes: `keys` (N, D), `asked` (B,), rows of them.
    """
    queries, count = keys[asked], min(count + 1, len(keys))
    true = ExactKeys(keys).nearest(queries, count)[1]
    while True:
        got = index.nearest(queries, count)[1]
        hits = [np.isin(row[row != own], other).mean() for row, own, other in zip(true, asked, got, strict=True)]
        share = float(np.mean(hits))
        if share >= wanted or not index.widen():
            return share


def nearest_mass(cosines: FloatArray | Float32Array, owners: IntArray, cache: Cache, beta: float) -> FloatArray:
    """Affinities of the nearest keys, summed by class and weighed; `owners` are their classes, -1 where there is none.

    Shapes: `cosines, owners` (B, k) → (B, C).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.heads.affinity import Cache
    >>> from tip_adapter.methods.heads.top_k import nearest_mass
    >>> cache = Cache.build(np.eye(2, dtype=np.float32), np.array([0, 1]), 2)
    >>> nearest_mass(np.array([[1.0]]), np.array([[0]]), cache, 5.5)
    array([[1., 0.]])
    """
    weights = np.zeros(cache.n_classes)
    weights[cache.classes] = cache.weights
    known = (owners >= 0) & np.isfinite(cosines)
    place = np.where(known, owners, 0)
    values = np.where(known, np.exp(beta * (np.where(known, cosines, 0.0) - 1.0)) * weights[place], 0.0)
    cells = np.arange(len(owners))[:, None] * cache.n_classes + place
    sums = np.bincount(cells.ravel(), values.ravel(), minlength=len(owners) * cache.n_classes)
    result = sums.astype(np.float64).reshape(len(owners), cache.n_classes)
    if len(cache.lent) and len(cache.classes):
        result[:, cache.lent] = runner_up(result[:, cache.classes])[:, None]
    return result


@dataclasses.dataclass(frozen=True)
class TopKCacheHead(TextHead):
    """The nearest keys alone: ``s·f·Wᵀ + α·Σ exp(-β(1 - f·F_i))·Y_i`` over the k keys nearest to f.

    Parameters
    ----------
    keys : ndarray of shape (N, D), float32
        F.
    labels : ndarray of shape (N,), integers in [0, C)
    neighbours : int
        k; all of the keys where there are fewer.
    alpha, beta : float
        At least 0.
    balanced : bool, default=True
        As for `CacheHead`; classes are weighed by all their keys.
    index : {"exact", "faiss"}, default="exact"
        How the nearest keys are found.
    probes : int, default=16
        Cells that the index looks into.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.heads.top_k import TopKCacheHead
    >>> eye, labels = np.eye(2, dtype=np.float32), np.array([0, 1])
    >>> TopKCacheHead(2, eye, 10.0, keys=eye, labels=labels, neighbours=1, alpha=1.0, beta=1.0).logits(eye)
    array([[11.,  0.],
           [ 0., 11.]], dtype=float32)
    """

    keys: Float32Array
    labels: IntArray
    neighbours: int
    alpha: float
    beta: float
    balanced: bool = True
    index: str = "exact"
    probes: int = 16

    @cached_property
    def cache(self) -> Cache:
        """The keys sorted by class."""
        texts = with_text(self.zero_shot_weights, self.n_classes)
        return Cache.build(self.keys, self.labels, self.n_classes, balanced=self.balanced, with_text=texts)

    @cached_property
    def key_index(self) -> KeyIndex:
        """What finds the nearest keys."""
        return key_index(self.index, self.keys, self.probes)

    def logits(self, features: Float32Array) -> Float32Array:
        """Logits (B, C) of unit features (B, D)."""
        text = self.zero_shot_logits(features)
        if self.alpha == 0 or not len(self.keys) or not len(features):
            return text
        cosines, rows = self.key_index.nearest(features, min(self.neighbours, len(self.keys)))
        owners = np.where(rows >= 0, self.labels[rows], -1)
        result: Float32Array = text + (self.alpha * nearest_mass(cosines, owners, self.cache, self.beta)).astype(
            np.float32
        )
        return result
