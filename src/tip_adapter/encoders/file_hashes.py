"""SHA-256 of large files, computed again only when a file has changed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from tip_adapter.errors import TipAdapterError
from tip_adapter.storage.atomic import write_file
from tip_adapter.storage.cache_folder import cache_dir
from tip_adapter.storage.json_files import read_json

# A file changed again within the clock's granularity would keep its stamp: fresh files are not remembered, as in git.
_SETTLED_S = 2.0


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal.

    Hashing the weights of a CLIP takes up to a second, too long for every start of the command line. So the hash is
    kept in the cache folder under the file's path, and trusted as long as size, inode, modification time and change
    time (which programs cannot set back) stay the same to the nanosecond.

    Examples
    --------
    >>> from tip_adapter.encoders.file_hashes import file_sha256
    >>> len(file_sha256(Path(__file__)))
    64
    """
    return remembered(path, "sha256", _hash)


def remembered(path: Path, fact: str, find_out: Callable[[Path], str]) -> str:
    """Return a text that depends on a file's content alone, found out anew only when the file has changed."""
    path = path.resolve()
    note = cache_dir() / "hashes" / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:32]}.json"
    stamp = _stamp(path)
    known = _read(note)
    facts = known if known.get("stamp") == stamp else {}
    if isinstance(text := facts.get(fact), str):
        return text
    text = find_out(path)
    newest_s = max(stamp[2:]) / 1e9
    if _stamp(path) == stamp and time.time() - newest_s > _SETTLED_S:
        _write(note, facts | {"path": str(path), "stamp": stamp, fact: text})
    return text


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns]


def _read(note: Path) -> dict[str, object]:
    try:
        content = read_json(note)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _write(note: Path, content: dict[str, object]) -> None:
    """Leave the note for next time; a cache folder that cannot be written only means hashing again."""
    with contextlib.suppress(TipAdapterError):
        write_file(note, json.dumps(content).encode())
