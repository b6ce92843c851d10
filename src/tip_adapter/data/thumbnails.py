"""Make the small JPEG thumbnails by which people recognise a shot."""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from tip_adapter.data.decoding import ImageSource, decode_image, decoded_image, encoded_image, image_name
from tip_adapter.processors import usable_processors
from tip_adapter.typing import BoolArray, Float32Array

SIDE = 128


def make_thumbnails(images: Sequence[ImageSource], side: int = SIDE) -> list[bytes]:
    """Shrink photos, in threads.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.data.thumbnails import make_thumbnails
    >>> make_thumbnails([np.zeros((300, 200, 3), dtype=np.uint8)])[0][6:10]
    b'JFIF'
    """

    def shrink(source: ImageSource) -> bytes:
        buffer = io.BytesIO()
        # Twice this is still as much as the longer side needs, and most photos are then decoded at half their size.
        with (
            encoded_image(source) as data,
            decoded_image(data, name=image_name(source), min_side=side // 2, allow_truncated=True) as image,
        ):
            image.thumbnail((side, side), Image.Resampling.BICUBIC)
            image.save(buffer, "JPEG", quality=80)
        return buffer.getvalue()

    with ThreadPoolExecutor(usable_processors()) as pool:
        return list(pool.map(shrink, images))


def picture_hash(thumbnail: bytes) -> BoolArray:
    """Describe a picture by 64 bits that survive another size, brightness and compression.

    Each bit says whether the grey of one of 8 × 8 fields is darker than that of the next to its right.

    Shapes: → (2, 64).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.data.thumbnails import make_thumbnails, picture_hash
    >>> ramp = np.broadcast_to(np.arange(0, 256, 2, dtype=np.uint8)[None, :, None], (96, 128, 3))
    >>> picture_hash(make_thumbnails([ramp])[0]).mean(axis=1)
    array([1., 0.])
    """
    image = decode_image(thumbnail, name="a thumbnail")
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX)).astype(np.int16)
    result: BoolArray = np.stack([(side[:, 1:] > side[:, :-1]).ravel() for side in (grey, grey[:, ::-1])])
    return result


def grey_squares(thumbnails: Sequence[bytes]) -> Float32Array:
    """Shrink thumbnails to grey squares, whatever their shape.

    Shapes: → (N, 32, 32).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.data.thumbnails import grey_squares, make_thumbnails
    >>> grey_squares(make_thumbnails([np.zeros((300, 200, 3), dtype=np.uint8)])).shape
    (1, 32, 32)
    """
    found = np.empty((len(thumbnails), 32, 32), dtype=np.float32)
    for row, data in enumerate(thumbnails):
        image = decode_image(data, name="a thumbnail").convert("L")
        found[row] = np.asarray(image.resize((32, 32), Image.Resampling.BOX))
    return found
