"""The command embed: encode photos into the feature store and, on request, into a file to learn from."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tip_adapter.cli import options
from tip_adapter.cli.jobs import JobRequest, LoadEncoder, expect_threads, is_job, run_request
from tip_adapter.cli.output import echo, echo_json, echo_next, echo_skipped, left_out
from tip_adapter.cli.photos import echo_findings, find_photos
from tip_adapter.cli.streams import with_names_read
from tip_adapter.errors import InputError

if TYPE_CHECKING:
    from tip_adapter.data import Findings, ImageDataset
    from tip_adapter.encoders import Encoder
    from tip_adapter.features.extraction import Extraction


@dataclass(frozen=True)
class _Photos:
    """Photos to encode; where they have classes, their splits by the names they have in a feature file."""

    paths: list[Path]
    findings: Findings
    splits: dict[str, ImageDataset]


PhotosArgument = Annotated[list[str], typer.Argument(help="Photos, folders of photos, patterns; or one manifest.")]
OutputOption = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        help="Also save the features: a .npz file for fit and bench; a .parquet file, or a folder of them.",
    ),
]
BatchSizeOption = Annotated[int, typer.Option("--batch-size", min=1, help="Views encoded at once.")]
StoreOption = Annotated[Path | None, typer.Option("--store", help="Feature store. Default: in the cache folder.")]


def embed(
    photos: PhotosArgument,
    null: options.Null = False,
    output: OutputOption = None,
    encoder: options.Encoder = None,
    precision: options.Precision = "fp32",
    class_texts: options.ClassTexts = None,
    template: options.Template = None,
    views: options.Views = 1,
    seed: options.Seed = 0,
    batch_size: BatchSizeOption = 32,
    store: StoreOption = None,
    skip_bad: options.SkipBad = False,
    allow_truncated: options.Truncated = False,
    dtype: options.Dtype = "float32",
    engine: options.Engine = "threads",
    address: options.Address = None,
    workers: options.Workers = None,
    cpus: options.Cpus = 1,
    gpus: options.Gpus = 0,
    seconds_per_image: options.SecondsPerImage = 60,
    rows_per_shard: options.RowsPerShard = 1024,
    as_json: options.Json = False,
) -> None:
    """Encode photos into the feature store. Nothing is encoded twice; an interrupted run continues where it stopped."""
    from tip_adapter.classifier import default_encoder
    from tip_adapter.encoders import load_encoder
    from tip_adapter.features.feature_files import check_feature_path
    from tip_adapter.features.jobs import Cluster

    cluster = Cluster(engine, address, workers, cpus, gpus)
    name = encoder or default_encoder()
    photos = with_names_read(photos, null=null)
    if output is not None and is_job(output):
        ignored = {"--views": views > 1, "--class-texts": class_texts, "--template": template, "--store": store}
        request = JobRequest(photos, output, cluster, dtype, rows_per_shard, as_json)
        _embed_job(request, LoadEncoder(name, precision, seconds_per_image, batch_size, allow_truncated), ignored)
        return
    expect_threads(cluster)
    path, start = None if output is None else Path(output), time.perf_counter()
    if path is not None:
        check_feature_path(path)
    given = _read(photos, skip_bad=skip_bad, as_json=as_json)
    splits = {} if path is None else _aligned(given.splits, photos[0], path)
    texts = options.read_class_texts(class_texts)
    loaded = load_encoder(name, precision=precision)
    how = {"views": views, "random_state": seed, "batch_size": batch_size}
    extraction, cached, where = _extracted(loaded, given.paths, store, how, skip_bad, allow_truncated)
    if path is not None:
        _save(path, splits, extraction, loaded, texts, options.templates(template))
    facts: dict[str, Any] = {
        "n": len(extraction.features),
        "cached": cached,
        "encoded": len(extraction.features) - cached,
    }
    facts |= {"dim": loaded.dim, "views": views, "store": str(where), "output": output}
    facts["encoder"] = {"name": loaded.name, "image_id": loaded.image_id, "precision": loaded.precision}
    facts["seconds"] = time.perf_counter() - start
    _tell(photos, facts, (*given.findings.skipped, *extraction.skipped), given.findings, as_json=as_json)


def _embed_job(request: JobRequest, load_worker: LoadEncoder, ignored: dict[str, Any]) -> None:
    """Write features to Parquet files."""
    from dataclasses import replace

    from tip_adapter.encoders import anchored, load_encoder

    if given := [option for option, value in ignored.items() if value]:
        raise InputError(f"Expected no {given[0]} with {request.output}: it is for the feature store and .npz files")
    encoder = load_encoder(load_worker.encoder, precision=load_worker.precision)
    name = anchored(encoder.name)
    facts = {
        "kind": "features",
        "encoder": name,
        "encoder_ids": [encoder.image_id, encoder.text_id],
        "dim": encoder.dim,
    }
    facts |= {"logit_scale": float(encoder.logit_scale), "precision": getattr(encoder, "precision", "fp32")}
    run_request(request, replace(load_worker, encoder=name), facts)


def _extracted(
    loaded: Encoder,
    paths: list[Path],
    store: Path | None,
    how: dict[str, int],
    skip_bad: bool,
    allow_truncated: bool,
) -> tuple[Extraction, int, Path]:
    """Encode photos into the store; say how many were there already, and where it is."""
    from tip_adapter.features.extraction import extract_features
    from tip_adapter.features.store import FeatureStore
    from tip_adapter.progress import progress_bar

    counts = {"cached": 0}
    with FeatureStore(store) as features_store, progress_bar("Encoding photos") as bar:

        def progress(done: int, total: int, cached: int) -> None:
            counts["cached"] = cached
            bar(done, total, cached)

        extraction = extract_features(
            loaded,
            paths,
            views=how["views"],
            random_state=how["random_state"],
            batch_size=how["batch_size"],
            store=features_store,
            skip_bad=skip_bad,
            allow_truncated=allow_truncated,
            progress=progress,
        )
        return extraction, counts["cached"], features_store.path


def _tell(
    photos: list[str], facts: dict[str, Any], skipped: tuple[tuple[str, str], ...], findings: Findings, *, as_json: bool
) -> None:
    echo_skipped(skipped)
    if as_json:
        echo_json(facts | left_out(skipped, findings))
        return
    made = f"{facts['n']} photos, {facts['encoded']} newly encoded, {facts['seconds']:.1f} s"
    echo(f"{made}; features in {facts['store']}")
    if facts["output"]:
        echo(f"saved: {facts['output']}")
    echo_next("fit", facts["output"] or photos[0], so_that="learn a classifier; nothing is encoded again")


def _read(photos: list[str], *, skip_bad: bool, as_json: bool) -> _Photos:
    """A manifest brings classes, and so do class folders, in all their splits; other photos have none."""
    from tip_adapter.data import is_table, load_splits, says_classes

    tables = [photo for photo in photos if is_table(photo)]
    if tables and len(photos) > 1:
        raise InputError(f"Expected a manifest alone, got {tables[0]} among {len(photos)} arguments: one at a time")
    if len(photos) > 1 or not says_classes(photos[0]):
        paths, findings = find_photos(photos, skip_bad=skip_bad, as_json=as_json)
        return _Photos(paths, findings, {})
    found = load_splits(photos[0], min_classes=1, skip_bad=skip_bad)
    splits = {name or "train": part for name, part in found.items()}
    first = splits.get("train", next(iter(splits.values())))
    if len(splits) > 1:
        first.findings.splits = f"{photos[0]}: splits {' and '.join(splits)}; all are taken"
    if not as_json:
        echo_findings(first.findings)
    return _Photos([path for part in splits.values() for path in part.paths], first.findings, splits)


def _aligned(splits: dict[str, ImageDataset], source: str, output: Path) -> dict[str, ImageDataset]:
    """Number the classes of every split as those to learn from."""
    from tip_adapter.bench.splits import with_classes_of

    if not splits:
        raise InputError(
            f"Expected photos with classes for {output}, got none: name one folder of class folders, or a manifest"
        )
    first = splits.get("train", next(iter(splits.values())))
    return {name: with_classes_of(first, part, Path(source)) for name, part in splits.items()}


def _save(
    output: Path,
    splits: dict[str, ImageDataset],
    extraction: Extraction,
    encoder: Encoder,
    class_texts: dict[str, tuple[str, ...]] | None,
    prompts: str | list[str],
) -> None:
    """Save the features of every split, and of the class texts."""
    from tip_adapter.encoders import anchored
    from tip_adapter.features.feature_data import Part
    from tip_adapter.features.feature_files import save_parts
    from tip_adapter.features.prompts import mean_prompts, prompt_features, resolve_templates, texts_for

    names = next(iter(splits.values())).class_names
    texts, resolved = texts_for(names, class_texts), resolve_templates(prompts)
    parts, start = {}, 0
    for name, part in splits.items():
        rows = [row for row, kept in enumerate(extraction.kept) if start <= kept < start + len(part)]
        features = extraction.features.subset(rows)
        kept = part.subset(extraction.kept[rows] - start)
        parts[name] = Part(
            features.unit, kept.labels, features.unit_views, features.names, features.digests, kept.groups
        )
        start += len(part)
    encoded = prompt_features(encoder, texts, resolved, class_names=names)
    save_parts(
        output,
        names,
        parts,
        zero_shot_weights=mean_prompts(encoded),
        logit_scale=float(encoder.logit_scale),
        description={
            "encoder": anchored(encoder.name),
            "encoder_ids": [encoder.image_id, encoder.text_id],
            "precision": getattr(encoder, "precision", "fp32"),
            "templates": list(resolved),
            "class_texts": [list(row) for row in texts],
            "views": extraction.features.n_views,
        },
        prompt_features=encoded if encoder.has_text_tower else None,
    )
