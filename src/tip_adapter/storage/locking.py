"""Keep other processes from changing a folder, by a lock file inside it."""

from __future__ import annotations

import contextlib
import errno
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tip_adapter.errors import StorageWarning, TipAdapterError, warn

LOCK_FILE = ".lock"
WAIT_S = 60.0
"""An edit takes a fraction of a second, and even a queue of many editors is through by then."""

UNSUPPORTED = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.EBADF}


@dataclass(frozen=True)
class FolderLock:
    """A folder that the holder alone may change."""

    folder: Path
    exclusive: bool = True
    """False where the file system has no locks, so that others may change it at the same time."""


@contextlib.contextmanager
def locked(folder: Path, wait_s: float = WAIT_S, *, longer: str = "") -> Iterator[FolderLock]:
    """Hold the lock of a folder; it ends with the process, however that ends.

    Warns
    -----
    StorageWarning
        When the file system has no locks.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from tip_adapter.storage.locking import locked
    >>> with tempfile.TemporaryDirectory() as folder, locked(pathlib.Path(folder)) as lock:
    ...     lock.exclusive
    True
    """
    # Imported here, because it takes longer than all else that loading a classifier needs.
    from filelock import FileLock, Timeout

    try:
        # Whoever may write in the folder may lock it.
        mode = stat.S_IMODE(folder.stat().st_mode) & 0o666 | 0o600
        lock = FileLock(
            folder / LOCK_FILE, timeout=max(0.0, wait_s), mode=mode, thread_local=False, fallback_to_soft=False
        )
        lock.acquire()
    except Timeout as error:
        since = f", and has been for {wait_s:g} s" if wait_s > 0 else ""
        more = f", or wait longer ({longer})" if longer else ""
        raise TipAdapterError(
            f"Another process is changing {folder}{since}: wait for it to end and try again{more}"
        ) from error
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in UNSUPPORTED:
            raise TipAdapterError(
                f"{folder} cannot be changed: {error.strerror}: make it writable, or copy it and change the copy"
            ) from error
        warn(
            f"The file system of {folder} has no locks: make sure that nobody else changes it at the same time",
            StorageWarning,
        )
        yield FolderLock(folder, exclusive=False)
        return
    try:
        yield FolderLock(folder)
    finally:
        lock.release()
