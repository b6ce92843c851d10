"""Draw photos, predictions and confusion counts."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from tip_adapter.data.decoding import ImageSource, load_image
from tip_adapter.errors import InputError
from tip_adapter.libraries import require_extra
from tip_adapter.storage.atomic import write_file
from tip_adapter.storage.escaping import shortened
from tip_adapter.typing import IntArray, StrPath

MAX_LABEL, LETTER_INCHES = 32, 0.09
"""Letters of a name beside the confusion matrix, and how wide a letter is."""

PLOT_SUFFIXES = (".png", ".svg", ".pdf")

TILE, MARGIN, CAPTION = 128, 16, 36
INK, PAPER, RIGHT, WRONG = "#1a1a1a", "#ffffff", "#1b7f3b", "#b3261e"


@dataclass(frozen=True)
class EvidenceRow:
    """A query and its nearest shots.

    Attributes
    ----------
    query : path, bytes, Image or array
    answer : str
        Predicted class.
    truth : str or None
        True class, where it is known.
    shots : sequence of (picture, class name, cosine)
        The nearest first.
    """

    query: ImageSource
    answer: str
    truth: str | None
    shots: Sequence[tuple[ImageSource, str, float]]


def save_evidence(path: StrPath, rows: Sequence[EvidenceRow]) -> None:
    """Draw queries with their nearest shots, one row each."""
    path = Path(path)
    if not rows or path.suffix.lower() not in (".png", ".jpg"):
        raise InputError(f"Expected at least one row and a .png or .jpg file, got {len(rows)} rows and {path}.")
    columns = 1 + max(len(row.shots) for row in rows)
    width = columns * (TILE + MARGIN) + 2 * MARGIN
    canvas = Image.new("RGB", (width, len(rows) * (TILE + CAPTION + MARGIN) + MARGIN), PAPER)
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=13)
    for index, row in enumerate(rows):
        top = MARGIN + index * (TILE + CAPTION + MARGIN)
        color = INK if row.truth is None else RIGHT if row.truth == row.answer else WRONG
        second = "" if row.truth is None or row.truth == row.answer else f"true: {row.truth}"
        _tile(canvas, draw, row.query, (MARGIN, top), (row.answer, second), color, font)
        for column, (picture, name, cosine) in enumerate(row.shots, start=1):
            left = 2 * MARGIN + column * (TILE + MARGIN)
            _tile(canvas, draw, picture, (left, top), (name, f"cosine {cosine:.2f}"), INK, font)
    draw.line(
        [(int(1.5 * MARGIN) + TILE + MARGIN // 2, MARGIN), (int(1.5 * MARGIN) + TILE + MARGIN // 2, canvas.height)]
    )
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG" if path.suffix.lower() == ".png" else "JPEG")
    write_file(path, buffer.getvalue())


def _tile(
    canvas: Image.Image,
    draw: ImageDraw.ImageDraw,
    picture: ImageSource,
    corner: tuple[int, int],
    caption: tuple[str, str],
    color: str,
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
) -> None:
    """Paste one picture into its square, with two lines under it."""
    image = load_image(picture, min_side=TILE, allow_truncated=True)
    scale = TILE / max(image.size)
    image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    left, top = corner
    canvas.paste(image, (left + (TILE - image.width) // 2, top + (TILE - image.height) // 2))
    for line, text in enumerate(caption):
        draw.text((left, top + TILE + 2 + 16 * line), _fitted(draw, text, font), fill=color, font=font)


def _fitted(draw: ImageDraw.ImageDraw, text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    """Shorten a text until it fits under a tile."""
    if draw.textlength(text, font=font) <= TILE:
        return text
    while text and draw.textlength(text + "…", font=font) > TILE:
        text = text[:-1]
    return text + "…"


def check_plot_path(path: Path) -> None:
    """Refuse a path that no plot can be written to, before any work is done."""
    if path.suffix.lower() not in PLOT_SUFFIXES:
        raise InputError(f"Expected a picture file ending in .png, .svg or .pdf, got {path}: rename it.")
    require_extra("matplotlib.figure", "plot")


def save_confusion_matrix(path: StrPath, confusion: IntArray, class_names: Sequence[str]) -> None:
    """Draw a confusion matrix: rows are true classes, shares of each row are colours, counts are written.

    Shapes: `confusion` (C, C).
    """
    path = Path(path)
    check_plot_path(path)
    figure_module = require_extra("matplotlib.figure", "plot")
    n_classes = len(class_names)
    side = min(3 + 0.42 * n_classes, 40)
    names = [shortened(name, MAX_LABEL) for name in class_names]
    room = LETTER_INCHES * max(map(len, names))
    figure = figure_module.Figure(figsize=(side + 1 + room, side + room), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    totals = confusion.sum(axis=1, keepdims=True).clip(min=1)
    shares = confusion / totals
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="prediction", ylabel="true class", xticks=range(n_classes), yticks=range(n_classes))
    # A dollar sign in a name begins no formula.
    axes.set_xticklabels(names, rotation=90, parse_math=False)
    axes.set_yticklabels(names, parse_math=False)
    if n_classes <= 40:
        for row in range(n_classes):
            for column in range(n_classes):
                if confusion[row, column]:
                    color = "white" if shares[row, column] > 0.5 else "black"
                    axes.text(column, row, confusion[row, column], ha="center", va="center", color=color, fontsize=8)
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # Letters that the font lacks become boxes; a warning for each would hide what matters.
        warnings.filterwarnings("ignore", "Glyph")
        figure.savefig(buffer, format=path.suffix[1:].lower())
    write_file(path, buffer.getvalue())
