"""Write rows as .csv, .jsonl or .parquet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tip_adapter.errors import InputError
from tip_adapter.libraries import require_extra
from tip_adapter.storage.atomic import write_file
from tip_adapter.storage.escaping import for_csv

SUFFIXES = (".csv", ".jsonl", ".parquet")


def check_table_path(path: Path) -> None:
    """Refuse a path whose ending names no known kind of table, before any work is done."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"Expected an output ending in {', '.join(SUFFIXES)}, got {path}: rename it")
    if path.suffix.lower() == ".parquet":
        require_extra("pyarrow.parquet", "data")


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as a table, whole or not at all.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from tip_adapter.storage.tables import write_table
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "out.csv"
    ...     write_table(path, [{"path": "a.jpg", "class": "hat"}])
    ...     path.read_text().splitlines()
    ['path,class', 'a.jpg,hat']
    """
    check_table_path(path)
    write_file(path, _ENCODERS[path.suffix.lower()](rows))


def _text(value: str) -> str:
    """Write the bytes of a file name that are no UTF-8 as escapes, which JSON readers turn back into the same name."""
    return value.encode(errors="backslashreplace").decode()


def _csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: for_csv(value) for key, value in row.items()} for row in rows)
    return _text(buffer.getvalue()).encode()


def _jsonl(rows: Sequence[Mapping[str, Any]]) -> bytes:
    return _text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)).encode()


def _parquet(rows: Sequence[Mapping[str, Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    plain = [{key: _text(value) if isinstance(value, str) else value for key, value in row.items()} for row in rows]
    pq.write_table(pa.Table.from_pylist(plain), sink)
    return sink.getvalue()


_ENCODERS = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}
