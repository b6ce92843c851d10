"""Decode each photo once, and cut the views that an image tower is trained on, and the centre view, as pixels."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from tip_adapter.data.decoding import ImageSource, load_image
from tip_adapter.data.preprocessing import Preprocessing
from tip_adapter.errors import InputError
from tip_adapter.processors import usable_processors
from tip_adapter.typing import IntArray, UInt8Array

MEMORY_LIMIT = 512 * 2**20
"""Bytes of views that are kept in memory; more are kept in a temporary file."""


@dataclass(frozen=True)
class PhotoViews:
    """Views of N photos, ready for an encoder.

    Attributes
    ----------
    centers : ndarray of shape (N, S, S, 3), uint8
    views : ndarray of shape (N, V, S, S, 3), uint8
        Random crops, half of them mirrored.
    """

    centers: UInt8Array
    views: UInt8Array

    def subset(self, rows: IntArray) -> PhotoRows:
        """Take some of the photos, without a copy of their pixels."""
        return PhotoRows(self, rows)

    @property
    def digest(self) -> str:
        """SHA-256 of the middles: what a checkpoint knows photos by."""
        digest = hashlib.sha256()
        for view in self.centers:
            digest.update(view.tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class PhotoRows:
    """Some of the photos of a `PhotoViews`.

    Attributes
    ----------
    photos : PhotoViews
    rows : ndarray of shape (n,)
    """

    photos: PhotoViews
    rows: IntArray

    def drawn(self, rows: Sequence[int], numbers: Sequence[int]) -> UInt8Array:
        """Give one view of each of B photos: (B, S, S, 3)."""
        return np.stack([self.photos.views[self.rows[row], view] for row, view in zip(rows, numbers, strict=True)])

    def centers(self, rows: slice) -> UInt8Array:
        """Give the middles of a run of photos: (B, S, S, 3)."""
        return self.photos.centers[self.rows[rows]]

    def __len__(self) -> int:
        return len(self.rows)


def cut_views(
    images: Sequence[ImageSource], preprocessing: Preprocessing, n_views: int, random_state: int
) -> PhotoViews:
    """Decode every photo once and cut its views.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.encoders import load_encoder
    >>> from tip_adapter.methods.on_encoder.photo_views import cut_views
    >>> photo = np.zeros((80, 60, 3), dtype=np.uint8)
    >>> cut_views([photo], load_encoder("fake").preprocessing, n_views=2, random_state=0).views.shape
    (1, 2, 32, 32, 3)
    """
    if n_views < 1:
        raise InputError(f"Expected views to be at least 1, got {n_views}")
    size = preprocessing.size
    centers = _pixels((len(images), size, size, 3))
    views = _pixels((len(images), n_views, size, size, 3))
    min_side = preprocessing.min_side(random_views=True)

    def cut(index: int) -> None:
        image = load_image(images[index], min_side=min_side)
        centers[index] = preprocessing.center_view(image)
        # A generator for each photo, so that its views do not depend on the thread or on the photos before it.
        rng = np.random.default_rng([random_state, index])
        for number in range(n_views):
            views[index, number] = preprocessing.random_view(image, rng)

    pool = ThreadPoolExecutor(min(8, usable_processors()), thread_name_prefix="decode")
    try:
        for _ in pool.map(cut, range(len(images))):
            pass
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return PhotoViews(centers, views)


def _pixels(shape: tuple[int, ...]) -> Any:
    """Allocate pixels, in an unnamed file where they would take too much memory."""
    if np.prod(shape, dtype=np.int64) <= MEMORY_LIMIT:
        return np.empty(shape, dtype=np.uint8)
    # Closing the file keeps the mapping; the system frees it with the array.
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, dtype=np.uint8, mode="w+", shape=shape)
