"""Cache logits of scored images for one β after another: cosines are computed once where memory allows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from tip_adapter.methods.heads.affinity import Cache, mass_from_cosines
from tip_adapter.methods.selection.folds import MAX_ASKED
from tip_adapter.typing import Float32Array, FloatArray, IntArray

MAX_COSINES = 50_000_000
"""Cosines of images to keys, and numbers of cache logits, that are held at a time: 200 and 400 MB."""

LEAST_ASKED = 500
"""Images that decide where each is compared with very many keys: half a nat in all, spread over them, is .001."""


def affordable_images(n_keys: int) -> int:
    """How many left-out shots are compared with so many keys.

    Examples
    --------
    >>> from tip_adapter.methods.selection.cache_logits import affordable_images
    >>> [affordable_images(n_keys) for n_keys in (1_000, 20_000, 1_000_000)]
    [5000, 2500, 500]
    """
    return max(LEAST_ASKED, min(MAX_ASKED, MAX_COSINES // n_keys))


@dataclass(frozen=True, eq=False)
class CacheLogits:
    """Images and the keys that answer for them.

    Attributes
    ----------
    images : ndarray of shape (B, D), float32
    cache : Cache
    folds : tuple of ndarray of shape (B,) and (N,), optional
        Of images and keys: keys of an image's own fold do not answer for it.
    scale : ndarray of shape (B, C), optional
        What each class's sum is multiplied by.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.heads.affinity import Cache
    >>> from tip_adapter.methods.selection.cache_logits import CacheLogits
    >>> eye = np.eye(2, dtype=np.float32)
    >>> CacheLogits(eye, Cache.build(eye, np.array([0, 1]), 2)).of(1.0).round(2)
    array([[1.  , 0.37],
           [0.37, 1.  ]])
    """

    images: Float32Array
    cache: Cache
    folds: tuple[IntArray, IntArray] | None = None
    scale: FloatArray | float = 1.0
    _known: dict[float, FloatArray] = field(default_factory=dict)

    def of(self, beta: float) -> FloatArray:
        """Cache logits (B, C) under one β."""
        found = self._known.get(beta)
        return self._computed([beta])[0] if found is None else found

    def prepare(self, betas: Sequence[float]) -> None:
        """Compute those of several β together where cosines are too many to be held, but not the cache logits."""
        if self._n_blocks > 1 and len(betas) * len(self.images) * self.cache.n_classes <= MAX_COSINES:
            self._computed(betas)

    def _computed(self, betas: Sequence[float]) -> list[FloatArray]:
        shape = len(self.images), self.cache.n_classes
        masses: list[FloatArray] = [np.empty(shape) for _ in betas]
        for rows, cosines in self._blocks():
            for beta, mass in zip(betas, masses, strict=True):
                mass[rows] = mass_from_cosines(cosines, self.cache, beta)
        for beta, mass in zip(betas, masses, strict=True):
            mass *= self.scale
            if mass.size * (len(self._known) + 1) <= MAX_COSINES:
                self._known[beta] = mass
        return masses

    @property
    def _n_blocks(self) -> int:
        return max(1, -(-len(self.images) * len(self.cache.keys) // MAX_COSINES))

    def _blocks(self) -> Iterator[tuple[slice, Float32Array]]:
        if self._n_blocks == 1:
            yield slice(None), self._all_cosines
            return
        size = -(-len(self.images) // self._n_blocks)
        for start in range(0, len(self.images), size):
            rows = slice(start, start + size)
            yield rows, self._cosines(rows)

    @cached_property
    def _all_cosines(self) -> Float32Array:
        return self._cosines(slice(None))

    def _cosines(self, rows: slice) -> Float32Array:
        cosines: Float32Array = self.images[rows] @ self.cache.keys.T
        if self.folds is not None:
            cosines[self.folds[0][rows, None] == self.folds[1]] = -np.inf
        return cosines
