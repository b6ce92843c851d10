"""Decode files, bytes, Pillow images and arrays into upright RGB images."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from tip_adapter.data import pixels
from tip_adapter.data.files import archived_size, is_web_address, read_archived
from tip_adapter.data.memory_budget import MemoryBudget, return_free_memory
from tip_adapter.data.pixels import (
    FORMATS,
    HEAD_BYTES,
    MAX_DECODED_BYTES,
    MAX_FILE_BYTES,
    EncodedImage,
    UnreadableImageError,
    exif_orientation,
    image_format,
    read_file,
    rgb_of_array,
    rgb_of_image,
    upright,
)
from tip_adapter.errors import ImageError, TruncatedImageError
from tip_adapter.typing import StrPath

LONGEST_PATH = 1000
"""Longer texts are images in base64."""


# Of the whole process, so that any number of threads and classifiers stay below a gigabyte together.
_FILES = MemoryBudget(MAX_FILE_BYTES)
_DECODING = MemoryBudget(MAX_DECODED_BYTES)
_LARGE_IMAGE = 2**24


class NamedBytes(bytes):
    """The bytes of an image file, and what the file is called where they come from.

    Examples
    --------
    >>> from tip_adapter.data.decoding import NamedBytes, image_name
    >>> image_name(NamedBytes(b"...", "hat.jpg"))
    'hat.jpg'
    """

    filename: str

    def __new__(cls, data: bytes, filename: str) -> Self:
        """Copy the bytes."""
        named = super().__new__(cls, data)
        named.filename = filename
        return named


@dataclass(frozen=True)
class StoredImage:
    """An image that is read when it is wanted, such as one of many in a data set that is larger than the memory."""

    read: Callable[[], bytes]
    """Returns the bytes of its file."""
    filename: str


ImageSource = StrPath | bytes | Image.Image | NDArray[Any] | StoredImage


def image_name(source: ImageSource) -> str:
    """Return what messages call an image: its path, or what it is.

    Examples
    --------
    >>> from tip_adapter.data.decoding import image_name
    >>> image_name("photos/hat.jpg"), image_name(b"...")
    ('photos/hat.jpg', 'an image given as bytes')
    """
    if isinstance(source, str | os.PathLike):
        name = os.fspath(source)
        return name if len(name) <= LONGEST_PATH else " ".join(name[:40].split()) + "…"
    filename = getattr(source, "filename", None)  # of a Pillow image that was opened from a file
    return str(filename) if filename else f"an image given as {type(source).__name__}"


def read_image_bytes(source: ImageSource) -> bytes:
    """Return an encoded image: the file's bytes, or pixels in memory as a lossless BMP file.

    So everything after this has one kind of image to deal with, and equal pixels have equal digests. A Pillow image
    that was opened and not loaded yet gives the bytes of its file: Pillow would keep the pixels of every one.

    Shapes: `source` (H, W).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.data.decoding import decode_image, read_image_bytes
    >>> data = read_image_bytes(np.zeros((2, 3), dtype=np.uint8))
    >>> decode_image(data, name="black").size
    (3, 2)
    """
    if isinstance(source, bytes):
        return source
    if isinstance(source, StoredImage):
        return source.read()
    if isinstance(source, str | os.PathLike):
        return _read_file(source)
    if not isinstance(source, np.ndarray | Image.Image):
        kinds = "a path, bytes, a Pillow image or an array"
        raise ImageError(f"Expected an image as {kinds}, got {type(source).__name__}: convert it to one of these")
    with _named(source):
        if isinstance(source, np.ndarray):
            image = rgb_of_array(source)
        else:
            data = _bytes_behind(source)
            if data is not None:
                return data
            image = upright(rgb_of_image(_loaded(source)), exif_orientation(source.info.get("exif", b"")))
    buffer = io.BytesIO()
    image.save(buffer, "BMP")
    return buffer.getvalue()


@contextmanager
def encoded_image(source: ImageSource) -> Iterator[bytes]:
    """Hold the bytes of an image as `read_image_bytes` gives them; other threads wait while too many are held."""
    size = 0
    if isinstance(source, str | os.PathLike):
        try:
            size = os.stat(source).st_size
        except (OSError, ValueError):  # in an archive, or not there, which is told when it is read
            size = archived_size(Path(source))
    with _FILES.reserved(min(size, MAX_FILE_BYTES)):
        yield read_image_bytes(source)


def image_digest(data: bytes) -> str:
    """Return the SHA-256 of an encoded image in hexadecimal: the image's identity in the feature store."""
    return hashlib.sha256(data).hexdigest()


def decode_image(data: bytes, *, name: str, min_side: int | None = None, allow_truncated: bool = False) -> Image.Image:
    """Decode a JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or HEIF image into upright RGB.

    The EXIF orientation is applied, transparent pixels become white, samples of more than 8 bits are scaled, of several
    frames the first is taken. The format is that of the content, whatever the file's suffix. HEIF needs the extra
    ``heif``.

    Parameters
    ----------
    min_side : int or None, default=None
        When given, a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, with both sides still at least twice this
        many pixels. None decodes in full.

    Examples
    --------
    >>> from PIL import Image
    >>> from tip_adapter.data.decoding import decode_image, read_image_bytes
    >>> data = read_image_bytes(Image.new("LA", (3, 2)))
    >>> decode_image(data, name="transparent").getpixel((0, 0))
    (255, 255, 255)
    """
    with _opened(data, name, min_side) as encoded, _named(name):
        return encoded.decode(allow_truncated=allow_truncated)


@contextmanager
def decoded_image(
    data: bytes, *, name: str, min_side: int | None = None, allow_truncated: bool = False
) -> Iterator[Image.Image]:
    """Hold a decoded image, as `decode_image` gives it, and close it; others wait while too many bytes are held."""
    with _opened(data, name, min_side) as encoded:
        with _named(name):
            image = encoded.decode(allow_truncated=allow_truncated)
        try:
            yield image
        finally:
            image.close()
            if encoded.memory > _LARGE_IMAGE:
                return_free_memory()


def image_size(source: ImageSource) -> tuple[int, int]:
    """Return width and height of an image, without decoding it.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.data.decoding import image_size
    >>> image_size(np.zeros((2, 3, 3), dtype=np.uint8))
    (3, 2)
    """
    with encoded_image(source) as data, _named(source):
        image = EncodedImage(data, min_side=1)
        width, height = image.container.size if any(image.container.size) else image.image.size
        return width, height


@contextmanager
def _opened(data: bytes, name: str, min_side: int | None) -> Iterator[EncodedImage]:
    """Hold the memory that decoding an image will take."""

    def look() -> EncodedImage:
        with _named(name):
            return EncodedImage(data, min_side)

    # One at a time, since those that wait for memory hold a copy of their file.
    with _DECODING.made(look, lambda encoded: encoded.memory) as encoded:
        yield encoded


def load_image(source: ImageSource, *, min_side: int | None = None, allow_truncated: bool = False) -> Image.Image:
    """Read and decode an image: `read_image_bytes`, then `decode_image`.

    Shapes: `source` (H, W).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.data.decoding import load_image
    >>> load_image(np.zeros((2, 3, 3), dtype=np.uint8)).mode
    'RGB'
    """
    with encoded_image(source) as data:
        return decode_image(data, name=image_name(source), min_side=min_side, allow_truncated=allow_truncated)


def _read_file(path: StrPath) -> bytes:
    text = os.fspath(path)
    if len(text) > LONGEST_PATH or text.startswith("data:"):
        raise ImageError(
            f"Expected the path of an image, got {len(text):,} characters that begin with {image_name(text[:40])}…: "
            "an image as base64 text has to be decoded first (base64.b64decode)"
        )
    if not text:
        raise ImageError("Expected the path of an image, got an empty one: check the path")
    if is_web_address(text):
        raise ImageError(f"Expected the path of an image, got the web address {image_name(text)}: download it first")
    archived = None if os.path.lexists(path) else read_archived(Path(path))
    if archived is not None:
        return archived
    with _named(path):
        return read_file(path)


@contextmanager
def _named(source: ImageSource) -> Iterator[None]:
    """Name the image in what is wrong with it."""
    try:
        yield
    except pixels.TruncatedImageError as error:
        raise TruncatedImageError(f"Expected {image_name(source)} to {error}") from error
    except UnreadableImageError as error:
        raise ImageError(f"Expected {image_name(source)} to {error}") from error


def _bytes_behind(image: Image.Image) -> bytes | None:
    """Bytes of the file that an image was opened from, if nothing has been done with it since."""
    if not isinstance(image, ImageFile.ImageFile) or not image.tile or image.fp is None or image.tell():
        return None
    position = image.fp.tell()
    image.fp.seek(0)
    data: bytes = image.fp.read()
    image.fp.seek(position)
    return data if image_format(data[:HEAD_BYTES]) in FORMATS else None


def _loaded(image: Image.Image) -> Image.Image:
    try:
        image.load()
    except Exception as error:  # decoders of damaged data raise nearly anything
        raise UnreadableImageError(f"be a whole image, got damaged data ({error}): replace or remove it") from error
    return image
