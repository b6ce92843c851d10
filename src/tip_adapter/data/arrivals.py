"""List the photos that arrive in a folder, each once it is whole."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tip_adapter.data.folders import is_ignored, is_saved_classifier
from tip_adapter.data.formats import FileKind, kind_of_name

State = tuple[int, int]
"""Size and time of change of a file."""


@dataclass
class Arrivals:
    """Photos in a folder and those below it; hidden and system folders, links and saved classifiers are passed over."""

    folder: Path
    settle_s: float
    """How long size and time of a file have to stay the same until it is taken for whole."""
    elsewhere: tuple[Path, ...] = ()
    """Folders that are passed over."""
    known: dict[str, State] = field(default_factory=dict)
    """Photos, by their paths in the folder, that have been dealt with as they are."""
    _waiting: dict[Path, tuple[State, float]] = field(default_factory=dict)

    def notice(self, paths: Iterable[Path], now: float) -> None:
        """Look at files that are new or have changed, and into such folders."""
        for path in paths:
            for file in self._files(path):
                state = state_of(file)
                if state is not None and self.known.get(self.name_of(file)) != state:
                    self._waiting.setdefault(file, (state, now))

    def whole(self, now: float) -> dict[Path, State]:
        """Take the photos whose size and time have stayed the same."""
        whole: dict[Path, State] = {}
        for path, (state, since) in list(self._waiting.items()):
            current = state_of(path)
            if current != state and current is not None:
                self._waiting[path] = (current, now)
            elif current is None or now - since >= self.settle_s:
                del self._waiting[path]
                whole |= {} if current is None else {path: state}
        return whole

    @property
    def waiting(self) -> int:
        """How many photos are still being written, as far as is known."""
        return len(self._waiting)

    def name_of(self, path: Path) -> str:
        """Name a photo by its path in the folder."""
        return path.relative_to(self.folder).as_posix()

    def _files(self, path: Path) -> Iterator[Path]:
        if self._is_passed_over(path):
            return
        if path.is_dir() and not path.is_symlink():
            for below in sorted(_entries(path)):
                yield from self._files(below)
        elif kind_of_name(path.name) is FileKind.PHOTO:
            yield path

    def _is_passed_over(self, path: Path) -> bool:
        if path == self.folder:
            return False
        if any(path.is_relative_to(folder) for folder in self.elsewhere):
            return True
        inside = path.relative_to(self.folder)
        above = [self.folder / parent for parent in inside.parents if parent.parts]
        return any(map(is_ignored, inside.parts)) or any(map(is_saved_classifier, (path, *above)))


def state_of(path: Path) -> State | None:
    """Size and time of a file, None where there is none (any more)."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return (found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None


def known_photos(rows: Iterable[Mapping[str, object]], wanted: Iterable[str]) -> dict[str, State]:
    """Read from a record which photos nothing is `wanted` of any more: it has been done, or they cannot be read."""
    wanted, known = set(wanted), {}
    for row in rows:
        name, size, time = row.get("name"), row.get("size"), row.get("mtime_ns")
        if not (isinstance(name, str) and isinstance(size, int) and isinstance(time, int)):
            continue
        if "error" in row or wanted <= row.keys():
            known[name] = (size, time)
    return known


def _entries(folder: Path) -> list[Path]:
    try:
        return [folder / name for name in os.listdir(folder)]
    except OSError:  # gone, or not ours to read
        return []
