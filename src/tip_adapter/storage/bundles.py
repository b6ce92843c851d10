"""Save arrays, a JSON config and small files as a classifier folder (or Hub repository), and load them checked.

A saved classifier is a folder of data files, each named by its content, and of ``config.json``, which lists them.
Saving writes new data files beside the old ones and then replaces ``config.json`` in one step, so that a reader finds
the former state or the new one, whole; what only the former one needed is deleted afterwards.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from numpy.typing import NDArray

from tip_adapter.errors import ModelFileError, TipAdapterError
from tip_adapter.storage.arrays import Arrays, arrays_from_bytes, arrays_to_bytes
from tip_adapter.storage.atomic import MissingFileError, clear_errors, flush_folder, read_checked, replace_file
from tip_adapter.storage.bundle_files import (
    ARRAYS_FILE,
    CARD_FILE,
    CONFIG_FILE,
    DATA_FILES,
    FORMAT,
    FORMAT_VERSION,
    RESERVED,
    THUMBNAILS_FILE,
    check_replaceable,
    config_bytes,
    config_digest,
    data_path,
    fingerprint,
    is_own,
    parse_config,
    plain_config,
    read_config,
)
from tip_adapter.storage.hub_folders import HUB_PREFIX, download_folder, upload_folder
from tip_adapter.storage.locking import LOCK_FILE, FolderLock, locked
from tip_adapter.storage.schema import fields, items, text
from tip_adapter.typing import StrPath

T = TypeVar("T")

HUB_FILES = (CONFIG_FILE, CARD_FILE, *(name.replace(".", "-*.") for name in DATA_FILES))
"""What of a repository is fetched."""

READS = 20
"""How often a reader whom writers overtake reads again before it waits for its turn."""


@dataclass(frozen=True, eq=False)
class Bundle:
    """What `load_bundle` read: checked arrays and config; the thumbnails are read, and checked, when asked for."""

    path: Path
    arrays: dict[str, NDArray[Any]]
    config: dict[str, Any]
    """As given to `save_bundle`."""
    checksums: dict[str, str]
    """SHA-256 of arrays and thumbnails."""
    fingerprint: str
    """See `fingerprint`."""
    forgetting: list[dict[str, str]] = field(default_factory=list)
    """Shots whose forgetting was interrupted; see `finish_forgetting`."""

    def read_thumbnails(self) -> tuple[bytes, bool]:
        """Read the thumbnails, or those of the present state where others have saved there since."""
        name = THUMBNAILS_FILE
        try:
            return read_checked(data_path(self.path, name, self.checksums[name]), self.checksums[name]), True
        except MissingFileError:
            return _read_until_whole(self.path, _read_thumbnails), False


def save_bundle(
    path: StrPath,
    arrays: Arrays,
    config: Mapping[str, Any],
    thumbnails: bytes = b"",
    *,
    card: str = "",
    forgetting: Sequence[Mapping[str, str]] = (),
    lock: FolderLock | None = None,
) -> str:
    """Save arrays, a config and thumbnails in one folder, so that readers find the former state or the new one.

    Only files of saved classifiers are touched: others, and a model card that somebody edited, stay. Permissions stay.

    Examples
    --------
    >>> import numpy as np, pathlib, tempfile
    >>> from tip_adapter.storage.bundles import load_bundle, save_bundle
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "clothes.tip"
    ...     saved = save_bundle(path, {"keys": np.eye(2)}, {"classes": ["hat", "shoes"]}, b"pictures")
    ...     bundle = load_bundle(path)
    ...     bundle.arrays["keys"].shape, bundle.config, bundle.read_thumbnails()
    ((2, 2), {'classes': ['hat', 'shoes']}, (b'pictures', True))
    """
    folder = Path(path).resolve()
    whole = plain_config(config)
    contents = {ARRAYS_FILE: arrays_to_bytes(arrays), THUMBNAILS_FILE: thumbnails}
    check_replaceable(folder)
    with clear_errors(folder):
        new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.nullcontext(lock) if lock else locked(folder) as held:
            # Again: another process may have put something there meanwhile.
            check_replaceable(folder)
            former = _present(folder)
            try:
                _commit(folder, whole, contents, card, forgetting, *former)
            except BaseException:
                _take_back(folder, held, new)
                raise
            _sweep(folder, held, former[0])
            if forgetting:
                _end_forgetting(folder)
            return fingerprint(folder) or ""


def load_bundle(path: StrPath) -> Bundle:
    """Load what `save_bundle` saved, and check that it is unchanged.

    Examples
    --------
    >>> from tip_adapter.storage.bundles import load_bundle
    >>> load_bundle("nowhere.tip")
    Traceback (most recent call last):
    tip_adapter.storage.atomic.MissingFileError: Expected a saved classifier, but there is no folder nowhere.tip
    """
    if isinstance(path, str) and path.startswith(HUB_PREFIX):
        path = download_folder(path.removeprefix(HUB_PREFIX), HUB_FILES)
    return _read_until_whole(Path(path), _read_state)


def finish_forgetting(lock: FolderLock) -> list[dict[str, str]]:
    """Delete what saves that were killed left in a folder; with that, a forgetting that was interrupted is complete."""
    with clear_errors(lock.folder):
        _sweep(lock.folder, lock, {})
        return _end_forgetting(lock.folder)


def push_to_hub(path: StrPath, repo_id: str, *, private: bool = True) -> str:
    """Upload a saved classifier, after checking that it is complete, to the Hugging Face Hub."""
    bundle = load_bundle(Path(path))
    bundle.read_thumbnails()
    names = [data_path(bundle.path, *item).name for item in bundle.checksums.items()]
    return upload_folder(bundle.path, [CONFIG_FILE, CARD_FILE, *names], repo_id, private=private)


def _commit(
    folder: Path,
    config: dict[str, Any],
    contents: Mapping[str, bytes],
    card: str,
    forgetting: Sequence[Mapping[str, str]],
    former: Mapping[str, Any],
    mode: int | None,
) -> None:
    """Write the data files, then, as the one step that counts, the config, and then the model card."""
    checksums = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    for name, data in contents.items():
        file = data_path(folder, name, checksums[name])
        if not _holds(file, data):
            replace_file(file, data, mode)
    flush_folder(folder)
    card_data = card.encode()
    cards, ours = _known_cards(folder, former, card_data)
    values = {"format": FORMAT, "format_version": FORMAT_VERSION, **config, "cards": cards, "checksums": checksums}
    if forgetting:
        values["forgetting"] = [dict(shot) for shot in forgetting]
    _replace_config(folder, values, mode)
    if ours and not _holds(folder / CARD_FILE, card_data):
        replace_file(folder / CARD_FILE, card_data, mode)
        flush_folder(folder)


def _present(folder: Path) -> tuple[dict[str, Any], int | None]:
    """The config that is there, as far as it can be read, and its permissions."""
    file = folder / CONFIG_FILE
    try:
        return parse_config(file), stat.S_IMODE(file.stat().st_mode)
    except ModelFileError:
        return {}, None


def _replace_config(folder: Path, values: dict[str, Any], mode: int | None) -> None:
    checksums = {**values["checksums"], CONFIG_FILE: config_digest(values)}
    replace_file(folder / CONFIG_FILE, config_bytes({**values, "checksums": checksums}), mode)
    flush_folder(folder)


def _known_cards(folder: Path, former: Mapping[str, Any], card: bytes) -> tuple[list[str], bool]:
    """Checksums of model cards that were written here, and whether the present one is of them: edited ones stay."""
    file, known = folder / CARD_FILE, former.get("cards")
    if not file.is_file():
        return [hashlib.sha256(card).hexdigest()], True
    present = hashlib.sha256(file.read_bytes()).hexdigest()
    if not isinstance(known, list) or present not in known:
        return [], False
    # The present one is known as long as it is there: a save may be killed before it writes the new one.
    return sorted({present, hashlib.sha256(card).hexdigest()}), True


def _holds(file: Path, data: bytes) -> bool:
    """Tell whether a file holds these bytes already; one that was damaged is written anew."""
    return file.is_file() and file.stat().st_size == len(data) and file.read_bytes() == data


def _take_back(folder: Path, lock: FolderLock, new: bool) -> None:
    """After a save that failed, leave what was there before: a former state, or no folder."""
    with contextlib.suppress(OSError, TipAdapterError):
        _sweep(folder, lock, {})
        if new and not (folder / CONFIG_FILE).exists():
            (folder / LOCK_FILE).unlink(missing_ok=True)
            folder.rmdir()


def _sweep(folder: Path, lock: FolderLock, former: Mapping[str, Any]) -> None:
    """Delete what the present state does not name; without a lock, only what the former state named."""
    keep = _data_names(folder, _present(folder)[0])
    left = {name for name in os.listdir(folder) if is_own(name)} if lock.exclusive else _data_names(folder, former)
    for name in left - keep:
        try:
            (folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise TipAdapterError(
                f"{folder} is saved, but its former {name} cannot be deleted ({error.strerror}): delete it by hand"
            ) from error


def _data_names(folder: Path, config: Mapping[str, Any]) -> set[str]:
    checksums = config.get("checksums")
    known = {name: checksums.get(name) for name in DATA_FILES} if isinstance(checksums, dict) else {}
    return {data_path(folder, name, one).name for name, one in known.items() if isinstance(one, str)}


def _end_forgetting(folder: Path) -> list[dict[str, str]]:
    """Once the former state is deleted, take the names of what was forgotten out of the config."""
    values, mode = _present(folder)
    shots: list[dict[str, str]] = values.pop("forgetting", [])
    if shots:
        del values["checksums"][CONFIG_FILE]
        _replace_config(folder, values, mode)
    return shots


def _read_until_whole(path: Path, read: Callable[[Path], T]) -> T:
    """Read a state whose files are all there: where a writer deletes them first, read the new state."""
    seen = None
    for _ in range(READS):
        before = fingerprint(path)
        try:
            return read(path)
        except MissingFileError:
            # The same state twice: a file was not deleted by a writer, it is missing.
            if before == seen:
                raise
            seen = before
    # Writers that never pause let a reader in that asks for the lock; one that may not lock can only give up.
    with contextlib.ExitStack() as waiting:
        try:
            waiting.enter_context(locked(path))
        except TipAdapterError as error:
            raise ModelFileError(f"{path} is changed faster than it can be read: try again") from error
        return read(path)


def _read_state(path: Path) -> Bundle:
    whole, checksums, mark = read_config(path)
    file = data_path(path, ARRAYS_FILE, checksums[ARRAYS_FILE])
    arrays, _ = arrays_from_bytes(read_checked(file, checksums[ARRAYS_FILE]), file)
    thumbnails = data_path(path, THUMBNAILS_FILE, checksums[THUMBNAILS_FILE])
    if not thumbnails.is_file():
        raise MissingFileError(f"The saved classifier {path} lacks its file {thumbnails.name}: copy the whole folder")
    config = {key: value for key, value in whole.items() if key not in RESERVED}
    return Bundle(path.absolute(), arrays, config, checksums, mark, _forgetting_of(whole, path))


def _forgetting_of(whole: Mapping[str, Any], path: Path) -> list[dict[str, str]]:
    """The shots whose forgetting was interrupted, checked."""
    shots = whole.get("forgetting", [])
    rule = items(fields({"id": text(), "digest": text()}, others={"name": text(longest=100_000)}))
    try:
        rule(shots, "forgetting")
    except ValueError as error:
        raise ModelFileError(f"Expected a saved classifier in {path}, but {error}: do not trust it") from error
    found: list[dict[str, str]] = shots
    return found


def _read_thumbnails(path: Path) -> bytes:
    checksum = read_config(path)[1][THUMBNAILS_FILE]
    return read_checked(data_path(path, THUMBNAILS_FILE, checksum), checksum)
