"""Read files inside .zip and .tar archives as bytes, in bounds; nothing is extracted to the disk under a name.

A file in an archive is called by the archive's path and its own: ``photos.zip/red/1.jpg``.
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
import threading
import zipfile
from collections import OrderedDict
from pathlib import Path

from tip_adapter.data.archives.members import MAX_MEMBERS, Archive, Member, Members, member_name, one_line
from tip_adapter.data.archives.tar_files import tar_members
from tip_adapter.errors import DatasetError

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tm")
"""Names of archives end like this; .tm is a project of Teachable Machine, which is a .zip."""

_KEPT = 4
_UTF8_NAME = 0x800
_ENCRYPTED = 0x1

_opened: OrderedDict[tuple[str, int, int], Archive] = OrderedDict()
_lock = threading.Lock()


def is_archive(path: Path) -> bool:
    """Tell an archive by its name."""
    return path.name.lower().endswith(ARCHIVE_SUFFIXES) and os.path.isfile(path)


def inside_archive(path: Path) -> tuple[Path, str] | None:
    """Return the archive that a path leads into, and the name of what it names there; empty is the archive itself."""
    for part in (path, *path.parents):
        if is_archive(part):
            return part, "/".join(path.parts[len(part.parts) :])
    return None


def open_archive(path: Path) -> Archive:
    """List what an archive holds; the lists of the last few archives are kept."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise DatasetError(f"Expected a readable archive at {path}, got: {error.strerror}") from error
    key = (os.path.abspath(path), found.st_size, found.st_mtime_ns)
    with _lock:
        if key not in _opened:
            members = _zip_members(path) if zipfile.is_zipfile(path) else tar_members(path)
            _opened[key] = Archive(path, members)
            while len(_opened) > _KEPT:
                _opened.popitem(last=False)
        _opened.move_to_end(key)
        return _opened[key]


def _zip_members(path: Path) -> Members:
    try:
        _check_count(path)
        with zipfile.ZipFile(path) as file:
            entries = file.infolist()
    except DatasetError:
        raise
    except Exception as error:  # damaged directories raise nearly anything, from struct.error to NotImplementedError
        raise DatasetError(
            f"Expected a .zip archive at {path}, got an error ({one_line(error)}): recreate it"
        ) from error
    return dict(_zip_member(path, entry) for entry in entries if entry.filename and not entry.is_dir())


def _check_count(path: Path) -> None:
    """Refuse a directory of files that would take much memory, before it is read."""
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 2**16 - 22))
        tail = file.read()
    end, longer = tail.rfind(b"PK\5\6"), tail.rfind(b"PK\6\6")
    if end < 0 or len(tail) < end + 22:
        return
    count = struct.unpack_from("<H", tail, end + 10)[0]
    if longer >= 0 and len(tail) >= longer + 40:
        count = struct.unpack_from("<Q", tail, longer + 32)[0]
    directory = struct.unpack_from("<L", tail, end + 12)[0]
    # The count alone may be made up; the size of the directory says how many entries of 46 bytes or more it can hold.
    if count > MAX_MEMBERS or (directory != 0xFFFFFFFF and directory > 256 * MAX_MEMBERS):
        raise DatasetError(f"Expected at most {MAX_MEMBERS:,} files in {path}, got more: unpack it, or split it")


def _name_of(entry: zipfile.ZipInfo) -> tuple[str, str]:
    """Read a name as it was meant: macOS writes UTF-8 without saying so, some programs for Windows back-slashes."""
    name = entry.filename
    if not entry.flag_bits & _UTF8_NAME:
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return member_name(name.replace("\\", "/"))


def _zip_member(path: Path, entry: zipfile.ZipInfo) -> tuple[str, Member]:
    def read(limit: int) -> bytes:
        # A file object of its own for each read, so that threads and forked processes do not share a position.
        with open(path, "rb") as file:
            file.seek(entry.header_offset)
            header = file.read(30)
            if len(header) < 30 or header[:4] != b"PK\3\4":
                raise zipfile.BadZipFile("there is no file where the archive's directory says")
            file.seek(sum(struct.unpack_from("<2H", header, 26)), os.SEEK_CUR)
            with zipfile.ZipExtFile(file, "r", entry) as member:
                return member.read(limit)

    name, problem = _name_of(entry)
    if entry.flag_bits & _ENCRYPTED:
        problem = "it is encrypted: unpack the archive with its password"
    elif stat.S_ISLNK(entry.external_attr >> 16):
        problem = "it is a link: put the file itself into the archive"
    return name, Member(entry.file_size, entry.compress_size, read, problem)
