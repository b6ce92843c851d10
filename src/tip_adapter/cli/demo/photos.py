"""Photos for the demo: the package's own photos of clothes, and scikit-learn's digits."""

from __future__ import annotations

import io
import json
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import numpy as np
from PIL import Image

from tip_adapter.storage.atomic import write_folder
from tip_adapter.typing import FloatArray

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DIGIT_TEXTS = {name: (f"the handwritten digit {name}",) for name in DIGITS}
DIGIT_SIDE, DIGIT_MARGIN = 64, 10
TEST_DIGITS_PER_CLASS = 40


def clothing_texts() -> dict[str, tuple[str, ...]]:
    """Return the words for the classes of `write_clothing`, such as "long sleeve shirt" for longsleeve."""
    texts = json.loads((files("tip_adapter.cli.demo") / "clothing" / "class_texts.json").read_text(encoding="utf-8"))
    return {name: (text,) for name, text in texts.items()}


def write_clothing(folder: Path) -> Path:
    """Write 200 photos of clothes: in each of 10 classes 8 to learn from and 12 to measure on.

    Notes
    -----
    Drawn at random from the "clothing dataset (small)" of Alexey Grigorev, CC0 1.0, by ``benchmarks/demo_photos.py``.
    """
    contents: dict[str, bytes] = {}
    _collect(files("tip_adapter.cli.demo") / "clothing", "", contents)
    write_folder(folder, contents)
    return folder


def _collect(folder: Traversable, prefix: str, contents: dict[str, bytes]) -> None:
    for entry in folder.iterdir():
        if entry.is_dir():
            _collect(entry, f"{prefix}{entry.name}/", contents)
        else:
            contents[prefix + entry.name] = entry.read_bytes()


def write_digits(folder: Path) -> Path:
    """Write scikit-learn's handwritten digits as class folders of PNG images.

    References
    ----------
    Alpaydin & Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    contents = {}
    for label, name in enumerate(DIGITS):
        for rank, index in enumerate(np.flatnonzero(digits.target == label)):
            split = "test" if rank < TEST_DIGITS_PER_CLASS else "train"
            contents[f"{split}/{name}/{rank:03d}.png"] = _png(digits.images[index])
    write_folder(folder, contents)
    return folder


def _png(pixels: FloatArray) -> bytes:
    """Dark ink on white paper with a margin, as people write."""
    ink = Image.fromarray((255 - pixels * 255 / 16).astype(np.uint8)).resize((DIGIT_SIDE, DIGIT_SIDE))
    paper = Image.new("L", (DIGIT_SIDE + 2 * DIGIT_MARGIN, DIGIT_SIDE + 2 * DIGIT_MARGIN), 255)
    paper.paste(ink, (DIGIT_MARGIN, DIGIT_MARGIN))
    buffer = io.BytesIO()
    paper.save(buffer, "PNG")
    return buffer.getvalue()
