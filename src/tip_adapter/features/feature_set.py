"""Features of images as one object: made, cut, joined, written to a safetensors file and read from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from tip_adapter.errors import FeatureError
from tip_adapter.features.growing_rows import GrowingRows
from tip_adapter.typing import Float32Array

BLOCK = 4096
"""Features that are normalised together: in float64 they take twice as much."""


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """Features of N images, before any mean or normalisation.

    Raises
    ------
    FeatureError
        When the shapes do not fit together, or a feature is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.features.feature_set import FeatureSet
    >>> raw = np.array([[[3.0, 0.0], [0.0, 3.0]]], dtype=np.float32)
    >>> FeatureSet(raw, "my-encoder", ("digest",), ("a.jpg",)).unit
    array([[0.70710677, 0.70710677]], dtype=float32)
    """

    raw: Float32Array
    """(N, V, D): un-normalised features of V views of each image."""
    encoder_id: str
    """The ``id`` of the encoder that made them."""
    digests: tuple[str, ...]
    """N of them: SHA-256 of the bytes of each image."""
    names: tuple[str, ...]
    """N of them: what messages call the images: their file names."""

    def __post_init__(self) -> None:
        if (
            self.raw.ndim != 3
            or self.raw.dtype != np.float32
            or not len(self.raw) == len(self.digests) == len(self.names)
        ):
            raise FeatureError(
                "Expected float32 features of shape (N, V, D) with N digests and N names, got "
                f"{self.raw.dtype} {self.raw.shape} with {len(self.digests)} and {len(self.names)}"
            )
        bad = np.flatnonzero(~np.isfinite(self.raw).all(axis=(1, 2)))
        if bad.size:
            raise FeatureError(f"Expected finite features, got NaN or infinity for {self.names[bad[0]]}")

    def __len__(self) -> int:
        return len(self.raw)

    @cached_property
    def unit(self) -> Float32Array:
        """Normalised mean over the views of the un-normalised features: unit rows of shape (N, D), float32."""
        return self._unit_rows.rows(len(self))

    @cached_property
    def _unit_rows(self) -> GrowingRows:
        rows = GrowingRows.empty(len(self), self.raw.shape[2:])
        unit = rows.rows(len(self))
        for start in range(0, len(self), BLOCK):
            raw = self.raw[start : start + BLOCK]
            # The mean of one view is that view, without the time it takes to find out.
            means = raw[:, 0].astype(np.float64) if self.n_views == 1 else raw.mean(axis=1, dtype=np.float64)
            norms = np.linalg.norm(means, axis=1)
            zero = np.flatnonzero(norms == 0)
            if zero.size:
                name = self.names[start + zero[0]]
                raise FeatureError(f"Expected a feature other than zero for {name}: leave this image out")
            unit[start : start + BLOCK] = means / norms[:, None]
        return rows

    @cached_property
    def _raw_rows(self) -> GrowingRows:
        return GrowingRows(self.raw)

    @property
    def n_views(self) -> int:
        """V, views of each image."""
        return int(self.raw.shape[1])

    @property
    def unit_views(self) -> Float32Array | None:
        """Unit rows of every view, (N, V, D), float32; None where there is one, which says no more than `unit`."""
        if self.n_views == 1:
            return None
        norms = np.linalg.norm(self.raw, axis=2, keepdims=True)
        rows: Float32Array = np.divide(self.raw, norms, out=np.zeros_like(self.raw), where=norms > 0)
        return rows

    def averaged(self) -> Self:
        """Return one un-normalised feature for each image, the mean over its views."""
        if self.n_views == 1:
            return self
        return replace(self, raw=self.raw.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32))

    def subset(self, indices: ArrayLike) -> Self:
        """Return the features of some of the images, in the given order; unit rows that are known already are kept."""
        positions = np.asarray(indices)
        # An empty list is an array of floats, which cannot index.
        chosen = np.arange(len(self))[positions if positions.size else positions.astype(np.intp)]
        digests, names = (tuple(map(texts.__getitem__, chosen.tolist())) for texts in (self.digests, self.names))
        held = [self.raw, self.unit] if "unit" in self.__dict__ else [self.raw]
        return self._of_growing([GrowingRows(rows, chosen) for rows in held], digests, names)

    def with_room(self) -> Self:
        """Return a copy with room for others behind it, so that these need no further copy."""
        known = [self._unit_rows] if "_unit_rows" in self.__dict__ else []
        return self._of_growing([GrowingRows(self.raw, np.arange(len(self))), *known], self.digests, self.names)

    def extended(self, other: FeatureSet) -> Self:
        """Return these features with others behind them, without a copy where there is room; these stay as they are."""
        self._check_alike([self, other])
        held = (self._raw_rows, other.raw), (self._unit_rows, other.unit)
        growing = [rows.extended(len(self), more) for rows, more in held]
        return self._of_growing(growing, (*self.digests, *other.digests), (*self.names, *other.names))

    def _of_growing(self, growing: list[GrowingRows], digests: tuple[str, ...], names: tuple[str, ...]) -> Self:
        """Put together what was checked before: looking at every number again takes longer than a small edit."""
        made = type(self).__new__(type(self))
        made.__dict__.update(encoder_id=self.encoder_id, digests=digests, names=names)
        for name, rows in zip(("raw", "unit"), growing, strict=False):
            made.__dict__.update({name: rows.rows(len(digests)), f"_{name}_rows": rows})
        return made

    def __getstate__(self) -> dict[str, object]:
        # The room behind the features belongs to those that grow there.
        return {name: value for name, value in vars(self).items() if name not in ("_raw_rows", "_unit_rows")}

    @staticmethod
    def _check_alike(sets: Sequence[FeatureSet]) -> None:
        if len({(one.encoder_id, *one.raw.shape[1:]) for one in sets}) != 1:
            raise FeatureError("Expected features of one encoder with equally many views, got several kinds or none")
