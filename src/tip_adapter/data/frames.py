"""Read photos and their classes from tables in memory: data frames, Arrow tables, Hugging Face data sets, records."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tip_adapter.data.class_names import is_missing
from tip_adapter.data.decoding import StoredImage, read_image_bytes
from tip_adapter.data.manifests.columns import Columns, splits_of, understand_columns, understand_path
from tip_adapter.data.manifests.tables import Table
from tip_adapter.data.parts import Part, chosen_part
from tip_adapter.data.sequences import column_names, is_one_image, list_images, list_items, list_labels
from tip_adapter.data.splits import split_name
from tip_adapter.errors import DatasetError, ImageError

NAME = Path("the table")
"""What messages call it."""


def is_frame(data: Any) -> bool:
    """Tell a table, or a list of its rows as dictionaries, from anything else."""
    if column_names(data) is not None:
        return True
    return isinstance(data, list | tuple) and bool(data) and all(map(_is_record, data))


def images_of_frame(data: Any) -> list[Any]:
    """List the images of a table's column of images, which is found as in a manifest."""
    table = _table(data)
    column = understand_path(table, _count_images)
    return _images([row.get(column) for _, row in table.rows])


def labelled_images_of_frame(data: Any, prefer: Sequence[str] = ()) -> tuple[list[Any], list[Any]]:
    """List images and labels of a table, whose columns are understood as those of a manifest.

    Of several splits the first of those preferred is taken.

    Examples
    --------
    >>> from tip_adapter.data.frames import labelled_images_of_frame
    >>> labelled_images_of_frame([{"file_name": "a.jpg", "breed": "pug"}, {"file_name": "b.jpg", "breed": "akita"}])
    (['a.jpg', 'b.jpg'], ['pug', 'akita'])
    """
    table = _table(data)
    columns = understand_columns(table, _count_images)
    rows = _rows_of_split(table, columns, prefer)
    labels = list_labels([columns.label_of(row) for row in rows])
    return _images([row[columns.path] for row in rows]), _named(labels, data, columns.label)


def _table(data: Any) -> Table:
    names = column_names(data)
    if names is None:
        records = [(number, {str(name): value for name, value in row.items()}) for number, row in enumerate(data)]
        return Table(NAME, tuple(dict.fromkeys(name for _, row in records for name in row)), records)
    shown = tuple(str(name) for name in names)
    twice = next((name for name in shown if shown.count(name) > 1), None)
    if twice is not None:
        raise DatasetError(f"Expected every column once in {NAME}, got {twice} twice: rename one")
    columns = [_column(data, name) for name in names]
    rows = [(number, dict(zip(shown, row, strict=True))) for number, row in enumerate(zip(*columns, strict=True))]
    if not rows:
        raise DatasetError(f"Expected rows in {NAME}, found none: give one per image")
    return Table(NAME, shown, rows)


def _column(data: Any, name: Any) -> list[Any]:
    """List a column; photos of a Hugging Face data set, which may be larger than the memory, are read when wanted."""
    feature: Any = (_features(data) or {}).get(name)
    if type(feature).__name__ != "Image" or not hasattr(type(data), "cast_column"):
        return list_items(data[name], f"the column {name}")
    rows = data.cast_column(name, type(feature)(decode=False))
    return [StoredImage(partial(_stored_bytes, rows, row, name), f"{name} {row}") for row in range(len(data))]


def _images(values: Sequence[Any]) -> list[Any]:
    """List images; one that is missing is refused by its row where it is read, so that it can be skipped."""
    return list_images(
        StoredImage(partial(_missing, row), f"row {row}") if is_missing(value) else value
        for row, value in enumerate(values)
    )


def _missing(row: int) -> bytes:
    raise ImageError(f"Expected an image in row {row} (the first is row 0), got none: fill it in, or leave the row out")


def _stored_bytes(rows: Any, row: int, name: str) -> bytes:
    stored = rows[row][name]
    if not isinstance(stored, Mapping):
        raise ImageError(f"Expected an image in row {row} of the column {name}, got none")
    return read_image_bytes(stored["path"] if stored["bytes"] is None else stored["bytes"])


def split_of(data: Any, prefer: Sequence[str]) -> Any:
    """Take the first preferred split of tables by their split, such as a ``DatasetDict``; anything else as it is."""
    if not isinstance(data, Mapping) or not data or any(column_names(table) is None for table in data.values()):
        return data
    parts = [Part(meant.split if (meant := split_name(key)) else key, key, NAME, list) for key in data]
    return data[chosen_part(parts, None, prefer, NAME).shown]


def _is_record(row: Any) -> bool:
    return isinstance(row, Mapping) and not is_one_image(row)


def _count_images(values: Sequence[Any]) -> int:
    return sum(os.path.isfile(value) if isinstance(value, str) else is_one_image(value) for value in values)


def _rows_of_split(table: Table, columns: Columns, prefer: Sequence[str]) -> list[dict[str, Any]]:
    parts = [Part(split, shown, NAME, list) for split, shown in splits_of(table, columns).items()]
    if len(parts) < 2:
        return [row for _, row in table.rows]
    wanted = chosen_part(parts, None, prefer, NAME).shown
    return [row for _, row in table.rows if str(row.get(columns.split)).strip() == wanted]


def _named(labels: list[Any], data: Any, column: str) -> list[Any]:
    """Name numbers as Hugging Face's data set does that they come from."""
    features = _features(data)
    return named_labels(labels, getattr(features[column], "names", None) if features and column else None)


def _features(data: Any) -> Any:
    return getattr(data, "features", None) if hasattr(type(data), "features") else None


def named_labels(labels: list[Any], names: Sequence[str] | None) -> list[Any]:
    """Name numbers that index names; leave other labels as they are."""
    if not names or not all(label is None or isinstance(label, int) for label in labels):
        return labels
    strange = [row for row, label in enumerate(labels) if label is None or not 0 <= label < len(names)]
    if strange:
        shown = ", ".join(map(str, strange[:5])) + (" …" if len(strange) > 5 else "")
        raise DatasetError(
            f"Expected a label from 0 to {len(names) - 1} for every image, got {labels[strange[0]]} in row {shown}: "
            "leave out what has no label"
        )
    return [names[label] for label in labels]
