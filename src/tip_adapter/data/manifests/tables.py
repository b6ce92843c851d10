"""Read the rows of a table in CSV, JSON Lines or Parquet, as spreadsheets and programs write them."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tip_adapter.data.files import read_file
from tip_adapter.errors import DatasetError
from tip_adapter.libraries import require_extra

Row = tuple[int, dict[str, Any]]

MAX_BYTES, MAX_ROWS = 256 * 2**20, 5_000_000
_DELIMITERS = ",;\t|"
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class Table:
    """A table."""

    path: Path
    columns: tuple[str, ...]
    """As in the file, without blanks around them; those without a name are left out."""
    rows: list[Row]
    """(number, row): the number of the line in a text file, where a row of a Parquet table counts from 1; and the row
    by column."""

    def values(self, column: str) -> list[Any]:
        """Return the values of a column; None where a row has none."""
        return [row.get(column) for _, row in self.rows]


def read_table(path: Path) -> Table:
    r"""Read a table.

    Parameters
    ----------
    path : Path
        A .csv or .tsv (separated by commas, semicolons, tabs or bars), .jsonl or .parquet file (the last with the extra
        ``data``), on the disk or in an archive.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from tip_adapter.data.manifests import read_table
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "pets.csv")
    ...     _ = path.write_text("path; label\na.jpg; cat\n", encoding="utf-8")
    ...     table = read_table(path)
    >>> table.columns, table.rows
    (('path', 'label'), [(2, {'path': 'a.jpg', 'label': 'cat'})])
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        kinds = ", ".join(TABLE_SUFFIXES)
        raise DatasetError(
            f"Expected a folder of class folders, an archive of one (.zip, .tar) or a manifest ({kinds}), got {path}: "
            "convert it"
        )
    table = reader(path)
    if not table.rows:
        raise DatasetError(f"Expected rows in {path}, found none: add one per image")
    return table


def _csv_table(path: Path) -> Table:
    text = _text(path, "a comma-separated UTF-8 file")
    try:
        header = text.partition("\n")[0]
        delimiter = max(_DELIMITERS, key=lambda mark: len(next(csv.reader([header], delimiter=mark), [])))
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
        columns = [name.strip() for name in next(reader, [])]
        rows = [
            (reader.line_num, dict(zip(columns, cells, strict=False))) for cells in reader if any(map(str.strip, cells))
        ]
    except csv.Error as error:
        raise DatasetError(
            f"Expected a comma-separated UTF-8 file at {path}, got an error ({error}): correct it"
        ) from error
    return Table(path, tuple(filter(None, columns)), rows)


def _text(path: Path, what: str) -> str:
    data = read_file(path, MAX_BYTES)
    try:
        # Spreadsheets write a byte order mark, and some of them UTF-16.
        return data.decode("utf-16" if data.startswith(_UTF16) else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(f"Expected {what} at {path}, got an error ({error}): save it as UTF-8") from error


def _jsonl_table(path: Path) -> Table:
    lines = _text(path, "UTF-8 lines of JSON").split("\n")
    rows = [(number, _jsonl_row(line, number, path)) for number, line in enumerate(lines, start=1) if line.strip()]
    return Table(path, tuple(dict.fromkeys(name for _, row in rows for name in row)), rows)


def _jsonl_row(line: str, number: int, path: Path) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is a ValueError
        raise DatasetError(
            f"Expected a JSON object in row {number} of {path}, got an error ({str(error)[:200]}): correct it"
        ) from error
    if not isinstance(row, dict):
        raise DatasetError(f"Expected a JSON object in row {number} of {path}, got {type(row).__name__}: correct it")
    return {name.strip(): value for name, value in row.items()}


def _parquet_table(path: Path) -> Table:
    parquet = require_extra("pyarrow.parquet", "data")
    data = read_file(path, MAX_BYTES)
    try:
        # Copied, since Arrow's threads may let go of what they read while Python ends: see `opened_parquet`.
        copied = require_extra("pyarrow", "data").BufferOutputStream()
        copied.write(data)
        file = parquet.ParquetFile(copied.getvalue())
        if file.metadata.num_rows > MAX_ROWS:
            raise DatasetError(
                f"Expected at most {MAX_ROWS:,} rows in {path}, got {file.metadata.num_rows:,}: split it"
            )
        columns = list(_plain_columns(file.schema_arrow))
        rows = file.read(columns=columns, use_threads=False).to_pylist()
    except (OSError, ValueError) as error:  # pyarrow's own errors derive from these
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"Expected a Parquet file at {path}, got an error ({error}): write it again") from error
    return Table(path, tuple(columns), list(enumerate(rows, start=1)))


def _plain_columns(schema: Any) -> Iterator[str]:
    """Leave out columns of pictures and other nested values, which take memory and say no name."""
    for field in schema:
        if field.type.num_fields == 0 and "binary" not in str(field.type):
            yield field.name


_READERS = {
    ".csv": _csv_table,
    ".tsv": _csv_table,
    ".jsonl": _jsonl_table,
    ".ndjson": _jsonl_table,
    ".parquet": _parquet_table,
}
TABLE_SUFFIXES = tuple(_READERS)
