"""Read, look up and decode images ahead of the encoder."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tip_adapter.data.decoding import (
    ImageSource,
    NamedBytes,
    StoredImage,
    decoded_image,
    encoded_image,
    image_digest,
    image_name,
)
from tip_adapter.errors import ImageError, ModelFileError
from tip_adapter.processors import usable_processors
from tip_adapter.typing import Float32Array, UInt8Array

if TYPE_CHECKING:
    from PIL import Image

    from tip_adapter.encoders.base import Encoder
    from tip_adapter.features.store import FeatureStore

CENTER_VIEW = "center"


@dataclass(frozen=True)
class PreparedImage:
    """One image on its way to the encoder."""

    owner: int
    """Index of the image that these bytes were first seen in: its own, or that of its twin, which is prepared
    instead."""
    found: dict[int, Float32Array]
    """(D,): by index of the view, the features that the store has."""
    pixels: dict[int, UInt8Array]
    """By index of the view, the views that it lacks."""
    error: ImageError | None = None
    """Why the image cannot be read."""
    truncated: bool = False
    """The pixels are those that could be decoded of a file that is cut short."""


class ImageReader:
    """What a thread does with an image: bytes, digest, look-up, and where something is missing, decoding and views."""

    def __init__(
        self,
        encoder: Encoder,
        images: Sequence[ImageSource],
        views: int,
        random_state: int,
        store: FeatureStore | None,
        *,
        allow_truncated: bool = False,
    ) -> None:
        self.encoder, self.images, self.random_state, self.store = encoder, images, random_state, store
        self.allow_truncated = allow_truncated
        self.random = views > 1
        self.view_keys = [f"rrc1:{random_state}:{view}" for view in range(views)] if self.random else [CENTER_VIEW]
        self.names = [
            image_name(image) if isinstance(image, str | os.PathLike | NamedBytes | StoredImage) else f"image {index}"
            for index, image in enumerate(images)
        ]
        self.digests = [""] * len(images)
        self.owners: dict[str, int] = {}
        self._lock = threading.Lock()

    def prepare(self, index: int) -> PreparedImage:
        """Read one image."""
        try:
            with encoded_image(self.images[index]) as data:
                return self._prepared(data, index)
        except ImageError as error:
            return PreparedImage(index, {}, {}, self._named(error, index))

    def _named(self, error: ImageError, index: int) -> ImageError:
        """Say which image it was, where the error does not.

        The new error has no traceback, which would keep the bytes of the file in memory until the error is looked at.
        """
        name, text = self.names[index], str(error)
        return type(error)(text if name in text else f"{name}: {text}")

    def _prepared(self, data: bytes, index: int) -> PreparedImage:
        digest = self.digests[index] = image_digest(data)
        with self._lock:
            owner = self.owners.setdefault(digest, index)
        if owner != index:
            return PreparedImage(owner, {}, {})
        found = self._stored(digest)
        missing = [view for view in range(len(self.view_keys)) if view not in found]
        if not missing:
            return PreparedImage(owner, found, {})
        try:
            return PreparedImage(owner, found, self._views(data, index, missing))
        except ImageError:
            if not self.allow_truncated:
                raise
        return PreparedImage(owner, found, self._views(data, index, missing, truncated=True), truncated=True)

    def _stored(self, digest: str) -> dict[int, Float32Array]:
        if self.store is None:
            return {}
        stored = self.store.get(self.encoder.image_id, [(digest, key) for key in self.view_keys])
        for feature in stored.values():
            if feature.shape != (self.encoder.dim,):
                raise ModelFileError(
                    f"Expected features of shape ({self.encoder.dim},) of encoder {self.encoder.name} in the feature "
                    f"store {self.store.path}, got {feature.shape}: delete the file, its features will be encoded again"
                )
        return {view: stored[digest, key] for view, key in enumerate(self.view_keys) if (digest, key) in stored}

    def _views(self, data: bytes, index: int, missing: list[int], *, truncated: bool = False) -> dict[int, UInt8Array]:
        """Decode once, crop many."""
        preprocessing = self.encoder.preprocessing
        min_side = preprocessing.min_side(random_views=self.random)
        with decoded_image(data, name=self.names[index], min_side=min_side, allow_truncated=truncated) as image:
            return {view: self._view(image, index, view) for view in missing}

    def _view(self, image: Image.Image, index: int, view: int) -> UInt8Array:
        if not self.random:
            return self.encoder.preprocessing.center_view(image)
        rng = np.random.default_rng([self.random_state, int(self.digests[index], 16), view])
        return self.encoder.preprocessing.random_view(image, rng)


def prepared_in_order(reader: ImageReader, ahead: int) -> Generator[PreparedImage]:
    """Prepare all images in threads, some ahead of need, and hand them out in order."""
    threads = usable_processors()
    ahead = max(ahead, 2 * threads)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    window: deque[Future[PreparedImage]] = deque()
    try:
        for index in range(len(reader.images)):
            window.append(pool.submit(reader.prepare, index))
            if len(window) > ahead:
                yield window.popleft().result()
        while window:
            yield window.popleft().result()
    finally:
        # An error or Ctrl-C must not wait for everything that was planned.
        pool.shutdown(wait=True, cancel_futures=True)
