"""An encoder without weights for tests: its features mean nothing and never change."""

from __future__ import annotations

import hashlib

import numpy as np

from tip_adapter.data.preprocessing import Preprocessing
from tip_adapter.encoders.base import BaseEncoder
from tip_adapter.typing import Float32Array, UInt8Array

_GRID = 4  # the view is averaged to 4 × 4 colours
_VERSION = "fake 1"


class FakeEncoder(BaseEncoder):
    """Encoder for unit tests and examples: colours through a fixed random projection, texts through a hash.

    Photos of similar colours get similar features, so a cache model can learn from it. Texts have nothing to do with
    the photos that they describe.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.encoders import load_encoder
    >>> encoder = load_encoder("fake")
    >>> encoder.encode_texts(["a hat", "a shoe"]).shape
    (2, 64)
    >>> encoder.encode_pixels(np.zeros((1, 32, 32, 3), dtype=np.uint8)).shape
    (1, 64)
    """

    preprocessing: Preprocessing

    def __init__(self, *, logit_scale: float = 20.0) -> None:
        super().__init__(
            "fake",
            image_weights=_VERSION,
            text_weights=_VERSION,
            dim=64,
            logit_scale=logit_scale,
            preprocessing=Preprocessing(32, 32, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        )
        rng = np.random.default_rng(0)
        self._projection = rng.standard_normal((3 * _GRID**2, self.dim)) / np.sqrt(self.dim)
        self._offset = 0.1 * rng.standard_normal(self.dim)  # so that a grey view is no zero vector

    def _encode_views(self, pixels: UInt8Array) -> Float32Array:
        inputs = self.preprocessing.normalize(pixels)
        cell = inputs.shape[-1] // _GRID
        colours = inputs.reshape(len(inputs), 3, _GRID, cell, _GRID, cell).mean(axis=(3, 5), dtype=np.float64)
        # einsum, unlike BLAS, gives a row the same value in every batch.
        features = np.einsum("bi,id->bd", colours.reshape(len(inputs), -1), self._projection) + self._offset
        return np.asarray(features, dtype=np.float32)

    def _encode_texts(self, texts: list[str]) -> Float32Array:
        digests = [hashlib.sha256(text.encode()).digest() for text in texts]
        rows = [np.random.default_rng(int.from_bytes(digest)).standard_normal(self.dim) for digest in digests]
        return np.stack(rows).astype(np.float32)
