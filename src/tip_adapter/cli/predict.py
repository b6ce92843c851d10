"""The command predict: the class of each photo, or a set of classes that contains it as often as wanted."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from tip_adapter.cli import options
from tip_adapter.cli.jobs import JobRequest, LoadPredictor, expect_threads, is_job, run_request
from tip_adapter.cli.output import echo, echo_json, echo_next, echo_skipped, left_out
from tip_adapter.cli.photos import find_photos
from tip_adapter.cli.streams import answer_lines, is_stream, with_names_read
from tip_adapter.cli.tables import echo_table, number, text
from tip_adapter.trust.figures import percent

if TYPE_CHECKING:
    from tip_adapter.classifier import ImageClassifier
    from tip_adapter.classifier.full_sets import SetGuarantee
    from tip_adapter.data import Findings
    from tip_adapter.model.predictions import Prediction, PredictionSets, Results, Skipped
    from tip_adapter.progress import Progress
    from tip_adapter.trust.conformal import SetKind

CoverageOption = Annotated[
    float | None,
    typer.Option("--coverage", help="Give prediction sets that contain the true class this often, such as 0.9."),
]
SetsOption = Annotated[
    str,
    typer.Option("--sets", help="Kind of prediction set. lac: the smallest on average; aps: larger for hard photos."),
]
GuaranteeOption = Annotated[
    str,
    typer.Option(
        "--guarantee",
        help="What the coverage rests on. calibrated: held-out shots, or the photos of calibrate; full: every photo "
        "is compared with all shots, exact where they were drawn like it (tip-adapter alone).",
    ),
]
OutputOption = Annotated[
    str | None,
    typer.Option(
        "--output", "-o", help="Save predictions: a .csv or .jsonl table; a .parquet file, or a folder of them, of all."
    ),
]
EmptyOption = Annotated[
    bool, typer.Option("--allow-empty", help="Allow empty prediction sets, for photos unlike any class.")
]
NoneOption = Annotated[
    float | None,
    typer.Option(
        "--none-of-these",
        help="Reject photos of no known class; the share of the others that may be rejected by mistake, such as 0.05.",
    ),
]


def predict(
    model: options.Model,
    photos: options.Photos,
    null: options.Null = False,
    top_k: Annotated[int, typer.Option("--top-k", min=1, help="Classes to show per photo.")] = 1,
    output: OutputOption = None,
    coverage: CoverageOption = None,
    sets: SetsOption = "lac",
    allow_empty: EmptyOption = False,
    guarantee: GuaranteeOption = "calibrated",
    none_of_these: NoneOption = None,
    encoder: options.Where = None,
    skip_bad: options.SkipBad = False,
    allow_truncated: options.Truncated = False,
    engine: options.Engine = "threads",
    address: options.Address = None,
    workers: options.Workers = None,
    cpus: options.Cpus = 1,
    gpus: options.Gpus = 0,
    seconds_per_image: options.SecondsPerImage = 60,
    rows_per_shard: options.RowsPerShard = 1024,
    as_json: options.Json = False,
) -> None:
    """Classify photos. `--coverage 0.9` gives prediction sets instead of one class."""
    from tip_adapter.classifier import ImageClassifier
    from tip_adapter.errors import InputError
    from tip_adapter.features.jobs import Cluster
    from tip_adapter.storage.tables import check_table_path

    cluster = Cluster(engine, address, workers, cpus, gpus)
    if coverage is None and guarantee != "calibrated":
        raise InputError("Expected --coverage with --guarantee, such as --coverage 0.9")
    if output is not None and is_job(output):
        if guarantee != "calibrated":
            raise InputError(f"Expected no --guarantee with {output}: a job's sets are the calibrated ones")
        sources = with_names_read(photos, null=null)
        request = JobRequest(sources, output, cluster, rows_per_shard=rows_per_shard, as_json=as_json)
        load = LoadPredictor(
            model, encoder, coverage, sets, allow_empty, none_of_these, seconds_per_image, allow_truncated
        )
        _predict_job(request, load, top_k)
        return
    expect_threads(cluster)
    table = None if output is None else Path(output)
    if table is not None:
        check_table_path(table)
    _check_wanted(coverage, none_of_these, top_k=top_k, sets=sets, allow_empty=allow_empty)
    classes = _Classes(top_k, none_of_these)
    wanted = classes if coverage is None else _Sets(coverage, sets, allow_empty, guarantee)
    if is_stream(photos) and as_json and table is None:
        classifier = ImageClassifier.load(model, encoder=encoder, allow_truncated=allow_truncated)
        answer_lines(photos, functools.partial(wanted.rows, classifier), null=null, skip_bad=skip_bad)
        return
    paths, findings = find_photos(with_names_read(photos, null=null), skip_bad=skip_bad, as_json=as_json)
    classifier = ImageClassifier.load(model, encoder=encoder, allow_truncated=allow_truncated)
    _predict(model, classifier, paths, wanted, findings, output=table, skip_bad=skip_bad, as_json=as_json)


def _predict(
    model: str,
    classifier: ImageClassifier,
    paths: list[Path],
    wanted: _Classes | _Sets,
    findings: Findings,
    *,
    output: Path | None,
    skip_bad: bool,
    as_json: bool,
) -> None:
    """Ask about photos, say what was found, and name the next command."""
    from tip_adapter.model.predictions import PredictionSets
    from tip_adapter.progress import progress_bar

    with progress_bar("Encoding photos") as progress:
        found = wanted.ask(classifier, paths, skip_bad=skip_bad, progress=progress)
    skipped = (*findings.skipped, *found.skipped)
    echo_skipped(skipped)
    facts = left_out(skipped, findings)
    if isinstance(found, PredictionSets):
        _tell_sets(found, facts, output, as_json=as_json)
        if not as_json and isinstance(wanted, _Sets) and wanted.guarantee != "full":
            echo_next("calibrate", model, "LABELLED_PHOTOS", so_that="let the coverage hold for photos like these")
    else:
        _tell_classes(found, {"stale": list(classifier.model_.stale)} | facts, output, as_json=as_json)
        if not as_json:
            echo_next("explain", model, found[0].path, so_that="see why")


@dataclass(frozen=True)
class _Classes:
    """Ask for the most probable classes."""

    top_k: int
    none_of_these: float | None

    def ask(
        self, classifier: ImageClassifier, paths: list[Path], *, skip_bad: bool = True, progress: Progress | None = None
    ) -> Results[Prediction]:
        return classifier.predict_top(
            paths, top_k=self.top_k, none_of_these=self.none_of_these, skip_bad=skip_bad, progress=progress
        )

    def rows(self, classifier: ImageClassifier, paths: list[Path]) -> tuple[list[dict[str, Any]], Skipped]:
        found = self.ask(classifier, paths)
        return [each.to_dict() for each in found], found.skipped


@dataclass(frozen=True)
class _Sets:
    """Ask for sets of classes that contain the true one as often as wanted."""

    coverage: float
    kind: str
    allow_empty: bool
    guarantee: str

    def ask(
        self, classifier: ImageClassifier, paths: list[Path], *, skip_bad: bool = True, progress: Progress | None = None
    ) -> PredictionSets:
        return classifier.predict_set(
            paths,
            self.coverage,
            kind=cast("SetKind", self.kind),
            allow_empty=self.allow_empty,
            guarantee=cast("SetGuarantee", self.guarantee),
            skip_bad=skip_bad,
            progress=progress,
        )

    def rows(self, classifier: ImageClassifier, paths: list[Path]) -> tuple[list[dict[str, Any]], Skipped]:
        found = self.ask(classifier, paths)
        return found.to_dict()["sets"], found.skipped


def _tell_classes(
    predictions: Results[Prediction], facts: dict[str, Any], output: Path | None, *, as_json: bool
) -> None:
    """Name the most probable classes, on the terminal, as JSON or as a table."""
    from tip_adapter.storage.tables import write_table

    if output is not None:
        write_table(output, [prediction.flat() for prediction in predictions])
    if as_json:
        echo_json({"predictions": [prediction.to_dict() for prediction in predictions]} | facts)
    elif output is None:
        _show_predictions(predictions)
    else:
        echo(f"{len(predictions)} predictions saved: {output}")


def _predict_job(request: JobRequest, load_worker: LoadPredictor, top_k: int) -> None:
    """Write predictions to Parquet files."""
    import os
    from dataclasses import replace

    from tip_adapter.classifier import ImageClassifier
    from tip_adapter.errors import InputError
    from tip_adapter.features.feature_data import digest

    if top_k != 1:
        raise InputError(f"Expected no --top-k with {request.output}, which holds the probabilities of all classes")
    if load_worker.coverage is None and (load_worker.allow_empty or load_worker.sets != "lac"):
        raise InputError("Expected --coverage with --sets and --allow-empty, such as --coverage 0.9")
    classifier = ImageClassifier.load(load_worker.model, encoder=load_worker.encoder, store=None)
    learned = classifier.model_
    state = [learned.head.logits(learned.shots.features.unit[:16])]
    facts = {
        "kind": "predictions",
        "class_names": list(learned.class_names),
        "image_id": classifier.encoder.image_id,
        "classifier": digest(learned.shots.features.unit, learned.shots.labels, *state),
        "coverage": load_worker.coverage,
        "sets": load_worker.sets,
        "none_of_these": load_worker.none_of_these,
    }
    here = os.path.isdir(load_worker.model)
    run_request(request, replace(load_worker, model=os.path.abspath(load_worker.model)) if here else load_worker, facts)


def _show_predictions(predictions: Sequence[Prediction]) -> None:
    rows = []
    for prediction in predictions:
        for rank, (name, probability) in enumerate(prediction.top):
            shown = name if rank or prediction.class_name else f"none of these ({name}?)"
            rows.append([prediction.path if rank == 0 else "", shown, percent(probability)])
    echo_table([text("photo"), text("class"), number("probability")], rows)


def _check_wanted(
    coverage: float | None, none_of_these: float | None, *, top_k: int, sets: str, allow_empty: bool
) -> None:
    """Raise where options of predict do not go together: none is ignored."""
    from tip_adapter.errors import InputError

    if coverage is not None and none_of_these is not None:
        raise InputError("Expected --coverage or --none-of-these, got both: run them one after the other")
    if coverage is not None and top_k != 1:
        raise InputError("Expected --coverage without --top-k, got both: a prediction set is as large as it must be")
    if coverage is None and (allow_empty or sets != "lac"):
        option = "--allow-empty" if allow_empty else "--sets"
        raise InputError(
            f"Expected --coverage with {option}, such as --coverage 0.9: how often sets contain the true class"
        )


def _tell_sets(found: PredictionSets, facts: dict[str, Any], output: Path | None, *, as_json: bool) -> None:
    """Name sets of classes, on the terminal, as JSON or as a table."""
    from tip_adapter.storage.tables import write_table

    if output is not None:
        rows = [
            {"path": each.path, "size": len(each.classes), "classes": "; ".join(name for name, _ in each.classes)}
            for each in found.sets
        ]
        write_table(output, rows)
    if as_json:
        echo_json(found.to_dict() | facts)
    elif output is None:
        _show_sets(found)
    else:
        echo(f"{len(found.sets)} sets saved: {output}")
        echo(found.summary)


def _show_sets(found: PredictionSets) -> None:
    rows = []
    for each in found.sets:
        for rank, (name, probability) in enumerate(each.classes):
            rows.append([each.path if rank == 0 else "", name, percent(probability)])
        if not each.classes:
            rows.append([each.path, "none", ""])
    echo_table([text("photo"), text("class"), number("probability")], rows)
    echo(found.summary)
