"""Damage images of every format that is read, and count what becomes of them.

Usage: python benchmarks/mutated_images.py [--images 2000] [--seed 0]

Each image is a sound one with flipped bits, a piece cut out, its end cut off, a piece of another spliced in, or numbers
in its first bytes set to extremes. All go through `ImageClassifier.predict(skip_bad=True)` in one process, where
warnings are errors: every one has to be refused in one line or give a class. Prints and writes the counts, the slowest
image and the peak of memory. Needs the extra heif.
"""

from __future__ import annotations

import argparse
import collections
import resource
import sys
import time
import warnings
from typing import Any

import numpy as np
from PIL import Image

from bombs import MB, encoded
from provenance import write_result

EDGES = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\x7f\0\0", b"\0\1\0\0")


def sound_images() -> dict[str, bytes]:
    """Images of every format, in several kinds each."""
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 256, (15, 20, 3), dtype=np.uint8)).resize((200, 150), 3)
    grey = Image.fromarray((np.asarray(photo.convert("L")).astype(np.uint16) * 16).astype(np.uint16))
    turned = Image.Exif()
    turned[0x0112] = 6
    frames = [photo.rotate(turn) for turn in (10, 20)]
    return {
        "JPEG": encoded(photo, "JPEG", exif=turned),
        "JPEG, progressive": encoded(photo, "JPEG", progressive=True),
        "JPEG, CMYK": encoded(photo.convert("CMYK"), "JPEG"),
        "PNG": encoded(photo, "PNG", exif=turned),
        "PNG, 16 bits": encoded(grey, "PNG"),
        "PNG, palette": encoded(photo.convert("P"), "PNG", transparency=3),
        "PNG, animated": encoded(photo, "PNG", save_all=True, append_images=frames),
        "WebP": encoded(photo, "WEBP", exif=turned),
        "WebP, lossless with opacity": encoded(photo.convert("RGBA"), "WEBP", lossless=True),
        "WebP, animated": encoded(photo, "WEBP", save_all=True, append_images=frames),
        "GIF": encoded(photo, "GIF", save_all=True, append_images=frames),
        "BMP": encoded(photo, "BMP"),
        "TIFF": encoded(photo, "TIFF", exif=turned),
        "TIFF, 16 bits": encoded(grey, "TIFF"),
        "TIFF, LZW": encoded(photo, "TIFF", compression="tiff_lzw"),
        "TIFF, deflated": encoded(photo, "TIFF", compression="tiff_adobe_deflate"),
        "TIFF, JPEG": encoded(photo, "TIFF", compression="jpeg"),
        "AVIF": encoded(photo, "AVIF", exif=turned, speed=10),
        "HEIF": encoded(photo, "HEIF"),
    }


def mutated(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Damage an image in one of five ways."""
    found = bytearray(data)
    start, end = np.sort(rng.integers(0, len(data), 2))
    way = rng.integers(5)
    if way == 0:
        for position in rng.integers(0, len(data), rng.integers(1, 30)):
            found[position] ^= 1 << int(rng.integers(8))
    elif way == 1:
        del found[start : min(end, start + 400)]
    elif way == 2:
        del found[max(20, int(start)) :]
    elif way == 3:
        found[start:end] = other[start : max(end, start + 20)]
    else:
        position = int(rng.integers(8, min(200, len(data))))
        found[position : position + 4] = EDGES[rng.integers(len(EDGES))]
    return bytes(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    from tip_adapter import ImageClassifier

    warnings.simplefilter("error")
    rng, sound = np.random.default_rng(arguments.seed), sound_images()
    kinds = [list(sound)[index % len(sound)] for index in range(arguments.images)]
    images = [mutated(sound[kind], sound[rng.choice(list(sound))], rng) for kind in kinds]
    grey = [np.full((32, 32, 3), value, np.uint8) for value in (30, 220)]
    classifier = ImageClassifier("fake", "tip-adapter", store=None).fit(grey, ["dark", "light"])
    before = peak_mb()
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    slowest = 0.0
    for kind, image in zip(kinds, images, strict=True):
        start = time.perf_counter()
        counts[kind][outcome(classifier, [image])] += 1
        slowest = max(slowest, time.perf_counter() - start)
    together = [label for label in classifier.predict(images, skip_bad=True) if label is not None]
    for kind, found in counts.items():
        print(f"{kind}: {', '.join(f'{name} {count}' for name, count in sorted(found.items()))}")
    total = sum(counts.values(), collections.Counter())
    if len(together) != total["answered"] or set(total) - {"answered", "refused"}:
        sys.exit(f"Expected answers and refusals alone, got {dict(total)}, {len(together)} answers together")
    peak = peak_mb() - before
    print(f"{arguments.images} images: {dict(total)}; slowest {slowest:.2f} s; {peak:.0f} MB more than without")
    figures: dict[str, Any] = {"kinds": {kind: dict(found) for kind, found in counts.items()}, "total": dict(total)}
    write_result("mutated_images", figures | {"slowest_s": slowest, "peak_mb": peak})


def outcome(classifier: Any, images: list[bytes]) -> str:
    """Predict one image: "answered", "refused", or what went wrong."""
    from tip_adapter.errors import ImageError

    try:
        classifier.predict(images)
    except ImageError as error:
        return "refused" if str(error).startswith("Expected ") and "\n" not in str(error) else f"bad message: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "answered"


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MB


if __name__ == "__main__":
    main()
