"""List the images of files, Parquet with image bytes and WebDataset tars as records, each read when it is wanted."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tip_adapter.data.class_names import class_name, is_missing
from tip_adapter.data.dataset import is_table, load_splits, says_classes
from tip_adapter.data.decoding import read_image_bytes
from tip_adapter.data.formats import IMAGE_SUFFIXES
from tip_adapter.data.manifests.columns import may_name_files
from tip_adapter.data.pixels import MAX_FILE_BYTES
from tip_adapter.data.search import find_images
from tip_adapter.errors import DatasetError, ImageError
from tip_adapter.libraries import require_extra

LABEL_SUFFIXES = (".cls", ".txt", ".json")
"""Members of a WebDataset tar that name the class of the image with the same key."""


@dataclass(frozen=True)
class Record:
    """One image of a source, and where its bytes are."""

    id: str
    """What resuming goes by; unique in a source."""
    path: str
    """A file, or the tar or Parquet file that holds the image; local, or an address such as ``s3://bucket/a.tar``."""
    label: str | None = None
    group: str | None = None
    column: str | None = None
    """The column of image bytes in a Parquet file."""
    place: tuple[int, int] | None = None
    """Offset and size in a tar; row group and row in a Parquet file."""

    def read(self) -> bytes:
        """Read the encoded image."""
        if self.column is not None and self.place is not None:
            return _read_row(self.path, self.column, *self.place)
        if self.place is None and "://" not in self.path:
            return read_image_bytes(self.path)
        offset, size = self.place or (0, MAX_FILE_BYTES + 1)
        try:
            with _open(self.path) as file:
                file.seek(offset)
                data: bytes = file.read(size)
        except OSError as error:
            raise ImageError(f"Expected {self.path} to be readable, got: {error}") from error
        if len(data) > MAX_FILE_BYTES:
            raise ImageError(f"Expected an image of at most {MAX_FILE_BYTES:,} bytes, got more: {self.path}")
        return data


def list_records(sources: Sequence[str]) -> list[Record]:
    """List the images of folders, manifests, Parquet files and tars, on this machine or where fsspec reaches.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from tip_adapter.data.records import list_records
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a.jpg").write_bytes(b"")
    ...     [Path(record.id).name for record in list_records([folder])]
    ['a.jpg']
    """
    records = [record for source in sources for record in _records_of(source)]
    if not records:
        raise DatasetError(f"Expected images in {', '.join(sources)}, got none: name a folder, Parquet file or tar")
    seen: set[str] = set()
    for record in records:
        if record.id in seen:
            raise DatasetError(f"Expected every image to have an id of its own, got {record.id!r} twice: rename one")
        seen.add(record.id)
    return records


def to_json(records: Iterable[Record]) -> str:
    """Write records as text, for workers on other machines."""
    return json.dumps([asdict(record) for record in records])


def from_json(text: str) -> list[Record]:
    """Read records that `to_json` wrote."""
    return [Record(**row | {"place": tuple(row["place"]) if row["place"] else None}) for row in json.loads(text)]


class _NoImageColumnError(DatasetError):
    """A Parquet file without image bytes, which may be a manifest."""

    def __init__(self, path: str, schema: Any) -> None:
        types = require_extra("pyarrow", "data").types
        listed = [f"{field.name} ({field.type})" for field in schema]
        listed = [*listed[:12], "…"] if len(listed) > 12 else listed
        remedy = "keep the images' bytes in a binary column, or name their files in a column path"
        if features := any(field.name == "features" and types.is_nested(field.type) for field in schema):
            remedy = "features that embed wrote are for fit, evaluate and bench"
        super().__init__(
            f"Expected a column of image bytes (binary, or a struct of bytes and path) in {path}, got "
            f"{'the columns ' + ', '.join(listed) if listed else 'none'}: {remedy}"
        )
        named = any(may_name_files(field.name) and types.is_string(field.type) for field in schema)
        self.may_be_manifest = named and not features


def _records_of(source: str) -> Iterator[Record]:
    found, lacking = _in_parquet(source)
    found = found or [record for file in _files(source, ".tar") for record in _tar_records(file)]
    if found:
        yield from found
    elif "://" in source:
        yield from _remote_files(source)
    elif is_table(source) or (os.path.isdir(source) and says_classes(source)):
        for part in load_splits(source, min_classes=1).values():
            for path, label in zip(part.paths, part.labels, strict=True):
                yield Record(str(path), str(path), part.class_names[label])
    else:
        try:
            yield from [Record(str(path), str(path)) for path in find_images([source])]
        except DatasetError:
            # Images may lie beside Parquet files of something else; where none do, those are what was meant.
            if lacking is None:
                raise
            raise lacking from None


def _in_parquet(source: str) -> tuple[list[Record], _NoImageColumnError | None]:
    """Images in Parquet files, and the first file without any that may be a manifest, or lie beside images."""
    found, lacking, files = list[Record](), None, _files(source, ".parquet")
    for file in files:
        try:
            found += _parquet_records(file)
        except _NoImageColumnError as error:
            lacking = lacking or error
    alone = files == [source]
    if lacking is not None and (found or "://" in source or (alone and not lacking.may_be_manifest)):
        raise lacking
    return found, lacking


def _files(source: str, suffix: str) -> list[str]:
    """Files of one kind: the source itself, those that a pattern stands for, or those in a folder."""
    if source.endswith(suffix) and not any(sign in source for sign in "*?["):
        return [] if os.path.isdir(source) else [source]
    if "://" not in source and not source.endswith(suffix):
        return [str(path) for path in sorted(Path(source).glob(f"*{suffix}"))] if os.path.isdir(source) else []
    filesystem, path = storage_of(source)
    pattern = path if path.endswith(suffix) else f"{path.rstrip('/')}/*{suffix}"
    return [_full(filesystem, source, found) for found in sorted(filesystem.glob(pattern))]


def storage_of(address: str) -> tuple[Any, str]:
    """Find what reaches an address, and the path in it."""
    fsspec = require_extra("fsspec", "data")
    try:
        filesystem, path = fsspec.core.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise DatasetError(f"Expected storage that fsspec can reach, got {address}: {error}") from error
    return filesystem, path


def _full(filesystem: Any, source: str, path: str) -> str:
    return str(filesystem.unstrip_protocol(path)) if "://" in source else str(path)


@contextlib.contextmanager
def opened_parquet(path: str) -> Iterator[Any]:
    """Open a Parquet file on this machine, by its name, or elsewhere.

    Arrow's threads let go of a file when they please. One that lets go of a Python object while Python ends is ended by
    it, and takes the process with it, whose exit status is then a signal.
    """
    parquet = require_extra("pyarrow.parquet", "data")
    with _open(path) if "://" in path else contextlib.nullcontext(path) as file, parquet.ParquetFile(file) as table:
        yield table


def _open(path: str) -> Any:
    return require_extra("fsspec", "data").open(path, "rb").open() if "://" in path else open(path, "rb")


def _remote_files(source: str) -> Iterator[Record]:
    """Images below a folder; those in subfolders are of the class that their folder is called."""
    filesystem, root = storage_of(source)
    for path in sorted(filesystem.find(root)):
        if PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES:
            inside = PurePosixPath(path[len(root) :].lstrip("/"))
            full = _full(filesystem, source, path)
            yield Record(full, full, inside.parts[-2] if len(inside.parts) > 1 else None)


def _tar_records(path: str) -> Iterator[Record]:
    """Images of a WebDataset tar, where some member names the class of one; other archives are folders in a file."""
    try:
        with _open(path) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            members = [member for member in tar if member.isfile()]
            labels = {
                key: _label_of(suffix, extracted.read(2**20))
                for member in members
                for key, suffix in [_key_of(member.name)]
                if suffix in LABEL_SUFFIXES and (extracted := tar.extractfile(member))
            }
    except (OSError, tarfile.TarError) as error:
        raise DatasetError(f"Expected {path} to be a whole tar without compression, got: {error}") from error
    if not labels and "://" not in path:
        return
    for member in members:
        key, suffix = _key_of(member.name)
        if suffix.rpartition(".")[2] in {known.lstrip(".") for known in IMAGE_SUFFIXES}:
            yield Record(f"{path}/{key}", path, _class_of(labels.get(key)), place=(member.offset_data, member.size))


def _key_of(name: str) -> tuple[str, str]:
    """Split as WebDataset does: the key ends at the first dot of the file's name."""
    folder, _, file = name.rpartition("/")
    key, dot, suffix = file.partition(".")
    return f"{folder}/{key}" if folder else key, dot + suffix.lower()


def _label_of(suffix: str, data: bytes) -> Any:
    text = data.decode(errors="replace").strip()
    if suffix != ".json":
        return text
    try:
        row = json.loads(text)
    except ValueError:
        return None
    known = row if isinstance(row, dict) else {}
    return next((known[name] for name in ("label", "class", "cls") if name in known), None)


def _class_of(label: object) -> str | None:
    """Name the class of an image; a blank label is none."""
    return None if is_missing(label) else class_name(str(label))


def _parquet_records(path: str) -> Iterator[Record]:
    """Rows of a Parquet file with a column of image bytes, plain or as ``datasets`` keeps them."""
    try:
        with opened_parquet(path) as table:
            column = _image_column(table.schema_arrow)
            if column is None:
                raise _NoImageColumnError(path, table.schema_arrow)
            named = {name: _first(table.schema_arrow.names, name) for name in ("id", "path", "label", "group")}
            named["label"] = named["label"] or _first(table.schema_arrow.names, "class")
            columns = [name for name in named.values() if name]
            for group in range(table.num_row_groups):
                rows = table.read_row_group(group, columns, use_threads=False).to_pylist() if columns else []
                for row in range(table.metadata.row_group(group).num_rows):
                    told = {key: rows[row][name] for key, name in named.items() if name}
                    texts = {key: None if value is None else str(value) for key, value in told.items()}
                    identity = texts.get("id") or texts.get("path") or f"{path}#{group}.{row}"
                    label = _class_of(told.get("label"))
                    yield Record(identity, path, label, texts.get("group"), column, (group, row))
    except (OSError, _arrow_error()) as error:
        raise DatasetError(
            f"Expected {path} to be a whole Parquet file, got: {str(error).splitlines()[0]}; copy or write it again"
        ) from error


def _first(names: Sequence[str], name: str) -> str | None:
    return name if name in names else None


def _image_column(schema: Any) -> str | None:
    types = require_extra("pyarrow", "data").types
    for field in schema:
        kind = field.type.field("bytes").type if _has_bytes(types, field.type) else field.type
        if types.is_binary(kind) or types.is_large_binary(kind):
            return str(field.name)
    return None


def _has_bytes(types: Any, kind: Any) -> bool:
    return bool(types.is_struct(kind)) and any(field.name == "bytes" for field in kind)


def _arrow_error() -> type[Exception]:
    error: type[Exception] = require_extra("pyarrow", "data").ArrowException
    return error


def _read_row(path: str, column: str, group: int, row: int) -> bytes:
    value = _row_group(path, column, group)[row].as_py()
    data = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(data, bytes):
        raise ImageError(f"Expected image bytes in row {row} of {path}, got none")
    return data


@functools.lru_cache(maxsize=4)
def _row_group(path: str, column: str, group: int) -> Any:
    """Read one column of one row group; images come in the order of their rows, so few are kept."""
    try:
        with opened_parquet(path) as table:
            return table.read_row_group(group, [column], use_threads=False)[column]
    except (OSError, _arrow_error()) as error:
        raise ImageError(f"Expected {path} to be readable, got: {str(error).splitlines()[0]}") from error
