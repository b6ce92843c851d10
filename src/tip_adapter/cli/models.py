"""Commands that make a classifier and use it: fit, predict, evaluate, info."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tip_adapter.cli.explaining import explain_photos, picture_paths
from tip_adapter.cli.options import (
    ClassNamesOption,
    EncoderOption,
    JsonOption,
    PrecisionOption,
    SeedOption,
    ShotsOption,
    SkipBadOption,
    TemplateOption,
    ViewsOption,
    class_texts,
    echo_json,
    echo_skipped,
    echo_table,
    percent,
    skipped_rows,
    templates,
    warn_of_stale,
)

if TYPE_CHECKING:
    from tip_adapter.classifier import ImageClassifier
    from tip_adapter.evaluation import Evaluation

__all__ = ["evaluate", "fit", "info", "predict", "training_split"]

CoverageOption = Annotated[
    float | None,
    typer.Option("--coverage", help="Name sets of classes that hold the true one this often, such as 0.9."),
]
SetsOption = Annotated[
    str, typer.Option("--sets", help="lac: smallest sets on average. aps: larger ones for hard photos.")
]
EmptyOption = Annotated[bool, typer.Option("--allow-empty", help="Let the set of a photo like no class be empty.")]
NoneOption = Annotated[
    float | None,
    typer.Option(
        "--none-of-these",
        help="Name no class for photos that show none; this share of the others, such as 0.05, may be turned away.",
    ),
]
ModelArgument = Annotated[
    str, typer.Argument(help="A saved classifier: a folder such as clothes.tip, or hub:owner/name.")
]
WhereOption = Annotated[
    str | None,
    typer.Option(
        "--encoder", "-e", help="Where the classifier's encoder is now. Default: the name it was fitted with."
    ),
]
SplitOption = Annotated[
    str | None, typer.Option("--split", help="train, validation or test, where the data has splits.")
]


def fit(
    data: Annotated[Path, typer.Argument(help="Folder of class folders, or a manifest (.csv, .jsonl, .parquet).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to save the classifier in.")] = Path(
        "classifier.tip"
    ),
    method: Annotated[
        str | None, typer.Option("--method", "-m", help="Name of a method; see `tip-adapter info`. Default: auto.")
    ] = None,
    encoder: EncoderOption = None,
    precision: PrecisionOption = "fp32",
    max_flipped: Annotated[
        float, typer.Option("--max-flipped", min=0, max=1, help="Share of predictions on the shots int8 may change.")
    ] = 0.05,
    shots: ShotsOption = None,
    seed: SeedOption = 0,
    class_names: ClassNamesOption = None,
    template: TemplateOption = None,
    views: ViewsOption = 1,
    split: SplitOption = None,
    skip_bad: SkipBadOption = False,
    as_json: JsonOption = False,
) -> None:
    """Learn a classifier from a few labelled photos per class, and save it."""
    from tip_adapter.classifier import DEFAULT_METHOD, ImageClassifier
    from tip_adapter.datasets import load_dataset
    from tip_adapter.persistence import check_replaceable
    from tip_adapter.progress import progress_bar

    start = time.perf_counter()
    check_replaceable(output)
    dataset = load_dataset(data, split=training_split(data, split))
    classifier = ImageClassifier(
        encoder,
        method or DEFAULT_METHOD,
        templates=templates(template),
        class_texts=class_texts(class_names),
        views=views,
        precision=precision,
        max_flipped=max_flipped,
    )
    with progress_bar("Learning", unit="items") as progress:
        classifier.fit(dataset, shots=shots, random_state=seed, skip_bad=skip_bad, progress=progress)
    classifier.save(output)
    seconds = time.perf_counter() - start
    echo_skipped(classifier.skipped_)
    model, report = classifier.model_, classifier.precision_report_
    hint = _hint_of_texts(classifier, given=class_names is not None)
    if as_json:
        facts = {"output": str(output), "seconds": seconds, "skipped": skipped_rows(classifier.skipped_)}
        echo_json(_described(classifier) | facts | {"hint": hint} | ({"int8": report.to_dict()} if report else {}))
        return
    typer.echo(f"{len(model.shots)} shots of {len(model.class_names)} classes, {model.method.name}, {seconds:.1f} s")
    if "summary" in model.method.chosen:
        typer.echo(model.method.chosen["summary"])
    if report:
        typer.echo(str(report))
    typer.echo(f"saved: {output}")
    if hint:
        typer.echo(f"hint: {hint}", err=True)


def _hint_of_texts(classifier: ImageClassifier, *, given: bool) -> str | None:
    """Say which texts seem to be of little use, where the method goes by texts."""
    from tip_adapter.class_words import doubt_texts
    from tip_adapter.methods import METHODS

    model = classifier.model_
    method = METHODS.get(model.method.name)
    if method is None or not method.uses_text:
        return None
    features, labels = model.shots.features.unit, model.shots.labels
    doubts = doubt_texts(model.class_names, model.class_texts, model.zero_shot_weights, features, labels)
    return f"{doubts}: --class-names FILE.json gives {'other ' if given else ''}words" if doubts else None


def training_split(data: Path, split: str | None) -> str | None:
    """Fit on the split "train" of a folder that has one, unless another is asked for."""
    return "train" if split is None and (data / "train").is_dir() else split


def predict(
    model: ModelArgument,
    photos: Annotated[list[str], typer.Argument(help="Photos, folders of photos, or patterns such as 'in/*.jpg'.")],
    top_k: Annotated[int, typer.Option("--top-k", min=1, help="Classes to show per photo.")] = 1,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write a table: .csv, .jsonl or .parquet.")
    ] = None,
    coverage: CoverageOption = None,
    sets: SetsOption = "lac",
    allow_empty: EmptyOption = False,
    none_of_these: NoneOption = None,
    encoder: WhereOption = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say why: what the texts and every shot add, the answer without each.")
    ] = False,
    picture: Annotated[
        Path | None,
        typer.Option(
            "--picture", help="Draw why: a .png, .svg or .pdf for one photo, else a folder; implies --explain."
        ),
    ] = None,
    deciding: Annotated[int, typer.Option("--deciding", min=0, help="Shots to show in explanations.")] = 5,
    skip_bad: SkipBadOption = False,
    as_json: JsonOption = False,
) -> None:
    """Name the class of photos, and say why if asked to; with --coverage, name sets that hold the class as often."""
    from tip_adapter.classifier import ImageClassifier
    from tip_adapter.cli.trust import SetRequest, check_wanted, predict_sets
    from tip_adapter.datasets import find_images
    from tip_adapter.progress import progress_bar
    from tip_adapter.tables import check_table_path, write_table

    if output is not None:
        check_table_path(output)
    asked = explain or picture is not None
    check_wanted(coverage, none_of_these, explain=asked, top_k=top_k, sets=sets, allow_empty=allow_empty)
    paths = find_images(photos)
    pictures = picture_paths(picture, paths)
    classifier = ImageClassifier.load(model, encoder=encoder)
    if explain or pictures:
        explain_photos(
            classifier, paths, deciding=deciding, pictures=pictures, output=output, skip_bad=skip_bad, as_json=as_json
        )
        return
    if coverage is not None:
        wanted = SetRequest(coverage, sets, allow_empty, skip_bad)
        predict_sets(classifier, paths, wanted, output=output, as_json=as_json)
        return
    with progress_bar("Classifying") as progress:
        predictions = classifier.predict_top(
            paths, top_k=top_k, none_of_these=none_of_these, skip_bad=skip_bad, progress=progress
        )
    echo_skipped(classifier.skipped_)
    if output is not None:
        write_table(output, [prediction.flat() for prediction in predictions])
    if as_json:
        facts = {"stale": list(classifier.model_.stale), "skipped": skipped_rows(classifier.skipped_)}
        echo_json({"predictions": [p.to_dict() for p in predictions]} | facts)
    elif output is None:
        _show_predictions(predictions, top_k)
    else:
        typer.echo(f"{len(predictions)} predictions saved: {output}")


def _show_predictions(predictions: list[Any], top_k: int) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("photo", overflow="fold")
    for rank in range(min(top_k, len(predictions[0].top))):
        # Narrow terminals fold the photo's name; classes and numbers stay whole.
        table.add_column("class" if rank == 0 else f"{rank + 1}.", no_wrap=True)
        table.add_column("probability" if top_k == 1 else "", justify="right", no_wrap=True)
    for prediction in predictions:
        cells = [cell for name, probability in prediction.top for cell in (name, f"{probability:.3f}")]
        cells[0] = prediction.class_name or f"none of these ({cells[0]}?)"
        table.add_row(prediction.path, *cells)
    echo_table(table)


def evaluate(
    model: ModelArgument,
    data: Annotated[Path, typer.Argument(help="Folder of class folders, or a manifest, with the true classes.")],
    encoder: WhereOption = None,
    split: SplitOption = None,
    confusion: Annotated[
        Path | None, typer.Option("--confusion", help="Save a picture of the confusion matrix (.png, .svg, .pdf).")
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="Save a page with charts and photos (.html), one file.")
    ] = None,
    skip_bad: SkipBadOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure a classifier on labelled photos, beside text alone and the shots alone."""
    from tip_adapter.classifier import ImageClassifier
    from tip_adapter.cli.trust import check_page_path
    from tip_adapter.datasets import load_dataset
    from tip_adapter.plots import check_plot_path, save_confusion_matrix
    from tip_adapter.progress import progress_bar

    if confusion is not None:
        check_plot_path(confusion)
    if report is not None:
        check_page_path(report)
    classifier = ImageClassifier.load(model, encoder=encoder)
    if split is None and (data / "test").is_dir():
        split = "test"
    dataset = load_dataset(data, split=split, min_classes=1)
    with progress_bar("Encoding photos") as progress:
        if report is None:
            evaluation = classifier.evaluate(dataset, skip_bad=skip_bad, progress=progress)
        else:
            title = f"How good is {Path(model).name}?"
            evaluation = classifier.report(report, dataset, title=title, skip_bad=skip_bad, progress=progress)
    echo_skipped(classifier.skipped_)
    if evaluation.n_shots_among:
        among = f"{evaluation.n_shots_among} of the {evaluation.n} photos are shots of this classifier"
        typer.echo(f"warning: {among}, so the figures are too good: measure on other photos", err=True)
    if confusion is not None:
        save_confusion_matrix(confusion, evaluation.confusion, evaluation.class_names)
    if as_json:
        facts = {"stale": list(classifier.model_.stale), "skipped": skipped_rows(classifier.skipped_)}
        echo_json(evaluation.to_dict() | facts)
    else:
        warn_of_stale(classifier)
        _show_evaluation(evaluation, classifier)
        if confusion is not None:
            typer.echo(f"confusion matrix: {confusion}")
        if report is not None:
            typer.echo(f"report: {report}")


def _show_evaluation(evaluation: Evaluation, classifier: ImageClassifier) -> None:
    from rich.table import Table

    low, high = evaluation.accuracy_interval
    name = classifier.model_.method.name
    typer.echo(f"{evaluation.n} photos")
    typer.echo(f"{name}: {percent(evaluation.accuracy)} (95 % interval {percent(low)} to {percent(high)})")
    for label, value in (("zero-shot", evaluation.zero_shot_accuracy), ("shots alone", evaluation.cache_accuracy)):
        if value is not None and label != name:
            typer.echo(f"{label}: {percent(value)}")
    figures = [f"top {k}: {percent(value)}" for k, value in evaluation.top_k_accuracy.items() if k > 1]
    typer.echo("; ".join([*figures, f"NLL {evaluation.nll:.3f}", f"ECE {evaluation.ece:.3f}"]))
    table = Table(box=None, pad_edge=False)
    for column, justify in (("class", "left"), ("photos", "right"), ("recall", "right"), ("precision", "right")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    table.add_column("most often taken for")
    for index, row in enumerate(evaluation.to_dict()["per_class"]):
        mistakes = evaluation.confusion[index].copy()
        mistakes[index] = 0
        worst = f"{evaluation.class_names[mistakes.argmax()]} ({mistakes.max()})" if mistakes.any() else ""
        table.add_row(row["class"], str(row["n"]), percent(row["recall"]), percent(row["precision"]), worst)
    echo_table(table)


def info(
    model: Annotated[str | None, typer.Argument(help="A saved classifier. Without: this installation.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Describe a saved classifier, or this installation: version, methods, encoders, cache folder."""
    if model is not None:
        from tip_adapter.classifier import ImageClassifier

        classifier = ImageClassifier.load(model)
        if as_json:
            echo_json(_described(classifier))
        else:
            typer.echo(classifier.model_.card())
        return
    from importlib.metadata import version

    from tip_adapter.classifier import default_encoder
    from tip_adapter.encoders import ENCODERS
    from tip_adapter.locations import cache_dir

    facts: dict[str, Any] = {
        "version": version("tip-adapter"),
        "methods": _methods(),
        "encoders": ENCODERS,
        "default_encoder": default_encoder(),
        "cache_folder": str(cache_dir()),
    }
    if as_json:
        echo_json(facts)
        return
    typer.echo(f"tip-adapter {facts['version']}, cache folder {facts['cache_folder']}")
    _show_methods(facts["methods"])
    typer.echo(f"\nencoders (default {default_encoder()})")
    _show_rows([(f"  {name}", meaning) for name, meaning in ENCODERS.items()])


def _methods() -> dict[str, dict[str, Any]]:
    """What every method goes by and needs, as JSON values."""
    from tip_adapter.methods import DESCRIPTIONS, METHODS

    return {
        name: {
            "description": DESCRIPTIONS[name],
            "trained": "through the encoder" if each.needs_encoder else "on features" if each.trains else "no",
            "text": "needs text"
            if each.needs_text or each.needs_encoder
            else "uses text"
            if each.uses_text
            else "no text",
            "needs_torch": each.needs_torch,
        }
        for name, each in METHODS.items()
    }


def _show_methods(methods: dict[str, dict[str, Any]]) -> None:
    titles = {
        "no": "methods without training, in seconds",
        "on features": "methods trained on features, in seconds to a minute",
        "through the encoder": "methods trained through the encoder, in minutes to hours",
    }
    for trained, title in titles.items():
        typer.echo(f"\n{title}")
        rows = [(name, facts) for name, facts in methods.items() if facts["trained"] == trained]
        needs = [facts["text"] + (", extra torch" if facts["needs_torch"] else "") for _, facts in rows]
        _show_rows([(f"  {name}", need, facts["description"]) for (name, facts), need in zip(rows, needs, strict=True)])


def _show_rows(rows: list[tuple[str, ...]]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    for row in rows:
        table.add_row(*row)
    echo_table(table)


def _described(classifier: ImageClassifier) -> dict[str, Any]:
    """A fitted classifier as JSON values."""
    model = classifier.model_
    return {
        "encoder": vars(model.encoder),
        "method": model.method.name,
        "chosen": dict(model.method.chosen),
        "stale": list(model.stale),
        "edits": len(model.journal) - 1,
        "templates": list(model.templates),
        "views": model.views,
        "seed": model.random_state,
        "shots": len(model.shots),
        "classes": [
            {"class": name, "shots": int(count), "texts": list(texts)}
            for name, count, texts in zip(model.class_names, model.counts, model.class_texts, strict=True)
        ],
    }
