"""Results of a long job as Parquet files in a folder, each written whole, so that a job goes on where it ended."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tip_adapter.data.records import opened_parquet, storage_of
from tip_adapter.errors import InputError, ModelFileError, TipAdapterError
from tip_adapter.features.batch_encoder import Columns
from tip_adapter.libraries import require_extra
from tip_adapter.storage.atomic import write_file
from tip_adapter.storage.escaping import reason_of

MANIFEST = "_manifest.json"
ERRORS = "_errors"
"""Names that begin with an underscore are passed over by readers of Parquet folders."""

JOB = b"tip_adapter"
"""Where a Parquet file says in its metadata what its rows are of, as JSON."""

ROWS = 8192
"""Features that are read at a time: groups of rows may hold a million."""

REPEATED = ["label", "group", "class", "set.list.element", "error"]
"""Columns to store as dictionaries; for numbers and ids, which hardly repeat, that takes longer and more room."""

TEXTS = ("id", "path", "label", "group", "digest")


class ShardFolder:
    """A folder of Parquet shards, on this machine or where fsspec reaches, with a manifest and a table of errors.

    Parameters
    ----------
    path : str
        A folder, or an address such as ``s3://bucket/features``.
    description : mapping
        What the results are of; a folder of other results is refused.
    dtype : {"float32", "float16"}
        Of features.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from tip_adapter.features.shards import ShardFolder
    >>> folder = tempfile.TemporaryDirectory()
    >>> shards = ShardFolder(folder.name, {"encoder": "fake"})
    >>> shards.write({"id": ["a"], "features": np.ones((1, 2), np.float32), "error": [None]})
    >>> shards.finished(), shards.table().schema.field("features").type.list_size
    ({'a'}, 2)
    >>> folder.cleanup()
    """

    def __init__(self, path: str, description: Mapping[str, Any], *, dtype: str = "float32") -> None:
        self.path, self.description, self.dtype = path.rstrip("/"), dict(description), dtype
        require_extra("pyarrow.parquet", "data")

    def open(self) -> None:
        """Write the manifest, or check that the one that is there describes the same job."""
        if MANIFEST in self._names(self.path):
            try:
                found = json.loads(self._read(f"{self.path}/{MANIFEST}"))["job"]
            except (ValueError, KeyError, TypeError) as error:
                raise ModelFileError(f"The manifest of {self.path} is damaged: name another folder") from error
            if found != self._job():
                other = [key for key in {*found, *self._job()} if found.get(key) != self._job().get(key)]
                raise InputError(
                    f"Expected {self.path} to be empty or of this job, got results of another ("
                    f"{', '.join(sorted(other))}): name another folder"
                )
        elif self._names(self.path):
            raise InputError(f"Expected {self.path} to be empty or of this job, got other files: name another folder")
        else:
            self._write(f"{self.path}/{MANIFEST}", json.dumps({"job": self._job()}, indent=2).encode())

    def close(self) -> dict[str, int]:
        """Count what is there, in the manifest, too."""
        counts = {"rows": self._count(self.path), "errors": self._count(f"{self.path}/{ERRORS}")}
        self._write(f"{self.path}/{MANIFEST}", json.dumps({"job": self._job(), **counts}, indent=2).encode())
        return counts

    def finished(self) -> set[str]:
        """Ids of all images that are done, those that cannot be read among them."""
        return {
            str(name)
            for folder in (self.path, f"{self.path}/{ERRORS}")
            for file in self._parts(folder)
            for name in self._table(file, ["id"])["id"].to_pylist()
        }

    def write(self, columns: Columns) -> None:
        """Write rows and errors of some images; writing the same ones again replaces them."""
        bad = np.array([error is not None for error in columns["error"]], dtype=bool)
        name = f"part-{hashlib.sha256(json.dumps(columns['id']).encode()).hexdigest()[:16]}.parquet"
        # Errors first: whoever is killed in between does the others again, and these not.
        for folder, rows in ((f"{self.path}/{ERRORS}", np.flatnonzero(bad)), (self.path, np.flatnonzero(~bad))):
            if rows.size:
                self._write(f"{folder}/{name}", _to_parquet(self._job(), columns, rows, errors=bool(bad[rows[0]])))

    def is_job(self) -> bool:
        """Whether a job began to write here."""
        return MANIFEST in self._names(self.path)

    def read(self, file: str) -> Any:
        """Read one shard as an Arrow table."""
        return self._table(file, None)

    def replace(self, file: str, table: Any) -> None:
        """Write another table in the place of a shard."""
        sink = require_extra("pyarrow", "data").BufferOutputStream()
        require_extra("pyarrow.parquet", "data").write_table(table, sink, use_dictionary=REPEATED)
        self._write(file, sink.getvalue().to_pybytes())

    def parts(self) -> list[str]:
        """Paths of the finished shards."""
        return self._parts(self.path)

    def table(self, columns: Sequence[str] | None = None) -> Any:
        """Read all rows as one Arrow table."""
        return require_extra("pyarrow", "data").concat_tables([self._table(file, columns) for file in self.parts()])

    def _job(self) -> dict[str, Any]:
        job: dict[str, Any] = json.loads(json.dumps(self.description | {"dtype": self.dtype}))
        return job

    def _count(self, folder: str) -> int:
        total = 0
        for file in self._parts(folder):
            with opened_parquet(file) as opened:
                total += opened.metadata.num_rows
        return total

    def _table(self, file: str, columns: Sequence[str] | None) -> Any:
        try:
            with opened_parquet(file) as opened:
                return opened.read(columns=columns, use_threads=False)
        except (OSError, require_extra("pyarrow", "data").ArrowException) as error:
            raise ModelFileError(
                f"Expected {file} to be a whole shard, got: {reason_of(error)}: delete it and run again, which encodes "
                "its images again"
            ) from error

    def _parts(self, folder: str) -> list[str]:
        return [f"{folder}/{name}" for name in self._names(folder) if name.startswith("part-")]

    def _names(self, folder: str) -> list[str]:
        if "://" not in folder:
            return sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        filesystem, inside = storage_of(folder)
        with _reaching(folder):
            if not filesystem.exists(inside):
                return []
            filesystem.invalidate_cache(inside)
            return sorted(name.rstrip("/").rpartition("/")[2] for name in filesystem.ls(inside, detail=False))

    def _read(self, file: str) -> bytes:
        with _reaching(file), _opened(file) as opened:
            data: bytes = opened.read()
        return data

    def _write(self, file: str, data: bytes) -> None:
        if "://" not in file:
            write_file(Path(file), data)
            return
        filesystem, inside = storage_of(file)
        with _reaching(file):
            filesystem.makedirs(inside.rpartition("/")[0], exist_ok=True)
            filesystem.pipe_file(inside, data)


@contextlib.contextmanager
def _reaching(file: str) -> Iterator[None]:
    """Say in one line what storage elsewhere has against it: libraries of storages have errors of their own."""
    try:
        yield
    except Exception as error:
        raise TipAdapterError(
            f"{file} cannot be read or written ({reason_of(error)}): finished shards are kept, run again to go on"
        ) from error


def merge(files: Sequence[str], output: Path) -> None:
    """Join Parquet files into one, a part at a time; it appears when it is complete."""
    parquet = require_extra("pyarrow.parquet", "data")
    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    writer = None
    try:
        for file in files:
            table = parquet.read_table(file, partitioning=None, use_threads=False)
            writer = writer or parquet.ParquetWriter(temporary, table.schema, use_dictionary=REPEATED)
            writer.write_table(table)
        if writer is None:
            return
        writer.close()
        os.replace(temporary, output)
    finally:
        temporary.unlink(missing_ok=True)


def iter_features(files: Sequence[str]) -> Iterator[np.ndarray[Any, Any]]:
    """Read the features of Parquet files, (n, D) at a time."""
    for file in files:
        with opened_parquet(file) as opened:
            for batch in opened.iter_batches(ROWS, columns=["features"], use_threads=False):
                features = batch["features"]
                yield features.flatten().to_numpy().reshape(len(features), features.type.list_size)


def _opened(file: str) -> Any:
    return require_extra("fsspec", "data").open(file, "rb").open() if "://" in file else open(file, "rb")


def _to_parquet(job: Mapping[str, Any], columns: Columns, rows: Any, *, errors: bool) -> bytes:
    """Put rows into one Parquet file in memory; features are lists of fixed size."""
    arrow = require_extra("pyarrow", "data")
    parquet = require_extra("pyarrow.parquet", "data")
    wanted: dict[str, Any] = {}
    for name, column in columns.items():
        if name in TEXTS or (name == "error" and errors):
            wanted[name] = arrow.array([column[row] for row in rows], arrow.string())
        elif errors or name == "error":
            continue
        elif isinstance(column, np.ndarray) and column.ndim == 2:
            values = np.ascontiguousarray(column[rows], dtype=job["dtype"] if name == "features" else column.dtype)
            wanted[name] = arrow.FixedSizeListArray.from_arrays(arrow.array(values.ravel()), values.shape[1])
        else:
            wanted[name] = arrow.array([column[row] for row in rows])
    sink = arrow.BufferOutputStream()
    parquet.write_table(arrow.table(wanted, metadata={JOB: json.dumps(dict(job))}), sink, use_dictionary=REPEATED)
    data: bytes = sink.getvalue().to_pybytes()
    return data
