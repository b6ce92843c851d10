"""Recognise image files, and reduce them to what a decoder needs: no metadata, one frame, bounded structure.

Decoders read whatever a file holds before they look at its pixels. Text, profiles, previews, further frames and absurd
tables can therefore cost gigabytes or minutes, and damage in them makes a sound picture unreadable. This module needs
the standard library alone and is part of every export.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

FORMATS = ("JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")
HEAD_BYTES = 64
"""Beginning of a file that tells its format."""

MAX_SCANS = 100
MAX_BLOCKS = 100_000
"""Segments, chunks, strips or values of one kind; a photo has at most some hundreds, a scan some thousands."""
_MAX_SUB_BLOCKS = 1_000_000

_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"8BPS": "Photoshop",
}
_AVIF_BRANDS = (b"avif", b"avis")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)


class UnreadableImageError(ValueError):
    """Why an image cannot be decoded: the end of the sentence "Expected … to …"."""


class TruncatedImageError(UnreadableImageError):
    """Why an image cannot be decoded as a whole; a part of it can."""


@dataclass(frozen=True)
class Container:
    """An encoded image, reduced to what its decoder needs."""

    format: str
    """One of `FORMATS`."""
    data: bytes
    orientation: int = 1
    """As in EXIF. What AVIF and HEIF files say of it is left to their decoders."""
    significant_bits: int | None = None
    """Of a sample, as a PNG file declares it."""
    bits: int = 8
    """Of a sample of a PNG file."""
    scan_bytes: int = 0
    """What a JPEG decoder keeps of a picture that comes in several scans."""
    size: tuple[int, int] = (0, 0)
    """Width and height of a JPEG before it is decoded at a reduced size."""
    complete: bool = True
    """False for a JPEG without its end."""


def image_format(head: bytes) -> str | None:
    """Name the format of an image file by its first `HEAD_BYTES`; None when it is no image file.

    Formats outside `FORMATS` that are named: JPEG XL, JPEG 2000, Photoshop.

    Examples
    --------
    >>> from tip_adapter.data.pixels.containers import image_format
    >>> image_format(b"GIF89a..."), image_format(b"path,label")
    ('GIF', None)
    """
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if head[4:8] == b"ftyp":
        end = min(int.from_bytes(head[:4]), HEAD_BYTES)
        brands = [head[8:12], *(head[at : at + 4] for at in range(16, end, 4))]
        if any(brand in _AVIF_BRANDS for brand in brands):
            return "AVIF"
        return "HEIF" if any(brand in _HEIF_BRANDS for brand in brands) else None
    return next((name for start, name in _SIGNATURES.items() if head.startswith(start)), None)


def read_container(data: bytes) -> Container:
    """Reduce an image file to what its decoder needs."""
    if not data:
        raise UnreadableImageError("hold a picture, got an empty file: replace or remove it")
    found = image_format(data[:HEAD_BYTES])
    if found not in FORMATS:
        raise UnreadableImageError(
            f"be one of {', '.join(FORMATS)}, got {found or 'something else'}: convert or remove it"
        )
    readers = {"JPEG": _read_jpeg, "PNG": _read_png, "WebP": _read_webp, "GIF": _read_gif, "TIFF": _read_tiff}
    if found not in readers:
        return Container(found, data)
    try:
        return readers[found](data)
    except (IndexError, struct.error):
        raise UnreadableImageError(
            f"be a whole image, got the beginning of a {found} file: replace or remove it"
        ) from None


def _check_count(count: int, what: str, limit: int = MAX_BLOCKS) -> None:
    if count > limit:
        raise UnreadableImageError(f"have at most {limit:,} {what}, got more: save it again or leave it out")


# JPEG

_MARKER = re.compile(rb"\xff([\x01-\xfe])")
_MARKER_AFTER_SCAN = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")  # in a scan, FF 00 is a byte and D0 to D7 restart it
_ALONE = {0x01, *range(0xD0, 0xD9)}
_FRAMES = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}  # baseline, extended, progressive; the last two with arithmetic coding
_OTHER_FRAMES = {0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF}
_TABLES = {0xC4, 0xCC, 0xDB, 0xDD}
_START_OF_SCAN, _END = 0xDA, 0xD9
_END_MARKER = b"\xff\xd9"


def _read_jpeg(data: bytes) -> Container:
    kept, frame = [b"\xff\xd8"], b""
    made = Container("JPEG", b"", complete=False)
    for code, start, end in _jpeg_segments(data, 2):
        body = data[start + 4 : end]
        if code in _OTHER_FRAMES or code == _END:
            break
        if code in _FRAMES:
            frame = body
            made = _with_frame(made, frame, progressive=code in (0xC2, 0xCA))
        if code == 0xE1 and body.startswith(b"Exif\0\0"):
            made = replace(made, orientation=exif_orientation(body))
        if code in _FRAMES | _TABLES or body.startswith((b"JFIF\0", b"Adobe")):
            kept.append(data[start:end])
        if code == _START_OF_SCAN and frame:
            single = not made.scan_bytes and body[0] == frame[5]
            if not single and not made.scan_bytes:
                made = _with_frame(made, frame, progressive=True)
            # A decoder of a single scan stops where it ends; the last mark in the file is found at once.
            stop = data.rfind(_END_MARKER, end) if single else _end_of_scans(data, start)
            kept.append(data[start : stop if stop >= 0 else len(data)])
            return replace(made, data=b"".join([*kept, _END_MARKER * (stop >= 0)]), complete=stop >= 0)
    raise UnreadableImageError("be a JPEG of 8 bits with a picture in it, got none: convert or remove it")


def _jpeg_segments(data: bytes, position: int) -> Iterator[tuple[int, int, int]]:
    """Code, start and end of each segment."""
    for _ in range(MAX_BLOCKS):
        marker = _MARKER.search(data, position)
        if marker is None:
            raise IndexError
        code, position = marker[1][0], marker.end()
        if code in _ALONE:
            continue
        start, end = position - 2, position
        if code != _END:
            end += struct.unpack_from(">H", data, position)[0]
            if not start + 4 <= end <= len(data):
                raise IndexError
        yield code, start, end
        position = end
    _check_count(MAX_BLOCKS + 1, "segments")


def _with_frame(made: Container, frame: bytes, *, progressive: bool) -> Container:
    bits, height, width, count = struct.unpack_from(">BHHB", frame)
    if bits != 8 or not 1 <= count <= 4:
        raise UnreadableImageError(f"be a JPEG of 8 bits, got {bits} bits: convert or remove it")
    samplings = [(sampling >> 4, sampling & 15) for sampling in frame[7 : 6 + 3 * count : 3]]
    largest = max(across for across, _ in samplings) * max(down for _, down in samplings)
    samples = sum(across * down for across, down in samplings) / max(largest, 1)
    scan_bytes = round(2 * width * height * samples) if progressive else 0
    return replace(made, size=(width, height), scan_bytes=scan_bytes)


def _end_of_scans(data: bytes, position: int) -> int:
    """Where the end marker stands, or -1; sound files have a dozen scans, each costs a pass over the whole picture."""
    scans = 0
    for _ in range(MAX_BLOCKS):
        marker = _MARKER_AFTER_SCAN.search(data, position)
        if marker is None or marker.end() + 2 > len(data):
            return marker.end() - 2 if marker and marker[1][0] == _END else -1
        code, position = marker[1][0], marker.end()
        if code == _END:
            return position - 2
        scans += code == _START_OF_SCAN
        _check_count(scans, "scans", MAX_SCANS)
        if code not in _ALONE:
            position += struct.unpack_from(">H", data, position)[0]
    _check_count(MAX_BLOCKS + 1, "segments")
    return -1


def exif_orientation(exif: bytes) -> int:
    """Orientation in a block of EXIF; 1 for one that is broken, as viewers show it."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    try:
        if order is None:
            return 1
        (start,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, _, _, value = struct.unpack_from(order + "HHIH", exif, entry)
            if tag == _ORIENTATION:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


# PNG


def _read_png(data: bytes) -> Container:
    kept = [data[:8]]
    if data[12:16] != b"IHDR":
        raise IndexError
    made = Container("PNG", b"", bits=data[24])
    for number, (kind, start, end) in enumerate(_png_chunks(data)):
        _check_count(number, "chunks")
        body = data[start + 8 : end - 4]
        if kind in (b"IHDR", b"PLTE", b"tRNS", b"IDAT"):
            kept.append(data[start:end])
        elif kind == b"eXIf":
            made = replace(made, orientation=exif_orientation(body))
        elif kind == b"sBIT" and body:
            colours = body[:3] if data[25] & 2 else body[:1]
            made = replace(made, significant_bits=max(colours))
        elif kind == b"IEND":
            break
    end_chunk = b"\0\0\0\0IEND\xaeB`\x82"
    return replace(made, data=b"".join([*kept, end_chunk]))


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    position = 8
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        yield kind, position, position + 12 + length
        position += 12 + length


# WebP


def _read_webp(data: bytes) -> Container:
    kept: list[bytes] = []
    orientation, pictured = 1, False
    for number, (kind, start, end) in enumerate(_riff_chunks(data)):
        _check_count(number, "chunks")
        if kind == b"EXIF":
            body = data[start + 8 : end]
            orientation = exif_orientation(body)
        elif kind == b"VP8X" and not kept:
            flags = data[start + 8] & 0b00010010  # there is transparency, there are frames; nothing else any more
            kept.append(data[start : start + 8] + bytes([flags]) + data[start + 9 : end])
        elif kind in (b"ALPH", b"ANIM", b"VP8 ", b"VP8L", b"ANMF") and not pictured:
            kept.append(data[start:end] + bytes(end == len(data) + 1))  # of an odd length, and the padding is missing
            pictured = kind in (b"VP8 ", b"VP8L", b"ANMF")
    body = b"WEBP" + b"".join(kept)
    return Container("WebP", b"RIFF" + struct.pack("<I", len(body)) + body, orientation)


def _riff_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    position = 12
    while position + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, position)
        end = position + 8 + length + length % 2
        yield kind, position, end
        position = end


# GIF


def _read_gif(data: bytes) -> Container:
    flags = data[10]
    position = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    kept, control = [data[:position]], b""
    for _ in range(MAX_BLOCKS):
        if data[position] == 0x21:  # an extension: of all kinds, only the one that tells the transparent colour counts
            end = _end_of_sub_blocks(data, position + 2)
            control = data[position:end] if data[position + 1] == 0xF9 else control
        elif data[position] == 0x2C:
            flags = data[position + 9]
            end = _end_of_sub_blocks(data, position + 11 + (3 << (flags & 7) + 1 if flags & 0x80 else 0))
            return Container("GIF", b"".join([*kept, control, data[position:end], b";"]))
        else:
            end = position + 1 if data[position] != 0x3B else len(data)
        position = end
    raise UnreadableImageError("be a GIF with a picture in it, got none: replace or remove it")


def _end_of_sub_blocks(data: bytes, position: int) -> int:
    for _ in range(_MAX_SUB_BLOCKS):
        if position >= len(data) or not data[position]:
            return min(position + 1, len(data))
        position += 1 + data[position]
    _check_count(_MAX_SUB_BLOCKS + 1, "blocks", _MAX_SUB_BLOCKS)
    return position


# TIFF

_ORIENTATION = 274
_TAGS = {
    *(254, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 280, 281, 284, 292, 293, 317, 320),
    *(322, 323, 324, 325, 332, 338, 339, 340, 341, 347, 512, 513, 514, 519, 520, 521, 529, 530, 532),
}
"""What says how the pixels of a TIFF file are stored."""
_REQUIRED_TAGS, _OFFSETS = {256, 257}, (273, 324)  # width, height; offsets of strips or of tiles
_TABLES_OF_PARTS = {273, 279, 324, 325}
_SAMPLES_PER_PIXEL, _MAX_SAMPLES = 277, 6
_MAX_VALUES = 4096
_TYPE_SIZES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8)


def _read_tiff(data: bytes) -> Container:
    order = "<" if data[:2] == b"II" else ">"
    big = struct.unpack_from(order + "H", data, 2)[0] == 43
    word, head, count_type, entry_type = ("Q", 8, "Q", "HHQ8s") if big else ("I", 4, "H", "HHI4s")
    (start,) = struct.unpack_from(order + word, data, head)
    (count,) = struct.unpack_from(order + count_type, data, start)
    _check_count(count, "entries")
    first, size = start + struct.calcsize(count_type), struct.calcsize("=" + entry_type)
    kept: dict[int, bytes] = {}
    orientation = 1
    for position in range(first, first + size * count, size):
        tag, kind, values, inline = struct.unpack_from(order + entry_type, data, position)
        if tag == _ORIENTATION:
            (value,) = struct.unpack_from(order + "H", inline)
            orientation = value if 1 <= value <= 8 else 1
        elif tag == _SAMPLES_PER_PIXEL and struct.unpack_from(order + "H", inline)[0] > _MAX_SAMPLES:
            raise UnreadableImageError(f"have at most {_MAX_SAMPLES} samples per pixel, got more: convert or remove it")
        elif tag in _TAGS and _is_within(data, order + word, kind, values, inline):
            _check_count(values, "values in an entry", MAX_BLOCKS if tag in _TABLES_OF_PARTS else _MAX_VALUES)
            kept.setdefault(tag, data[position : position + size])
    if not any(_REQUIRED_TAGS | {offsets} <= kept.keys() for offsets in _OFFSETS):
        raise IndexError
    directory = struct.pack(order + count_type, len(kept)) + b"".join(kept.values()) + bytes(struct.calcsize(word))
    return Container("TIFF", b"".join([data[:start], directory, data[start + len(directory) :]]), orientation)


def _is_within(data: bytes, word: str, kind: int, values: int, inline: bytes) -> bool:
    size = values * _TYPE_SIZES[kind] if kind < len(_TYPE_SIZES) else 0
    if size <= len(inline):
        return size > 0
    return bool(struct.unpack(word, inline)[0] + size <= len(data))
