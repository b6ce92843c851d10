"""Commands that say how far a classifier can be trusted: calibrate, doctor."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tip_adapter.cli import options
from tip_adapter.cli.output import echo, echo_json, echo_next, echo_skipped, left_out
from tip_adapter.cli.photos import read_photos
from tip_adapter.cli.tables import Column, echo_table, number, text
from tip_adapter.storage.locking import WAIT_S
from tip_adapter.trust.figures import percent

if TYPE_CHECKING:
    from tip_adapter.classifier import ImageClassifier
    from tip_adapter.data import ImageDataset
    from tip_adapter.trust.doctor import BadImage, Diagnosis
    from tip_adapter.trust.enough import Enough

SHOWN = 12
"""Rows of a table of findings on the terminal; JSON and the page have them all."""


def calibrate(
    model: options.Edited,
    data: Annotated[
        Path, typer.Argument(help="Labelled photos that are not among the shots: class folders, or a manifest.")
    ],
    encoder: options.Where = None,
    split: options.Split = None,
    skip_bad: options.SkipBad = False,
    wait: options.Wait = WAIT_S,
    as_json: options.Json = False,
) -> None:
    """Calibrate a saved classifier on photos that are not among its shots, so that its probabilities can be trusted."""
    from tip_adapter.classifier import ImageClassifier
    from tip_adapter.progress import progress_bar

    dataset = read_photos(data, split=split, prefer=("validation",), min_classes=1, skip_bad=skip_bad, as_json=as_json)
    with (
        ImageClassifier.editing(model, encoder=encoder, wait_s=wait) as classifier,
        progress_bar("Encoding photos") as progress,
    ):
        done = classifier.calibrate(dataset, skip_bad=skip_bad, progress=progress)
    echo_skipped(done.skipped)
    calibration = done.calibration
    if as_json:
        facts = {"temperature": calibration.temperature, "photos": calibration.n, "ece": list(calibration.ece)}
        echo_json(facts | left_out(done.skipped, dataset.findings))
    else:
        echo(calibration.summary)
        echo(f"saved: {model}")
        echo_next("predict", model, "PHOTOS", "--coverage", 0.9, so_that="get sets that contain the true class")


SourceArgument = Annotated[
    str, typer.Argument(help="A saved classifier, or labelled photos: class folders or a manifest.")
]
CompareWithOption = Annotated[
    Path | None,
    typer.Option(
        "--compare-with",
        help="Labelled photos that must not be among the shots, such as test photos. Default: the split test.",
    ),
]


def doctor(
    source: SourceArgument,
    compare_with: CompareWithOption = None,
    encoder: options.Encoder = None,
    shots: options.Shots = None,
    seed: options.Seed = 0,
    class_texts: options.ClassTexts = None,
    split: options.Split = None,
    html: options.Html = None,
    as_json: options.Json = False,
) -> None:
    """Examine shots: doubtful labels, duplicates, bad files, and whether there are enough photos of each class."""
    from tip_adapter.classifier import ImageClassifier
    from tip_adapter.data import Findings
    from tip_adapter.errors import DuplicateWarning
    from tip_adapter.progress import progress_bar
    from tip_adapter.storage.bundle_files import is_bundle
    from tip_adapter.trust.doctor import BadImage, find_small_images

    if html is not None:
        check_page_path(html)
    bad: list[BadImage] = []
    apart, findings = None, Findings()
    if source.startswith("hub:") or is_bundle(Path(source)):
        classifier = ImageClassifier.load(source, encoder=encoder)
    else:
        dataset = read_photos(source, split=split, prefer=("train",), skip_bad=True, as_json=as_json)
        findings = dataset.findings
        classifier = ImageClassifier(encoder, "auto", class_texts=options.read_class_texts(class_texts))
        with progress_bar("Encoding shots") as progress, warnings.catch_warnings():
            warnings.simplefilter("ignore", DuplicateWarning)  # the diagnosis lists them all
            classifier.fit(dataset, shots=shots, random_state=seed, skip_bad=True, progress=progress)
        bad = [BadImage(name, reason) for name, reason in classifier.skipped_]
        bad += [BadImage(name, "a format that is not read: convert it") for name in findings.unread_photos]
        bad += find_small_images(dataset.paths, {image.name for image in bad})
        if compare_with is None:
            apart = _test_photos(source)
    if compare_with is not None:
        apart = read_photos(
            compare_with,
            prefer=("test", "validation"),
            min_classes=1,
            skip_bad=True,
            as_json=as_json,
            can_choose=False,
        )
    with progress_bar("Examining shots" if apart is None else "Encoding photos to compare with") as progress:
        diagnosis = classifier.doctor(apart, bad_images=bad, skip_bad=True, progress=progress)
    if html is not None:
        _save_page(html, diagnosis, classifier, f"Doctor: {source}")
    if as_json:
        echo_json(diagnosis.to_dict() | {"data": findings.to_dict()})
        return
    _show_diagnosis(diagnosis)
    if html is not None:
        echo(f"page: {html}")
    _show_next(source, diagnosis)


def _show_next(source: str, diagnosis: Diagnosis) -> None:
    from tip_adapter.storage.bundle_files import is_bundle

    if not is_bundle(Path(source)):
        echo_next("fit", source, so_that="learn a classifier")
    elif diagnosis.labels:
        shot = diagnosis.labels[0]
        echo_next("relabel", source, shot.name, "--class", shot.suggested, so_that="correct a label, if it is wrong")
    elif diagnosis.enough is not None:
        echo_next(
            "add", source, "PHOTOS", "--class", diagnosis.enough.neediest[0].name, so_that="help the neediest class"
        )


def _test_photos(source: str) -> ImageDataset | None:
    """Read the split test of labelled photos, if they have one."""
    from tip_adapter.data import load_splits

    return load_splits(source, skip_bad=True).get("test")


def _save_page(page: Path, diagnosis: Diagnosis, classifier: ImageClassifier, title: str) -> None:
    from tip_adapter.report import render_doctor
    from tip_adapter.report.collect import pictures_of
    from tip_adapter.storage.atomic import write_file

    write_file(page, render_doctor(diagnosis, title, pictures_of(classifier.model_, diagnosis)).encode())


def _show_diagnosis(diagnosis: Diagnosis) -> None:
    compared = f", compared with {diagnosis.n_other} other photos" if diagnosis.n_other else ""
    echo(f"{diagnosis.n_shots} shots of {diagnosis.n_classes} classes{compared}")
    echo(f"labels checked by {diagnosis.evidence}")
    if diagnosis.healthy:
        echo("nothing found")
    labels = [
        (shot.name, shot.given, f"{shot.suggested} ({percent(shot.suggested_probability)})")
        for shot in diagnosis.labels
    ]
    _show(f"doubtful labels: {len(labels)}", [text("shot"), text("labelled"), text("looks like")], labels)
    pairs = [
        (pair.first, pair.second, pair.where, "same file" if pair.same_file else f"cosine {pair.cosine:.3f}")
        for pair in diagnosis.duplicates
    ]
    _show(f"duplicates: {len(pairs)}", [text("photo"), text("and"), text("where"), text("how")], pairs)
    _show(
        f"files: {len(diagnosis.images)}",
        [text("file"), text("what is wrong")],
        [(image.name, image.reason) for image in diagnosis.images],
    )
    if diagnosis.enough is None:
        echo(
            "photos of each class: not measured, because the method would have to be tuned again for every part of them"
        )
    else:
        _show_enough(diagnosis.enough)


def _show_enough(found: Enough) -> None:
    rows = [
        (
            one.name,
            one.photos
            if one.groups == one.photos
            else f"{one.photos} in {one.groups} group{'' if one.groups == 1 else 's'}",
            _with_interval(one.accuracy, one.interval),
            "" if one.gain is None else f"+{100 * one.gain:.1f} pts",
            one.verdict,
            one.taken_for or "",
        )
        for one in found.neediest
    ]
    columns = [text("class"), number("photos"), number("recognised"), number("one more"), text("enough?")]
    _show("are there enough photos? the neediest class first", [*columns, replace(text("taken for"), spare=True)], rows)
    groups = f", {found.groups} group{'' if found.groups == 1 else 's'}" if found.groups < found.photos else ""
    gain = "" if found.gain is None else f"; one more of each +{100 * found.gain:.1f} points: {found.verdict}"
    recognised = f"recognised {_with_interval(found.accuracy, found.interval)}" if found.asked else "too few to say"
    echo(f"in all {found.photos} photos{groups}: {recognised}{gain}")


def _with_interval(share: float | None, interval: tuple[float, float] | None) -> str:
    return (
        "–"
        if share is None or interval is None
        else f"{100 * share:.0f} % ({100 * interval[0]:.0f} to {100 * interval[1]:.0f})"
    )


def _show(title: str, columns: list[Column], rows: list[tuple[Any, ...]]) -> None:
    if not rows:
        return
    echo()
    echo(title)
    echo_table(columns, [list(map(str, row)) for row in rows[:SHOWN]])
    if len(rows) > SHOWN:
        echo(f"and {len(rows) - SHOWN} more: see --json or --html")


def check_page_path(path: Path) -> None:
    """Raise unless a page can be saved there: before the work, not after it."""
    from tip_adapter.errors import InputError

    if path.suffix.lower() not in {".html", ".htm"}:
        raise InputError(f"Expected a page that ends in .html, got {path}: rename it")
    there = next(parent for parent in path.absolute().parents if parent.exists())
    if path.is_dir() or not there.is_dir():
        raise InputError(f"Expected a page in a folder, which is made if need be, got {path}: choose another place")
