"""Write files and folders atomically, and read them with a bound on their size."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from tip_adapter.errors import ModelFileError, TipAdapterError

try:
    import fcntl
except ImportError:  # Windows: leftovers stay there, since nobody knows whose they are
    fcntl = None  # type: ignore[assignment]

MAX_FILE_BYTES = 8 * 2**30

T = TypeVar("T", int, int | None)


class MissingFileError(ModelFileError):
    """A file is not there, or not any more."""


def write_file(path: Path, data: bytes) -> None:
    """Write a file through a temporary sibling, flushed to the disk and renamed over what was there.

    Siblings that were left by processes that are gone are deleted.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from tip_adapter.storage.atomic import write_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_file(pathlib.Path(folder) / "a.bin", b"abc")
    ...     (pathlib.Path(folder) / "a.bin").read_bytes()
    b'abc'
    """
    with clear_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep_siblings(path)
        replace_file(path, data)
        flush_folder(path.parent)


def replace_file(path: Path, data: bytes, mode: int | None = None) -> None:
    """Write a file through a temporary sibling; the new name is not flushed to the disk yet."""
    temporary, descriptor = _made(path, _new_file)
    try:
        # Open, and so claimed, until it has its name: nobody takes it for a leftover.
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if mode is not None:
                temporary.chmod(mode)
            os.fsync(file.fileno())
            if os.name == "nt":  # which renames no open file
                file.close()
            os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_folder(path: Path, contents: Mapping[str, bytes]) -> None:
    """Write files into a folder: a new one is there with all of them or not at all, in an old one each is replaced.

    Other files stay, and so do permissions.
    """
    with clear_errors(path):
        path = path.resolve()
        if not path.exists() or (path.is_dir() and not any(path.iterdir())):
            with new_folder(path) as folder:
                for name, data in contents.items():
                    file = folder / name
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(data)
            return
        for name, data in contents.items():
            file = path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            _sweep_siblings(file)
            replace_file(file, data, stat.S_IMODE(file.stat().st_mode) if file.exists() else None)
        for folder in {(path / name).parent for name in contents}:
            flush_folder(folder)


@contextlib.contextmanager
def new_folder(path: Path, *, accept_existing: bool = False) -> Iterator[Path]:
    """Fill a temporary sibling that gets its name, flushed to the disk, when the block ends well; else it goes.

    Siblings that were left by processes that are gone are deleted.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep_siblings(path)
    temporary, descriptor = _made(path, _new_folder)
    try:
        yield temporary
        for parent, _, names in os.walk(temporary):
            for name in names:
                _flush(Path(parent, name))
            flush_folder(Path(parent))
        try:
            os.replace(temporary, path)
        except OSError:
            if not (accept_existing and path.is_dir()):
                raise
            shutil.rmtree(temporary)
        flush_folder(path.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    finally:
        if descriptor is not None:
            os.close(descriptor)


def read_file(path: Path, max_bytes: int = MAX_FILE_BYTES) -> bytes:
    """Read a regular file of a bounded size."""
    try:
        status = path.stat()
        # A pipe or a device would be read for ever.
        if not stat.S_ISREG(status.st_mode):
            raise ModelFileError(f"Expected a file, got something else: {path}")
        if status.st_size > max_bytes:
            raise ModelFileError(f"Expected a file of at most {max_bytes} bytes, got {status.st_size}: {path}")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise MissingFileError(f"There is no file {path}: check the path, or copy or save it again") from error
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror}") from error


def read_checked(path: Path, checksum: str) -> bytes:
    """Read a file whose SHA-256 is known."""
    data = read_file(path)
    if hashlib.sha256(data).hexdigest() != checksum:
        raise ModelFileError(f"{path} is not as it was saved, its checksum differs: copy it or save it again")
    return data


def flush_folder(folder: Path) -> None:
    """Make new names in a folder survive a power cut; Windows offers no such call."""
    if os.name == "posix":
        _flush(folder)


def can_write(path: Path) -> bool:
    """Tell whether permissions allow to change a file or folder, or to make it; ask this before long work."""
    if path.exists() and not os.access(path, os.W_OK):
        return False
    folder = next((one for one in path.absolute().parents if one.exists()), None)
    return folder is None or path.is_dir() or os.access(folder, os.W_OK)


@contextlib.contextmanager
def clear_errors(path: Path) -> Iterator[None]:
    """Turn the system's errors into one line."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "free space or choose another place, then save again" if full else "choose another place"
        raise TipAdapterError(f"{path} cannot be written: {error.strerror or error}: {remedy}") from error


def _made(path: Path, make: Callable[[Path], T]) -> tuple[Path, T]:
    """Make a hidden sibling, since only within one file system a rename is atomic, and claim it while it is open."""
    while True:
        temporary = path.parent / f".{path.name}.tmp-{secrets.token_hex(6)}"
        descriptor = make(temporary)
        if not isinstance(descriptor, int) or _claim(descriptor):
            # Another process may have taken it for a leftover before it was claimed.
            with contextlib.suppress(FileNotFoundError):
                temporary.lstat()
                return temporary, descriptor
        if isinstance(descriptor, int):
            os.close(descriptor)


def _new_file(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)


def _new_folder(path: Path) -> int | None:
    """Make a folder and open it, which Windows cannot."""
    path.mkdir()
    return os.open(path, os.O_RDONLY) if os.name == "posix" else None


def _claim(descriptor: int) -> bool:
    """Mark an open file or folder as in use, until it is closed or the process ends; False where another one did."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # the file system has no locks
        return True
    return True


def sweep_leftovers(folder: Path) -> None:
    """Delete all temporary files in a folder and those below it whose owners are gone."""
    _sweep(folder.rglob(".*.tmp-*"))


def _sweep_siblings(path: Path) -> None:
    _sweep(path.parent.glob(f".{glob.escape(path.name)}.tmp-*"))


def _sweep(found: Iterable[Path]) -> None:
    """Delete temporary files and folders whose owners are gone."""
    if fcntl is None:
        return
    for left in list(found):
        with contextlib.suppress(OSError):  # in use, no locks here, or not ours to delete
            descriptor = os.open(left, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                    shutil.rmtree(left)
                else:
                    left.unlink()
            finally:
                os.close(descriptor)


def _flush(path: Path) -> None:
    # Windows flushes only what is open for writing.
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
