"""Photos as files, bytes, Pillow images or arrays go in; upright RGB images come out."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from tip_adapter.data.preprocessing import PREPROCESSING_VERSION, Preprocessing
from tip_adapter.errors import ImageError
from tip_adapter.typing import StrPath

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "PREPROCESSING_VERSION",
    "ImageSource",
    "Preprocessing",
    "decode_image",
    "image_digest",
    "image_name",
    "load_image",
    "read_image_bytes",
]

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MAX_PIXELS = 100_000_000
LONGEST_PATH = 1000
"""Longer texts are images in base64."""

ImageSource = StrPath | bytes | Image.Image | NDArray[np.uint8]

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


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


def read_image_bytes(source: ImageSource, *, max_pixels: int = MAX_PIXELS) -> bytes:
    """Return an encoded image: the file's bytes, or pixels in memory as a lossless BMP file.

    So everything after this has one kind of image to deal with, and equal pixels have equal digests.

    Parameters
    ----------
    source : path, bytes, PIL.Image.Image, or ndarray of shape (H, W), (H, W, 3) or (H, W, 4), uint8
    max_pixels : int
        Largest Pillow image to accept. (Encoded images meet this limit in `decode_image`.)

    Returns
    -------
    data : bytes

    Raises
    ------
    ImageError
        When the file cannot be read, or the pixels cannot be an image.

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
    if isinstance(source, str | os.PathLike):
        return _read_file(source)
    if isinstance(source, np.ndarray):
        image = _image_of_array(source)
    elif isinstance(source, Image.Image):
        image = source
    else:
        kinds = "a path, bytes, a Pillow image or a uint8 array"
        raise ImageError(f"Expected an image as {kinds}, got {type(source).__name__}: convert it to one of these")
    buffer = io.BytesIO()
    _upright_rgb(image, image_name(source), max_pixels).save(buffer, "BMP")
    return buffer.getvalue()


def image_digest(data: bytes) -> str:
    """Return the SHA-256 of an encoded image in hexadecimal: the image's identity in the feature store."""
    return hashlib.sha256(data).hexdigest()


def decode_image(data: bytes, *, name: str, min_side: int | None = None, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode a JPEG, PNG, WebP, GIF, BMP or TIFF image into upright RGB.

    The EXIF orientation is applied, transparent pixels become white, of several frames the first is taken. The format
    is that of the content, whatever the file's suffix.

    Parameters
    ----------
    data : bytes
        The content of an image file.
    name : str
        What messages call the image.
    min_side : int or None, default=None
        When given, a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, with both sides still at least twice this
        many pixels. None decodes in full.
    max_pixels : int
        Largest width × height to accept, checked before anything is decoded.

    Returns
    -------
    image : PIL.Image.Image
        Of mode RGB.

    Raises
    ------
    ImageError
        When the data are empty, of another format, damaged, cut short, or too large.

    Examples
    --------
    >>> from PIL import Image
    >>> from tip_adapter.data.decoding import decode_image, read_image_bytes
    >>> data = read_image_bytes(Image.new("LA", (3, 2)))
    >>> decode_image(data, name="transparent").getpixel((0, 0))
    (255, 255, 255)
    """
    if not data:
        raise ImageError(f"Expected {name} to hold a picture, got an empty file: replace or remove it")
    with _named_errors(name):
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    _check_pixels(image, name, max_pixels)
    if min_side is not None:
        image.draft(None, (2 * min_side, 2 * min_side))
    return _upright_rgb(image, name, max_pixels)


def load_image(source: ImageSource, *, min_side: int | None = None, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read and decode an image: `read_image_bytes`, then `decode_image`.

    Parameters
    ----------
    source : path, bytes, PIL.Image.Image, or ndarray of shape (H, W), (H, W, 3) or (H, W, 4), uint8
    min_side, max_pixels : int
        As in `decode_image`.

    Returns
    -------
    image : PIL.Image.Image
        Of mode RGB.

    Raises
    ------
    ImageError
        When the image cannot be read or decoded.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.data.decoding import load_image
    >>> load_image(np.zeros((2, 3, 3), dtype=np.uint8)).mode
    'RGB'
    """
    data = read_image_bytes(source, max_pixels=max_pixels)
    return decode_image(data, name=image_name(source), min_side=min_side, max_pixels=max_pixels)


def _read_file(path: StrPath) -> bytes:
    name = image_name(path)
    if len(os.fspath(path)) > LONGEST_PATH:
        raise ImageError(
            f"Expected the path of an image, got {len(os.fspath(path)):,} characters that begin with {name}: an image "
            "as base64 text has to be decoded first (base64.b64decode)"
        )
    try:
        mode = os.stat(path).st_mode
        data = b"" if _is_device(mode) else _read_all(path)
    except FileNotFoundError:
        raise ImageError(f"Expected an image file at {name}, found none: check the path") from None
    except IsADirectoryError:
        raise ImageError(f"Expected {name} to be an image file, got a folder: name the photos in it") from None
    except PermissionError:
        raise ImageError(f"Expected {name} to be readable, permission was denied: change its access rights") from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"Expected {name} to be a readable image file, got an error ({reason}): check it") from error
    if _is_device(mode):
        raise ImageError(f"Expected {name} to be an image file, got a device or pipe: copy its content to a file")
    return data


def _is_device(mode: int) -> bool:
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))  # reading a pipe could wait for ever


def _read_all(path: StrPath) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _image_of_array(pixels: NDArray[np.uint8]) -> Image.Image:
    if pixels.dtype != np.uint8 or pixels.size == 0 or not (pixels.ndim == 2 or pixels.shape[2:] in ((3,), (4,))):
        got = f"{pixels.dtype} of shape {pixels.shape}"
        shapes = "(H, W), (H, W, 3) or (H, W, 4)"
        raise ImageError(f"Expected an image array of uint8 and shape {shapes}, got {got}: convert it")
    return Image.fromarray(pixels)


def _check_pixels(image: Image.Image, name: str, max_pixels: int) -> None:
    pixels = image.width * image.height
    if pixels > max_pixels:
        got = f"{image.width} × {image.height}"
        raise ImageError(
            f"Expected {name} to have at most {max_pixels:,} pixels, got {got}: scale it down or leave it out"
        )
    if pixels == 0:
        raise ImageError(f"Expected {name} to have pixels, got {image.width} × {image.height}: leave it out")


@contextmanager
def _named_errors(name: str) -> Iterator[None]:
    """Turn what Pillow and its decoders raise into one line that names the image."""
    try:
        yield
    except (ImageError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"Expected {name} to be of a sane size, got: {error} Scale it down or leave it out") from error
    except UnidentifiedImageError as error:
        kinds = ", ".join(FORMATS)
        raise ImageError(f"Expected {name} to be one of {kinds}, got something else: convert or remove it") from error
    except Exception as error:  # decoders of damaged data raise nearly anything, from struct.error to TypeError
        raise ImageError(
            f"Expected {name} to be a whole image, got damaged data ({error}): replace or remove it"
        ) from error


def _upright_rgb(image: Image.Image, name: str, max_pixels: int) -> Image.Image:
    _check_pixels(image, name, max_pixels)
    with _named_errors(name):
        image.load()
        return _rgb(_upright(image), name)


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # a broken EXIF block beside sound pixels: shown as stored, as viewers do
        orientation = None
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        image = _eight_bit(image, name)
    if image.has_transparency_data:
        canvas = Image.new("RGBA", image.size, "white")
        canvas.alpha_composite(image.convert("RGBA"))
        image = canvas
    return image.convert("RGB")


def _eight_bit(image: Image.Image, name: str) -> Image.Image:
    """Scale 16-bit grey to 8 bits, where Pillow's own conversion would clip it to white."""
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        got = f"32-bit values between {values.min():g} and {values.max():g}"
        raise ImageError(f"Expected {name} to have 8 or 16 bits per channel, got {got}: save it as an 8-bit PNG")
    return Image.fromarray((values // 257).astype(np.uint8))
