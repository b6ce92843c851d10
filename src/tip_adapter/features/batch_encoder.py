"""The encoder as a plain function of a batch of records, the same for threads and for every engine of data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter.data.decoding import decoded_image, image_digest
from tip_adapter.data.records import Record
from tip_adapter.errors import ImageError
from tip_adapter.features.timed_threads import TimedThreads
from tip_adapter.typing import Float32Array, UInt8Array

if TYPE_CHECKING:
    from tip_adapter.encoders.base import Encoder

Batch = Mapping[str, Sequence[Any]]
"""Columns of equal length, by name."""

Columns = dict[str, Any]


class BatchEncoder:
    """Add features to a batch of images; those that cannot be read get the reason as their error, and zeros.

    Parameters
    ----------
    encoder : Encoder
    seconds_per_image : float, default=60.0
        How long reading and decoding one image may take.
    batch_size : int, default=32
        Views encoded at once.
    allow_truncated : bool, default=False

    Examples
    --------
    >>> from tip_adapter.encoders import load_encoder
    >>> from tip_adapter.features.batch_encoder import BatchEncoder
    >>> found = BatchEncoder(load_encoder("fake"))({"id": ["a"], "image": [b"no image"]})
    >>> found["features"].shape, "image" in found, found["error"][0][:8]
    ((1, 64), False, 'Expected')
    """

    def __init__(
        self, encoder: Encoder, *, seconds_per_image: float = 60.0, batch_size: int = 32, allow_truncated: bool = False
    ) -> None:
        self.encoder, self.batch_size, self.allow_truncated = encoder, batch_size, allow_truncated
        self._threads = TimedThreads(self.prepared, seconds=seconds_per_image, ahead=2 * batch_size)

    def __call__(self, batch: Batch) -> Columns:
        """Return the batch with ``digest``, ``features`` (N, D) and ``error`` in the place of ``image``."""
        n = len(batch["image"])
        features = np.zeros((n, self.encoder.dim), dtype=np.float32)
        digests: list[str | None] = [None] * n
        errors: list[str | None] = [None] * n
        waiting: list[tuple[int, UInt8Array]] = []
        for row, (prepared, error) in enumerate(self._threads.map(batch["image"])):
            if prepared is None:
                errors[row] = str(error) or type(error).__name__
                continue
            digests[row], pixels = prepared
            waiting.append((row, pixels))
            if len(waiting) == self.batch_size:
                self._encode(waiting, features)
        self._encode(waiting, features)
        for row in np.flatnonzero(~np.isfinite(features).all(axis=1)).tolist():
            errors[row], features[row] = f"got NaN or infinity from encoder {self.encoder.name}", 0
        kept = {name: list(column) for name, column in batch.items() if name != "image"}
        return kept | {"digest": digests, "features": features, "error": errors}

    def prepared(self, image: Record | bytes) -> tuple[str, UInt8Array]:
        """Read and decode one image: its digest, and the view that the encoder sees."""
        data = image.read() if isinstance(image, Record) else bytes(image)
        name = image.id if isinstance(image, Record) else "the image"
        preprocessing = self.encoder.preprocessing
        min_side = preprocessing.min_side(random_views=False)
        with decoded_image(data, name=name, min_side=min_side, allow_truncated=self.allow_truncated) as decoded:
            return image_digest(data), preprocessing.center_view(decoded)

    def _encode(self, waiting: list[tuple[int, UInt8Array]], features: Float32Array) -> None:
        if waiting:
            rows = [row for row, _ in waiting]
            features[rows] = self.encoder.encode_pixels(np.stack([pixels for _, pixels in waiting]))
            waiting.clear()


def batch_of(records: Sequence[Record]) -> Columns:
    """Put records into columns; their bytes are read by the threads that decode them.

    Examples
    --------
    >>> from tip_adapter.data.records import Record
    >>> from tip_adapter.features.batch_encoder import batch_of
    >>> batch_of([Record("a", "a.jpg", "hat")])["label"]
    ['hat']
    """
    if not records:
        raise ImageError("Expected at least one record, got none")
    names = ("id", "path", "label", "group")
    return {name: [getattr(record, name) for record in records] for name in names} | {"image": list(records)}
