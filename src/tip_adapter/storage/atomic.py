"""Bytes and a path come in; a file or a folder that is there whole or not at all comes out, and bytes back."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from tip_adapter.errors import ModelFileError, TipAdapterError

__all__ = ["interrupted_save", "read_checked", "read_file", "remove_leftovers", "write_file", "write_folder"]

MAX_FILE_BYTES = 8 * 2**30


def write_file(path: Path, data: bytes) -> None:
    """Write a file through a temporary sibling, flushed to the disk and renamed over what was there.

    Parameters
    ----------
    path : pathlib.Path
    data : bytes

    Raises
    ------
    TipAdapterError
        When it cannot be written or the disk is full; what was there before stays.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from tip_adapter.storage.atomic import write_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_file(pathlib.Path(folder) / "a.bin", b"abc")
    ...     (pathlib.Path(folder) / "a.bin").read_bytes()
    b'abc'
    """
    with _clear_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _sibling(path, "tmp")
        try:
            _write(temporary, data)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        _flush_folder(path.parent)


def write_folder(path: Path, contents: Mapping[str, bytes]) -> None:
    """Write a folder through a temporary sibling, flushed to the disk and renamed; a former folder goes only then.

    Parameters
    ----------
    path : pathlib.Path
    contents : mapping of str to bytes
        Relative names, checked by the caller, with ``/`` between folders.

    Raises
    ------
    TipAdapterError
        When it cannot be written or the disk is full; what was there before stays.
    """
    with _clear_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _sibling(path, "tmp")
        try:
            _fill_folder(temporary, contents)
            _swap_in(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def read_file(path: Path, max_bytes: int = MAX_FILE_BYTES) -> bytes:
    """Read a regular file of a bounded size.

    Parameters
    ----------
    path : pathlib.Path
    max_bytes : int

    Returns
    -------
    bytes

    Raises
    ------
    ModelFileError
        When it is missing, no regular file, larger, or cannot be read.
    """
    try:
        status = path.stat()
        # A pipe or a device would be read for ever.
        if not stat.S_ISREG(status.st_mode):
            raise ModelFileError(f"Expected a file, got something else: {path}")
        if status.st_size > max_bytes:
            raise ModelFileError(f"Expected a file of at most {max_bytes} bytes, got {status.st_size}: {path}")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ModelFileError(f"There is no file {path}: check the path, or copy or save it again") from error
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror}") from error


def read_checked(path: Path, checksum: str) -> bytes:
    """Read a file whose SHA-256 is known.

    Parameters
    ----------
    path : pathlib.Path
    checksum : str
        SHA-256 in hexadecimal digits.

    Returns
    -------
    bytes

    Raises
    ------
    ModelFileError
        When it cannot be read, or is not as it was saved.
    """
    data = read_file(path)
    if hashlib.sha256(data).hexdigest() != checksum:
        raise ModelFileError(f"{path} is not as it was saved, its checksum differs: copy it or save it again")
    return data


def interrupted_save(path: Path) -> Path | None:
    """Find the former folder that a save left aside when it was killed between its two renames.

    Parameters
    ----------
    path : pathlib.Path
        Where the folder should be.

    Returns
    -------
    pathlib.Path or None
    """
    return next(iter(sorted(path.parent.glob(f".{glob.escape(path.name)}.old-*"))), None)


def remove_leftovers(path: Path) -> None:
    """Delete what saves that were killed left beside a file or folder, while no other process saves there.

    Parameters
    ----------
    path : pathlib.Path

    Raises
    ------
    TipAdapterError
        When something cannot be deleted.
    """
    with _clear_errors(path):
        for kind in ("old", "tmp"):
            for left in path.parent.glob(f".{glob.escape(path.name)}.{kind}-*"):
                if left.is_dir():
                    shutil.rmtree(left)
                else:
                    left.unlink()


def _sibling(path: Path, kind: str) -> Path:
    """Return a new hidden name beside a path: only within one file system is a rename atomic."""
    return path.parent / f".{path.name}.{kind}-{secrets.token_hex(6)}"


def _write(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _fill_folder(folder: Path, contents: Mapping[str, bytes]) -> None:
    folder.mkdir()
    parents = {folder}
    for name, data in contents.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        parents.add(file.parent)
        _write(file, data)
    for parent in parents:
        _flush_folder(parent)


def _swap_in(temporary: Path, path: Path) -> None:
    """Rename a finished folder to its place; the former one steps aside first, and back if that fails."""
    former = _sibling(path, "old") if path.exists() else None
    if former:
        path.rename(former)
    try:
        temporary.rename(path)
    except BaseException:
        if former:
            former.rename(path)
        raise
    _flush_folder(path.parent)
    # Not ignored: what was removed for privacy's sake must not stay in a folder left behind.
    if former:
        shutil.rmtree(former)


def _flush_folder(folder: Path) -> None:
    """Make new names in a folder survive a power cut; Windows offers no such call."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _clear_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise TipAdapterError(
            f"{path} cannot be written: {reason}: free space or choose another place, then save again"
        ) from error
