"""Positions and shapes of SVG charts, which the template draws in the colours of the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tip_adapter.errors import InputError
from tip_adapter.explain.explanation import Explanation
from tip_adapter.methods.selection.cache_search import Landscape
from tip_adapter.trust.conformal import ConformalScores, prediction_sets
from tip_adapter.trust.metrics import reliability
from tip_adapter.typing import FloatArray, IntArray

COVERAGES = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98)

LABEL_GAP = 0.06
"""Least distance of wanted coverages whose mean sizes are written, so that the numbers stay apart."""

FADE = 0.1
"""Log loss above the least, in nats, by which a cell of the landscape fades to 1/e."""

SHOWN_FROM = 0.4
"""Wanted coverages, and what was covered, are drawn from here."""


@dataclass(frozen=True)
class Plot:
    """A square plotting area in SVG units, y upwards, for shares from `low` to 1."""

    low: float = 0.0
    size: float = 300.0
    left: float = 44.0
    bottom: float = 40.0
    margin: float = 12.0

    def x(self, value: float) -> float:
        """Place a share across."""
        return round(self.left + (value - self.low) / (1 - self.low) * self.size, 2)

    def y(self, value: float) -> float:
        """Place a share upwards."""
        return round(self.margin + (1 - value) / (1 - self.low) * self.size, 2)

    @property
    def width(self) -> float:
        """Of the whole drawing."""
        return self.left + self.size + self.margin

    @property
    def height(self) -> float:
        """Of the whole drawing."""
        return self.margin + self.size + self.bottom

    @property
    def ticks(self) -> list[float]:
        """Five shares from `low` to 1."""
        return [round(self.low + step * (1 - self.low) / 4, 4) for step in range(5)]


def reliability_points(probabilities: FloatArray, labels: IntArray) -> list[dict[str, float]]:
    """List the bins with photos: confidence, accuracy, count, and share of all photos.

    Shapes: `probabilities` (B, C), `labels` (B,).
    """
    counts, confidence, accuracy = reliability(probabilities, labels)
    return [
        {
            "confidence": float(confidence[index]),
            "accuracy": float(accuracy[index]),
            "count": int(counts[index]),
            "share": float(counts[index] / counts.sum()),
        }
        for index in np.flatnonzero(counts)
    ]


def coverage_points(scores: ConformalScores, probabilities: FloatArray, labels: IntArray) -> list[dict[str, Any]]:
    """Measure sets of classes at several wanted coverages; those that need more calibration photos are left out.

    Shapes: `probabilities` (B, C), `labels` (B,).
    """
    points: list[dict[str, Any]] = []
    rows = np.arange(len(labels))
    for wanted in COVERAGES:
        try:
            threshold = scores.threshold(wanted)
        except InputError:
            continue
        sets = prediction_sets(probabilities, threshold)
        covered, size = float(sets[rows, labels].mean()), float(sets.sum(axis=1).mean())
        points.append({"wanted": wanted, "covered": covered, "size": size})
    shown = [point for point in points if point["covered"] >= SHOWN_FROM]
    free_below = 1.0
    for point in reversed(shown):
        point["labelled"] = point["wanted"] <= free_below
        free_below = round(point["wanted"] - LABEL_GAP, 4) if point["labelled"] else free_below
    return shown


def landscape_cells(landscape: Landscape, chosen: tuple[float, float]) -> dict[str, Any]:
    """Lay out the landscape: cells with a depth in [0, 1], labels of the axes, and where the chosen pair lies."""
    least = float(landscape.nll.min())
    cells = [
        {
            "row": row,
            "column": column,
            "depth": round(float(np.exp((least - landscape.nll[row, column]) / FADE)), 3),
            "alpha": float(alpha),
            "beta": float(beta),
            "accuracy": float(landscape.accuracy[row, column]),
            "nll": float(landscape.nll[row, column]),
        }
        for row, alpha in enumerate(landscape.alphas)
        for column, beta in enumerate(landscape.betas)
    ]
    alpha, beta = chosen
    return {
        "cells": cells,
        "rows": len(landscape.alphas),
        "columns": len(landscape.betas),
        "point": (_place(beta, landscape.betas), _place(alpha, landscape.alphas)),
        "least": least,
    }


def _place(value: float, axis: FloatArray) -> float | None:
    """Where a value lies on a geometric axis of cells, as a share of its length; None outside."""
    if value <= 0:
        return None
    step = np.log(axis[1] / axis[0]) if len(axis) > 1 else 1.0
    place = float((np.log(value / axis[0]) / step + 0.5) / len(axis))
    return place if 0 <= place <= 1 else None


def confusion_cells(confusion: IntArray) -> list[dict[str, Any]]:
    """List the cells that hold photos, with how deep each is drawn.

    Shapes: `confusion` (C, C).
    """
    totals = np.maximum(confusion.sum(axis=1), 1)
    return [
        {
            "row": int(row),
            "column": int(column),
            "count": int(confusion[row, column]),
            "share": round(float(confusion[row, column] / totals[row]), 3),
            "right": bool(row == column),
        }
        for row, column in np.argwhere(confusion > 0)
    ]


def waterfall_bars(explanation: Explanation) -> list[dict[str, Any]]:
    """Place a bar for each part of a margin, beginning where the one before it ends, and the whole at the end."""
    parts = explanation.margin_parts()
    ends = np.concatenate(([0.0], np.cumsum(list(parts.values()), dtype=float)))
    low, room = float(ends.min()), float(np.ptp(ends)) or 1.0

    def bar(name: str, begin: float, end: float) -> dict[str, Any]:
        left, width = 100 * (min(begin, end) - low) / room, 100 * abs(end - begin) / room
        return {"name": name, "value": end - begin, "left": round(left, 2), "width": round(width, 2)}

    bars = [bar(name, begin, end) for name, begin, end in zip(parts, ends[:-1], ends[1:], strict=True)]
    zero = round(-100 * low / room, 2)
    return [*bars, bar(f"ahead of {explanation.runner_up} by", 0.0, explanation.margin) | {"zero": zero}]
