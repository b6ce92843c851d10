"""Pack a saved classifier into a ZIP file, and unpack one from an untrusted source."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from tip_adapter.errors import ModelFileError
from tip_adapter.storage.atomic import clear_errors, new_folder
from tip_adapter.storage.bundle_files import CARD_FILE, CONFIG_FILE, check_replaceable, is_own
from tip_adapter.storage.locking import locked

MOST_EXPANSION = 20
"""What unpacking may make of a byte: numbers and JPEG pictures hardly shrink, a config does at most tenfold."""

ROOM_BYTES = 2**20
"""What a small archive may be unpacked to, however well it was compressed."""


def pack_bundle(folder: Path, out: IO[bytes]) -> None:
    """Write a saved classifier as a ZIP file, in the folder of its name.

    Examples
    --------
    >>> import io, numpy as np, pathlib, tempfile, zipfile
    >>> from tip_adapter.storage.bundle_archives import pack_bundle, unpack_bundle
    >>> from tip_adapter.storage.bundles import load_bundle, save_bundle
    >>> out = io.BytesIO()
    >>> with tempfile.TemporaryDirectory() as place:
    ...     folder, copy = pathlib.Path(place) / "hats.tip", pathlib.Path(place) / "copy.tip"
    ...     saved = save_bundle(folder, {"keys": np.eye(2)}, {"classes": ["hat"]})
    ...     pack_bundle(folder, out)
    ...     unpack_bundle(out.getvalue(), copy, load_bundle)
    ...     load_bundle(copy).config
    {'classes': ['hat']}
    """
    with locked(folder), zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(os.listdir(folder)):
            if _belongs(name):
                archive.write(folder / name, f"{folder.name}/{name}")


def unpack_bundle(archive: bytes | Path, folder: Path, check: Callable[[Path], object]) -> None:
    """Take a saved classifier out of a ZIP file, into a folder that is there once `check` has passed it."""
    check_replaceable(folder)
    size = len(archive) if isinstance(archive, bytes) else archive.stat().st_size
    try:
        with zipfile.ZipFile(io.BytesIO(archive) if isinstance(archive, bytes) else archive) as opened:
            members = _members(opened)
            room = MOST_EXPANSION * size + ROOM_BYTES
            if sum(member.file_size for member in members.values()) > room:
                raise ModelFileError("Expected a saved classifier, got an archive that expands too far to be one")
            with clear_errors(folder), new_folder(folder) as fresh:
                for name, member in members.items():
                    # Never more than declared: `read` of a lying member raises when its checksum differs.
                    with opened.open(member) as source:
                        (fresh / name).write_bytes(source.read(member.file_size))
                check(fresh)
    except (zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError, ValueError) as error:
        raise ModelFileError(
            f"Expected a ZIP file with a saved classifier, got one that cannot be read: {error}"
        ) from error


def holds_bundle(path: Path) -> bool:
    """Tell whether a file is a ZIP file with a saved classifier in it."""
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as opened:
            return bool(_members(opened))
    except (ModelFileError, zipfile.BadZipFile):
        return False


def _members(opened: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Files of the one saved classifier, by the names they had; names never become paths."""
    configs = [name for name in opened.namelist() if name.rpartition("/")[2] == CONFIG_FILE and name.count("/") < 2]
    if len(configs) != 1:
        raise ModelFileError(f"Expected a ZIP file with one saved classifier, got {len(configs)} files {CONFIG_FILE}")
    prefix = configs[0].removesuffix(CONFIG_FILE)
    inside = {
        info.filename.removeprefix(prefix): info for info in opened.infolist() if info.filename.startswith(prefix)
    }
    return {name: info for name, info in inside.items() if _belongs(name)}


def _belongs(name: str) -> bool:
    return name in (CONFIG_FILE, CARD_FILE) or (is_own(name) and not name.startswith("."))
