"""List the files in an archive by name, each with a way to read it within bounds."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from lzma import LZMAError
from pathlib import Path

from tip_adapter.errors import ImageError

MAX_MEMBERS = 300_000
"""Files in an archive: a list of so many takes about .3 GB."""

MAX_DEPTH = 64
"""Folders around a file in an archive."""

MAX_BYTES = 2**27
"""Bytes of a file in an archive, as of any image file."""

_RATIO, _SMALL = 100, 16 * 2**20
_DAMAGE = (OSError, EOFError, ValueError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error, LZMAError)


@dataclass(frozen=True)
class Member:
    """A file in an archive."""

    size: int
    packed: int
    """size and packed: bytes of the file, and of what the archive keeps of it."""
    read: Callable[[int], bytes]
    """Reads at most so many bytes from its beginning."""
    problem: str = ""
    """Why it is not read, and what to do; empty otherwise."""

    @property
    def refused(self) -> str:
        """Why it is not read, and what to do; empty where it is."""
        if self.problem:
            return self.problem
        if self.size > MAX_BYTES:
            return f"it has {self.size:,} bytes, more than {MAX_BYTES:,}: unpack the archive"
        if self.size > _SMALL and self.size > _RATIO * self.packed:
            return f"it has {self.size // max(1, self.packed):,} times the bytes in the archive: leave it out"
        return ""


Members = dict[str, Member]


@dataclass(frozen=True, eq=False)
class Archive:
    """An archive whose files can be read, from any thread and any process."""

    path: Path
    members: Members

    def read(self, name: str, limit: int = MAX_BYTES) -> bytes:
        """Read a file, or its first bytes."""
        shown, member = f"{self.path}/{name}", self.members.get(name)
        if member is None:
            raise ImageError(f"Expected a file at {shown}, found none: check the path")
        if member.refused:
            raise ImageError(f"Expected {shown} to be readable, but {member.refused}")
        try:
            return member.read(limit)
        except _DAMAGE as error:
            raise ImageError(
                f"Expected {shown} to be a whole file, got an error ({one_line(error)}): recreate the archive"
            ) from error

    def entries(self, folder: str) -> tuple[list[str], list[str]] | None:
        """Names of the folders and of the files in a folder; empty is the top. None where there is no such folder."""
        found = self._tree.get(folder)
        return None if found is None else (sorted(found[0]), sorted(found[1]))

    @cached_property
    def _tree(self) -> dict[str, tuple[set[str], set[str]]]:
        tree: dict[str, tuple[set[str], set[str]]] = {"": (set(), set())}
        for path in self.members:
            folder, _, name = path.rpartition("/")
            inner, missing = folder, []
            while inner not in tree:
                tree[inner] = (set(), set())
                missing.append(inner)
                inner = inner.rpartition("/")[0]
            for inner in missing:
                above, _, own = inner.rpartition("/")
                tree[above][0].add(own)
            tree[folder][1].add(name)
        return tree


def member_name(name: str) -> tuple[str, str]:
    """Return the name of a file as a path inside its archive, and what is wrong with it; empty where nothing is."""
    given = name.split("/")
    parts = [part for part in given if part not in ("", ".", "..")]
    if ".." in given:
        return "/".join(parts[-2:]), "its name leads out of the archive: leave it out"
    if len(parts) > MAX_DEPTH:
        return "/".join([*parts[:2], parts[-1]]), f"it lies in {len(parts) - 1} folders: leave it out"
    return "/".join(parts), ""


def one_line(error: BaseException) -> str:
    """Say an error of a library in one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__
