"""Check that two encoders give the same features."""

from __future__ import annotations

import numpy as np

from tip_adapter.encoders.base import Encoder
from tip_adapter.errors import EncoderError
from tip_adapter.typing import Float32Array

PARITY_TOLERANCE = 1e-4
PROBE_TEXTS = ("a", "a photo of a cat.", "a blurry photo of the large red hat of a person", "so many words " * 100)
"""Of several lengths, so that a graph that has learned one length by heart is found out; the last is cut."""


def check_parity(expected: Encoder, other: Encoder, otherwise: str) -> None:
    """Raise unless both encoders give the same features of a few views and texts."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, *expected.preprocessing.view_shape), dtype=np.uint8)
    comparisons = [("image", expected.encode_pixels(pixels), other.encode_pixels(pixels))]
    if expected.has_text_tower:
        comparisons += [
            ("text", expected.encode_texts(texts), other.encode_texts(texts))
            for texts in (PROBE_TEXTS, PROBE_TEXTS[:1])
        ]
    for tower, ours, theirs in comparisons:
        difference = (
            float(np.abs(_unit_rows(ours) - _unit_rows(theirs)).max()) if ours.shape == theirs.shape else np.inf
        )
        if not difference <= PARITY_TOLERANCE:
            raise EncoderError(
                f"Expected the ONNX {tower} tower of {expected.name} to give torch's features within "
                f"{PARITY_TOLERANCE:g}, got a difference of {difference:.2g}: {otherwise}"
            )


def _unit_rows(features: Float32Array) -> Float32Array:
    return np.asarray(features / np.linalg.norm(features, axis=1, keepdims=True), dtype=np.float32)
