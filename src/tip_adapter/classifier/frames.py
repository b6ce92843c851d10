"""Add predictions to the rows of a table."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from tip_adapter.data.sequences import column_names
from tip_adapter.errors import InputError


def check_columns(frame: Any, new: Sequence[str]) -> None:
    """Raise where there is no table, or it has columns of these names."""
    names = column_names(frame)
    if names is None:
        raise InputError(f"Expected a table with a column of images, got a {type(frame).__name__}: use predict_top")
    taken = [name for name in new if name in names]
    if taken:
        raise InputError(f"The table has a column {taken[0]!r} already: drop or rename it")


def with_columns(frame: Any, columns: Mapping[str, Sequence[Any]]) -> Any:
    """Add columns to a data frame of pandas or polars, an Arrow table or a Hugging Face data set; its index stays."""
    library = type(frame).__module__.partition(".")[0]
    if library == "polars":
        series = importlib.import_module("polars").Series
        return frame.with_columns([series(name, values) for name, values in columns.items()])
    if hasattr(type(frame), "assign"):
        return frame.assign(**columns)
    for name, values in columns.items():
        frame = frame.append_column(name, [values]) if library == "pyarrow" else frame.add_column(name, list(values))
    return frame
