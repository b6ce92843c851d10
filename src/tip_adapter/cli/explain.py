"""The command explain: why a photo was classified as it was, as text, JSON, a table or a picture."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tip_adapter.cli import options
from tip_adapter.cli.output import echo, echo_json, echo_next, echo_skipped, left_out
from tip_adapter.cli.photos import find_photos
from tip_adapter.cli.streams import answer_lines, is_stream, with_names_read
from tip_adapter.cli.tables import echo_table, number, spare, text, whole
from tip_adapter.trust.figures import percent

if TYPE_CHECKING:
    from tip_adapter.classifier import ImageClassifier
    from tip_adapter.explain.explanation import Explanation

BAR = 12
"""Characters of the longest bar."""


def explain(
    model: options.Model,
    photos: options.Photos,
    null: options.Null = False,
    top_shots: Annotated[int, typer.Option("--top-shots", min=0, help="Shots to show per photo.")] = 5,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", help="Draw the explanation: a .png, .svg or .pdf file; a folder for several photos."),
    ] = None,
    output: options.Table = None,
    encoder: options.Where = None,
    skip_bad: options.SkipBad = False,
    as_json: options.Json = False,
) -> None:
    """Explain predictions: what the class texts and each shot contribute, and the prediction without that shot."""
    from tip_adapter.classifier import ImageClassifier
    from tip_adapter.progress import progress_bar
    from tip_adapter.report.explanation_picture import save_explanation
    from tip_adapter.storage.tables import check_table_path, write_table

    if output is not None:
        check_table_path(output)
    if is_stream(photos) and as_json and output is None and plot is None:
        answer = functools.partial(_json_rows, ImageClassifier.load(model, encoder=encoder), top_shots)
        answer_lines(photos, answer, null=null, skip_bad=skip_bad)
        return
    paths, findings = find_photos(with_names_read(photos, null=null), skip_bad=skip_bad, as_json=as_json)
    plots = dict(zip(map(str, paths), _plot_paths(plot, paths), strict=False))
    classifier = ImageClassifier.load(model, encoder=encoder)
    with progress_bar("Encoding photos") as progress:
        found = classifier.explain(list(paths), shots=top_shots, skip_bad=skip_bad, progress=progress)
    skipped = (*findings.skipped, *found.skipped)
    echo_skipped(skipped)
    for explanation in found:
        if explanation.path in plots:
            save_explanation(plots[explanation.path], explanation, explanation.path)
    drawn = [str(plots[explanation.path]) for explanation in found if explanation.path in plots]
    if output is not None:
        write_table(output, [explanation.flat() for explanation in found])
    if as_json:
        facts = [explanation.to_dict(all_shots=True) for explanation in found]
        echo_json({"explanations": facts, "plots": drawn} | left_out(skipped, findings))
        return
    if output is not None:
        echo(f"{len(found)} explanations saved: {output}")
    else:
        _show_all(found)
    for line in drawn:
        echo(f"plot: {line}")
    shots = [shot.id for explanation in found for shot in explanation.deciding]
    if shots:
        echo_next("remove", model, shots[0], so_that="take out a shot that misleads")


def _json_rows(
    classifier: ImageClassifier, top_shots: int, paths: list[Path]
) -> tuple[list[dict[str, Any]], Sequence[tuple[str, str]]]:
    found = classifier.explain(paths, shots=top_shots, skip_bad=True)
    return [explanation.to_dict(all_shots=True) for explanation in found], found.skipped


def _show_all(found: Sequence[Explanation]) -> None:
    for explanation in found:
        _show(explanation)
    for note in dict.fromkeys(note for explanation in found for note in explanation.notes):
        echo(note)


def _plot_paths(plot: Path | None, photos: Sequence[str | Path]) -> list[Path]:
    """Where the plot of each photo goes: the file that was named, or numbered files in the folder that was."""
    from tip_adapter.errors import InputError
    from tip_adapter.report.pictures import check_plot_path

    if plot is None:
        return []
    if plot.suffix and not plot.is_dir():
        check_plot_path(plot)
        if len(photos) > 1:
            raise InputError(f"Expected one photo for the plot {plot}, got {len(photos)}: name a folder instead")
        return [plot]
    if plot.exists() and not plot.is_dir():
        raise InputError(f"Expected a folder for the plots, or a .png, .svg or .pdf file, got the file {plot}")
    digits = len(str(len(photos)))
    paths = [plot / f"{number:0{digits}d} {Path(photo).stem}.png" for number, photo in enumerate(photos, start=1)]
    check_plot_path(paths[0])
    return paths


def _show(explanation: Explanation) -> None:
    echo(explanation.path)
    alone = "" if explanation.text_answer is None else f"; the texts alone say {explanation.text_answer}"
    echo(
        f"{explanation.answer} {percent(explanation.probability)}, "
        f"{explanation.runner_up} {percent(explanation.runner_up_probability)}{alone}"
    )
    echo(f"logit of {explanation.answer}: {_sum(explanation, 'logit')}")
    echo(f"margin over {explanation.runner_up}: {_sum(explanation, 'margin')}")
    if explanation.deciding:
        exact = explanation.shot_margins is not None
        columns = [whole("deciding shot" if exact else "nearest shot"), text("class")]
        columns += [number("margin")] if exact else []
        columns += [text("without it")] if explanation.deciding[0].answer_without is not None else []
        columns += [number("cosine"), text("photo")]
        columns += [spare("")] if exact else []
        echo_table(columns, _rows(explanation))
    echo()


def _sum(explanation: Explanation, whole: Literal["logit", "margin"]) -> str:
    """The logit or the margin as a sum, with shares where all parts pull the same way."""
    terms = [("texts", explanation.text)] if explanation.text_answer is not None else []
    if explanation.rest is None or explanation.shot_margins is not None:
        terms.append(("shots", explanation.shots))
    if explanation.rest is not None:
        terms.append(("learned from all shots", explanation.rest))
    values, total = [getattr(term, whole) for _, term in terms], getattr(explanation, whole)
    shares = total > 0 and min(values) >= 0 and len(values) > 1
    parts = [
        f"{name} {value:+.2f}" + (f" ({percent(value / total)})" if shares else "")
        for (name, _), value in zip(terms, values, strict=True)
    ]
    return f"{', '.join(parts)} = {total:+.2f}"


def _rows(explanation: Explanation) -> list[list[str]]:
    rows = []
    largest = max((abs(shot.term.margin) for shot in explanation.deciding if shot.term), default=1.0)
    for shot in explanation.deciding:
        row = [shot.id, shot.class_name]
        if shot.term is not None:
            row.append(f"{shot.term.margin:+.2f}")
        if shot.answer_without is not None and shot.probability_without is not None:
            kept = shot.answer_without == explanation.answer
            row.append(f"still {percent(shot.probability_without)}" if kept else f"→ {shot.answer_without}")
        row += [f"{shot.cosine:.2f}", Path(shot.name).name]
        if shot.term is not None:
            length = max(1, round(BAR * abs(shot.term.margin) / largest))
            row.append(("█" if shot.term.margin >= 0 else "░") * length)
        rows.append(row)
    return rows
