"""Define the files of a saved classifier: their names, the config, and the checksums in it."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tip_adapter.errors import InputError, ModelFileError, TipAdapterError
from tip_adapter.storage.atomic import MissingFileError, can_write, read_file
from tip_adapter.storage.locking import LOCK_FILE
from tip_adapter.storage.strict_json import parse_json
from tip_adapter.typing import StrPath

FORMAT_VERSION = 3
FORMAT = "tip-adapter"
CONFIG_FILE = "config.json"
CARD_FILE = "README.md"
ARRAYS_FILE = "arrays.safetensors"
THUMBNAILS_FILE = "thumbnails.zip"
DATA_FILES = (ARRAYS_FILE, THUMBNAILS_FILE)
RESERVED = ("format", "format_version", "checksums", "cards", "forgetting")
MAX_CONFIG_BYTES = 64 * 2**20

OWN_FILES = re.compile(
    r"((arrays-[0-9a-f]{16}\.safetensors|thumbnails-[0-9a-f]{16}\.zip)"
    r"|\.(arrays-[0-9a-f]{16}\.safetensors|thumbnails-[0-9a-f]{16}\.zip|config\.json|README\.md)\.tmp-[0-9a-f]{12})"
)
"""What saving writes, and a save that was killed may leave behind, apart from config and model card."""


def is_own(name: str) -> bool:
    """Tell whether a file is one that saving writes under a name of its own."""
    return OWN_FILES.fullmatch(name) is not None


def data_path(folder: Path, name: str, checksum: str) -> Path:
    """Where a data file lies: its name tells its content, so that no save changes a file that a reader has open."""
    stem, dot, suffix = name.partition(".")
    return folder / f"{stem}-{checksum[:16]}{dot}{suffix}"


def plain_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Check that a config is of JSON values, and return it with lists for tuples."""
    taken = [key for key in RESERVED if key in config]
    if taken:
        raise InputError(f"Expected a config without the keys {', '.join(RESERVED)}, got {', '.join(taken)}")
    try:
        written = json.dumps(dict(config), allow_nan=False)
        plain: dict[str, Any] = json.loads(written)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"Expected a config of JSON values (no NaN), got one that is not: {error}") from error
    if not _has_text_keys(config):
        raise InputError("Expected a config with text as keys, got one that changes when it is written as JSON")
    return plain


def _has_text_keys(value: Any) -> bool:
    """Tell whether all keys are text, going down only where there may be some."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) for key in value) and all(map(_has_text_keys, value.values()))
    kinds = set(map(type, value)) if isinstance(value, list | tuple) else set()
    return kinds <= {str, int, float, bool, type(None)} or all(map(_has_text_keys, value))


def config_bytes(values: Mapping[str, Any]) -> bytes:
    """Write a config with a line for each value of the two outer levels: indented lists of thousands take long."""
    lines = []
    for name, value in values.items():
        if isinstance(value, dict) and value:
            inner = ",\n".join(f"    {json.dumps(key)}: {json.dumps(item)}" for key, item in value.items())
            lines.append(f"  {json.dumps(name)}: {{\n{inner}\n  }}")
        else:
            lines.append(f"  {json.dumps(name)}: {json.dumps(value)}")
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def config_digest(whole: Mapping[str, Any]) -> str:
    """Return the checksum of a config apart from the entry that holds it."""
    checksums = {name: checksum for name, checksum in whole["checksums"].items() if name != CONFIG_FILE}
    return hashlib.sha256(json.dumps({**whole, "checksums": checksums}, sort_keys=True).encode()).hexdigest()


def check_replaceable(path: Path) -> None:
    """Refuse to save where something else than a saved classifier is; ask this before long work, too."""
    if not can_write(path):
        raise TipAdapterError(f"{path} cannot be written: make it writable, or choose another place")
    if path.is_dir() and (is_bundle(path) or all(name == LOCK_FILE or is_own(name) for name in os.listdir(path))):
        return
    if path.exists():
        raise TipAdapterError(f"{path} exists and is no saved classifier, so it is not replaced: choose another name")


def fingerprint(path: StrPath) -> str | None:
    """Tell saved states apart: the checksum of the config, which holds those of all other files.

    Examples
    --------
    >>> from tip_adapter.storage.bundle_files import fingerprint
    >>> fingerprint("nowhere.tip")
    """
    file = Path(path) / CONFIG_FILE
    return hashlib.sha256(read_file(file, MAX_CONFIG_BYTES)).hexdigest() if file.is_file() else None


def _one_inside(folder: Path) -> str:
    """Ask for the only saved classifier in a folder."""
    found = sorted(file.parent for file in folder.glob(f"*/{CONFIG_FILE}"))
    return f" (did you mean {found[0]}?)" if len(found) == 1 else ""


def read_config(path: Path) -> tuple[dict[str, Any], dict[str, str], str]:
    """Return the checked config, the checksums of the data files, and the fingerprint."""
    if path.exists() and not path.is_dir():
        raise ModelFileError(f"Expected a saved classifier, which is a folder, got the file {path}")
    if not path.exists():
        raise MissingFileError(f"Expected a saved classifier, but there is no folder {path}")
    if not (path / CONFIG_FILE).exists():
        hint = "; nothing was saved there yet" if (path / LOCK_FILE).exists() else _one_inside(path)
        raise MissingFileError(f"Expected a saved classifier, got a folder without {CONFIG_FILE}: {path}{hint}")
    data = read_file(path / CONFIG_FILE, MAX_CONFIG_BYTES)
    whole = _config_of(data, path / CONFIG_FILE)
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
    return whole, _checked_checksums(whole, path), hashlib.sha256(data).hexdigest()


def _checked_checksums(whole: Mapping[str, Any], path: Path) -> dict[str, str]:
    """Return the checksums of a config that matches its own."""
    checksums = whole.get("checksums")
    if (
        not isinstance(checksums, dict)
        or set(checksums) != {*DATA_FILES, CONFIG_FILE}
        or not all(isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) for value in checksums.values())
        or checksums[CONFIG_FILE] != config_digest(whole)
    ):
        raise ModelFileError(
            f"{path / CONFIG_FILE} is not as it was saved, its checksum differs: copy it or save it again"
        )
    return {name: checksums[name] for name in DATA_FILES}


def parse_config(path: Path) -> dict[str, Any]:
    """Read a config of any kind, unchecked."""
    return _config_of(read_file(path, MAX_CONFIG_BYTES), path)


def _config_of(data: bytes, path: Path) -> dict[str, Any]:
    try:
        whole = parse_json(data)
    except ValueError as error:
        raise ModelFileError(
            f"Expected JSON in {path}, got a damaged file ({error}): copy it or save it again"
        ) from error
    if not isinstance(whole, dict):
        raise ModelFileError(f"Expected a JSON object in {path}, got a {type(whole).__name__}")
    return whole


def is_bundle(path: Path) -> bool:
    """Tell whether this package saved a folder, even if it is damaged since."""
    try:
        return path.is_dir() and parse_config(path / CONFIG_FILE).get("format") == FORMAT
    except ModelFileError:
        return False
