"""Turn a table into labelled photos: find the photo of every row, and the name of its class."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tip_adapter.data.class_names import is_missing, listed, name_of_label
from tip_adapter.data.files import is_web_address
from tip_adapter.data.folders import FolderReader
from tip_adapter.data.manifests.columns import Columns, splits_of, understand_columns, understand_path
from tip_adapter.data.manifests.photo_finder import PhotoFinder
from tip_adapter.data.manifests.tables import Row, Table, read_table
from tip_adapter.data.parts import Pair, Part
from tip_adapter.data.splits import split_name
from tip_adapter.errors import DatasetError, InputError, MissingExtraError, SkippableError

_TRIED = 50


@dataclass(frozen=True)
class _PhotoTable:
    """A table whose columns are understood."""

    table: Table
    columns: Columns
    finder: PhotoFinder

    @property
    def splits(self) -> dict[str, str]:
        """Names of the splits that occur, each with what the table calls it."""
        return splits_of(self.table, self.columns)


def table_parts(path: Path, reader: FolderReader, *, one_part: bool = False) -> list[Part]:
    """Find the parts of a table: one, or one for each split it names."""
    understood = _understood(path, reader)
    splits, columns = understood.splits, understood.columns

    def rows_of(wanted: str | None) -> list[Row]:
        return [
            row for row in understood.table.rows if wanted is None or _same_split(row[1].get(columns.split), wanted)
        ]

    if one_part or len(splits) < 2:
        [shown] = splits.values() if len(splits) == 1 else [""]
        return [Part("", shown, path, lambda: _pairs(understood, rows_of(None), reader))]
    return [
        Part(split, shown, path, lambda shown=shown: _pairs(understood, rows_of(shown), reader))  # type: ignore[misc]
        for split, shown in splits.items()
    ]


def _same_split(value: object, wanted: str) -> bool:
    text = str(value).strip()
    return text == wanted or (split_name(text) is not None and split_name(text) == split_name(wanted))


def usable_table(path: Path, reader: FolderReader) -> bool:
    """Tell whether a table names photos that are there, and classes; what is wrong with it is kept by the reader."""
    if path not in reader.table_problems:
        reader.table_problems[path] = _problem(path, reader)
    return not reader.table_problems[path]


def _problem(path: Path, reader: FolderReader) -> str:
    try:
        understood = _understood(path, reader)
    except (DatasetError, MissingExtraError) as error:
        return str(error)
    column = understood.columns.path
    tried = understood.table.values(column)[:_TRIED]
    found = understood.finder.count(tried)
    return "" if 2 * found >= len(tried) else f"{found} of {len(tried)} photos in its column {column} are there"


def _understood(path: Path, reader: FolderReader) -> _PhotoTable:
    if path not in reader.tables:
        table = read_table(path)
        finder = PhotoFinder(path, reader)
        reader.tables[path] = _PhotoTable(table, understand_columns(table, finder.count), finder)
    found: _PhotoTable = reader.tables[path]
    return found


def _pairs(understood: _PhotoTable, rows: Sequence[Row], reader: FolderReader) -> list[Pair]:
    """Pair photos with classes; rows without one of them are refused, or skipped."""
    path, columns = understood.table.path, understood.columns
    if (columns.path, columns.label) != ("path", "label"):
        classes = f'"{columns.label}"' if columns.label else f"{len(columns.classes)} columns of zeros and ones"
        reader.findings.understood.append(f'{path}: photos by "{columns.path}", classes by {classes}')
    values = [row.get(columns.path) for _, row in rows]
    _refuse_web_addresses(values, columns.path, path)
    labels = _labels(rows, columns, path)
    missing = [number for (number, _), label in zip(rows, labels, strict=True) if not label]
    if missing:
        reader.findings.skip(
            f"{path}, {listed(list(map(str, missing)), 'row')}",
            SkippableError(
                f"Expected a label in every row of {path}, got none in {listed(list(map(str, missing)), 'row')}: fill "
                "them in or remove the rows"
            ),
        )
    pairs: dict[Path, str] = {}
    images = understood.finder.find_all(values)
    gone = sum(image is None for image in images)
    others = 0 if reader.findings.skip_bad else gone - 1
    for (number, row), image, label in zip(rows, images, labels, strict=True):
        if image is None:
            reader.findings.skip(f"{path}, row {number}", _no_image(row.get(columns.path), number, path, others))
        elif label and pairs.setdefault(image, label) != label:
            raise DatasetError(
                f"Expected one label for {row.get(columns.path)} in {path}, got {pairs[image]!r} and {label!r} in row "
                f"{number}: correct one"
            )
    if columns.group:
        groups = [name_of_label(row.get(columns.group)) for _, row in rows]
        reader.findings.groups |= {image: group for image, group in zip(images, groups, strict=True) if image}
        blank = sum(not group for group in groups)
        alone = f", {blank} without one on their own" if blank else ""
        reader.findings.understood.append(f'{path}: groups by "{columns.group}"{alone}')
    repeated = len(rows) - len(missing) - gone - len(pairs)
    if repeated > 0:
        reader.findings.understood.append(f"{path}: {repeated} rows name a photo that another row names, too")
    return [(label, image) for image, label in pairs.items()]


def table_images(path: Path, reader: FolderReader) -> list[Path]:
    """List the photos that a table names, whether or not it says their classes."""
    table, finder = read_table(path), PhotoFinder(path, reader)
    column = understand_path(table, finder.count)
    values = table.values(column)
    _refuse_web_addresses(values, column, path)
    images = finder.find_all(values)
    others = 0 if reader.findings.skip_bad else sum(image is None for image in images) - 1
    for (number, _), value, image in zip(table.rows, values, images, strict=True):
        if image is None:
            reader.findings.skip(f"{path}, row {number}", _no_image(value, number, path, others))
    return [image for image in images if image is not None]


def _refuse_web_addresses(values: Sequence[Any], column: str, path: Path) -> None:
    address = next((value for value in values if is_web_address(value)), None)
    if address is not None:
        raise DatasetError(
            f"Expected files in the column {column} of {path}, got the web address {address[:60]}: nothing is "
            "downloaded here; download the photos and name the files"
        )


def _labels(rows: Sequence[Row], columns: Columns, path: Path) -> list[str]:
    labels = []
    for number, row in rows:
        label = columns.label_of(row)
        if not columns.label and isinstance(label, list):
            raise DatasetError(
                f"Expected one class for each photo in {path}, got {len(label)} in row {number} ({listed(label)}): "
                "keep one"
            )
        try:
            labels.append("" if is_missing(label) else name_of_label(label))
        except InputError as error:
            raise DatasetError(f"{error} in row {number} of {path}: name one class") from error
    if labels and all(re.fullmatch(r"-?\d+\.0+|", label) for label in labels):
        # Pandas writes 1.0 for 1 where a row of the column is empty.
        return [label.partition(".")[0] for label in labels]
    return labels


def _no_image(value: object, number: int, path: Path, others: int) -> SkippableError:
    if not isinstance(value, str | int) or not str(value).strip():
        return SkippableError(f"Expected a path in row {number} of {path}, got {value!r}: fill it in or remove the row")
    more = f", nor for {others} other rows" if others else ""
    return SkippableError(
        f"Expected an image at {path.parent / str(value).strip()} (row {number} of {path}), found none{more}: correct "
        "or remove the row"
    )
