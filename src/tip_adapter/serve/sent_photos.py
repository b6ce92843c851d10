"""Bytes of photos that clients sent to be labelled: gone when the service ends, however it ends."""

from __future__ import annotations

import contextlib
import errno
import sqlite3
import threading
from collections.abc import Iterator

from tip_adapter.serve.problems import Problem


class SentPhotos:
    """Photos by the SHA-256 of their bytes.

    SQLite's file without a name is deleted when it is opened, and what is deleted in it makes room for others.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._sizes: dict[str, int] = {}
        self._lock = threading.Lock()
        self._file: sqlite3.Connection | None = None

    def __iter__(self) -> Iterator[str]:
        """Go through the SHA-256 of every photo."""
        return iter(tuple(self._sizes))

    def _opened(self) -> sqlite3.Connection:
        if self._file is None:
            # The lock keeps threads apart; a failed write is taken back from memory.
            self._file = sqlite3.connect("", check_same_thread=False, isolation_level=None)
            self._file.executescript(
                "PRAGMA auto_vacuum=FULL; PRAGMA journal_mode=MEMORY; CREATE TABLE photos (digest PRIMARY KEY, data)"
            )
        return self._file

    def write(self, digest: str, data: bytes) -> None:
        """Keep a photo.

        Raises
        ------
        Problem
            When all together would be too large.
        OSError
            When the disk is full.
        """
        with self._lock, _plain_errors():
            if sum(self._sizes.values()) + len(data) > self.most_bytes:
                most = f"{self.most_bytes // 2**20} MiB"
                raise Problem(413, f"The photos sent to be labelled take {most} already: name a folder by --unlabelled")
            self._opened().execute("INSERT OR REPLACE INTO photos VALUES (?, ?)", (digest, bytes(data)))
            self._sizes[digest] = len(data)

    def read(self, digest: str) -> bytes:
        """Give the bytes of a photo; none of one that is not kept."""
        with self._lock:
            found = self._opened().execute("SELECT data FROM photos WHERE digest = ?", (digest,)).fetchone()
        return found[0] if found else b""

    def delete(self, digest: str) -> None:
        """Keep a photo no longer."""
        with self._lock:
            if self._sizes.pop(digest, None) is not None:
                self._opened().execute("DELETE FROM photos WHERE digest = ?", (digest,))

    def close(self) -> None:
        """Let go of all of them."""
        with self._lock:
            if self._file is not None:
                self._file.close()


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
            raise
        raise OSError(errno.ENOSPC, "The disk is full: free some space") from error
