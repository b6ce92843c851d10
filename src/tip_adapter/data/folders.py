"""List folders and the photos in them, without hidden files, system folders and saved classifiers."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tip_adapter.data.archives import is_archive
from tip_adapter.data.files import entries, identity, read_beginning
from tip_adapter.data.findings import Findings
from tip_adapter.data.formats import FileKind, kind_of_content, kind_of_name
from tip_adapter.data.pixels.containers import HEAD_BYTES
from tip_adapter.errors import DatasetError, SkippableError

_SYSTEM_FOLDERS = re.compile(
    r"""\#recycle | @recycle | @recently-snapshot | \#snapshot | \$recycle\.bin | recycler | recycled | trash-\d+
    | network\ trash\ folder | temporary\ items | system\ volume\ information | lost\+found | found\.\d{3}
    | @ea.* | @syno.* | @__thumb | @transcode | @tmp | \$extend | __macosx | __pycache__ | node_modules""",
    re.IGNORECASE | re.VERBOSE,
)
_SYSTEM_FILES = re.compile(r"thumbs\.db(:encryptable)? | ehthumbs.*\.db | desktop\.ini | icon\r", re.I | re.VERBOSE)


def is_system_folder(name: str) -> bool:
    """Tell hidden folders, recycle bins and other folders that programs keep for themselves."""
    return name.startswith(".") or _SYSTEM_FOLDERS.fullmatch(name) is not None


def is_ignored(name: str) -> bool:
    """Tell names of files and folders that nobody means."""
    return is_system_folder(name) or _SYSTEM_FILES.fullmatch(name) is not None


@dataclass
class Listing:
    """What a folder holds, each kind sorted by name."""

    folders: list[Path] = field(default_factory=list)
    images: list[Path] = field(default_factory=list)
    unread_photos: list[Path] = field(default_factory=list)
    other_files: list[Path] = field(default_factory=list)
    ignored: list[Path] = field(default_factory=list)
    error: SkippableError | None = None


class FolderReader:
    """List folders, each once, and note what is passed over in those whose photos are used."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self._listings: dict[Path, Listing] = {}
        self._noted: set[Path] = set()
        self._with_images: dict[Path, bool] = {}
        self.tables: dict[Path, Any] = {}
        """Tables that were read, which are looked at more than once."""
        self.table_problems: dict[Path, str] = {}
        """Why a table that was looked at does not say the classes of photos; empty for one that does."""

    def listing(self, folder: Path) -> Listing:
        """List a folder; what is wrong with it is in the listing."""
        if folder not in self._listings:
            self._listings[folder] = _listing(folder)
        return self._listings[folder]

    def noted(self, folder: Path) -> Listing:
        """List a folder whose photos are used, or whose folders are."""
        listing = self.listing(folder)
        if folder not in self._noted:
            self._noted.add(folder)
            if listing.error:
                self.findings.skip(str(folder), listing.error)
            self.findings.unread_photos += map(str, listing.unread_photos)
            self.findings.other_files += map(str, listing.other_files)
            self.findings.ignored += map(str, listing.ignored)
        return listing

    def has_images(self, folder: Path) -> bool:
        """Tell whether there is a photo in a folder or below; a folder that cannot be read may hold some."""
        if folder not in self._with_images:
            self._with_images[folder] = any(listing.images or listing.error for _, listing in self._walk(folder))
        return self._with_images[folder]

    def images_below(self, folder: Path) -> list[Path]:
        """List the photos in a folder and below, sorted."""
        images = [image for path, _ in self._walk(folder) for image in self.noted(path).images]
        return sorted(images, key=Path.as_posix)

    def images_anywhere(self, folder: Path) -> list[Path]:
        """List the photos in a folder and below, of which not all are used."""
        return [image for _, listing in self._walk(folder) for image in listing.images]

    def files_below(self, folder: Path) -> list[Path]:
        """List the files in a folder and below that are no photos of a format that is read."""
        return [path for _, found in self._walk(folder) for path in (*found.unread_photos, *found.other_files)]

    def _walk(self, folder: Path) -> Iterator[tuple[Path, Listing]]:
        """Visit a folder and those below, each real one once and none of the folder's own parents."""
        start = Path(identity(folder))
        entered = {*map(identity, folder.absolute().parents), *map(str, start.parents)}
        waiting = deque([folder])
        while waiting:
            current = waiting.popleft()  # nearest first, so that of several ways to a folder the shortest is shown
            real = identity(current)
            if real in entered:
                continue
            entered.add(real)
            listing = self.listing(current)
            yield current, listing
            waiting += listing.folders


def _listing(folder: Path) -> Listing:
    listing = Listing()
    try:
        folders, files = entries(folder)
    except DatasetError as error:
        listing.error = SkippableError(str(error))
        return listing
    for name in sorted(folders):
        path = folder / name
        if is_system_folder(name):
            listing.ignored.append(path)
        elif not is_saved_classifier(path):
            listing.folders.append(path)
    by_kind = {
        FileKind.PHOTO: listing.images,
        FileKind.UNREAD_PHOTO: listing.unread_photos,
        FileKind.OTHER: listing.other_files,
    }
    for name in sorted(files):
        if not is_ignored(name):
            path = folder / name
            by_kind[kind_of_name(name) or kind_of_content(read_beginning(path, HEAD_BYTES))].append(path)
    if not listing.images and not listing.folders:
        archives = [path for path in listing.other_files if is_archive(path)]
        listing.folders = archives
        listing.other_files = [path for path in listing.other_files if path not in archives]
    return listing


def is_saved_classifier(path: Path) -> bool:
    """Tell a saved classifier, which holds pictures of its shots and often lies beside the photos."""
    return path.suffix == ".tip" and os.path.isfile(path / "config.json")
