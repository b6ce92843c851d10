"""A manifest in CSV, JSON Lines or Parquet goes in; its rows, with the numbers that messages call them by, come out."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tip_adapter.errors import DatasetError, require_extra

__all__ = ["read_manifest"]

Row = tuple[int, dict[str, Any]]


def read_manifest(path: Path) -> list[Row]:
    r"""Read the rows of a manifest.

    Parameters
    ----------
    path : Path
        A .csv, .jsonl or .parquet file (the last with the extra ``data``) with at least the columns ``path`` and
        ``label``.

    Returns
    -------
    rows : list of (number, row)
        The line number in a text file, where a row of a table counts from 1; and the row by column names.

    Raises
    ------
    DatasetError
        When the file is of another kind, damaged, or empty, or lacks a column.
    MissingExtraError
        When a Parquet file is read without pyarrow.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from tip_adapter.data.manifests import read_manifest
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "pets.csv")
    ...     _ = path.write_text("path,label\na.jpg,cat\n", encoding="utf-8")
    ...     read_manifest(path)
    [(2, {'path': 'a.jpg', 'label': 'cat'})]
    """
    readers = {".csv": _csv_rows, ".jsonl": _jsonl_rows, ".parquet": _parquet_rows}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        kinds = ", ".join(readers)
        raise DatasetError(f"Expected a folder of class folders or a manifest ({kinds}), got {path}: convert it")
    rows = list(reader(path))
    if not rows:
        raise DatasetError(f"Expected rows in {path}, found none: add one per image")
    return rows


def _check_columns(columns: Iterable[str], path: Path) -> None:
    present = list(columns)
    missing = [name for name in ("path", "label") if name not in present]
    if missing:
        got = ", ".join(present) or "none"
        one = len(present) == 1 and any(mark in present[0] for mark in ";\t|")
        advice = "separate them by commas" if one else f"add {' and '.join(missing)}"
        raise DatasetError(f"Expected the columns path and label in {path}, got {got}: {advice}")


def _csv_rows(path: Path) -> Iterator[Row]:
    """Yield rows with their line number, as editors show it."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:  # -sig: spreadsheets write a byte order mark
            reader = csv.DictReader(file, strict=True)
            _check_columns(reader.fieldnames or (), path)
            for row in reader:
                yield reader.line_num, row
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise DatasetError(
            f"Expected a comma-separated UTF-8 file at {path}, got an error ({error}): correct it"
        ) from error


def _jsonl_rows(path: Path) -> Iterator[Row]:
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, _jsonl_row(line, number, path)
    except (UnicodeDecodeError, OSError) as error:
        raise DatasetError(f"Expected UTF-8 lines of JSON in {path}, got an error ({error}): correct it") from error


def _jsonl_row(line: str, number: int, path: Path) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DatasetError(
            f"Expected a JSON object in row {number} of {path}, got an error ({error}): correct it"
        ) from error
    if not isinstance(row, dict):
        raise DatasetError(f"Expected a JSON object in row {number} of {path}, got {type(row).__name__}: correct it")
    _check_columns(row, path)
    return row


def _parquet_rows(path: Path) -> Iterator[Row]:
    parquet = require_extra("pyarrow.parquet", "data")
    try:
        table = parquet.read_table(path)
    except (OSError, ValueError) as error:  # pyarrow's own errors derive from these
        raise DatasetError(f"Expected a Parquet file at {path}, got an error ({error}): write it again") from error
    _check_columns(table.column_names, path)
    wanted = [name for name in ("path", "label", "split") if name in table.column_names]
    yield from enumerate(table.select(wanted).to_pylist(), start=1)
