"""A path in; while its lock is held, no other process that asks for it changes what is there."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from tip_adapter.errors import TipAdapterError
from tip_adapter.storage.cache_folder import cache_dir

__all__ = ["LOCK_TIMEOUT_S", "locked"]

LOCK_TIMEOUT_S = 10.0
"""An edit takes less; encoding many new photos may take longer, and then the other process is told."""


@contextlib.contextmanager
def locked(path: Path, timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[None]:
    """Hold the lock of a file or folder; it ends with the process, however that ends.

    The lock is a file in the cache folder, so that nothing is left beside a classifier.

    Parameters
    ----------
    path : pathlib.Path
        It need not exist.
    timeout_s : float, default=10
        How long to wait for another holder, in seconds.

    Yields
    ------
    None

    Raises
    ------
    TipAdapterError
        When another process holds it for longer, or the lock cannot be made.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from tip_adapter.storage.locking import locked
    >>> with tempfile.TemporaryDirectory() as folder, locked(pathlib.Path(folder) / "clothes.tip"):
    ...     print("mine")
    mine
    """
    # Imported here, because it takes longer than all else that loading a classifier needs.
    from filelock import FileLock, Timeout

    name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:32]
    lock = FileLock(cache_dir() / "locks" / f"{name}.lock", timeout=timeout_s)
    try:
        Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise TipAdapterError(
            f"Another process is changing {path}, and has been for {timeout_s:.0f} s: wait for it to end and try again"
        ) from error
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise TipAdapterError(
            f"{path} cannot be locked against other processes, in {lock.lock_file}: {reason}: let TIP_ADAPTER_CACHE "
            "name a folder that can be written"
        ) from error
    try:
        yield
    finally:
        lock.release()
