"""Learn from the Parquet files that `embed` writes: features stay on the disk until they are wanted."""

from __future__ import annotations

import contextlib
import json
import mmap
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tip_adapter.data.sampling import split_dataset
from tip_adapter.errors import DatasetError, FeatureError, TipAdapterError
from tip_adapter.features.feature_data import DEFAULT_LOGIT_SCALE, FeatureData, Part
from tip_adapter.features.shards import JOB, MANIFEST, iter_features
from tip_adapter.libraries import require_extra
from tip_adapter.storage.escaping import reason_of
from tip_adapter.typing import Float32Array, StrPath


def is_feature_shards(path: Path) -> bool:
    """Tell features in Parquet from photos: a folder with a manifest, or a file with a column of features."""
    if path.is_dir():
        return (path / MANIFEST).is_file()
    if path.suffix.lower() != ".parquet" or not path.is_file():
        return False
    parquet = require_extra("pyarrow.parquet", "data")
    try:
        return "features" in parquet.read_schema(path).names
    except (OSError, require_extra("pyarrow", "data").ArrowException):
        return False  # what it is, and what is wrong with it, the reader of manifests says


def read_feature_shards(path: StrPath) -> tuple[tuple[str, ...], Part, float, dict[str, Any]]:
    """Read class names, labelled features, logit scale and description.

    The features are an array on the disk, in an unnamed temporary file, of which only what is used comes into the
    memory. Rows without a label are left out.
    """
    path = Path(path)
    files = sorted(map(str, path.glob("part-*.parquet"))) if path.is_dir() else [str(path)]
    with _readable(path):
        job = _one_job(files, path)
        labels, names, digests = _facts(files, path)
    known = [label for label in labels if label is not None]
    if not known:
        raise DatasetError(f"Expected features with labels in {path}, got none: embed a folder of class folders")
    class_names = tuple(sorted(set(known)))
    with _readable(path):
        features = _on_disk(files, np.array([label is not None for label in labels]), path)
        scale = float(job.get("logit_scale", DEFAULT_LOGIT_SCALE))
        if not 0 < scale < np.inf:
            raise DatasetError(f"Expected a logit scale above 0 in {path}, got {scale}: run embed again")
    kept = [row for row, label in enumerate(labels) if label is not None]
    numbers = {name: number for number, name in enumerate(class_names)}
    part = Part(
        features,
        np.array([numbers[label] for label in known], dtype=np.intp),
        names=tuple(names[row] for row in kept),
        digests=tuple(digests[row] for row in kept),
    )
    description: dict[str, Any] = {key: job[key] for key in ("encoder", "precision", "encoder_ids") if key in job}
    return class_names, part, scale, description


def load_feature_shards(path: StrPath, *, name: str | None = None) -> FeatureData:
    """Read a data set to measure on; half of every class is the test set. Class names are encoded as texts."""
    from tip_adapter.encoders import load_encoder
    from tip_adapter.features.prompts import resolve_templates, texts_for, zero_shot_weights

    names, part, scale, description = read_feature_shards(path)
    encoder = load_encoder(description["encoder"], precision=description.get("precision", "fp32"), download=False)
    texts, templates = texts_for(names, None), resolve_templates("ensemble")
    train, test = split_dataset(part.labels, (0.5, 0.5), random_state=0, class_names=names)
    return FeatureData(
        name or Path(path).stem,
        names,
        part.subset(test),
        zero_shot_weights(encoder, texts, templates, class_names=names) if encoder.has_text_tower else None,
        scale,
        train=part.subset(train),
        description=description
        | {"templates": list(templates), "origin": "half of every class is the test set", "views": 1},
    )


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Say in one line what is wrong with files that are damaged, or of something else."""
    damage = OSError, AttributeError, KeyError, TypeError, ValueError, require_extra("pyarrow", "data").ArrowException
    try:
        yield
    except TipAdapterError:
        raise
    except damage as error:
        raise DatasetError(
            f"Expected Parquet files of features that embed wrote in {path}, got: {reason_of(error)}; run it again"
        ) from error


def _one_job(files: Sequence[str], path: Path) -> dict[str, Any]:
    """What the files say they are of, which has to be the same."""
    parquet = require_extra("pyarrow.parquet", "data")
    if not files:
        raise DatasetError(f"Expected Parquet files of features in {path}, got none: run embed again")
    jobs = {(parquet.read_schema(file).metadata or {}).get(JOB, b"{}") for file in files}
    if len(jobs) > 1:
        raise FeatureError(f"Expected features of one encoder in {path}, got {len(jobs)} kinds: keep them apart")
    job: dict[str, Any] = json.loads(jobs.pop())
    if job.get("kind") != "features" or not isinstance(job.get("encoder"), str):
        got = f"{job.get('kind', 'other columns')} of {job.get('encoder', 'no encoder')}"
        raise DatasetError(f"Expected features that embed wrote in {path}, got {got}")
    return job


def _facts(files: Sequence[str], path: Path) -> tuple[list[str | None], list[str], list[str]]:
    parquet = require_extra("pyarrow.parquet", "data")
    columns = ["id", "label", "digest"]
    tables = [parquet.read_table(file, columns=columns, partitioning=None) for file in files]
    table = require_extra("pyarrow", "data").concat_tables(tables)
    labels, ids, digests = (table[name].to_pylist() for name in ("label", "id", "digest"))
    named = {"label": labels, "id": ids, "digest": digests}
    strange = [name for name, values in named.items() if not {type(one) for one in values} <= {str, type(None)}]
    if strange:
        raise DatasetError(f"Expected a column of words in {path}, got another kind in {strange[0]!r}: run embed again")
    if len(set(ids)) < len(ids):
        raise DatasetError(f"Expected every image once in {path}, got {len(ids) - len(set(ids))} ids again")
    return labels, ids, digests


def _on_disk(files: Sequence[str], kept: np.ndarray[Any, Any], path: Path) -> Float32Array:
    """Write unit rows to a temporary file without a name, a row group at a time, and map it."""
    with tempfile.TemporaryFile() as file:
        start, dim = 0, 0
        for values in iter_features(files):
            wanted = values[kept[start : start + len(values)]].astype(np.float32)
            start, dim = start + len(values), dim or values.shape[1]
            if values.shape[1] != dim:
                raise FeatureError(f"Expected features of {dim} dimensions in {path}, got {values.shape[1]}, too")
            norms = np.linalg.norm(wanted.astype(np.float64), axis=1, keepdims=True)
            if not (np.isfinite(norms) & (norms > 0)).all():
                raise FeatureError(f"Expected finite features other than zero in {path}: embed its photos again")
            file.write((wanted / norms).astype(np.float32).tobytes())
        file.flush()
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.float32).reshape(-1, dim)
