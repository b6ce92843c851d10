"""Commands about features and encoders: embed, export-encoder."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tip_adapter.cli.options import (
    EncoderOption,
    JsonOption,
    PrecisionOption,
    SeedOption,
    SkipBadOption,
    TruncatedOption,
    ViewsOption,
)
from tip_adapter.cli.output import echo, echo_json, echo_next, echo_skipped, skipped_rows
from tip_adapter.cli.photos import echo_findings, find_photos
from tip_adapter.errors import InputError

if TYPE_CHECKING:
    from tip_adapter.data import Findings

__all__ = ["embed", "export_encoder"]


def embed(
    photos: Annotated[list[str], typer.Argument(help="Photos, folders of photos, patterns; or one manifest.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Also write the features to this .safetensors file.")
    ] = None,
    encoder: EncoderOption = None,
    precision: PrecisionOption = "fp32",
    views: ViewsOption = 1,
    seed: SeedOption = 0,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Views encoded at once.")] = 32,
    store: Annotated[Path | None, typer.Option("--store", help="Feature store. Default: in the cache folder.")] = None,
    skip_bad: SkipBadOption = False,
    allow_truncated: TruncatedOption = False,
    as_json: JsonOption = False,
) -> None:
    """Encode photos into the feature store. Nothing is encoded twice; an interrupted run continues where it stopped."""
    from tip_adapter.classifier import default_encoder
    from tip_adapter.encoders import load_encoder
    from tip_adapter.features.extraction import extract_features, save_features
    from tip_adapter.features.store import FeatureStore
    from tip_adapter.progress import progress_bar

    start = time.perf_counter()
    if output is not None and output.suffix != ".safetensors":
        raise InputError(f"Expected an output ending in .safetensors, got {output}: rename it.")
    paths, labels, findings = _photos_and_labels(photos, skip_bad=skip_bad, as_json=as_json)
    loaded = load_encoder(encoder or default_encoder(), precision=precision)
    counts = {"cached": 0}
    with FeatureStore(store) as features_store, progress_bar("Encoding") as bar:

        def progress(done: int, total: int, cached: int) -> None:
            counts["cached"] = cached
            bar(done, total, cached)

        extraction = extract_features(
            loaded,
            paths,
            views=views,
            random_state=seed,
            store=features_store,
            batch_size=batch_size,
            skip_bad=skip_bad,
            allow_truncated=allow_truncated,
            progress=progress,
        )
        where = features_store.path
    if output is not None:
        kept_labels = None if labels is None else [labels[index] for index in extraction.kept]
        save_features(output, extraction.features, kept_labels)
    seconds = time.perf_counter() - start
    skipped = (*findings.skipped, *extraction.skipped)
    echo_skipped(skipped)
    n = len(extraction.features)
    facts = {
        "n": n,
        "cached": counts["cached"],
        "encoded": n - counts["cached"],
        "dim": loaded.dim,
        "views": views,
        "encoder": {"name": loaded.name, "image_id": loaded.image_id, "precision": loaded.precision},
        "store": str(where),
        "output": None if output is None else str(output),
        "seconds": seconds,
        "skipped": skipped_rows(skipped),
        "data": findings.to_dict(),
    }
    if as_json:
        echo_json(facts)
        return
    echo(f"{n} photos, {facts['encoded']} newly encoded, {seconds:.1f} s; features in {where}")
    if output is not None:
        echo(f"saved: {output}")
    echo_next("fit", photos[0], so_that="learn a classifier; nothing is encoded again")


def _photos_and_labels(
    photos: list[str], *, skip_bad: bool, as_json: bool
) -> tuple[list[Path], list[str] | None, Findings]:
    """A manifest brings labels; class folders bring them, too, unless there are several splits of them."""
    from tip_adapter.data import is_table, load_splits, says_classes

    tables = [photo for photo in photos if is_table(photo)]
    if tables and len(photos) > 1:
        raise InputError(f"Expected a manifest alone, got {tables[0]} among {len(photos)} arguments: one at a time.")
    if len(photos) == 1 and says_classes(photos[0]):
        splits = load_splits(photos[0], min_classes=1, skip_bad=skip_bad)
        datasets = list(splits.values())
        findings = datasets[0].findings
        if len(splits) > 1:
            findings.splits = f"{photos[0]}: splits {' and '.join(splits)}; all are taken, without classes"
        if not as_json:
            echo_findings(findings)
        paths = [path for dataset in datasets for path in dataset.paths]
        labels = [dataset.class_names[label] for dataset in datasets for label in dataset.labels]
        return paths, labels if len(datasets) == 1 else None, findings
    paths, findings = find_photos(photos, skip_bad=skip_bad, as_json=as_json)
    return paths, None, findings


def export_encoder(
    encoder: Annotated[
        str, typer.Argument(help="lite, huggingface:owner/name, open-clip:model/weights, or any other encoder.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="New folder for the ONNX towers, tokenizer and settings.")
    ] = Path("exported-encoder"),
    logit_scale: Annotated[
        float | None, typer.Option("--logit-scale", help="Save this logit scale instead of the encoder's own.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Save an encoder as an ONNX folder that runs without torch and without a network."""
    from tip_adapter.encoders import export_encoder as export

    folder = export(encoder, output, logit_scale=logit_scale)
    if as_json:
        echo_json({"output": str(folder)})
    else:
        echo(f"saved: {folder}")
        echo_next("fit", "PHOTOS", "--encoder", folder, so_that="use it")
