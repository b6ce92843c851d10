"""Recognise the layout of a folder of photos: splits, wrapper folders, class folders, tables beside the photos."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path

from tip_adapter.data.archives import ARCHIVE_SUFFIXES
from tip_adapter.data.class_names import class_name, counted, listed
from tip_adapter.data.folders import FolderReader
from tip_adapter.data.manifests import TABLE_SUFFIXES, table_parts, usable_table
from tip_adapter.data.parts import Pair, Part
from tip_adapter.data.splits import UNLABELLED, SplitName, split_name
from tip_adapter.errors import DatasetError, SkippableError, SplitError

_KNOWN_TABLES = re.compile(r"(metadata|_classes)\.(csv|jsonl|parquet)", re.IGNORECASE)
_PLAIN_NAMES = frozenset(
    ("image", "images", "img", "imgs", "photo", "photos", "picture", "pictures", "data", "dataset", "jpg", "png", "all")
)
_MAX_TABLES = 20  # more of them in one folder are data of something else
_CLASS_IN_NAME = "-!-"  # Teachable Machine calls its samples "class-!-number"


def folder_parts(reader: FolderReader, root: Path, *, as_it_is: bool = False) -> list[Part]:
    """Find the parts of a folder: one, or one for each split."""
    if as_it_is:
        return [_class_folders(reader, root)]
    folder = _unwrapped(reader, root)
    parts = _split_parts(reader, folder) or _table_parts(reader, folder) or _split_in_classes(reader, folder)
    if parts:
        return parts
    _refuse_splits_without_classes(reader, folder)
    if folder != root:
        reader.findings.understood.append(f"the classes are the folders in {folder}")
    return [_class_folders(reader, folder)]


def _unwrapped(reader: FolderReader, folder: Path) -> Path:
    """Go down while a folder holds nothing but one folder, to the one that holds classes or a table of them."""
    chain = [folder]
    while not reader.listing(chain[-1]).images and len(inside := _folders_with_images(reader, chain[-1])) == 1:
        chain += inside
    if len(_folders_with_images(reader, chain[-1])) > 1 or _has_classes_in_names(reader, chain[-1]):
        return chain[-1]
    return next((each for each in reversed(chain) if _tables(reader, each)), folder)


def _folders_with_images(reader: FolderReader, folder: Path) -> list[Path]:
    return [child for child in reader.listing(folder).folders if reader.has_images(child)]


# ---------------------------------------------------------------- splits


@dataclass(frozen=True)
class _Candidate:
    """A folder named like a split."""

    name: SplitName
    folder: Path
    classes: frozenset[str]
    table: Path | None
    loose: bool

    @property
    def labelled(self) -> bool:
        """Whether it says which photo is of which class."""
        return self.table is not None or (bool(self.classes) and not self.loose)


def _split_parts(reader: FolderReader, folder: Path) -> list[Part]:
    """Accept folders as splits where two of them have the same classes."""
    children = _folders_with_images(reader, folder)
    candidates = [_candidate(reader, child, name) for child in children if (name := split_name(child.name))]
    believed = {candidate for pair in combinations(candidates, 2) if _recur(*pair) for candidate in pair}
    if not believed:
        # A test set without classes beside the one folder that has them.
        believed = {one for one in candidates if one.table or (one.labelled and len(one.classes) > 1)}
        if len(believed) != 1 or len(candidates) < 2 or len(candidates) < len(children):
            return []
    rests = {candidate.name.rest for candidate in believed}
    chosen = [candidate for candidate in candidates if candidate in believed or candidate.name.rest in rests]
    left = [child.name for child in children if child not in {candidate.folder for candidate in chosen}]
    if left:
        reader.findings.understood.append(f"passed over beside the splits of {folder}: {listed(left, 'folder')}")
    return _named_parts(reader, folder, chosen)


def _candidate(reader: FolderReader, folder: Path, name: SplitName) -> _Candidate:
    inner = _unwrapped(reader, folder)
    classes = frozenset(_class_of(child) for child in _folders_with_images(reader, inner))
    return _Candidate(name, folder, classes, _table_of(reader, inner), bool(reader.listing(inner).images))


def _recur(one: _Candidate, other: _Candidate) -> bool:
    if one.name.split == other.name.split or one.name.rest != other.name.rest:
        return False
    if not (one.labelled and other.labelled):
        return False
    if one.table and other.table:
        return True
    common = one.classes & other.classes
    return bool(common) and 2 * len(common) >= min(len(one.classes), len(other.classes))


def _named_parts(reader: FolderReader, folder: Path, candidates: Sequence[_Candidate]) -> list[Part]:
    taken: dict[str, _Candidate] = {}
    for candidate in sorted(candidates, key=lambda one: one.name.split == "evaluation"):
        split = candidate.name.split if candidate.labelled else UNLABELLED
        if split == "evaluation":
            split = "validation" if "test" in taken else "test"
        if split in taken and split != UNLABELLED:
            both = f"{taken[split].folder.name} and {candidate.folder.name}"
            raise DatasetError(f"Expected one {split} folder in {folder}, got {both}: merge or rename them")
        taken[split] = candidate
    return [
        replace(_whole(reader, candidate), split=split, shown=candidate.folder.name, source=candidate.folder)
        for split, candidate in taken.items()
    ]


def _whole(reader: FolderReader, candidate: _Candidate) -> Part:
    folder = _unwrapped(reader, candidate.folder)
    if candidate.table:
        [part] = table_parts(candidate.table, reader, one_part=True)
        return part
    return _class_folders(reader, folder)


def _split_in_classes(reader: FolderReader, folder: Path) -> list[Part]:
    """Recognise class folders that each contain the splits: cat/train, cat/test, dog/train, dog/test."""
    splits: dict[str, list[tuple[str, Path]]] = {}
    classes = _folders_with_images(reader, folder)
    for child in classes:
        inner = [(split_name(each.name), each) for each in _folders_with_images(reader, child)]
        if reader.listing(child).images or not inner:
            return []
        for name, each in inner:
            if name is None:
                return []
            split = "test" if name.split == "evaluation" else name.split
            splits.setdefault(split, []).append((_class_of(child), each))
    if len(classes) < 2 or len(splits) < 2 or max(map(len, splits.values())) < 2:
        return []
    return [Part(split, split, folder, partial(_images_of_classes, reader, held)) for split, held in splits.items()]


def _refuse_splits_without_classes(reader: FolderReader, folder: Path) -> None:
    """Refuse to take train and test for classes, where there is nothing else."""
    children = _folders_with_images(reader, folder)
    splits = [name.split for child in children if (name := split_name(child.name))]
    if len(splits) == len(children) and len(set(splits)) > 1 and "train" in splits:
        names = " and ".join(child.name for child in children[:3])
        raise SplitError(
            f"Expected the same class folders in the splits {names} of {folder}, got none: sort the photos into class "
            f"folders, or name one of the splits{_of_tables(reader, folder)}"
        )


# ---------------------------------------------------------------- tables beside photos


def _table_of(reader: FolderReader, folder: Path) -> Path | None:
    """Return the table of a folder that says the classes of its photos, if it has one by a known name."""
    named = [path for path in reader.listing(folder).other_files if _KNOWN_TABLES.fullmatch(path.name)]
    return next((path for path in named if usable_table(path, reader)), None)


def _table_parts(reader: FolderReader, folder: Path) -> list[Part]:
    """Find the table that says the classes where folders do not."""
    known = _table_of(reader, folder)
    if known:
        return table_parts(known, reader)
    usable = [] if _folders_say_classes(reader, folder) else _tables(reader, folder)
    if len(usable) < 2:
        return table_parts(usable[0], reader) if usable else []
    names = [split_name(path.stem) for path in usable]
    splits = [name.split for name in names if name]
    if len(set(splits)) == len(usable):
        return [
            replace(part, split=split, shown=path.name)
            for split, path in zip(splits, usable, strict=True)
            for part in table_parts(path, reader, one_part=True)
        ]
    raise DatasetError(
        f"Expected one table of classes in {folder}, got {listed([path.name for path in usable])}: name the one to "
        f"take, such as {usable[0]}"
    )


def _tables(reader: FolderReader, folder: Path) -> list[Path]:
    """List the tables in a folder that say classes of photos that are there."""
    tables = [path for path in reader.listing(folder).other_files if path.suffix.lower() in TABLE_SUFFIXES]
    if len(tables) > _MAX_TABLES:
        return []
    return [path for path in tables if "submission" not in path.name.lower() and usable_table(path, reader)]


def _of_tables(reader: FolderReader, folder: Path) -> str:
    """Say why a table in the folder could not be used."""
    problems = [(path, why) for path, why in reader.table_problems.items() if path.parent == folder and why]
    return f"; the table {problems[0][0].name} does not help: {problems[0][1]}" if len(problems) == 1 else ""


def _folders_say_classes(reader: FolderReader, folder: Path) -> bool:
    """Tell class folders from folders that just hold photos: train and test, images, part1 and part2."""
    names = [child.name.casefold() for child in _folders_with_images(reader, folder)]
    plain = [name for name in names if name in _PLAIN_NAMES or split_name(name)]
    numbered = len(names) > 1 and len({re.sub(r"\d+", "", name) for name in names}) == 1
    return len(names) > 1 and len(plain) < len(names) and not numbered


# ---------------------------------------------------------------- class folders


def _class_folders(reader: FolderReader, folder: Path) -> Part:
    return Part("", "", folder, partial(_read_class_folders, reader, folder))


def _read_class_folders(reader: FolderReader, folder: Path) -> list[Pair]:
    listing = reader.noted(folder)
    if _has_classes_in_names(reader, folder):
        return [(_class_in_name(image.stem), image) for image in listing.images]
    if listing.images:
        _refuse_loose_images(reader, folder)
    if not listing.folders:
        files = (*listing.unread_photos, *listing.other_files)
        held = f"{counted(files, 'file')}, no photo among them" if files else "none"
        packed = [path.name for path in files if path.name.lower().endswith(ARCHIVE_SUFFIXES)]
        advice = f"unpack {listed(packed)}" if packed else "sort the images into class folders"
        raise DatasetError(
            f"Expected one folder per class in {folder}, found {held}: {advice}{_of_tables(reader, folder)}"
        )
    return _images_of_classes(reader, [(_class_of(child), child) for child in listing.folders])


def _refuse_loose_images(reader: FolderReader, folder: Path) -> None:
    """Refuse photos that lie beside class folders, or pass them over."""
    images = reader.listing(folder).images
    got = f"{images[0].name} and {len(images) - 1} more images" if len(images) > 1 else images[0].name
    error = f"Expected only class folders in {folder}, got {got}: move them into a folder of their class"
    if not _folders_with_images(reader, folder):
        raise DatasetError(error + _of_tables(reader, folder))
    reader.findings.skip(str(images[0]), SkippableError(error))


def _images_of_classes(reader: FolderReader, folders: Iterable[tuple[str, Path]]) -> list[Pair]:
    pairs: list[Pair] = []
    by_name: dict[str, Path] = {}
    for name, folder in folders:
        if by_name.setdefault(name, folder) != folder:
            reader.findings.understood.append(f"{by_name[name]} and {folder} are one class: {name}")
        images = reader.images_below(folder)
        if not images and not reader.listing(folder).error:
            reader.findings.skip(str(folder), _no_images(reader, folder))
        pairs += [(name, image) for image in images]
    return pairs


def _no_images(reader: FolderReader, folder: Path) -> SkippableError:
    files = reader.files_below(folder)
    if not files:
        return SkippableError(
            f"Expected images in the class folder {folder}, found none: add some or remove the folder"
        )
    suffixes = sorted({path.suffix.lower() or "without suffix" for path in files})
    return SkippableError(
        f"Expected images in the class folder {folder}, found {counted(files, 'file')} of other kinds "
        f"({listed(suffixes)}): convert them, or remove the folder"
    )


def _class_of(folder: Path) -> str:
    name = folder.name
    suffix = next((suffix for suffix in ARCHIVE_SUFFIXES if name.lower().endswith(suffix)), "")
    if suffix and not os.path.isdir(folder):
        name = name[: -len(suffix)].removesuffix("-samples")  # as Teachable Machine calls the samples of a class
    return class_name(name)


def _has_classes_in_names(reader: FolderReader, folder: Path) -> bool:
    images = reader.listing(folder).images
    return bool(images) and all(_CLASS_IN_NAME in image.name for image in images)


def _class_in_name(stem: str) -> str:
    parts = [part for part in stem.split(_CLASS_IN_NAME) if part and not part.isdigit()]
    return class_name(parts[0]) if parts else stem
