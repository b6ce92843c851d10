"""Commands that make a classifier and use it: fit, evaluate."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tip_adapter.cli import completion, options
from tip_adapter.cli.output import echo, echo_json, echo_next, echo_skipped, left_out, warn_of_stale
from tip_adapter.cli.photos import read_photos
from tip_adapter.cli.tables import echo_table, number, text
from tip_adapter.errors import InputError
from tip_adapter.trust.figures import percent

if TYPE_CHECKING:
    from tip_adapter.classifier import ImageClassifier
    from tip_adapter.data import Findings, ImageDataset
    from tip_adapter.model.few_shot_model import FewShotModel
    from tip_adapter.trust.evaluation import Evaluation


FitDataArgument = Annotated[
    Path,
    typer.Argument(
        help="Labelled photos: a folder of class folders, an archive (.zip, .tar), a table (.csv, .jsonl …); or "
        "features that embed saved (.npz, or Parquet)."
    ),
]
OutputOption = Annotated[Path, typer.Option("--output", "-o", help="Folder to save the classifier in.")]
MethodOption = Annotated[
    str | None,
    typer.Option(
        "--method",
        "-m",
        autocompletion=completion.methods,
        help="auto, tip-adapter, tip-adapter:beta=5.5 …; `tip-adapter info` lists all.",
    ),
]
GroupByOption = Annotated[
    str | None,
    typer.Option(
        "--group-by",
        help="How to group photos of one moment, which are held out together in cross-validation: "
        "folder, exif-time, or duplicates (near-copies). Default: the column group of a table, else duplicates.",
    ),
]
NoTextOption = Annotated[bool, typer.Option("--no-text", help="Use no class texts, only the shots.")]
MaxFlippedOption = Annotated[
    float,
    typer.Option("--max-flipped", min=0, max=1, help="Share of the predictions on the shots that int8 may change."),
]


def fit(
    data: FitDataArgument,
    output: OutputOption = Path("classifier.tip"),
    method: MethodOption = None,
    encoder: options.Encoder = None,
    precision: options.Precision = "fp32",
    max_flipped: MaxFlippedOption = 0.05,
    shots: options.Shots = None,
    seed: options.Seed = 0,
    class_texts: options.ClassTexts = None,
    template: options.Template = None,
    views: options.Views = 1,
    group_by: GroupByOption = None,
    no_text: NoTextOption = False,
    split: options.Split = None,
    skip_bad: options.SkipBad = False,
    allow_truncated: options.Truncated = False,
    as_json: options.Json = False,
) -> None:
    """Learn a classifier from a few labelled photos per class, and save it."""
    from tip_adapter.classifier import DEFAULT_METHOD, ImageClassifier
    from tip_adapter.model.description import described
    from tip_adapter.progress import progress_bar
    from tip_adapter.storage.bundle_files import check_replaceable

    start = time.perf_counter()
    check_replaceable(output)
    if no_text and class_texts is not None:
        raise InputError("Expected --class-texts or --no-text, got both: leave one out")
    source, findings = _source(data, split=split, prefer=("train",), skip_bad=skip_bad, as_json=as_json)
    classifier = ImageClassifier(
        encoder,
        method or DEFAULT_METHOD,
        templates=options.templates(template),
        class_texts="none" if no_text else options.read_class_texts(class_texts),
        views=views,
        precision=precision,
        max_flipped=max_flipped,
        allow_truncated=allow_truncated,
    )
    with progress_bar("Encoding photos") as progress:
        classifier.fit(source, shots=shots, groups=group_by, random_state=seed, skip_bad=skip_bad, progress=progress)
    classifier.save(output)
    seconds = time.perf_counter() - start
    echo_skipped(classifier.skipped_)
    model, report = classifier.model_, classifier.precision_report_
    hint = None if no_text else _hint_of_texts(classifier, given=class_texts is not None)
    if as_json:
        facts = described(model) | {"output": str(output), "seconds": seconds, "hint": hint}
        facts |= {"int8": report.to_dict()} if report else {}
        echo_json(facts | left_out(classifier.skipped_, findings))
        return
    _echo_learned(model, seconds)
    if report:
        echo(str(report))
    echo(f"saved: {output}")
    if hint:
        echo(f"hint: {hint}", err=True)
    if (data / "test").is_dir():
        echo_next("evaluate", output, data / "test", so_that="measure it")
    else:
        echo_next("predict", output, "PHOTOS", so_that="classify photos")


def _echo_learned(model: FewShotModel, seconds: float) -> None:
    """Say what was learned from how many photos, and which classes have but one group."""
    echo(f"{model.counted}, {model.method.name}, {seconds:.1f} s")
    if "summary" in model.method.chosen:
        echo(model.method.chosen["summary"])
    if alone := [model.class_names[column] for column in model.shots.of_one_group]:
        named = ", ".join(alone[:5]) + (f" and {len(alone) - 5} others" if len(alone) > 5 else "")
        echo(f"only one group of {named}: none of it can be held out, as with one shot")


def _source(
    data: Path,
    *,
    split: str | None,
    prefer: Sequence[str],
    min_classes: int = 2,
    skip_bad: bool,
    as_json: bool,
) -> tuple[Path | ImageDataset, Findings]:
    """Photos with classes, or a file of features, which holds its own splits."""
    from tip_adapter.data import Findings
    from tip_adapter.features.feature_files import is_feature_file

    if is_feature_file(data):
        if split is not None:
            raise InputError(f"Expected no --split with the features in {data}, got {split}: they have their own")
        return data, Findings()
    dataset = read_photos(data, split=split, prefer=prefer, min_classes=min_classes, skip_bad=skip_bad, as_json=as_json)
    return dataset, dataset.findings


def _hint_of_texts(classifier: ImageClassifier, *, given: bool) -> str | None:
    """Say which texts seem to be of little use, where the method goes by texts."""
    from tip_adapter.methods import METHODS
    from tip_adapter.trust.class_texts import doubt_texts

    model = classifier.model_
    method = METHODS.get(model.method.name)
    if method is None or not method.uses_text:
        return None
    features, labels = model.shots.features.unit, model.shots.labels
    doubts = doubt_texts(model.class_names, model.class_texts, model.zero_shot_weights, features, labels)
    return f"{doubts}: --class-texts FILE.json gives {'others' if given else 'better ones'}" if doubts else None


def evaluate(
    model: options.Model,
    data: FitDataArgument,
    encoder: options.Where = None,
    split: options.Split = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw the confusion matrix: a .png, .svg or .pdf file.")
    ] = None,
    html: options.Html = None,
    skip_bad: options.SkipBad = False,
    allow_truncated: options.Truncated = False,
    as_json: options.Json = False,
) -> None:
    """Measure a classifier on labelled photos, and compare it with the class texts alone and the shots alone."""
    from tip_adapter.classifier import ImageClassifier
    from tip_adapter.cli.trust import check_page_path
    from tip_adapter.progress import progress_bar
    from tip_adapter.report.pictures import check_plot_path, save_confusion_matrix

    if plot is not None:
        check_plot_path(plot)
    if html is not None:
        check_page_path(html)
    classifier = ImageClassifier.load(model, encoder=encoder, allow_truncated=allow_truncated)
    dataset, findings = _source(
        data, split=split, prefer=("test", "validation"), min_classes=1, skip_bad=skip_bad, as_json=as_json
    )
    if html is not None and isinstance(dataset, Path):
        raise InputError(f"Expected photos for the page {html}, got the features in {data}: name the photos themselves")
    with progress_bar("Encoding photos") as progress:
        if html is None:
            evaluation = classifier.evaluate(dataset, skip_bad=skip_bad, progress=progress)
        else:
            title = f"How good is {Path(model).name}?"
            evaluation = classifier.report(html, dataset, title=title, skip_bad=skip_bad, progress=progress)
    echo_skipped(evaluation.skipped)
    if evaluation.n_shots_among:
        among = f"{evaluation.n_shots_among} of the {evaluation.n} photos are shots of this classifier"
        echo(f"warning: {among}, so the figures are too good: measure on other photos", err=True)
    if plot is not None:
        save_confusion_matrix(plot, evaluation.confusion, evaluation.class_names)
    if as_json:
        facts = evaluation.to_dict() | {"stale": list(classifier.model_.stale)}
        echo_json(facts | left_out(evaluation.skipped, findings))
    else:
        warn_of_stale(classifier)
        _show_evaluation(evaluation, classifier)
        if plot is not None:
            echo(f"confusion matrix: {plot}")
        if html is not None:
            echo(f"page: {html}")
            echo_next("doctor", model, so_that="find doubtful labels and duplicates")
        else:
            echo_next("evaluate", model, data, "--html", "report.html", so_that="look at the mistakes")


def _show_evaluation(evaluation: Evaluation, classifier: ImageClassifier) -> None:
    low, high = evaluation.accuracy_interval
    name = classifier.model_.method.name
    echo(f"{evaluation.n} photos")
    echo(f"{name}: {percent(evaluation.accuracy)} (95 % interval {percent(low)} to {percent(high)})")
    for label, value in (("zero-shot", evaluation.zero_shot_accuracy), ("shots alone", evaluation.cache_accuracy)):
        if value is not None and label != name:
            echo(f"{label}: {percent(value)}")
    figures = [f"top {k}: {percent(value)}" for k, value in evaluation.top_k_accuracy.items() if k > 1]
    echo("; ".join([*figures, f"NLL {evaluation.nll:.3f}", f"ECE {evaluation.ece:.3f}"]))
    for note in evaluation.notes:
        echo(f"note: {note}")
    rows = []
    for index, row in enumerate(evaluation.to_dict()["per_class"]):
        mistakes = evaluation.confusion[index].copy()
        mistakes[index] = 0
        worst = f"{evaluation.class_names[mistakes.argmax()]} ({mistakes.max()})" if mistakes.any() else ""
        rows.append([row["class"], str(row["n"]), percent(row["recall"]), percent(row["precision"]), worst])
    columns = [text("class"), number("photos"), number("recall"), number("precision"), text("most often taken for")]
    echo_table(columns, rows)
