"""Group photos by where and when they were taken."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from tip_adapter.errors import InputError
from tip_adapter.typing import IntArray

GroupBy = Literal["folder", "exif-time", "duplicates"]

PAUSE_S = 60.0
"""Seconds between photos of one occasion and the next."""

_EXIF, _TAKEN = 0x8769, 0x9003


def numbered_groups(names: Sequence[str]) -> IntArray | None:
    """Number the groups of photos, (N,), each without a name its own; None where none has a name.

    Examples
    --------
    >>> from tip_adapter.data.groups import numbered_groups
    >>> numbered_groups(["monday", "", "monday", ""]), numbered_groups(["", ""])
    (array([0, 1, 0, 2]), None)
    """
    if not any(names):
        return None
    # A name stands behind the rows' numbers, which are no names.
    known: dict[str | int, int] = {}
    return np.array([known.setdefault(name or row, len(known)) for row, name in enumerate(names)], dtype=np.intp)


def groups_by(rule: str, images: Sequence[Any]) -> tuple[str, ...]:
    """Name the group of every photo; empty for one that belongs to none.

    Examples
    --------
    >>> from tip_adapter.data.groups import groups_by
    >>> groups_by("folder", ["hat/monday/1.jpg", "hat/monday/2.jpg", "hat/3.jpg"])
    ('hat/monday', 'hat/monday', 'hat')
    """
    if rule == "folder":
        return tuple(str(Path(image).parent) if isinstance(image, str | os.PathLike) else "" for image in images)
    if rule == "exif-time":
        return _by_time([_taken(image) for image in images])
    raise InputError(f"Expected groups by {', '.join(get_args(GroupBy))}, or one for each photo, got {rule!r}")


def _by_time(times: Sequence[float | None]) -> tuple[str, ...]:
    """Photos taken within a minute of the last one are one occasion."""
    names = [""] * len(times)
    known = sorted((time, place) for place, time in enumerate(times) if time is not None)
    occasion, last = 0, float("-inf")
    for time, place in known:
        occasion += time - last > PAUSE_S
        last, names[place] = time, f"occasion {occasion}"
    return tuple(names)


def _taken(image: Any) -> float | None:
    """When a photo was taken, in seconds, as its camera says; None where it does not."""
    from PIL import Image

    from tip_adapter.data.decoding import encoded_image
    from tip_adapter.errors import ImageError

    try:
        with encoded_image(image) as data, Image.open(io.BytesIO(data)) as picture:
            details = picture.getexif().get_ifd(_EXIF)
        taken = datetime.strptime(str(details[_TAKEN])[:19], "%Y:%m:%d %H:%M:%S")
    except (ImageError, OSError, KeyError, ValueError, SyntaxError):
        return None
    return taken.timestamp()
