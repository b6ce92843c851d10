"""List the files of a .tar archive; what a compressed one holds is kept in an unnamed temporary file."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import tarfile
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, cast

from tip_adapter.data.archives.members import MAX_BYTES, MAX_MEMBERS, Member, Members, member_name, one_line
from tip_adapter.errors import DatasetError

MAX_PLAIN, MAX_UNPACKED = 2**62, 64 * 2**30
"""Bytes that an archive may hold, and a compressed one."""

_RATIO, _SMALL = 200, 256 * 2**20
_HEADER = 2**20  # no header of a file is longer; some archives claim so
_CHUNK = 2**20
_OPENERS: dict[bytes, Callable[[IO[bytes]], IO[bytes]]] = {
    b"\x1f\x8b": lambda file: cast("IO[bytes]", gzip.GzipFile(fileobj=file)),
    b"BZ": bz2.BZ2File,
    b"\xfd7": lzma.LZMAFile,
}


class _Forwards:
    """A file that is read forwards alone, by small reads, up to a limit."""

    def __init__(self, file: IO[bytes], limit: int, *, packed: bool) -> None:
        self.file, self.limit, self.packed, self.position = file, limit, packed, 0

    def read(self, size: int) -> bytes:
        if size > _HEADER:
            raise tarfile.ReadError("a header is too long")
        data = self.file.read(size)
        self.position += len(data)
        if self.position > self.limit:
            raise tarfile.ReadError(f"it unpacks to more than {self.limit:,} bytes")
        return data

    def tell(self) -> int:
        return self.position

    def seek(self, position: int) -> int:
        if position < self.position:
            raise tarfile.ReadError("its files overlap")
        if not self.packed:
            self.position = self.file.seek(position)
        while self.position < position and self.read(min(_CHUNK, position - self.position)):
            pass
        return self.position


class _Spool:
    """Files that were unpacked, one after the other, in a file without a name: nothing is left of it at the end."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed, and so deleted, with this object)
        self._lock = threading.Lock()
        self._end = 0

    def __del__(self) -> None:
        self._file.close()

    def add(self, source: _Forwards, size: int) -> Callable[[int], bytes]:
        """Copy a file, and return what reads it."""
        start, left = self._end, size
        while left and (data := source.read(min(_CHUNK, left))):
            self._file.write(data)
            left -= len(data)
        if left:
            raise tarfile.ReadError("it ends before its last file does")
        self._end += size
        self._file.flush()
        return lambda limit: self._read(start, min(size, limit))

    def _read(self, start: int, size: int) -> bytes:
        if hasattr(os, "pread"):  # no position that threads and forked processes would share
            return os.pread(self._file.fileno(), size, start)
        with self._lock:
            self._file.seek(start)
            return self._file.read(size)


def tar_members(path: Path) -> Members:
    """List the files of an archive."""
    try:
        with open(path, "rb") as file:
            opener = _OPENERS.get(file.read(2))
            file.seek(0)
            if opener is None:
                return _members(path, _Forwards(file, MAX_PLAIN, packed=False), None)
            limit = min(MAX_UNPACKED, max(_SMALL, _RATIO * os.fstat(file.fileno()).st_size))
            return _members(path, _Forwards(opener(file), limit, packed=True), _Spool())
    except DatasetError:
        raise
    except Exception as error:  # damaged archives raise nearly anything, from EOFError to OverflowError
        raise DatasetError(
            f"Expected a .tar or .zip archive at {path}, got an error ({one_line(error)}): recreate or unpack it"
        ) from error


def _members(path: Path, file: _Forwards, spool: _Spool | None) -> Members:
    members: Members = {}
    with tarfile.open(fileobj=file, mode="r:") as archive:  # type: ignore[call-overload]
        while (entry := archive.next()) is not None:
            archive.members.clear()
            if entry.isdir():
                continue
            name, problem = member_name(entry.name)
            members[name] = (
                _member(path, file, spool, entry, members) if not problem else Member(0, 0, _nothing, problem)
            )
            if len(members) > MAX_MEMBERS:
                raise DatasetError(
                    f"Expected at most {MAX_MEMBERS:,} files in {path}, got more: unpack it, or split it"
                )
    return members


def _member(path: Path, file: _Forwards, spool: _Spool | None, entry: tarfile.TarInfo, known: Members) -> Member:
    if entry.islnk() and (target := member_name(entry.linkname)[0]) in known:
        return known[target]
    if not entry.isreg() or entry.issparse():
        return Member(0, 0, _nothing, "it is a link or a device: put the file itself into the archive")
    if spool is None:
        return Member(entry.size, entry.size, _reader(path, entry.offset_data, entry.size))
    if entry.size > MAX_BYTES:
        return Member(entry.size, entry.size, _nothing)
    file.seek(entry.offset_data)
    return Member(entry.size, entry.size, spool.add(file, entry.size))


def _reader(path: Path, start: int, size: int) -> Callable[[int], bytes]:
    def read(limit: int) -> bytes:
        with open(path, "rb") as file:
            file.seek(start)
            data = file.read(min(size, limit))
        if len(data) < min(size, limit):
            raise EOFError("the archive ends before the file does")
        return data

    return read


def _nothing(_: int) -> bytes:
    return b""
