"""Read untrusted JSON files, with a bound on their size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tip_adapter.errors import InputError, TipAdapterError
from tip_adapter.storage.strict_json import parse_json

MOST_BYTES = 64 * 2**20


def read_json(path: Path, *, most: int = MOST_BYTES) -> Any:
    """Read a JSON file."""
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror}") from error
    if len(data) > most:
        raise ValueError(f"it has more than {most // 2**20} MiB")
    return parse_json(data)


def read_object(
    path: Path,
    what: str,
    *,
    error: type[TipAdapterError] = InputError,
    remedy: str = "correct it",
    most: int = MOST_BYTES,
) -> dict[str, Any]:
    """Read a JSON file that has to be an object of what is named, or raise an error that says what to do."""
    try:
        content = read_json(path, most=most)
    except ValueError as damage:
        raise error(f"Expected a JSON object of {what} in {path}, got something else ({damage}): {remedy}") from damage
    if not isinstance(content, dict):
        raise error(f"Expected a JSON object of {what} in {path}, got a {type(content).__name__}: {remedy}")
    return content
