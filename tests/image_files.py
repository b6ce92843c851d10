"""Image files: photos of three colours, empty files, samples of 16 bits, and sizes that are only claimed."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

NAMES = ["red", "green", "blue"]
COLORS = np.array([[200, 60, 60], [60, 200, 60], [60, 60, 200]])


def colored(counts: int | list[int], seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    """Noisy photos of three colours, `NAMES`, and their labels."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), counts)
    noise = rng.integers(-50, 50, (len(labels), 40, 48, 3))
    return list(np.clip(COLORS[labels][:, None, None] + noise, 0, 255).astype(np.uint8)), labels


def touch(root: Path, *names: str) -> Path:
    """Make empty files in a folder."""
    for name in names:
        path = Path(root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return Path(root)


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    """Encode an image as Pillow does, or as pillow-heif does."""
    buffer = io.BytesIO()
    if format == "HEIF":
        import pillow_heif

        pillow_heif.from_pillow(image).save(buffer, **options)
    else:
        image.save(buffer, format, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(values: np.ndarray, chunks: dict[bytes, bytes] | None = None) -> bytes:
    """Encode samples of 16 bits; of shape (H, W) as grey, else by the number of channels."""
    height, width = values.shape[:2]
    channels = values.shape[2] if values.ndim == 3 else 1
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = values.reshape(height, width * channels).astype(">u2")
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)),
            *(png_chunk(*chunk) for chunk in (chunks or {}).items()),
            png_chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))),
            png_chunk(b"IEND", b""),
        ]
    )


def png_of_size(width: int, height: int, *, bits: int = 8, kind: int = 2) -> bytes:
    """Encode a PNG that claims a size, with hardly any pixels behind it."""
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0")), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def tiff(values: np.ndarray, order: str = "<", tags: dict[int, tuple[int, list[float]]] | None = None) -> bytes:
    """Encode samples as they are, uncompressed; `tags` are type and values by number, and take precedence."""
    codes = {2: "s", 3: "H", 4: "I", 11: "f"}
    height, width = values.shape[:2]
    channels = values.shape[2] if values.ndim == 3 else 1
    found = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [8 * values.itemsize] * channels),
        259: (3, [1]),
        262: (3, [2 if channels > 1 else 1]),
        277: (3, [channels]),
        278: (4, [height]),
        339: (3, [{"u": 1, "i": 2, "f": 3}[values.dtype.kind]] * channels),
    } | ({338: (3, [2])} if channels == 4 else {})
    found |= tags or {}
    planes = channels if found.get(284) == (3, [2]) else 1
    stored = np.moveaxis(values, -1, 0) if planes > 1 else values
    pixels = stored.astype(values.dtype.newbyteorder(order)).tobytes()
    part = len(pixels) // planes
    found |= {273: (4, [8 + part * index for index in range(planes)]), 279: (4, [part] * planes)}
    long, entries = b"", []
    start = 8 + len(pixels)
    for tag, (kind, numbers) in sorted(found.items()):
        body = struct.pack(f"{order}{len(numbers)}{codes[kind]}", *numbers)
        if len(body) > 4:
            long, body = long + body, struct.pack(order + "I", start + len(long))
        entries.append(struct.pack(order + "HHI", tag, kind, len(numbers)) + body.ljust(4, b"\0"))
    directory = struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", start + len(long))
    return head + pixels + long + directory
