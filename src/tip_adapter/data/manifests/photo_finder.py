"""Find the photos that the rows of a table name: as paths, as bare names, without suffix, with backslashes."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from tip_adapter.data.archives import inside_archive
from tip_adapter.data.class_names import listed
from tip_adapter.data.files import is_file, is_web_address
from tip_adapter.data.folders import FolderReader
from tip_adapter.data.splits import split_name
from tip_adapter.errors import DatasetError


class PhotoFinder:
    """Find photos near a table: paths are relative to its folder."""

    def __init__(self, table: Path, reader: FolderReader) -> None:
        self.table, self.folder, self.reader = table, table.parent, reader
        self._by_end: dict[int, dict[tuple[str, ...], list[Path]]] = {}

    def count(self, values: Sequence[Any]) -> int:
        """Count the values that name a photo."""
        return sum(bool(self._candidates(value)) for value in values)

    def find_all(self, values: Sequence[Any]) -> list[Path | None]:
        """Find a photo for every value; where names are in several folders, in the one that has most of them."""
        found = [self._candidates(value) for value in values]
        folders = Counter(image.parent for images in found if len(images) > 1 for image in images)
        return [self._choose(images, folders) for images in found]

    def _choose(self, images: list[Path], folders: Counter[Path]) -> Path | None:
        if len(images) < 2:
            return images[0] if images else None
        most = max(folders[image.parent] for image in images)
        best = [image for image in images if folders[image.parent] == most]
        for is_meant in (self._is_namesake, self._is_of_split, _is_for_training):
            best = [image for image in best if is_meant(image)] or best
        if len(best) != 1:
            raise DatasetError(
                f"Expected {images[0].name} of {self.table} once in {self.folder}, got "
                f"{listed(list(map(str, images)))}: name the folder in the table, too"
            )
        return best[0]

    def _is_namesake(self, image: Path) -> bool:
        return self.table.stem in (image.parent.name, image.parent.parent.name)

    def _is_of_split(self, image: Path) -> bool:
        """Tell that trainLabels.csv is about the folder train."""
        mine, its = split_name(self.table.stem), split_name(image.parent.name)
        return mine is not None and its is not None and mine.split == its.split

    def _candidates(self, value: Any) -> list[Path]:
        text = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
        if not text or is_web_address(text):
            return []
        inside = inside_archive(self.folder) is not None
        for form in dict.fromkeys((text, text.replace("\\", "/"))):
            # A table in an archive says nothing about files outside it.
            if not (inside and PurePosixPath(form).is_absolute()) and is_file(self.folder / form):
                return [self.folder / form]
        return self._nearby(text.replace("\\", "/"))

    def _nearby(self, text: str) -> list[Path]:
        """Find photos below the folder whose path ends like this, with or without its suffix."""
        path = PurePosixPath(re.sub(r"^[a-zA-Z]:", "", text))
        parts = [_key(part) for part in path.parts if part not in ("/", ".")]
        if not parts or ".." in parts:
            return []
        # Of a path from another computer, the end is known here: the folder and the name.
        fewest = min(2, len(parts)) if path.is_absolute() else len(parts)
        ends = (self._ending(number).get(tuple(parts[-number:]), []) for number in range(len(parts), fewest - 1, -1))
        return next(filter(None, ends), [])

    def _ending(self, number: int) -> dict[tuple[str, ...], list[Path]]:
        """Photos below the folder by the last parts of their paths, with and without their suffix."""
        if number not in self._by_end:
            found: dict[tuple[str, ...], list[Path]] = {}
            for image in self._images:
                *folders, name = map(_key, image.parts[-number:])
                for last in dict.fromkeys((name, os.path.splitext(name)[0])):
                    found.setdefault((*folders, last), []).append(image)
            self._by_end[number] = found
        return self._by_end[number]

    @cached_property
    def _images(self) -> list[Path]:
        return self.reader.images_anywhere(self.folder)


def _is_for_training(image: Path) -> bool:
    """Tell photos of a training set: where one table is for several splits, it is those whose classes are known."""
    name = split_name(image.parent.name)
    return name is not None and name.split == "train"


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
