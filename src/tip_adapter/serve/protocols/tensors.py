"""Photos as elements of a BYTES tensor of the Open Inference Protocol."""

from __future__ import annotations

import math
from typing import Any

from tip_adapter.data.decoding import NamedBytes
from tip_adapter.serve.problems import Problem
from tip_adapter.serve.protocols import Sent, photo_of

MOST_SIDES = 4


class Tensor(Sent):
    """Photos, in base64 or behind the JSON."""

    name: str
    datatype: str
    shape: list[int]
    data: list[Any] | None = None


def photos_of_tensor(tensor: Tensor, binary: bytes) -> list[NamedBytes]:
    """Read the photos of a tensor, from its data or from the bytes behind the JSON."""
    if tensor.datatype != "BYTES":
        raise Problem(422, f"inputs: expected BYTES, whole image files, got {tensor.datatype[:20]!r}")
    photos = _behind(binary) if tensor.data is None else photos_of_elements(tensor.data)
    if len(tensor.shape) > MOST_SIDES or math.prod(tensor.shape) != len(photos):
        raise Problem(422, f"inputs: expected as many photos as the shape says, got {len(photos)}")
    return photos


def _behind(binary: bytes) -> list[NamedBytes]:
    """Read elements, each behind its length in 4 bytes."""
    photos: list[NamedBytes] = []
    start = 0
    while start < len(binary):
        size = int.from_bytes(binary[start : start + 4], "little")
        end = start + 4 + size
        if end > len(binary):
            raise Problem(422, f"photo {len(photos)}: expected {size} bytes, got {max(0, len(binary) - start - 4)}")
        photos.append(NamedBytes(binary[start + 4 : end], f"photo {len(photos)}"))
        start = end
    return photos


def photos_of_elements(elements: list[Any]) -> list[NamedBytes]:
    """Read photos in base64: texts, {"b64": …} or {"image": {"b64": …}}."""
    photos = []
    for place, given in enumerate(elements):
        found = given.get("image", given) if isinstance(given, dict) else given
        found = found.get("b64") if isinstance(found, dict) else found
        if not isinstance(found, str):
            raise Problem(422, f'photo {place}: expected base64, as in {{"b64": "/9j/4AAQ…"}}')
        photos.append(photo_of(found, f"photo {place}"))
    return photos
