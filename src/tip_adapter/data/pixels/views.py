"""The square view of an image that an encoder sees."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_MAX_RATIO = (
    32  # of the sides; the ends of a longer strip, which would take gigabytes when resized, are not seen anyway
)


def center_view(image: Image.Image, *, size: int, resize: int | None, interpolation: str) -> np.ndarray[Any, Any]:
    """Resize the shortest side and crop the middle, or squash all of the image where `resize` is None.

    To the pixel as torchvision and OpenAI's CLIP do. (transformers rounds an odd margin down instead: its crop can
    start one pixel earlier.)

    Shapes: → (size, size, 3).
    """
    resample = RESAMPLING[interpolation]
    if resize is None:
        return np.asarray(image.resize((size, size), resample))
    seen = [min(side, _MAX_RATIO * min(image.size)) for side in image.size]
    left, top = ((side - part) // 2 for side, part in zip(image.size, seen, strict=True))
    width, height = (int(resize * side / min(seen)) for side in seen)
    resized = image.resize((width, height), resample, box=(left, top, left + seen[0], top + seen[1]))
    left, top = round((width - size) / 2), round((height - size) / 2)
    return np.asarray(resized.crop((left, top, left + size, top + size)))
