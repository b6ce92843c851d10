"""Move or copy files into folders, never overwriting one and never twice."""

from __future__ import annotations

import contextlib
import errno
import filecmp
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL}


def file_into(source: Path, folder: Path, *, keep: bool) -> Path:
    """Move a file into a folder, which is made if need be; with `keep`, copy it. Return where it is.

    Another file of that name stays, and this one gets a number. A file of the same name, time and bytes is this one,
    from a run that was stopped halfway.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from tip_adapter.storage.filing import file_into
    >>> with tempfile.TemporaryDirectory() as name:
    ...     folder = pathlib.Path(name)
    ...     for text in ("one", "two"):
    ...         _ = (folder / "a.txt").write_text(text)
    ...         print(file_into(folder / "a.txt", folder / "b", keep=False).name)
    a.txt
    a-2.txt
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not keep:
        with contextlib.suppress(_OtherDisk):
            return _place(source, source, folder)
    descriptor, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=folder)
    os.close(descriptor)
    copy = Path(name)
    try:
        shutil.copy2(source, copy)
        target = _place(copy, source, folder)
    finally:
        copy.unlink(missing_ok=True)
    if not keep:
        source.unlink()
    return target


class _OtherDisk(Exception):  # noqa: N818
    """The file cannot be renamed to where it is wanted."""


def _place(file: Path, source: Path, folder: Path) -> Path:
    """Give a file the first free name like the source's."""
    for target in _names(source, folder):
        if _is_same(file, target):
            file.unlink()
            return target
        with contextlib.suppress(FileExistsError):
            _rename(file, target)
            return target
    raise AssertionError("there is always another number")


def _names(source: Path, folder: Path) -> Iterator[Path]:
    yield folder / source.name
    for number in itertools.count(2):
        yield folder / f"{source.stem}-{number}{source.suffix}"


def _is_same(file: Path, target: Path) -> bool:
    try:
        one, other = file.stat(), target.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    alike = (one.st_size, one.st_mtime_ns) == (other.st_size, other.st_mtime_ns)
    return alike and filecmp.cmp(file, target, shallow=False)


def _rename(file: Path, target: Path) -> None:
    """Rename a file unless the new name is taken."""
    try:
        os.link(file, target)
        file.unlink()
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise _OtherDisk from error
        if error.errno not in _NO_LINKS:
            raise
        target.touch(exist_ok=False)  # ours from now on
        os.replace(file, target)
