"""Decode one image file within memory bounds that are known in advance."""

from __future__ import annotations

import ctypes
import functools
import importlib
import io
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageFile, _imaging

from tip_adapter.data.pixels.containers import (
    TruncatedImageError,
    UnreadableImageError,
    exif_orientation,
    read_container,
)
from tip_adapter.data.pixels.samples import Depth, rgb_of_deep_image, rgb_of_image, smallest_depth

MAX_DECODED_BYTES = 2**29
"""What decoding an image may take in memory."""
MAX_PIXELS, MAX_JPEG_PIXELS = 89_000_000, 400_000_000
"""When decoded, below what Pillow warns of; and of a JPEG before it is decoded at a reduced size, which takes time."""

_PLUGINS = {
    "JPEG": ("PIL.JpegImagePlugin", "JpegImageFile"),
    "PNG": ("PIL.PngImagePlugin", "PngImageFile"),
    "WebP": ("PIL.WebPImagePlugin", "WebPImageFile"),
    "GIF": ("PIL.GifImagePlugin", "GifImageFile"),
    "BMP": ("PIL.BmpImagePlugin", "BmpImageFile"),
    "TIFF": ("PIL.TiffImagePlugin", "TiffImageFile"),
    "AVIF": ("PIL.AvifImagePlugin", "AvifImageFile"),
    "HEIF": ("pillow_heif", "HeifImageFile"),
}
_SCRATCH_BYTES = {"WebP": 12, "AVIF": 12, "BMP": 1}  # per pixel, as measured: what decoders hold beside the picture
_END_OF_JPEG = b"\xff\xd9"

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class EncodedImage:
    """An image file that has been looked at and not decoded; `memory` are the bytes that `decode` takes at most.

    A JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, with both sides still at least twice `min_side`. What is no
    image, or takes too much memory or time, raises `UnreadableImageError`.

    Examples
    --------
    >>> import io
    >>> from PIL import Image
    >>> from tip_adapter.data.pixels import EncodedImage
    >>> Image.new("L", (40, 30)).save(file := io.BytesIO(), "PNG")
    >>> image = EncodedImage(file.getvalue())
    >>> image.memory // (40 * 30), image.decode().size
    (5, (40, 30))
    """

    def __init__(self, data: bytes, min_side: int | None = None) -> None:
        self.container = read_container(data)
        self.min_side = min_side
        self._check_pixels(*self.container.size, MAX_JPEG_PIXELS)
        with _as_unreadable(f"be a readable {self.container.format} image, got damage or an unusual kind"):
            self.image = self._open(self.container.data)
            self.memory = self._memory()
        size = max(self.container.size, self.image.size)
        self._check_pixels(*self.image.size, MAX_PIXELS)
        if self.memory > MAX_DECODED_BYTES:
            raise UnreadableImageError(
                f"take at most {MAX_DECODED_BYTES / 1e6:,.0f} MB when decoded, got {size[0]} × {size[1]} pixels, "
                f"which take {self.memory / 1e6:,.0f} MB: scale it down or leave it out"
            )

    @staticmethod
    def _check_pixels(width: int, height: int, limit: int) -> None:
        if width * height > limit:
            raise UnreadableImageError(
                f"have at most {limit:,} pixels, got {width} × {height}: scale it down or leave it out"
            )

    def decode(self, *, allow_truncated: bool = False) -> Image.Image:
        """Decode, once."""
        orientation = self.container.orientation
        if self.container.format == "AVIF":  # for which Pillow translates the file's own terms
            orientation = exif_orientation(self.image.info.get("exif", b""))
        with _as_unreadable("be a whole image, got damaged data"):
            image = self._rgb(allow_truncated)
            return upright(image, orientation)

    def _open(self, data: bytes, *, low_bytes: bool = False) -> ImageFile.ImageFile:
        module, name = _PLUGINS[self.container.format]
        try:
            plugin = getattr(importlib.import_module(module), name)
        except ImportError:
            package = "the package pillow-heif" if module == "pillow_heif" else "a newer Pillow"
            raise UnreadableImageError(
                f"be readable here, got {self.container.format}, which needs {package}: install it or convert the image"
            ) from None
        if self.container.format == "TIFF":
            _silence_libtiff()
        image: ImageFile.ImageFile = plugin(io.BytesIO(data))
        if self.container.format == "JPEG" and self.min_side is not None:
            image.draft(None, (2 * self.min_side, 2 * self.min_side))
        if self.container.format == "TIFF":
            image.tile = [_with_depth(tile, image) for tile in image.tile]
        if low_bytes:
            image.tile = [_of_low_bytes(tile) or tile for tile in image.tile]
        return image

    def _memory(self) -> int:
        image, container = self.image, self.container
        stored = 2 if image.mode.startswith("I;16") else 1 if image.mode in ("1", "L", "P") else 4
        converted = 4 if image.mode != "RGB" or image.has_transparency_data or container.orientation > 1 else 0
        if _has_low_bytes(image):
            stored, converted = 2 * stored, 4
        pixels = image.width * image.height
        scratch = _heif_scratch_bytes(image) if container.format == "HEIF" else _SCRATCH_BYTES.get(container.format, 0)
        total = pixels * (stored + converted + scratch)
        total += container.scan_bytes + len(container.data)
        if container.format == "TIFF":
            total += _tiff_part_bytes(image)
        return total if container.complete else 3 * total

    def _rgb(self, allow_truncated: bool) -> Image.Image:
        image, depth = self.image, self._depth()
        del self.image
        if not self.container.complete:
            return rgb_of_image(self._jpeg_without_end(allow_truncated))
        if not _has_low_bytes(image):
            return rgb_of_image(_loaded(image, allow_truncated), depth)
        low = _loaded(self._open(self.container.data, low_bytes=True), allow_truncated)
        if _raw_mode(image.tile[0]) == "LA;16B":
            return rgb_of_deep_image(low, None, depth)
        return rgb_of_deep_image(_loaded(image, allow_truncated), low, depth)

    def _jpeg_without_end(self, allow_truncated: bool) -> Image.Image:
        """Decode a JPEG without an end marker: it is whole exactly when nothing depends on what follows."""
        data = self.container.data.rstrip(b"\xff")
        first, second = (self._open(b"".join([data, tail, _END_OF_JPEG])) for tail in (bytes(64), b"\xaa" * 64))
        if ImageChops.difference(_loaded(first), _loaded(second)).getbbox() is None:
            return first
        if allow_truncated:
            return _loaded(self._open(data + _END_OF_JPEG))
        raise TruncatedImageError("be a whole image, got one that is cut short: replace or remove it")

    def _depth(self) -> Depth:
        """What the file says about its samples, if they have more than 8 bits."""
        key = self.image.info.get("transparency")
        if self.container.format == "PNG" and self.container.bits == 16:
            colours = key if isinstance(key, tuple) or key is None else (key,)
            return Depth(significant=self.container.significant_bits, key=colours)
        if self.container.format == "TIFF" and self.image.mode.startswith(("I", "F", "RGB")):
            return _tiff_depth(self.image.tag_v2)  # type: ignore[attr-defined]
        return Depth()


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """Turn an image as an EXIF orientation, from 1 to 8, asks for."""
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _loaded(image: ImageFile.ImageFile, allow_truncated: bool = False) -> ImageFile.ImageFile:
    try:
        image.load()
    except MemoryError:
        raise
    except Exception as error:
        if not _has_pixels(image):
            raise
        if not allow_truncated:
            message = f"be a whole image, got damaged data ({_reason(error)}): replace it or save it again"
            raise TruncatedImageError(message) from error
    return image


def _has_pixels(image: ImageFile.ImageFile) -> bool:
    """Keep what was decoded before an error, and tell whether it is anything."""
    image.tile = []
    try:
        image.load()
    except OSError:
        return False
    return image.getbbox() is not None


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _raw_mode(tile: Any) -> str:
    """How Pillow unpacks the samples of a part of an image; empty for decoders that have no such thing."""
    given = tile[3][0] if isinstance(tile[3], tuple) and tile[3] else tile[3]
    return given if isinstance(given, str) else ""


def _with_raw_mode(tile: Any, raw_mode: str) -> Any:
    decoder, box, offset, given = tile
    return ImageFile._Tile(decoder, box, offset, raw_mode if isinstance(given, str) else (raw_mode, *given[1:]))


def _of_low_bytes(tile: Any) -> Any:
    """Read the low bytes of 16-bit colours, of which Pillow keeps the high bytes; None for other samples.

    Grey with opacity has 4 bytes a pixel, which are all read at once, as if they were RGBA.
    """
    raw_mode = _raw_mode(tile)
    name, _, order = raw_mode.partition(";16")
    if raw_mode == "LA;16B":
        return _with_raw_mode(tile, "RGBA")
    swapped = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
    if name not in ("RGB", "RGBA", "RGBX", *"RGBA") or order not in swapped:
        return None
    return _with_raw_mode(tile, f"{name};16{swapped[order]}")


def _has_low_bytes(image: ImageFile.ImageFile) -> bool:
    return bool(image.tile) and _of_low_bytes(image.tile[0]) is not None


def _with_depth(tile: Any, image: Any) -> Any:
    """Mend how Pillow reads 16-bit samples that stand in a plane for each colour: as bytes."""
    if image.tag_v2.get(284) != 2 or image.mode not in ("RGB", "RGBA") or image.tag_v2.get(258, (8,))[0] != 16:
        return tile
    if tile[0] != "raw":
        expected = "be a TIFF whose colours of 16 bits are interleaved or not compressed"
        raise UnreadableImageError(f"{expected}, got compressed planes: save it without compression")
    return _with_raw_mode(tile, f"{_raw_mode(tile)};16{'L' if image.tag_v2.prefix == b'II' else 'B'}")


def _heif_scratch_bytes(image: ImageFile.ImageFile) -> int:
    """Bytes per pixel of libheif: the planes and the samples made of them, of more than 8 bits two each."""
    channels = len(image.getbands())
    chroma = {420: 1.5, 422: 2}.get(image.info.get("chroma", 444), 3)
    planes = 1 if channels < 3 else chroma + channels - 3
    return math.ceil((planes + channels) * (2 if image.info.get("bit_depth", 8) > 8 else 1) + 0.5)


def _tiff_part_bytes(image: Any) -> int:
    """Bytes of one strip or tile, which a decoder of compressed files holds at a time."""
    tags = image.tag_v2
    bits = sum(tags.get(258, (1,))) if isinstance(tags.get(258, (1,)), tuple) else 32
    if 322 in tags:
        return int(tags[322]) * int(tags[323]) * max(bits, 32) // 8
    return int(image.width * min(int(tags.get(278, image.height)), image.height) * bits // 8)


def _tiff_depth(tags: Any) -> Depth:
    bits = max(tags.get(258, (1,)))
    lowest, highest = (np.max(tags[tag]) if tag in tags else None for tag in (340, 341))
    declared = max(float(np.max(tags.get(281, 0))), float(highest or 0))
    sample_format = max(tags.get(339, (1,)))
    floating = sample_format == 3
    extremes = (float(lowest), float(highest)) if floating and lowest is not None and highest is not None else None
    return Depth(
        at_most=15 if bits == 16 and sample_format == 2 else 16,
        at_least=max(bits if 8 < bits < 16 else 8, 8 if floating else smallest_depth(declared)),
        extremes=extremes if extremes and extremes[0] < extremes[1] else None,
        inverted=tags.get(262) == 0,
    )


@functools.cache
def _silence_libtiff() -> None:
    """Keep libtiff from writing on the terminal what Pillow raises as well."""
    with suppress(AttributeError, OSError):  # of some builds of Pillow it is no library of its own
        ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)


@contextmanager
def _as_unreadable(expected: str) -> Iterator[None]:
    """Decoders of damaged data raise nearly anything, from struct.error to TypeError."""
    try:
        yield
    except UnreadableImageError:
        raise
    except MemoryError:
        raise UnreadableImageError("fit into memory, got no more of it: scale it down or leave it out") from None
    except Exception as error:
        raise UnreadableImageError(f"{expected} ({_reason(error)}): replace it or save it again") from error
