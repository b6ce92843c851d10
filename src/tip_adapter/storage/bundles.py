"""Arrays, a JSON config and small files become a saved classifier (folder or Hub repository), and come back checked."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tip_adapter.errors import InputError, ModelFileError, TipAdapterError
from tip_adapter.storage.arrays import Arrays, arrays_from_bytes, arrays_to_bytes
from tip_adapter.storage.atomic import interrupted_save, read_checked, read_file, write_folder
from tip_adapter.typing import StrPath

__all__ = [
    "FORMAT_VERSION",
    "HUB_PREFIX",
    "Bundle",
    "check_replaceable",
    "fingerprint",
    "is_bundle",
    "load_bundle",
    "push_to_hub",
    "save_bundle",
]

FORMAT_VERSION = 2
FORMAT = "tip-adapter"
CONFIG_FILE = "config.json"
ARRAYS_FILE = "model.safetensors"
HUB_PREFIX = "hub:"
RESERVED = ("format", "format_version", "checksums")
MAX_CONFIG_BYTES = 64 * 2**20


@dataclass(frozen=True, eq=False)
class Bundle:
    """What `load_bundle` read: checked arrays and config; the other files are read, and checked, when asked for.

    Attributes
    ----------
    path : pathlib.Path
    arrays : dict of str to ndarray
    config : dict
        As given to `save_bundle`.
    checksums : dict of str to str
        SHA-256 of every other file, by name.
    """

    path: Path
    arrays: dict[str, NDArray[Any]]
    config: dict[str, Any]
    checksums: dict[str, str]

    @property
    def file_names(self) -> tuple[str, ...]:
        """Names of the files beside arrays and config, sorted."""
        return tuple(sorted(self.checksums))

    def read_file(self, name: str) -> bytes:
        """Read one of the files.

        Parameters
        ----------
        name : str
            One of ``file_names``.

        Returns
        -------
        bytes

        Raises
        ------
        ModelFileError
            When there is no such file, or it is not as it was saved.
        """
        if name not in self.checksums:
            raise ModelFileError(
                f"The saved classifier {self.path} has no file {name!r}: it has {', '.join(self.file_names)}"
            )
        return read_checked(self.path / name, self.checksums[name])


def save_bundle(
    path: StrPath, arrays: Arrays, config: Mapping[str, Any], files: Mapping[str, bytes] | None = None
) -> None:
    """Save arrays, a config and small files as one folder that is there whole or not at all.

    Everything is written to a temporary sibling, flushed to the disk, and renamed; what was saved there before stays
    until then.

    Parameters
    ----------
    path : path-like
        The folder, ``*.tip`` by custom. A classifier saved there before is replaced; anything else is refused.
    arrays : mapping of str to ndarray
        Stored bit by bit as ``model.safetensors``.
    config : mapping
        JSON values, readable in ``config.json``; the keys ``format``, ``format_version`` and ``checksums`` are taken.
        Tuples come back as lists.
    files : mapping of str to bytes, optional
        Names such as ``README.md`` or ``thumbs/0.jpg``.

    Raises
    ------
    InputError
        When the config is no JSON, an array is not of numbers, or a file name is not plain.
    TipAdapterError
        When something else is there, the folder cannot be written or the disk is full; nothing half-written stays.

    Examples
    --------
    >>> import numpy as np, pathlib, tempfile
    >>> from tip_adapter.storage.bundles import load_bundle, save_bundle
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "clothes.tip"
    ...     save_bundle(path, {"keys": np.eye(2)}, {"classes": ["hat", "shoes"]}, {"README.md": b"# Clothes"})
    ...     bundle = load_bundle(path)
    ...     bundle.arrays["keys"].shape, bundle.config, bundle.read_file("README.md")
    ((2, 2), {'classes': ['hat', 'shoes']}, b'# Clothes')
    """
    path, files = Path(path), files or {}
    for name in files:
        if not _is_plain_name(name) or name in (CONFIG_FILE, ARRAYS_FILE):
            raise InputError(f"Expected a name such as README.md or thumbs/0.jpg in a saved classifier, got {name!r}")
    contents = {ARRAYS_FILE: arrays_to_bytes(arrays), **files}
    contents[CONFIG_FILE] = _config_to_bytes(config, contents)
    check_replaceable(path)
    write_folder(path, contents)


def check_replaceable(path: Path) -> None:
    """Refuse to save where something else than a saved classifier is; ask this before long work, too.

    Parameters
    ----------
    path : pathlib.Path

    Raises
    ------
    TipAdapterError
        When there is a file, a link, or a folder of another kind.
    """
    if path.is_symlink() or (path.exists() and not is_bundle(path)):
        raise TipAdapterError(f"{path} exists and is no saved classifier, so it is not replaced: choose another name")


def load_bundle(path: StrPath) -> Bundle:
    """Load what `save_bundle` saved, and check that it is unchanged.

    Parameters
    ----------
    path : path-like
        The folder, or ``hub:owner/name`` (``hub:owner/name@revision``) for a repository of the Hugging Face Hub.

    Returns
    -------
    Bundle

    Raises
    ------
    ModelFileError
        When there is no saved classifier, it is truncated or changed, or a newer version wrote it.
    TipAdapterError
        When the Hub cannot be reached.

    Examples
    --------
    >>> from tip_adapter.storage.bundles import load_bundle
    >>> load_bundle("nowhere.tip")
    Traceback (most recent call last):
    tip_adapter.errors.ModelFileError: Expected a saved classifier, but there is no folder nowhere.tip
    """
    if isinstance(path, str) and path.startswith(HUB_PREFIX):
        path = _download(path.removeprefix(HUB_PREFIX))
    path = Path(path)
    config, checksums = _read_config(path)
    arrays, _ = arrays_from_bytes(read_checked(path / ARRAYS_FILE, checksums.pop(ARRAYS_FILE)), path / ARRAYS_FILE)
    for name in checksums:
        if not (path / name).is_file():
            raise ModelFileError(f"The saved classifier {path} lacks its file {name}: copy the whole folder again")
    return Bundle(path=path, arrays=arrays, config=config, checksums=checksums)


def fingerprint(path: StrPath) -> str | None:
    """Tell saved states apart: the checksum of the config, which holds those of all other files.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    str or None
        None where nothing is saved.

    Examples
    --------
    >>> from tip_adapter.storage.bundles import fingerprint
    >>> fingerprint("nowhere.tip")
    """
    file = Path(path) / CONFIG_FILE
    return hashlib.sha256(read_file(file, MAX_CONFIG_BYTES)).hexdigest() if file.is_file() else None


def push_to_hub(path: StrPath, repo_id: str, *, private: bool = True) -> str:
    """Upload a saved classifier, once it has shown to be whole, to the Hugging Face Hub.

    Parameters
    ----------
    path : path-like
        A folder that `save_bundle` wrote.
    repo_id : str
        ``owner/name``, made where it does not exist.
    private : bool
        Whether a new repository is private: a classifier may hold thumbnails of its shots.

    Returns
    -------
    str
        Address of the commit.

    Raises
    ------
    ModelFileError
        When the saved classifier is not whole.
    TipAdapterError
        When the Hub refuses or cannot be reached.
    """
    bundle = load_bundle(Path(path))
    for name in bundle.file_names:
        bundle.read_file(name)
    import huggingface_hub

    with _clear_hub_errors(repo_id):
        huggingface_hub.create_repo(repo_id, private=private, exist_ok=True)
        # What an earlier version had and this one has not must go: it may be a photo that its owner wants forgotten.
        commit = huggingface_hub.upload_folder(
            repo_id=repo_id,
            folder_path=bundle.path,
            allow_patterns=[CONFIG_FILE, ARRAYS_FILE, *bundle.file_names],
            delete_patterns="*",
        )
    return str(commit.commit_url)


def _download(address: str) -> Path:
    """Fetch a repository of the Hub into its cache, or take it from there."""
    repo_id, _, revision = address.partition("@")
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", repo_id):
        raise InputError(f"Expected {HUB_PREFIX}owner/name, got {HUB_PREFIX}{address}")
    import huggingface_hub

    with _clear_hub_errors(repo_id):
        return Path(huggingface_hub.snapshot_download(repo_id, revision=revision or None))


@contextlib.contextmanager
def _clear_hub_errors(repo_id: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the network's many ways to fail, in the words of several HTTP libraries
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise TipAdapterError(
            f"The Hub repository {repo_id} cannot be reached ({reason[0]}): check its name, your access and the network"
        ) from error


def _config_to_bytes(config: Mapping[str, Any], contents: Mapping[str, bytes]) -> bytes:
    """Return the config with the checksums of all files, its own among them."""
    taken = [key for key in RESERVED if key in config]
    if taken:
        raise InputError(f"Expected a config without the keys {', '.join(RESERVED)}, got {', '.join(taken)}")
    try:
        plain = json.loads(json.dumps(dict(config), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"Expected a config of JSON values (no NaN), got one that is not: {error}") from error
    if plain != _tuples_as_lists(config):
        raise InputError("Expected a config with text as keys, got one that changes when it is written as JSON")
    checksums = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(contents.items())}
    whole = {"format": FORMAT, "format_version": FORMAT_VERSION, **plain, "checksums": checksums}
    checksums[CONFIG_FILE] = _config_digest(whole)
    return (json.dumps(whole, indent=2) + "\n").encode()


def _tuples_as_lists(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _tuples_as_lists(item) for key, item in value.items()}
    return [_tuples_as_lists(item) for item in value] if isinstance(value, list | tuple) else value


def _config_digest(whole: Mapping[str, Any]) -> str:
    """Return the checksum of a config apart from the entry that holds it."""
    checksums = {name: checksum for name, checksum in whole["checksums"].items() if name != CONFIG_FILE}
    return hashlib.sha256(json.dumps({**whole, "checksums": checksums}, sort_keys=True).encode()).hexdigest()


def _read_config(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the checked config as it was given, and the checksums of the files."""
    if path.exists() and not path.is_dir():
        raise ModelFileError(f"Expected a saved classifier, which is a folder, got the file {path}")
    if not path.exists():
        former = interrupted_save(path)
        hint = f"; a save was interrupted: rename {former} to get the former one back" if former else ""
        raise ModelFileError(f"Expected a saved classifier, but there is no folder {path}{hint}")
    if not (path / CONFIG_FILE).exists():
        raise ModelFileError(f"Expected a saved classifier, got a folder without {CONFIG_FILE}: {path}")
    whole = _parse_config(path / CONFIG_FILE)
    version = whole.get("format_version")
    if whole.get("format") != FORMAT or not isinstance(version, int):
        raise ModelFileError(f"Expected a saved classifier of tip-adapter, got another program's folder: {path}")
    # Before the checksum, whose rule a newer version may have changed.
    if version > FORMAT_VERSION:
        raise ModelFileError(
            f"Expected a saved classifier of format version {FORMAT_VERSION}, got {version} in {path}: upgrade "
            "tip-adapter"
        )
    if version < FORMAT_VERSION:
        raise ModelFileError(
            f"Expected a saved classifier of format version {FORMAT_VERSION}, got {version} in {path}, which this "
            "version cannot read any more: fit again"
        )
    checksums = _checked_checksums(whole, path)
    return {key: value for key, value in whole.items() if key not in RESERVED}, checksums


def _checked_checksums(whole: Mapping[str, Any], path: Path) -> dict[str, str]:
    """Return the checksums of a config that matches its own."""
    checksums = whole.get("checksums")
    sound = isinstance(checksums, dict) and ARRAYS_FILE in checksums and CONFIG_FILE in checksums
    if not isinstance(checksums, dict) or not sound or checksums[CONFIG_FILE] != _config_digest(whole):
        raise ModelFileError(
            f"{path / CONFIG_FILE} is not as it was saved, its checksum differs: copy it or save it again"
        )
    for name in checksums:
        if not _is_plain_name(name):
            raise ModelFileError(
                f"Expected plain file names in the saved classifier {path}, got {name!r}: do not trust it"
            )
    return {name: str(checksum) for name, checksum in checksums.items() if name != CONFIG_FILE}


def _parse_config(path: Path) -> dict[str, Any]:
    try:
        whole = json.loads(read_file(path, MAX_CONFIG_BYTES))
    except (ValueError, RecursionError) as error:
        raise ModelFileError(
            f"Expected JSON in {path}, got a damaged file ({error}): copy it or save it again"
        ) from error
    if not isinstance(whole, dict):
        raise ModelFileError(f"Expected a JSON object in {path}, got a {type(whole).__name__}")
    return whole


def _is_plain_name(name: str) -> bool:
    """Tell whether a name stays inside its folder: parts of letters, digits and ``._-``, none of dots alone."""
    return all(re.fullmatch(r"[A-Za-z0-9_.-]{1,200}", part) and part.strip(".") for part in name.split("/"))


def is_bundle(path: Path) -> bool:
    """Tell whether this package saved a folder, even if it is damaged since."""
    try:
        return path.is_dir() and _parse_config(path / CONFIG_FILE).get("format") == FORMAT
    except ModelFileError:
        return False
