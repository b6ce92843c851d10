"""The cache model: affinities of queries to cache keys, summed by class.

For a query feature ``f`` and cache keys ``F`` (unit rows), with class labels ``Y`` as one-hot rows, Tip-Adapter [1]_
adds to the zero-shot logits the affinity to every key, summed by class::

    A      = exp(-β (1 - f·Fᵀ))                 equation 3
    logits = s·f·Wᵀ + α·A·Y                     equation 5

``A·Y`` is a sum over each class's keys, so it is computed as one, never as a product with a one-hot matrix.

.. [1] Zhang et al., "Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification", ECCV 2022.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tip_adapter.processors import single_threaded_blas, usable_processors
from tip_adapter.typing import BoolArray, Float32Array, FloatArray, IntArray

CHUNK_ELEMENTS = 4_000_000
"""Affinities that one thread holds at a time: 16 MB."""

QUERIES = 64
"""Queries that are answered together where keys are too many to be held beside them, which are then read in blocks."""

BLOCK = 4096
"""Keys of a block, whose affinities to so many queries stay in the cache of a processor."""

SHORT_RUN = 16
"""Keys that are nearly sorted are left as they are: a copy of many takes longer than an edit of a few. Runs beyond one
for each class may be so short on the mean before sums take notably longer."""

SEGMENT = 128
"""Keys summed in float32 before the partial sums are added up in float64."""


@dataclass(frozen=True)
class Cache:
    """Keys in runs of one class each, ready to be summed by class.

    Attributes
    ----------
    keys : ndarray of shape (N, D), float32
        Unit rows, sorted by class, or nearly so.
    order : ndarray of shape (N,)
        ``keys[i]`` is row ``order[i]`` of what the cache was built from.
    classes : ndarray of shape (P,)
        The classes that have keys, ascending.
    starts : ndarray of shape (R,)
        Where the runs begin.
    owners : ndarray of shape (R,)
        Which of those classes each run is of.
    weights : ndarray of shape (P,)
        What one key of each of those classes counts.
    n_classes : int
        C, the classes without keys included.
    lent : ndarray of shape (L,)
        Classes without keys whose logit is that of the runner-up among the others; of the rest without keys it is 0.
    """

    keys: Float32Array
    order: IntArray
    classes: IntArray
    starts: IntArray
    owners: IntArray
    weights: FloatArray
    n_classes: int
    lent: IntArray

    @classmethod
    def build(
        cls,
        keys: Float32Array,
        labels: IntArray,
        n_classes: int,
        *,
        balanced: bool = True,
        with_text: BoolArray | None = None,
    ) -> Cache:
        """Sort keys by class and weigh the classes.

        Shapes: `keys` (N, D), `labels` (N,), `with_text` (C,).

        Parameters
        ----------
        balanced : bool, default=True
            Weigh each key by ``mean shots per class / shots of its class``, so that a class does not win by having more
            photos. With equal shots this changes nothing. False is the raw sum of the paper.
        with_text : ndarray of shape (C,), bool, optional
            Classes that have text. Without keys, such a class is lent the cache logit of the runner-up: on a photo of
            another class, the most that a wrong class has; on a photo of its own, as much as the others have but for
            the one that happens to be nearest. So its text competes with theirs. Default: none.

        Examples
        --------
        >>> import numpy as np
        >>> from tip_adapter.methods.heads.affinity import Cache
        >>> cache = Cache.build(np.eye(3, dtype=np.float32), np.array([1, 0, 1]), 2)
        >>> cache.order, cache.weights
        (array([1, 0, 2]), array([1.5 , 0.75]))
        """
        order, starts = np.arange(len(labels)), _run_starts(labels)
        classes, counts = np.unique(labels, return_counts=True)
        if len(starts) > len(classes) + len(labels) // SHORT_RUN:
            order = np.argsort(labels, kind="stable")
            keys, labels = keys[order], labels[order]
            starts = _run_starts(labels)
        owners = np.searchsorted(classes, labels[starts])
        weights = len(labels) / (len(classes) * counts) if balanced else np.ones(len(classes))
        lent = np.setdiff1d(np.flatnonzero([] if with_text is None else with_text), classes)
        return cls(np.ascontiguousarray(keys), order, classes, starts, owners, weights, n_classes, lent)

    @property
    def labels(self) -> IntArray:
        """Class of every key, (N,)."""
        return np.repeat(self.classes[self.owners], np.diff(self.starts, append=len(self.keys)))

    @property
    def key_weights(self) -> FloatArray:
        """What every key counts, (N,)."""
        return np.repeat(self.weights[self.owners], np.diff(self.starts, append=len(self.keys)))

    @cached_property
    def pieces(self) -> tuple[IntArray, IntArray]:
        """Where pieces of at most `SEGMENT` keys of a run begin, and which of the classes each is of."""
        counts = -(-np.diff(self.starts, append=len(self.keys)) // SEGMENT)
        runs = np.repeat(np.arange(len(counts)), counts)
        within = np.arange(len(runs)) - np.repeat(np.cumsum(counts) - counts, counts)
        return self.starts[runs] + within * SEGMENT, self.owners[runs]

    def weighed(self, sums: Float32Array | FloatArray) -> FloatArray:
        """Add up the sums of the pieces by class and weigh them: (B, pieces) → (B, C)."""
        result, owners = np.zeros((len(sums), self.n_classes)), self.pieces[1]
        if len(owners) > len(self.classes):
            # Many keys in a class: short float32 sums, then float64, keep 1e-5 relative.
            by_class = np.argsort(owners, kind="stable")
            owners, first = np.unique(owners[by_class], return_index=True)
            sums = np.add.reduceat(sums[:, by_class], first, axis=1, dtype=np.float64)
        result[:, self.classes[owners]] = sums * self.weights[owners]
        if len(self.lent):
            result[:, self.lent] = runner_up(result[:, self.classes])[:, None]
        return result


def _run_starts(labels: IntArray) -> IntArray:
    return np.flatnonzero(np.diff(labels, prepend=-1))


def affinity(queries: Float32Array, keys: Float32Array, beta: float) -> Float32Array:
    """Affinity of every query to every key, ``exp(-β (1 - cosine))``.

    Shapes: `queries` (B, D), `keys` (N, D) → (B, N).

    References
    ----------
    Zhang et al., Tip-Adapter, ECCV 2022, equation 3.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.heads.affinity import affinity
    >>> affinity(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32), beta=5.5).round(4)
    array([[1.    , 0.0041],
           [0.0041, 1.    ]], dtype=float32)
    """
    scaled: Float32Array = queries * np.float32(beta)
    return _exponential(scaled @ keys.T, beta)


def _exponential(scaled_cosines: Float32Array, beta: float) -> Float32Array:
    """Turn β·cosine into exp(-β (1 - cosine)), in place."""
    scaled_cosines -= np.float32(beta)
    return np.exp(scaled_cosines, out=scaled_cosines)


def class_mass(values: Float32Array | FloatArray, cache: Cache) -> FloatArray:
    """Sum per-key values by class and weigh them, ``A·Y`` with class-balanced values.

    Shapes: `values` (B, N) → (B, C).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.heads.affinity import Cache, class_mass
    >>> cache = Cache.build(np.eye(3, dtype=np.float32), np.array([0, 0, 2]), 3, balanced=False)
    >>> class_mass(np.array([[1, 2, 4]], dtype=np.float32), cache)
    array([[3., 0., 4.]])
    """
    if len(cache.starts) == 0 or len(values) == 0:
        return np.zeros((len(values), cache.n_classes))
    return cache.weighed(np.add.reduceat(values, cache.pieces[0], axis=1))


def runner_up(values: FloatArray) -> FloatArray:
    """Second largest of each row of (B, P), or the only one.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.heads.affinity import runner_up
    >>> runner_up(np.array([[1.0, 3.0, 2.0]]))
    array([2.])
    """
    place = max(0, values.shape[1] - 2)
    result: FloatArray = np.partition(values, place, axis=1)[:, place]
    return result


def cache_logits(queries: Float32Array, cache: Cache, beta: float) -> Float32Array:
    """Cache logits ``A·Y`` of many queries, in chunks on all cores, in bounded memory.

    Shapes: `queries` (B, D) → (B, C).

    References
    ----------
    Zhang et al., Tip-Adapter, ECCV 2022, equation 4.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.heads.affinity import Cache, cache_logits
    >>> cache = Cache.build(np.eye(2, dtype=np.float32), np.array([0, 1]), 2)
    >>> cache_logits(np.array([[1, 0]], dtype=np.float32), cache, beta=1.0).round(3)
    array([[1.   , 0.368]], dtype=float32)
    """
    result = np.empty((len(queries), cache.n_classes), dtype=np.float32)
    # β in the product spares a pass over all B·N affinities.
    scaled: Float32Array = queries * np.float32(beta)
    if len(cache.keys) > CHUNK_ELEMENTS // QUERIES:
        for rows in _slices(len(queries), QUERIES):
            result[rows] = _by_blocks_of_keys(scaled[rows], cache, beta)
        return result

    def fill(rows: slice) -> None:
        result[rows] = class_mass(_exponential(scaled[rows] @ cache.keys.T, beta), cache)

    _run_chunks(fill, len(queries), max(1, CHUNK_ELEMENTS // max(1, len(cache.keys))))
    return result


def _by_blocks_of_keys(scaled: Float32Array, cache: Cache, beta: float) -> FloatArray:
    pieces, _ = cache.pieces
    ends = np.append(pieces[1:], len(cache.keys))
    sums = np.empty((len(scaled), len(pieces)), dtype=np.float32)

    def fill(part: slice) -> None:
        first = pieces[part.start]
        values = _exponential(scaled @ cache.keys[first : ends[part.stop - 1]].T, beta)
        np.add.reduceat(values, pieces[part] - first, axis=1, out=sums[:, part])

    _run_chunks(fill, len(pieces), max(1, len(pieces) * BLOCK // len(cache.keys)))
    return cache.weighed(sums)


def mass_from_cosines(cosines: Float32Array, cache: Cache, beta: float) -> FloatArray:
    """Cache logits ``A·Y`` from cosines already computed: for one β after another only the exponential changes.

    Shapes: `cosines` (B, N) → (B, C). A key at −∞ does not answer.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.heads.affinity import Cache, mass_from_cosines
    >>> cache = Cache.build(np.eye(2, dtype=np.float32), np.array([0, 1]), 2)
    >>> mass_from_cosines(np.array([[1, -np.inf]], dtype=np.float32), cache, beta=2.0)
    array([[1., 0.]])
    """
    result = np.empty((len(cosines), cache.n_classes))
    factor = np.maximum(np.float32(beta), np.finfo(np.float32).tiny)  # 0 would make NaN of −∞

    def fill(rows: slice) -> None:
        result[rows] = class_mass(_exponential(cosines[rows] * factor, beta), cache)

    _run_chunks(fill, len(cosines), max(1, CHUNK_ELEMENTS // max(1, len(cache.keys))))
    return result


def _run_chunks(work: Callable[[slice], None], n_rows: int, chunk: int) -> None:
    """Call `work` on every chunk of rows, one chunk per core at a time."""
    if n_rows <= chunk:
        return work(slice(0, n_rows))
    # A chunk per thread with a single-threaded product each: exponentials and sums then use every core, too.
    with single_threaded_blas(), ThreadPoolExecutor(usable_processors()) as pool:
        for _ in pool.map(work, _slices(n_rows, chunk)):
            pass
    return None


def _slices(n_rows: int, chunk: int) -> Iterator[slice]:
    return (slice(start, min(start + chunk, n_rows)) for start in range(0, n_rows, chunk))


def tip_logits(
    text_logits: Float32Array, queries: Float32Array, cache: Cache, *, alpha: float, beta: float
) -> Float32Array:
    """Tip-Adapter's logits, ``s·f·Wᵀ + α·A·Y``.

    Shapes: `text_logits` (B, C), `queries` (B, D) → (B, C).

    References
    ----------
    Zhang et al., Tip-Adapter, ECCV 2022, equation 5.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.heads.affinity import Cache, tip_logits
    >>> cache = Cache.build(np.eye(2, dtype=np.float32), np.array([0, 1]), 2)
    >>> query = np.array([[1, 0]], dtype=np.float32)
    >>> tip_logits(np.array([[3, 4]], dtype=np.float32), query, cache, alpha=2.0, beta=1.0).round(3)
    array([[5.   , 4.736]], dtype=float32)
    """
    if alpha == 0:
        return text_logits.astype(np.float32, copy=True)
    # In place: B·C numbers are what takes memory where queries are many.
    logits = cache_logits(queries, cache, beta)
    logits *= np.float32(alpha)
    logits += text_logits
    return logits
