"""Recognise which columns of a table hold the photos, the classes and the splits."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tip_adapter.data.manifests.tables import Table
from tip_adapter.data.splits import split_name
from tip_adapter.errors import DatasetError

# Names without blanks, hyphens, underscores and capitals. Of several columns the one of the earliest group is taken.
PATHS: tuple[tuple[str, ...], ...] = (
    ("path",),
    (
        *("filename", "filenames", "filepath", "filepaths", "file", "files", "fname", "relpath", "relativepath"),
        *("image", "images", "imagepath", "imagepaths", "imagefile", "imagefilename", "imagename", "imagefilepath"),
        *("img", "imgpath", "imgname", "imgfile", "impath", "photo", "photopath", "photoname", "picture", "pic"),
    ),
    ("id", "imageid", "imgid", "photoid", "fileid", "uid", "uuid", "key"),
    ("url", "imageurl", "photourl", "uri", "link"),
)
LABELS: tuple[tuple[str, ...], ...] = (
    ("label",),
    (
        *("labels", "labelname", "class", "classname", "classlabel", "category", "categoryname", "target"),
        *("targetname", "breed", "species", "variety", "kind", "type", "diagnosis", "dx", "tag", "y", "truth"),
        "groundtruth",
    ),
    ("classid", "labelid", "categoryid", "targetid", "classindex", "labelindex", "classnumber", "labelencoded"),
)
SPLIT_COLUMNS = ("split", "splits", "subset", "set", "partition", "dataset", "usage", "phase", "fold")
"""Columns of splits, believed where their values are names of splits; "split" is, whatever its values."""

GROUPS = ("group", "groups", "groupid", "burst", "burstid", "sequenceid", "patientid")
"""Columns of what photos belong to, which tell little more than one photo of it."""

_PREDICTED = ("probability", "confidence", "score")
_ZEROS_AND_ONES = ("0", "1", "0.0", "1.0", "True", "False", "true", "false")
_ONES = ("1", "1.0", "True", "true")


@dataclass(frozen=True)
class Columns:
    """Which column says what."""

    path: str
    label: str
    """Empty where the classes are columns of zeros and ones."""
    classes: tuple[str, ...] = ()
    """These columns."""
    split: str = ""
    """Empty where there is none."""
    group: str = ""
    """What a photo belongs to, such as a burst; empty where there is none."""

    def label_of(self, row: dict[str, Any]) -> Any:
        """Return the label of a row: of columns of zeros and ones a list, unless there is one class."""
        if self.label:
            return row.get(self.label)
        names = [name for name in self.classes if str(row.get(name)).strip() in _ONES]
        return names[0] if len(names) == 1 else names or None


def understand_columns(table: Table, found: Callable[[Sequence[Any]], int]) -> Columns:
    """Choose the columns of a table."""
    by_name = _by_name(table)
    path = _path_column(table, by_name, found)
    split = _split_column(table, by_name)
    group = next((name for plain in GROUPS for name in by_name.get(plain, [])), "")
    others = [name for name in dict.fromkeys(table.columns) if name not in (path, split, group)]
    label = _label_column(table, by_name, others)
    if label:
        return Columns(path, label, split=split, group=group)
    classes = tuple(name for name in others if _is_zeros_and_ones(table, name))
    if len(classes) > 1:
        return Columns(path, "", classes, split, group)
    # Any name will do for the only other column, if it is one of classes and not a text for each photo.
    if len(others) == 1 and len(set(map(str, table.values(others[0])))) <= len(table.rows) // 2:
        return Columns(path, others[0], split=split, group=group)
    raise DatasetError(
        f"Expected a column of classes in {table.path}, such as label, class or category, got {_listed(table)}: "
        "rename the one that holds them to label"
    )


def understand_path(table: Table, found: Callable[[Sequence[Any]], int]) -> str:
    """Choose the column that names the photos; a table of photos to classify needs no other."""
    return _path_column(table, _by_name(table), found)


def splits_of(table: Table, columns: Columns) -> dict[str, str]:
    """Name the splits that occur in a table, each with what the table calls it."""
    if not columns.split:
        return {}
    values = sorted({str(value).strip() for value in table.values(columns.split) if value is not None})
    names = {value: name.split if (name := split_name(value)) else value for value in filter(None, values)}
    tests = "test" in names.values()
    return {{"evaluation": "validation" if tests else "test"}.get(name, name): value for value, name in names.items()}


def _by_name(table: Table) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in table.columns:
        found.setdefault(_plain(name), []).append(name)
    return found


def may_name_files(column: str) -> bool:
    """Whether a column is called as those are that name photos."""
    return any(_plain(column) in group for group in PATHS)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())


def _listed(table: Table) -> str:
    return (
        f"the columns {', '.join(table.columns[:12])}{' …' if len(table.columns) > 12 else ''}"
        if table.columns
        else "none"
    )


def _path_column(table: Table, by_name: dict[str, list[str]], found: Callable[[Sequence[Any]], int]) -> str:
    candidates = [name for group in PATHS for plain in group for name in by_name.get(plain, [])]
    if not candidates:
        first = table.columns[0] if table.columns else ""
        if re.search(r"\.\w{3,4}$", first):
            raise DatasetError(
                f"Expected names of columns in the first line of {table.path}, got {first}: put path,label above it"
            )
        raise DatasetError(
            f"Expected a column of files in {table.path}, such as path, file_name or image, got {_listed(table)}: "
            "rename the one that names the photos to path"
        )
    _check_once(table, candidates[0])
    if len(candidates) == 1 or candidates[0] == "path":
        return candidates[0]
    return next((name for name in candidates if found(table.values(name)[:50])), candidates[0])


def _check_once(table: Table, column: str) -> None:
    if table.columns.count(column) > 1:
        raise DatasetError(f"Expected the column {column} once in {table.path}, got it twice: rename one")


def _split_column(table: Table, by_name: dict[str, list[str]]) -> str:
    for plain in SPLIT_COLUMNS:
        for name in by_name.get(plain, []):
            values = {str(value).strip() for value in table.values(name) if value is not None} - {""}
            if plain == "split" or (values and all(map(split_name, values))):
                return name
    return ""


def _label_column(table: Table, by_name: dict[str, list[str]], others: Sequence[str]) -> str:
    """Choose the column of classes by its name; of several that say the same, the one in words."""
    if any(word in plain for plain in by_name for word in _PREDICTED):
        raise DatasetError(
            f"Expected a table of known classes at {table.path}, got predictions with probabilities: label the photos"
        )
    for group in LABELS:
        named = [name for plain in group for name in by_name.get(plain, []) if name in others]
        if named:
            _check_once(table, named[0])
            in_words = sorted(named, key=lambda name: _is_numeric(table, name))
            if all(_say_the_same(table, in_words[0], name) for name in in_words[1:]):
                return in_words[0]
            raise DatasetError(
                f"Expected one column of classes in {table.path}, got {' and '.join(named)}: name one of them label"
            )
    return ""


def _is_numeric(table: Table, column: str) -> bool:
    return all(re.fullmatch(r"-?\d*\.?\d*", str(value).strip()) for value in table.values(column))


def _say_the_same(table: Table, one: str, other: str) -> bool:
    pairs = set(zip(map(str, table.values(one)), map(str, table.values(other)), strict=True))
    return len(pairs) == len({first for first, _ in pairs}) == len({second for _, second in pairs})


def _is_zeros_and_ones(table: Table, column: str) -> bool:
    return all(str(value).strip() in _ZEROS_AND_ONES for value in table.values(column))
