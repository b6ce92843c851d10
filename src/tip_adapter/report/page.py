"""Render a report as one HTML page with style, script, charts and photos inside."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import numpy as np

from tip_adapter.report.charts import (
    SHOWN_FROM,
    Plot,
    confusion_cells,
    coverage_points,
    landscape_cells,
    reliability_points,
    waterfall_bars,
)
from tip_adapter.report.content import ComparedMethod, ExplainedPhoto, ReportContent
from tip_adapter.storage.escaping import for_html, for_terminal, shortened
from tip_adapter.trust.doctor import Diagnosis
from tip_adapter.trust.figures import percent
from tip_adapter.trust.metrics import wilson_interval

MAX_PICTURE_BYTES = 6_000_000
"""Pictures of one page, as text. With more photos some of the right ones are left out, and the page says so."""

MAX_PAIRS = 60
"""Pairs of classes that are listed as confused."""

MAX_LABEL = 17
"""Letters of the names beside the confusion matrix; the whole name is in a tooltip and in the tables."""

LETTER_WIDTH = 7.5
"""Of most letters at 12 pixels; names beside the confusion matrix get so much room."""

MAX_ROWS = 100
"""Rows of a table of findings."""


def render_report(content: ReportContent) -> str:
    """Make the page of an evaluation."""
    evaluation = content.evaluation
    best = content.probabilities.argmax(axis=1)
    pictures = _within_budget(content, best)
    page: str = _template("report.html").render(
        title=content.title,
        facts=content.facts,
        evaluation=evaluation,
        bars=_bars(content),
        explained=_explained(content.explained),
        plot=Plot(),
        coverage_plot=Plot(SHOWN_FROM),
        reliability=reliability_points(content.probabilities, content.labels),
        reliability_raw=_raw(content),
        calibration=content.calibration,
        coverage=_coverage(content),
        landscape=None
        if content.landscape is None or content.chosen is None
        else landscape_cells(content.landscape, content.chosen),
        chosen=content.chosen,
        classes=_classes(content),
        confusion=confusion_cells(evaluation.confusion),
        pairs=_pairs(evaluation.confusion),
        n_classes=len(evaluation.class_names),
        max_label=MAX_LABEL,
        label_width=_label_width(evaluation.class_names),
        mistakes=_mistakes(content, best),
        diagnosis=content.diagnosis,
        shots={name: _data_url(data) for name, data in content.shot_thumbnails.items()},
        max_rows=MAX_ROWS,
        # "<" would end the script element early; JSON knows it by its number, too.
        data=json.dumps(_photo_data(content, best, pictures), ensure_ascii=False).replace("<", "\\u003c"),
        n_pictures=len(pictures),
    )
    return page


def render_doctor(diagnosis: Diagnosis, title: str, thumbnails: Mapping[str, bytes] | None = None) -> str:
    """Make the page of a diagnosis."""
    budget, shots = MAX_PICTURE_BYTES, {}
    for name, data in (thumbnails or {}).items():
        budget -= len(data) * 4 // 3
        if budget > 0:
            shots[name] = _data_url(data)
    page: str = _template("doctor.html").render(title=title, diagnosis=diagnosis, shots=shots, max_rows=MAX_ROWS)
    return page


def _template(name: str) -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("tip_adapter.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else Markup(for_html(str(value))),  # noqa: S704
        trim_blocks=True,
        lstrip_blocks=True,
    )
    folder = files("tip_adapter.report") / "templates"
    for part in ("palette.css", "style.css", "report.js"):
        # The project's own files, not a user's words.
        environment.globals[part.replace(".", "_")] = Markup((folder / part).read_text(encoding="utf-8"))  # noqa: S704
    environment.filters["percent"] = lambda value: percent(value).replace(" ", "\u00a0")
    environment.filters["raw"] = Markup
    environment.filters |= {"tick": _tick, "shortened": shortened}
    return environment.get_template(name)


def _label_width(names: Sequence[str]) -> float:
    return 16 + LETTER_WIDTH * min(MAX_LABEL, max(map(len, names)))


def _tick(value: float) -> str:
    """Write a number on an axis, without an exponent where it is large."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _data_url(data: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()


def _bars(content: ReportContent) -> list[ComparedMethod]:
    if content.compared:
        return list(content.compared)
    evaluation = content.evaluation
    accuracies = {
        ("zero-shot", "the texts alone"): evaluation.zero_shot_accuracy,
        ("shots alone", "without the texts"): evaluation.cache_accuracy,
        ("combined", "this classifier"): evaluation.accuracy,
    }
    return [
        ComparedMethod(name, note, value, wilson_interval(round(value * evaluation.n), evaluation.n))
        for (name, note), value in accuracies.items()
        if value is not None
    ]


def _explained(explained: ExplainedPhoto | None) -> dict[str, Any] | None:
    if explained is None:
        return None
    why = explained.explanation
    return {
        "why": why,
        "picture": _data_url(explained.picture),
        "bars": waterfall_bars(why),
        "shots": [(shot, None if shot.thumbnail is None else _data_url(shot.thumbnail)) for shot in why.deciding],
    }


def _raw(content: ReportContent) -> list[dict[str, float]]:
    if content.raw_probabilities is None or content.calibration is None or content.calibration.temperature == 1.0:
        return []
    return reliability_points(content.raw_probabilities, content.labels)


def _coverage(content: ReportContent) -> list[dict[str, Any]]:
    if content.calibration is None or not len(content.calibration.scores):
        return []
    return coverage_points(content.calibration.scores, content.probabilities, content.labels)


def _classes(content: ReportContent) -> list[dict[str, Any]]:
    """Classes with photos, the worst first."""
    evaluation, rows = content.evaluation, []
    for index, name in enumerate(evaluation.class_names):
        counts = evaluation.confusion[index]
        if not counts.sum():
            continue
        wrong = counts.copy()
        wrong[index] = 0
        rows.append(
            {
                "name": name,
                "n": int(counts.sum()),
                "recall": float(counts[index] / counts.sum()),
                "confused": evaluation.class_names[int(wrong.argmax())] if wrong.any() else None,
                "confused_count": int(wrong.max()),
            }
        )
    return sorted(rows, key=lambda row: (row["recall"], -row["n"]))


def _pairs(confusion: np.ndarray[Any, Any]) -> list[dict[str, int]]:
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:MAX_PAIRS]
    rows, columns = np.unravel_index(order, wrong.shape)
    return [
        {"row": int(row), "column": int(column), "count": int(wrong[row, column])}
        for row, column in zip(rows, columns, strict=True)
        if wrong[row, column]
    ]


def _within_budget(content: ReportContent, best: np.ndarray[Any, Any]) -> dict[int, str]:
    """Pictures by row: mistakes first, then right answers evenly, until the page is full."""
    right = best == content.labels
    spread = np.random.default_rng(0).permutation(len(right))
    budget, pictures = MAX_PICTURE_BYTES, {}
    for row in sorted(content.thumbnails, key=lambda row: (bool(right[row]), int(spread[row]))):
        url = _data_url(content.thumbnails[row])
        if len(url) > budget:
            break
        budget -= len(url)
        pictures[row] = url
    return pictures


def _photo_data(content: ReportContent, best: np.ndarray[Any, Any], pictures: Mapping[int, str]) -> dict[str, Any]:
    names = content.evaluation.class_names
    photos = [
        {
            "t": int(content.labels[row]),
            "p": int(best[row]),
            "c": percent(float(content.probabilities[row, best[row]])),
            "n": for_terminal(str(content.names[row])),
            "i": pictures.get(row, ""),
        }
        for row in range(len(best))
    ]
    return {"classes": [for_terminal(name) for name in names], "photos": photos}


def _mistakes(content: ReportContent, best: np.ndarray[Any, Any]) -> list[dict[str, Any]]:
    names, rows = content.evaluation.class_names, []
    for mistake in content.mistakes:
        row = mistake.row
        thumbnail = content.thumbnails.get(row)
        rows.append(
            {
                "name": content.names[row],
                "picture": None if thumbnail is None else _data_url(thumbnail),
                "said": names[int(best[row])],
                "true": names[int(content.labels[row])],
                "confidence": float(content.probabilities[row, best[row]]),
                "true_probability": float(content.probabilities[row, content.labels[row]]),
                "shots": [
                    {
                        "name": shot.name,
                        "class_name": shot.class_name,
                        "caption": shot.caption,
                        "picture": None if shot.thumbnail is None else _data_url(shot.thumbnail),
                    }
                    for shot in mistake.shots
                ],
            }
        )
    return rows
