"""Extract the features of images, each encoded once and then stored."""

from __future__ import annotations

import contextlib
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tip_adapter.data.decoding import ImageSource
from tip_adapter.data.sequences import Images, list_images
from tip_adapter.errors import FeatureError, ImageError, InputError
from tip_adapter.features.feature_set import FeatureSet
from tip_adapter.features.pipeline import ImageReader, PreparedImage, prepared_in_order
from tip_adapter.typing import Float32Array, IntArray

if TYPE_CHECKING:
    from tip_adapter.encoders.base import Encoder
    from tip_adapter.features.store import FeatureStore
    from tip_adapter.progress import Progress


@dataclass(frozen=True)
class Extraction:
    """What `extract_features` returns."""

    features: FeatureSet
    """Of the images that could be read, in the given order."""
    kept: IntArray
    """Indices of these images in what was given."""
    skipped: tuple[tuple[str, str], ...]
    """(name, reason): the images that could not be read."""


def extract_features(
    encoder: Encoder,
    images: Images,
    *,
    views: int = 1,
    random_state: int = 0,
    store: FeatureStore | None = None,
    batch_size: int = 32,
    skip_bad: bool = False,
    allow_truncated: bool = False,
    progress: Progress | None = None,
) -> Extraction:
    """Encode images: threads read and decode while the encoder works, in bounded memory.

    What the store holds is not encoded again, nor is an image that occurs twice. Every finished batch is in the store
    when the next one begins, so a run that is interrupted or killed goes on where it ended.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.encoders import load_encoder
    >>> from tip_adapter.features.extraction import extract_features
    >>> photos = [np.full((40, 30, 3), grey, dtype=np.uint8) for grey in (0, 100, 200)]
    >>> extract_features(load_encoder("fake"), photos, views=2).features.raw.shape
    (3, 2, 64)
    """
    images = list_images(images)
    _check_arguments(images, views=views, random_state=random_state, batch_size=batch_size)
    reader = ImageReader(encoder, images, views, random_state, store, allow_truncated=allow_truncated)
    batches = _Batches(encoder, reader, store, batch_size)
    skipped: dict[int, str] = {}
    repeated: list[int] = []
    # Closed at once on an error or Ctrl-C: a traceback would keep the generator, and with it the threads, alive.
    with contextlib.closing(prepared_in_order(reader, max(1, 2 * batch_size // views))) as photos:
        for index, photo in enumerate(photos):
            if photo.error and not skip_bad:
                raise photo.error
            if photo.error:
                skipped[index] = str(photo.error)
            elif photo.owner != index:
                repeated.append(index)
            else:
                batches.add(index, photo)
            if progress:
                progress(index + 1 - batches.waiting, len(images), batches.cached + len(repeated))
    batches.flush()
    if progress:
        progress(len(images), len(images), batches.cached + len(repeated))
    for index in repeated:
        owner = reader.owners[reader.digests[index]]
        batches.raw[index] = batches.raw[owner]
        if owner in skipped:
            skipped[index] = skipped[owner]
    return _collect(reader, batches.raw, skipped)


def _check_arguments(images: Sequence[ImageSource], *, views: int, random_state: int, batch_size: int) -> None:
    if len(images) == 0:
        raise InputError("Expected at least one image, got none")
    counts = (views, batch_size, random_state)
    if not all(isinstance(count, numbers.Integral) for count in counts) or min(views, batch_size, random_state + 1) < 1:
        raise InputError(
            "Expected whole numbers with views ≥ 1, batch_size ≥ 1 and random_state ≥ 0, got "
            f"{views!r}, {batch_size!r} and {random_state!r}"
        )


class _Batches:
    """The main thread's half: views gather to batches of one size, and features go to their place and to the store."""

    def __init__(self, encoder: Encoder, reader: ImageReader, store: FeatureStore | None, batch_size: int) -> None:
        self.encoder, self.reader, self.store = encoder, reader, store
        self.pixels = np.empty((batch_size, *encoder.preprocessing.view_shape), dtype=np.uint8)
        self.rows: list[tuple[int, int]] = []
        self.raw = np.zeros((len(reader.images), len(reader.view_keys), encoder.dim), dtype=np.float32)
        self.cached = 0
        self.truncated: set[int] = set()

    @property
    def waiting(self) -> int:
        """How many images have views that are not encoded yet."""
        return len({index for index, _ in self.rows})

    def add(self, index: int, photo: PreparedImage) -> None:
        """Take what is known, and queue what is not."""
        self.cached += not photo.pixels
        if photo.truncated:
            self.truncated.add(index)
        for view, feature in photo.found.items():
            self.raw[index, view] = feature
        for view, pixels in photo.pixels.items():
            self.pixels[len(self.rows)] = pixels
            self.rows.append((index, view))
            if len(self.rows) == len(self.pixels):
                self.flush()

    def flush(self) -> None:
        """Encode and store what is queued."""
        if not self.rows:
            return
        features = self._encode()
        for (index, view), feature in zip(self.rows, features, strict=True):
            self.raw[index, view] = feature
        if self.store is not None:
            # Not of truncated files: whoever does not allow them must not be given features of one.
            found = {
                (self.reader.digests[index], self.reader.view_keys[view]): feature
                for (index, view), feature in zip(self.rows, features, strict=True)
                if index not in self.truncated
            }
            self.store.put(self.encoder.image_id, found)
        self.rows.clear()

    def _encode(self) -> Float32Array:
        features = np.asarray(self.encoder.encode_pixels(self.pixels[: len(self.rows)]), dtype=np.float32)
        expected = (len(self.rows), self.encoder.dim)
        if features.shape != expected:
            raise FeatureError(
                f"Expected features of shape {expected} from encoder {self.encoder.name}, got {features.shape}"
            )
        bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
        if bad.size:
            name = self.reader.names[self.rows[bad[0]][0]]
            raise FeatureError(
                f"Expected finite features from encoder {self.encoder.name}, got NaN or infinity for {name}"
            )
        return features


def _collect(reader: ImageReader, raw: Float32Array, skipped: dict[int, str]) -> Extraction:
    kept = np.array([index for index in range(len(raw)) if index not in skipped], dtype=np.intp)
    if not kept.size:
        raise ImageError(f"Expected at least one readable image, got none of {len(raw)}; the first: {skipped[0]}")
    features = FeatureSet(
        raw=raw[kept] if skipped else raw,
        encoder_id=reader.encoder.image_id,
        digests=tuple(reader.digests[index] for index in kept),
        names=tuple(reader.names[index] for index in kept),
    )
    return Extraction(features, kept, tuple((reader.names[index], skipped[index]) for index in sorted(skipped)))
