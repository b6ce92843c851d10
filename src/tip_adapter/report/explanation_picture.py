"""Draw an explanation with its photo: the prediction, what speaks for it, and the deciding shots."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from tip_adapter.data.decoding import ImageSource, load_image
from tip_adapter.explain.explanation import Explanation, ShotEvidence
from tip_adapter.libraries import require_extra
from tip_adapter.report.pictures import check_plot_path, save_figure
from tip_adapter.storage.escaping import shortened
from tip_adapter.trust.figures import percent
from tip_adapter.typing import UInt8Array

INK, PALE, LINE = "#1a1a1a", "#6b6b6b", "#c8c8c8"
FOR, AGAINST = "#0b62a4", "#c4500a"
"""Blue and orange: told apart by all eyes, in print too."""

PER_ROW, WIDTH, TOP, SHOT_HEIGHT, NOTE = 5, 11.0, 3.4, 2.35, 0.5
"""Shots in a row; inches."""

PHOTO_SIDE = 480
"""Pixels of the longer side of the photo in the picture."""


def save_explanation(path: str | Path, explanation: Explanation, photo: ImageSource) -> None:
    """Draw why a photo got its answer: a .png, .svg or .pdf file."""
    path = Path(path)
    check_plot_path(path)
    shown = _small(photo)
    rows = math.ceil(len(explanation.deciding) / PER_ROW)
    height = TOP + rows * SHOT_HEIGHT + (0.35 if rows else 0.0) + NOTE
    figure = require_extra("matplotlib.figure", "plot").Figure(figsize=(WIDTH, height), dpi=130, facecolor="white")
    _draw_photo(_box(figure, (0.35, 0.3, 2.75, TOP - 0.5)), shown)
    _draw_headline(figure, explanation)
    _draw_margin(_box(figure, (5.3, 1.25, 4.6, TOP - 1.85)), explanation)
    if rows:
        _draw_heading(figure, explanation)
    for index, shot in enumerate(explanation.deciding):
        row, column = divmod(index, PER_ROW)
        left = 0.35 + column * (WIDTH - 0.7) / PER_ROW
        _draw_shot(_box(figure, (left, TOP + 0.35 + row * SHOT_HEIGHT, 1.9, 1.6)), shot, explanation)
    _text(figure, 0.35, height - 0.3, _wrapped(" ".join(explanation.notes), 150), color=PALE, fontsize=8, va="center")
    save_figure(path, figure)


def _box(figure: Any, box: tuple[float, float, float, float]) -> Any:
    """Axes in inches from the upper left corner: left, top, width, height."""
    left, top, width, height = box
    total_width, total_height = figure.get_size_inches()
    return figure.add_axes(
        (left / total_width, 1 - (top + height) / total_height, width / total_width, height / total_height)
    )


def _text(figure: Any, left: float, top: float, text: str, **style: Any) -> None:
    """Write in inches from the upper left corner. A dollar sign in a name begins no formula."""
    width, height = figure.get_size_inches()
    figure.text(left / width, 1 - top / height, text, parse_math=False, **style)


def _small(photo: ImageSource) -> UInt8Array:
    """Pixels to draw, of a picture of any size: those in saved classifiers are as untrusted as any file."""
    image = load_image(photo, min_side=PHOTO_SIDE, allow_truncated=True)
    image.thumbnail((PHOTO_SIDE, PHOTO_SIDE))
    return np.asarray(image)


def _draw_photo(axes: Any, pixels: Any) -> None:
    axes.imshow(pixels)
    axes.set_anchor("NW")
    axes.axis("off")


def _draw_headline(figure: Any, explanation: Explanation) -> None:
    answer = f"{shortened(explanation.answer, 36)}  {percent(explanation.probability)}"
    _text(figure, 3.4, 0.45, answer, fontsize=17, fontweight="bold", color=FOR, va="center")
    second = f"ahead of {shortened(explanation.runner_up, 50)}  {percent(explanation.runner_up_probability)}"
    _text(figure, 3.4, 0.8, second, fontsize=11, color=AGAINST, va="center")
    facts = ["what makes the difference, in logits"]
    if explanation.text_answer is not None:
        facts.append(f"the texts alone say {shortened(explanation.text_answer, 30)}")
    _text(figure, 3.4, 1.12, "   ·   ".join(facts), fontsize=9, color=PALE, va="center")


def _draw_margin(axes: Any, explanation: Explanation) -> None:
    """Draw a bar for each part, beginning where the one above it ends, and the whole at the bottom."""
    parts, end = [(shortened(name, 27), value) for name, value in explanation.margin_parts().items()], 0.0
    ends = [0.0]
    for row, (_, value) in enumerate(parts):
        axes.barh(row, value, left=end, height=0.62, color=FOR if value >= 0 else AGAINST)
        axes.plot([end + value] * 2, [row + 0.31, row + 0.69], color=PALE, linewidth=0.8)
        end += value
        ends.append(end)
    axes.barh(len(parts), explanation.margin, height=0.62, color=INK)
    low, high = min(ends), max(ends)
    room = 0.02 * (high - low or 1.0)
    begins = [*ends[:-1], 0.0]
    for row, (begin, (_, value)) in enumerate(zip(begins, [*parts, ("", explanation.margin)], strict=True)):
        axes.text(max(begin, begin + value) + room, row, f"{value:+.2f}", va="center", fontsize=9, color=INK)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_xlim(low - room, high + 12 * room)
    axes.set_ylim(len(parts) + 0.6, -0.6)
    axes.set_yticks(range(len(parts) + 1))
    labels = [*(name for name, _ in parts), f"ahead of {shortened(explanation.runner_up, 14)} by"]
    axes.set_yticklabels(labels, fontsize=9, parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.set_xticks([])
    for side in ("top", "right", "bottom", "left"):
        axes.spines[side].set_visible(False)


def _draw_heading(figure: Any, explanation: Explanation) -> None:
    own_terms = explanation.shot_margins is not None
    heading = "The shots that decide" if own_terms else "The nearest shots"
    _text(figure, 0.35, TOP + 0.12, heading, fontsize=11, fontweight="bold", color=INK, va="center")
    if own_terms and not explanation.cancelling:
        _text(
            figure,
            2.35,
            TOP + 0.12,
            f"frame and number: for {shortened(explanation.answer, 24)} (blue) or for "
            f"{shortened(explanation.runner_up, 24)} (orange), in logits",
            fontsize=9,
            color=PALE,
            va="center",
        )


def _draw_shot(axes: Any, shot: ShotEvidence, explanation: Explanation) -> None:
    color = LINE if shot.term is None else FOR if shot.term.margin >= 0 else AGAINST
    if shot.thumbnail is not None:
        axes.imshow(_small(shot.thumbnail))
    else:
        axes.text(0.5, 0.5, "no picture", ha="center", va="center", color=PALE, transform=axes.transAxes)
    axes.set(xticks=[], yticks=[])
    axes.set_anchor("S")
    for spine in axes.spines.values():
        spine.set(color=color, linewidth=3)
    alone = shot.term is None or explanation.cancelling
    number = f"cosine {shot.cosine:.2f}" if alone or shot.term is None else f"{shot.term.margin:+.2f}"
    # Below the frame, in points, so that it fits whatever the shape of the picture.
    lines = [
        (f"{shortened(shot.class_name, 15)}   {number}", INK if shot.term is None else color, "bold"),
        *_without(shot, explanation),
    ]
    for line, (text, ink, weight) in enumerate(lines):
        axes.annotate(
            text,
            (0.5, 0),
            xycoords="axes fraction",
            xytext=(0, -8 - 14 * line),
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=9,
            color=ink,
            fontweight=weight,
            parse_math=False,
        )


def _without(shot: ShotEvidence, explanation: Explanation) -> list[tuple[str, str, str]]:
    if shot.answer_without is None or shot.probability_without is None:
        return []
    if shot.answer_without == explanation.answer:
        return [(f"without it still {percent(shot.probability_without)}", PALE, "normal")]
    return [(f"without it: {shortened(shot.answer_without, 15)}", AGAINST, "bold")]


def _wrapped(text: str, letters: int) -> str:
    import textwrap

    return textwrap.fill(text, letters)
