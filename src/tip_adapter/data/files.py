"""Treat files and folders on the disk and inside archives alike."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path

from tip_adapter.data.archives import inside_archive, is_archive, open_archive
from tip_adapter.errors import DatasetError, ImageError, InputError


def is_web_address(value: object) -> bool:
    """Tell an address such as https://… from a path."""
    return isinstance(value, str) and re.match(r"\s*[a-z][a-z0-9+.-]+://", value, re.IGNORECASE) is not None


def path_below(folders: Sequence[Path], name: str) -> Path:
    """The real path that a name from elsewhere stands for, if it is below one of some real folders.

    Names that are not absolute are below the first folder.
    """
    if "\0" in name or is_web_address(name) or not name:
        raise InputError(f"Expected the path of a photo, got {name!r}")
    path = Path(os.path.realpath(folders[0] / name))
    if not any(path.is_relative_to(folder) for folder in folders):
        raise InputError(f"Expected photos below {' or '.join(map(str, folders))}, got {name}")
    return path


def is_folder(path: Path) -> bool:
    """Tell a folder, an archive, or a folder in one."""
    if os.path.isdir(path) or is_archive(path):
        return True
    inside = inside_archive(path)
    return inside is not None and open_archive(inside[0]).entries(inside[1]) is not None


def is_file(path: Path) -> bool:
    """Tell a file, also in an archive; an archive is one, too."""
    try:
        if os.path.isfile(path):
            return True
        inside = inside_archive(path)
        return inside is not None and inside[1] in open_archive(inside[0]).members
    except ValueError:  # a null character, or a lone surrogate
        return False


def entries(folder: Path) -> tuple[list[str], list[str]]:
    """Names of the folders and of the other files in a folder, in any order."""
    inside = inside_archive(folder)
    if inside is not None:
        return open_archive(inside[0]).entries(inside[1]) or ([], [])
    try:
        with os.scandir(folder) as found:
            kinds = [(entry.name, _is_dir(entry)) for entry in found]
    except OSError as error:
        raise DatasetError(
            f"Expected a readable folder at {folder}, got: {error.strerror}: change its permissions"
        ) from error
    return [name for name, is_dir in kinds if is_dir], [name for name, is_dir in kinds if not is_dir]


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def identity(folder: Path) -> str:
    """Return what two paths to the same folder have in common."""
    inside = inside_archive(folder)
    return os.path.realpath(folder) if inside is None else "/".join([os.path.realpath(inside[0]), inside[1]])


def read_beginning(path: Path, size: int) -> bytes:
    """Read the first bytes of a regular file; none where that is not possible."""
    inside = inside_archive(path)
    try:
        if inside is not None and inside[1]:
            return open_archive(inside[0]).read(inside[1], size)
        if not stat.S_ISREG(os.stat(path).st_mode):  # reading a pipe could wait for ever
            return b""
        with open(path, "rb") as file:
            return file.read(size)
    except (OSError, ValueError):
        return b""


def archived_size(path: Path) -> int:
    """Return the bytes of a file in an archive; 0 where there is none."""
    try:
        inside = inside_archive(path)
        member = None if inside is None else open_archive(inside[0]).members.get(inside[1])
    except (DatasetError, ValueError):
        return 0
    return 0 if member is None or member.refused else member.size


def read_archived(path: Path) -> bytes | None:
    """Read a file in an archive; None where the path leads into none."""
    inside = inside_archive(path)
    if inside is None or not inside[1]:
        return None
    try:
        return open_archive(inside[0]).read(inside[1])
    except DatasetError as error:
        raise ImageError(str(error)) from error


def read_file(path: Path, limit: int) -> bytes:
    """Read a file of at most so many bytes."""
    inside = inside_archive(path)
    try:
        if inside is not None and inside[1]:
            data = open_archive(inside[0]).read(inside[1], limit + 1)
        else:
            with open(path, "rb") as file:
                data = file.read(limit + 1)
    except OSError as error:
        raise DatasetError(f"Expected a readable file at {path}, got: {error.strerror}: check it") from error
    if len(data) > limit:
        raise DatasetError(f"Expected {path} to have at most {limit:,} bytes, got more: split it")
    return data
