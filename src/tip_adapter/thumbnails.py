"""Photos in, small JPEG pictures out, for people to recognise a shot by."""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from PIL import Image

from tip_adapter.images import ImageSource, load_image
from tip_adapter.processors import usable_processors

__all__ = ["make_thumbnails"]

SIDE = 128


def make_thumbnails(images: Sequence[ImageSource], side: int = SIDE) -> list[bytes]:
    """Shrink photos, in threads.

    Parameters
    ----------
    images : sequence of path, bytes, Image or array
    side : int, default=128
        Pixels of the longer side.

    Returns
    -------
    list of bytes
        JPEG files.

    Raises
    ------
    ImageError
        When a photo cannot be read.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.thumbnails import make_thumbnails
    >>> make_thumbnails([np.zeros((300, 200, 3), dtype=np.uint8)])[0][6:10]
    b'JFIF'
    """

    def shrink(source: ImageSource) -> bytes:
        image = load_image(source, min_side=side)
        image.thumbnail((side, side), Image.Resampling.BICUBIC)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=80)
        return buffer.getvalue()

    with ThreadPoolExecutor(usable_processors()) as pool:
        return list(pool.map(shrink, images))
