"""Draw a confusion matrix, and save figures."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tip_adapter.errors import InputError
from tip_adapter.libraries import require_extra
from tip_adapter.storage.atomic import write_file
from tip_adapter.storage.escaping import shortened
from tip_adapter.typing import IntArray, StrPath

MAX_LABEL, LETTER_INCHES = 32, 0.09
"""Letters of a name beside the confusion matrix, and how wide a letter is."""

PLOT_SUFFIXES = (".png", ".svg", ".pdf")


def check_plot_path(path: Path) -> None:
    """Refuse a path that no plot can be written to, before any work is done."""
    if path.suffix.lower() not in PLOT_SUFFIXES:
        raise InputError(f"Expected a picture file ending in .png, .svg or .pdf, got {path}: rename it")
    require_extra("matplotlib.figure", "plot")


def save_figure(path: Path, figure: Any, *, dpi: int | None = None) -> None:
    """Write a figure of matplotlib as its path ends; the same figure gives the same file."""
    buffer, kind = io.BytesIO(), path.suffix[1:].lower()
    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    with warnings.catch_warnings():
        # Letters that the font lacks become boxes; a warning for each would hide what matters.
        warnings.filterwarnings("ignore", "Glyph")
        figure.savefig(buffer, format=kind, dpi=dpi or "figure", metadata=dates.get(kind))
    write_file(path, buffer.getvalue())


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
    save_figure(path, figure)
