"""Peak memory of `tip-adapter predict` on files made to exhaust it, of every format that is read.

Usage: python benchmarks/bombs.py [--files 1000] [--each 12] [--encoder lite]

Every kind of file is predicted alone (as many copies as --each says, none like another), then all kinds together (as
many as --files says). Of each run: photos answered and refused, seconds, and the largest memory of the process. Some
kinds are as large as the limits allow, some are beyond. Needs the extras lite and heif.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from provenance import write_result

TARGET_MB = 1000
MB = 1_000_000
RUN = """
import json, resource, subprocess, sys, time
photos, start = json.load(open(sys.argv[2])), time.perf_counter()
command = [sys.executable, "-m", "tip_adapter", "predict", sys.argv[1], *photos, "--skip-bad", "--json"]
done = subprocess.run(command, capture_output=True, text=True)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps([time.perf_counter() - start, peak, done.returncode, done.stdout, done.stderr]))
"""
"""Started by a process that is small itself, or its own peak would be counted."""


def encoded(image: Image.Image, file_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    if file_format == "HEIF":
        import pillow_heif

        pillow_heif.from_pillow(image).save(buffer, **options)
    else:
        image.save(buffer, file_format, **options)
    return buffer.getvalue()


def png(width: int, height: int, *, kind: int, bits: int = 8, chunks: tuple[tuple[bytes, bytes], ...] = ()) -> bytes:
    """Encode a black PNG of any size in little memory."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    packer = zlib.compressobj(9)
    row = bytes(1 + width * samples * bits // 8)
    packed = b"".join([*(packer.compress(row) for _ in range(height)), packer.flush()])
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", packed), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in parts
    )


def tiff(width: int, height: int, strip: bytes, **tags: tuple[int, int]) -> bytes:
    """Encode a TIFF of one strip; tags by number are type and value."""
    found = {256: (4, width), 257: (4, height), 258: (3, 8), 259: (3, 8), 262: (3, 1), 273: (4, 8), 277: (3, 1)}
    found |= {278: (4, height), 279: (4, len(strip))} | {int(name.strip("_")): tag for name, tag in tags.items()}
    entries = [
        struct.pack("<HHI", tag, kind, 1) + struct.pack("<I", value) for tag, (kind, value) in sorted(found.items())
    ]
    return (
        b"II*\0"
        + struct.pack("<I", 8 + len(strip))
        + strip
        + struct.pack("<H", len(entries))
        + b"".join(entries)
        + bytes(4)
    )


def webp_of_transparency(width: int, height: int) -> bytes:
    """Encode a lossless WebP of one transparent colour: 34 bytes, whatever its size."""
    header = (0x2F | (width - 1) << 8 | (height - 1) << 22 | 1 << 36).to_bytes(5, "little")
    body = header + b"\x88\x88\x08" + bytes(5)
    chunk = b"VP8L" + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def scans(count: int) -> bytes:
    """Encode a progressive JPEG whose last scan comes many times."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise).resize((3000, 2000)), "JPEG", progressive=True, quality=30)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * count + data[-2:]


def resized_jpeg(width: int, height: int, **options: Any) -> bytes:
    """Encode a JPEG that claims a size."""
    data = encoded(Image.new("RGB", (9, 9)), "JPEG", **options)
    return data.replace(b"\0\x09\0\x09", struct.pack(">HH", height, width), 1)


def run_length_bmp(side: int) -> bytes:
    """Encode a BMP of 8 bits in runs of 255 pixels."""
    row = b"\xff\x01" * (side // 255) + bytes([side % 255, 1, 0, 0])
    body = row * side + b"\0\1"
    head = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(body), 0, 0, 256, 0)
    offset = 14 + len(head) + 1024
    return b"BM" + struct.pack("<IHHI", offset + len(body), 0, 0, offset) + head + bytes(1024) + body


def plain(side: int, mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (side, side), 90 if mode == "L" else (90, 80, 70, 60)[: len(mode)])


KINDS: dict[str, Callable[[], bytes]] = {
    "PNG, 89 megapixels of colour": lambda: png(10_000, 8900, kind=2),
    "PNG, 66 megapixels with opacity": lambda: png(8200, 8000, kind=6),
    "PNG, 44 megapixels of 16 bits": lambda: png(8000, 5500, kind=2, bits=16),
    "PNG, 89 megapixels of grey": lambda: png(10_000, 8900, kind=0),
    "PNG, 144 megapixels": lambda: png(12_000, 12_000, kind=2),
    "PNG, texts of 20 × 100 MB": lambda: png(
        64, 64, kind=2, chunks=((b"zTXt", b"a\0\0" + zlib.compress(bytes(100 * MB), 9)),) * 20
    ),
    "PNG, 3 million chunks": lambda: png(64, 64, kind=2, chunks=((b"tEXt", b""),) * 3_000_000),
    "JPEG, 400 megapixels": lambda: encoded(Image.new("L", (20_000, 20_000), 90), "JPEG"),
    "JPEG, 65,000 × 65,000": lambda: resized_jpeg(65_000, 65_000),
    "JPEG, progressive, 72 megapixels": lambda: encoded(plain(8500), "JPEG", progressive=True, subsampling=0),
    "JPEG, progressive, claims 300 megapixels": lambda: resized_jpeg(20_000, 15_000, progressive=True),
    "JPEG, 100 scans": lambda: scans(90),
    "JPEG, 500 scans": lambda: scans(500),
    "JPEG, 100 megapixels without its end": lambda: encoded(plain(10_000), "JPEG")[:-2],
    "JPEG, 5 million segments": lambda: b"\xff\xd8" + b"\xff\xfe\0\2" * 5_000_000 + encoded(plain(64), "JPEG")[2:],
    "WebP, 100 megapixels in 34 bytes": lambda: webp_of_transparency(9990, 10_000),
    "WebP, 26 megapixels in 34 bytes": lambda: webp_of_transparency(5100, 5100),
    "WebP, 33 megapixels": lambda: encoded(plain(5750), "WEBP", quality=10, method=0),
    "WebP, 2,000 frames": lambda: encoded(
        plain(900), "WEBP", save_all=True, append_images=[plain(900).rotate(turn) for turn in range(30)], method=0
    ),
    "GIF, 89 megapixels": lambda: encoded(Image.new("P", (10_000, 8900), 0), "GIF"),
    "GIF, 65,000 × 65,000": lambda: encoded(plain(9), "GIF").replace(b"\x09\0\x09\0", b"\xe8\xfd\xe8\xfd"),
    "GIF, 10 million blocks": lambda: encoded(plain(9), "GIF")[:13] + b"!\xfe" + b"\1a" * 10_000_000 + b"\0;",
    "BMP, 9,400 × 9,400 in runs": lambda: run_length_bmp(9400),
    "BMP, 36 megapixels": lambda: encoded(plain(6000), "BMP"),
    "TIFF, 100 megapixels deflated": lambda: tiff(10_000, 10_000, zlib.compress(bytes(100 * MB), 9)),
    "TIFF, 81 megapixels deflated": lambda: tiff(9000, 9000, zlib.compress(bytes(81 * MB), 9)),
    "TIFF, one tile of 90,000 × 90,000": lambda: tiff(
        64, 64, b"x" * 64, _322=(4, 90_000), _323=(4, 90_000), _324=(4, 8)
    ),
    "TIFF, 88 megapixels of LZMA": lambda: encoded(plain(9400, "L"), "TIFF", compression="lzma"),
    "TIFF, 44 megapixels of colour, LZW": lambda: encoded(plain(6600), "TIFF", compression="tiff_lzw"),
    "AVIF, 33 megapixels": lambda: encoded(plain(5750), "AVIF", speed=10, quality=10),
    "AVIF, 26 megapixels, 4:4:4 with opacity": lambda: encoded(
        plain(5100, "RGBA"), "AVIF", speed=10, quality=10, subsampling="4:4:4"
    ),
    "HEIF, 57 megapixels": lambda: encoded(plain(7550), "HEIF", quality=10),
    "HEIF, 31 megapixels, 4:4:4 with opacity": lambda: encoded(plain(5570, "RGBA"), "HEIF", quality=10, chroma=444),
}


def write(folder: Path, name: str, data: bytes, count: int) -> list[Path]:
    """Write copies that differ in what follows the picture, so that each is a file that no store knows."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name.replace(' ', '-').replace(',', '')}-{index}" for index in range(count)]
    for path in paths:
        path.write_bytes(data + struct.pack(">I4s", 16, b"free") + os.urandom(8))
    return paths


def write_huge(folder: Path, count: int) -> list[Path]:
    """Write files of 5 GB, of which the disk holds the beginning alone."""
    paths = write(folder, "file of 5 GB", encoded(plain(64), "JPEG"), count)
    for path in paths:
        with path.open("r+b") as file:
            file.truncate(5_000 * MB)
    return paths


def predict(model: Path, paths: list[Path]) -> dict[str, float]:
    """Run the command in a process of its own."""
    listed = model.with_suffix(".photos")
    listed.write_text(json.dumps([str(path) for path in paths]))
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(model), str(listed)], capture_output=True, text=True, check=True
    )
    seconds, peak, status, out, err = json.loads(done.stdout)
    if "Traceback" in err:
        sys.exit(err)
    found = json.loads(out) if out.strip().startswith("{") else {}
    answered = len(found.get("predictions", []))
    return {
        "files": len(paths),
        "answered": answered,
        "refused": len(paths) - answered,
        "seconds": seconds,
        "peak_mb": peak * 1024 / MB,
        "exit_code": status,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--each", type=int, default=12)
    parser.add_argument("--encoder", default="lite")
    arguments = parser.parse_args()
    from tip_adapter import ImageClassifier

    rows: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "model.tip"
        noise = np.random.default_rng(0).integers(0, 256, (4, 48, 48, 3), dtype=np.uint8)
        ImageClassifier(arguments.encoder, "tip-adapter").fit(list(noise), ["a", "b", "a", "b"]).save(model)
        everything: list[list[Path]] = []
        for kind, make in KINDS.items():
            everything.append(write(folder / "bombs", kind, make(), arguments.each))
            rows[kind] = predict(model, everything[-1])
            print(kind, {key: round(value, 1) for key, value in rows[kind].items()}, flush=True)
        everything.append(write_huge(folder / "bombs", arguments.each))
        rows["file of 5 GB"] = predict(model, everything[-1])
        together = [path for group in zip(*everything, strict=True) for path in group]
        fresh = []
        for index, path in enumerate(islice(_forever(together), arguments.files)):
            copy = path.with_name(f"{path.name}-again-{index}")
            if path.stat().st_size < 200 * MB:
                copy.write_bytes(path.read_bytes() + struct.pack(">I4s", 16, b"free") + os.urandom(8))
            else:
                copy.hardlink_to(path)
            fresh.append(copy)
        rows["all together"] = predict(model, fresh)
    worst = max(row["peak_mb"] for row in rows.values())
    for kind in ("file of 5 GB", "all together"):
        print(kind, {key: round(value, 1) for key, value in rows[kind].items()})
    print(f"largest peak: {worst:.0f} MB (target: below {TARGET_MB})")
    write_result("bombs", {"kinds": rows, "largest_peak_mb": worst, "target_mb": TARGET_MB})


def _forever(paths: list[Path]) -> Any:
    while True:
        yield from paths


if __name__ == "__main__":
    main()
