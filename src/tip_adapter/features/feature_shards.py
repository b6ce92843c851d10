"""Learn from the Parquet files that `embed` writes: features stay on the disk until they are wanted."""

from __future__ import annotations

import contextlib
import json
import mmap
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, overload

import numpy as np

from tip_adapter.data.class_names import check_class_names, class_name, is_missing
from tip_adapter.data.groups import numbered_groups
from tip_adapter.data.sampling import split_dataset
from tip_adapter.errors import DatasetError, FeatureError, TipAdapterError
from tip_adapter.features.feature_data import DEFAULT_LOGIT_SCALE, FeatureData, Part
from tip_adapter.features.shards import JOB, MANIFEST, iter_features
from tip_adapter.libraries import require_extra
from tip_adapter.storage.escaping import reason_of
from tip_adapter.typing import BoolArray, Float32Array, IntArray, StrPath

FACTS = ["id", "label", "digest", "group"]
"""Columns of words."""


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
    found = _Labelled.of(Path(path))
    return found.class_names, found.part(np.flatnonzero(found.labels >= 0)), found.logit_scale, found.description


def load_feature_shards(path: StrPath, *, name: str | None = None) -> FeatureData:
    """Read a data set to measure on; half of every class is the test set, in whole groups. The halves stay on the disk.

    Class names are encoded as texts.
    """
    from tip_adapter.encoders import load_encoder
    from tip_adapter.features.prompts import resolve_templates, texts_for, zero_shot_weights

    found = _Labelled.of(Path(path))
    names, description = found.class_names, found.description
    encoder = load_encoder(description["encoder"], precision=description.get("precision", "fp32"), download=False)
    texts, templates = texts_for(names, None), resolve_templates("ensemble")
    kept = np.flatnonzero(found.labels >= 0)
    groups = numbered_groups(found.groups(kept))
    train, test = split_dataset(found.labels[kept], (0.5, 0.5), random_state=0, class_names=names, groups=groups)
    return FeatureData(
        name or Path(path).stem,
        names,
        found.part(kept[test]),
        zero_shot_weights(encoder, texts, templates, class_names=names) if encoder.has_text_tower else None,
        found.logit_scale,
        train=found.part(kept[train]),
        description=description
        | {
            "templates": list(templates),
            "origin": "half of every class is the test set" + ", in whole groups" * (groups is not None),
            "views": 1,
        },
    )


@dataclass(frozen=True, eq=False)
class _Labelled:
    """What Parquet files of features tell of their photos, but for the features."""

    files: list[str]
    path: Path
    job: dict[str, Any]
    facts: Any
    class_names: tuple[str, ...]
    labels: IntArray
    """(N,): classes, -1 for a photo without."""

    @classmethod
    def of(cls, path: Path) -> Self:
        """Read all but the features."""
        files = sorted(map(str, path.glob("part-*.parquet"))) if path.is_dir() else [str(path)]
        with _readable(path):
            job = _one_job(files, path)
            facts = _facts(files, path)
            class_names, labels = _numbered(facts["label"], path)
        if not class_names:
            raise DatasetError(f"Expected features with labels in {path}, got none: embed a folder of class folders")
        return cls(files, path, job, facts, class_names, labels)

    @property
    def logit_scale(self) -> float:
        """Of the encoder."""
        with _readable(self.path):
            scale = float(self.job.get("logit_scale", DEFAULT_LOGIT_SCALE))
        if not 0 < scale < np.inf:
            raise DatasetError(f"Expected a logit scale above 0 in {self.path}, got {scale}: run embed again")
        return scale

    @property
    def description(self) -> dict[str, Any]:
        """Which encoder made the features."""
        return {key: self.job[key] for key in ("encoder", "precision", "encoder_ids") if key in self.job}

    def groups(self, rows: IntArray) -> tuple[str, ...]:
        """Groups of some photos, empty for one on its own."""
        return tuple(name or "" for name in self.facts["group"].take(rows).to_pylist())

    def part(self, rows: IntArray) -> Part:
        """Some photos, whose features are copied into an array on the disk."""
        kept, groups = np.zeros(len(self.labels), dtype=bool), self.groups(rows)
        kept[rows] = True
        with _readable(self.path):
            features = _on_disk(self.files, kept, self.facts["id"], self.path)
        names, digests = (_Texts(self.facts[name].take(rows)) for name in ("id", "digest"))
        return Part(features, self.labels[rows], None, names, digests, groups if any(groups) else None)


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
            f"Expected features that embed wrote in {path}, got: {reason_of(error)}; delete what is damaged, and run "
            "embed again"
        ) from error


def _one_job(files: Sequence[str], path: Path) -> dict[str, Any]:
    """What the files say they are of, which has to be the same."""
    if not files:
        raise DatasetError(f"Expected Parquet files of features in {path}, got none: run embed again")
    jobs = {(_schema(file).metadata or {}).get(JOB, b"{}"): file for file in files}
    if len(jobs) > 1:
        first, second = list(jobs.values())[:2]
        raise FeatureError(
            f"Expected features of one encoder and precision in {path}, but those of {first} and {second} differ: put "
            "each kind into a folder of its own"
        )
    job: dict[str, Any] = json.loads(next(iter(jobs)))
    if job.get("kind") != "features" or not isinstance(job.get("encoder"), str):
        got = f"{job.get('kind', 'other columns')} of {job.get('encoder', 'no encoder')}"
        raise DatasetError(f"Expected features that embed wrote in {path}, got {got}")
    return job


def _facts(files: Sequence[str], path: Path) -> Any:
    """What the files tell of every image, as an Arrow table: words of millions take gigabytes in Python."""
    arrow, compute = require_extra("pyarrow", "data"), require_extra("pyarrow.compute", "data")
    table = arrow.concat_tables([_words(file) for file in files])
    if nameless := [name for name in ("id", "digest") if table[name].null_count]:
        raise DatasetError(f"Expected {nameless[0]} of every image in {path}, got rows without: run embed again")
    again = len(table) - compute.count_distinct(table["id"]).as_py()
    if again:
        counts = compute.value_counts(table["id"])
        first = counts.filter(compute.greater(counts.field("counts"), 1))[0]["values"]
        raise DatasetError(
            f"Expected every image once in {path}, got {again} ids again, such as {first}: remove one of the files"
        )
    return table


def _schema(file: str) -> Any:
    with _readable(Path(file)):
        return require_extra("pyarrow.parquet", "data").read_schema(file)


def _words(file: str) -> Any:
    """Read the columns of words of one file; the column of groups may be missing."""
    arrow, parquet = require_extra("pyarrow", "data"), require_extra("pyarrow.parquet", "data")
    schema = _schema(file)
    names = schema.names
    if missing := [name for name in ("id", "label", "digest", "features") if name not in names]:
        raise DatasetError(
            f"Expected the columns id, label, digest and features in {file}, got none called {' or '.join(missing)}: "
            "run embed again"
        )
    if not arrow.types.is_fixed_size_list(kind := schema.field("features").type):
        raise DatasetError(
            f"Expected lists of a fixed size in the column features of {file}, got {kind}: run embed again"
        )
    columns = [name for name in FACTS if name in names]
    table = parquet.read_table(file, columns=columns, partitioning=None, use_threads=False)
    for field in table.schema:
        kind = field.type.value_type if arrow.types.is_dictionary(field.type) else field.type
        if not (arrow.types.is_string(kind) or arrow.types.is_large_string(kind) or arrow.types.is_null(kind)):
            raise DatasetError(f"Expected words in the column {field.name} of {file}, got {kind}: write it as text")
    if "group" not in names:
        table = table.append_column("group", arrow.nulls(len(table)))
    return table.select(FACTS).cast(arrow.schema([(name, arrow.large_string()) for name in FACTS]))


def _numbered(labels: Any, path: Path) -> tuple[tuple[str, ...], IntArray]:
    """Class names in order, and the class of every row, -1 for one without."""
    encoded = labels.combine_chunks().dictionary_encode()
    written = ["" if is_missing(label) else class_name(label) for label in encoded.dictionary.to_pylist()]
    names = sorted(set(written) - {""})
    check_class_names(names, path)
    place = {name: number for number, name in enumerate(names)}
    places = np.array([*(place.get(name, -1) for name in written), -1], dtype=np.intp)
    return tuple(names), places[encoded.indices.fill_null(len(written)).to_numpy(zero_copy_only=False)]


class _Texts(Sequence[str]):
    """A column of words, each made when it is looked at."""

    def __init__(self, column: Any) -> None:
        self._column = column.combine_chunks()

    def __len__(self) -> int:
        return len(self._column)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...

    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        found = self._column[index]
        return tuple(found.to_pylist()) if isinstance(index, slice) else str(found)


def _on_disk(files: Sequence[str], kept: BoolArray, ids: Any, path: Path) -> Float32Array:
    """Write unit rows to a temporary file without a name, a row group at a time, and map it."""
    with tempfile.TemporaryFile() as file:
        start, dim = 0, 0
        for source, values in ((one, values) for one in files for values in iter_features([one])):
            rows = start + np.flatnonzero(kept[start : start + len(values)])
            with np.errstate(over="ignore"):  # refused below
                wanted = values[rows - start].astype(np.float32)
            start, dim = start + len(values), dim or values.shape[1]
            if values.shape[1] != dim:
                raise FeatureError(
                    f"Expected features of {dim} dimensions in {path}, got {values.shape[1]} in {source}: put "
                    "each kind into a folder of its own"
                )
            norms = np.linalg.norm(wanted.astype(np.float64), axis=1, keepdims=True)
            bad = np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))
            if bad.size:
                first = ids[rows[bad[0]]].as_py()
                raise FeatureError(
                    f"Expected finite features other than zero in {path}, got others of {first!r}: embed it again"
                )
            file.write((wanted / norms).astype(np.float32).tobytes())
        file.flush()
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.float32).reshape(-1, dim)
