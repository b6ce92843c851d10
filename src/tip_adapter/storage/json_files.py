"""Read untrusted JSON files, with a bound on their size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
