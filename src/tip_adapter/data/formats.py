"""Tell photos from other files by name, or by their first bytes where the name does not say."""

from __future__ import annotations

from enum import Enum
from pathlib import PurePath

from tip_adapter.data.pixels.containers import FORMATS, image_format

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
    *(".heic", ".heif", ".hif", ".avif"),
)
"""Files that end like this are photos; whether one can be read is seen when it is."""

_UNREAD_SUFFIXES = (
    *(".jxl", ".jp2", ".j2k", ".psd", ".svg", ".eps", ".ico", ".tga", ".dcm", ".exr", ".hdr"),
    # Raw photos begin like TIFF files, whose first picture is a tiny preview.
    *(".dng", ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".raf", ".orf", ".rw2", ".pef", ".srw", ".raw", ".3fr", ".iiq"),
)


class FileKind(Enum):
    """What a file is."""

    PHOTO = "photo"
    UNREAD_PHOTO = "photo of a format that is not read"
    OTHER = "no photo"


def kind_of_name(name: str) -> FileKind | None:
    """Tell what a file is by its name; None where that says nothing.

    Examples
    --------
    >>> from tip_adapter.data.formats import kind_of_name
    >>> kind_of_name("IMG_1.HEIC"), kind_of_name("IMG_1.MOV")
    (<FileKind.PHOTO: 'photo'>, None)
    """
    suffix = PurePath(name).suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return FileKind.PHOTO
    return FileKind.UNREAD_PHOTO if suffix in _UNREAD_SUFFIXES else None


def kind_of_content(head: bytes) -> FileKind:
    """Tell what a file is by its first `HEAD_BYTES`.

    Examples
    --------
    >>> from tip_adapter.data.formats import kind_of_content
    >>> kind_of_content(b"GIF89a..."), kind_of_content(b"path,label")
    (<FileKind.PHOTO: 'photo'>, <FileKind.OTHER: 'no photo'>)
    """
    found = image_format(head)
    if found is None:
        return FileKind.OTHER
    return FileKind.PHOTO if found in FORMATS else FileKind.UNREAD_PHOTO
