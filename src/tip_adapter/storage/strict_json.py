"""Read untrusted JSON strictly: what is accepted can be stored, printed and written again."""

from __future__ import annotations

import json
import math
import re
from typing import Any

_MAX_DIGITS = 300
_MAX_DEPTH = 100
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")


def parse_json(data: bytes | str) -> Any:
    """Parse JSON in UTF-8, with or without a byte order mark.

    Examples
    --------
    >>> from tip_adapter.storage.strict_json import parse_json
    >>> parse_json('{"a": [1, 2.5, "é"]}')
    {'a': [1, 2.5, 'é']}
    >>> parse_json('{"a": NaN}')
    Traceback (most recent call last):
    ValueError: NaN is no number of JSON
    """
    try:
        text = data.decode("utf-8-sig") if isinstance(data, bytes) else data.removeprefix("\ufeff")
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_number,
            parse_constant=_no_number,
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"an error in line {error.lineno} ({error.msg})") from None
    except UnicodeDecodeError:
        raise ValueError("other bytes than UTF-8") from None
    except RecursionError:
        raise ValueError(f"nested more than {_MAX_DEPTH} deep") from None
    _check_depth(value)
    # Written out in escapes only: as such it would have been no UTF-8.
    if "\\ud" in text.lower() and _LONE_SURROGATE.search(json.dumps(value, ensure_ascii=False)):
        raise ValueError("half of a character that takes two")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for index, name in enumerate(names) if name in names[:index])
        raise ValueError(f"{twice!r:.100} twice in one object")
    return found


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _number(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits[:40]} is too large a number")
    return value


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number of JSON")


def _check_depth(value: Any) -> None:
    """Go down level by level, so that depth takes no stack."""
    level = [value]
    for _ in range(_MAX_DEPTH):
        level = [
            item
            for one in level
            if isinstance(one, dict | list)
            for item in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return
    raise ValueError(f"nested more than {_MAX_DEPTH} deep")
