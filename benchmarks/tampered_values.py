"""Other values and arrays in place of what a file holds."""

from __future__ import annotations

import contextlib
import copy
import json
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

HUGE = int("9" * 400)
DEEP = "deep"  # replaced by nested lists in the text


def tampered_arrays(array: np.ndarray) -> Iterator[tuple[str, np.ndarray | None]]:
    """Other shapes, kinds and values in place of an array; None is none."""
    yield "missing", None
    array = np.atleast_1d(array)
    yield "no numbers", array[:0]
    yield "one row less", array[:-1]
    yield "one row more", np.concatenate([array, array[:1]])
    yield "a scalar", array.reshape(-1)[0]
    yield "one axis more", array[None]
    yield "flat", array.reshape(-1)
    yield "other order", np.flipud(array)
    if array.ndim > 1:
        yield "one column less", array[..., :-1]
        yield "one column more", np.concatenate([array, array[..., :1]], axis=-1)
        yield "transposed", array.swapaxes(-1, -2)
    yield "zeros", np.zeros_like(array)
    for kind in ("float16", "float32", "float64", "int64", "int8", "uint8", "bool"):
        if kind != array.dtype.name:
            with np.errstate(all="ignore"):
                yield kind, np.nan_to_num(array).astype(kind)
    values = (
        [-1, 2**31 - 1, 2**62, -(2**62)] if array.dtype.kind == "i" else [np.nan, np.inf, -np.inf, 1e30, -1e30, -1.0]
    )
    for value in values:
        for where in ("first", "all"):
            other = array.copy()
            with np.errstate(all="ignore"), contextlib.suppress(OverflowError):
                other.reshape(-1)[slice(1) if where == "first" else slice(None)] = value
                yield f"{where} {value}", other


def tampered_values(value: Any) -> Iterator[tuple[str, Any]]:
    """Other values and kinds in place of a JSON value."""
    others: list[Any] = [
        None,
        True,
        -1,
        0,
        1,
        2,
        0.5,
        1e308,
        -1e308,
        2**31 - 1,
        2**63,
        HUGE,
        "",
        "x",
        "\ud800",
        "a" * 10**6,
    ]
    others += [
        "hub:somebody/something",
        "../../x",
        "\x1b[31m",
        [],
        [[]],
        [1],
        ["x"],
        [None],
        {},
        {"x": 1},
        float("nan"),
        DEEP,
    ]
    others += [float("inf"), float("-inf")]
    if isinstance(value, list):
        others += [value + value[:1], value[:-1], value[::-1], [*value, None], [*value, "x"], value * 1000]
    if isinstance(value, dict):
        others += [{**value, "x": 1}, dict.fromkeys(value), {key: DEEP for key in value}]
    for other in others:
        if repr(other) != repr(value):
            yield f"{other!r:.40}", other


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the values of a config are: all of objects, of lists the first and the last."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from paths_of(item, (*path, key))
    elif isinstance(value, list) and value:
        for index in sorted({0, len(value) - 1}):
            yield from paths_of(value[index], (*path, index))


def replaced(config: dict[str, Any], path: tuple[Any, ...], value: Any, *, drop: bool = False) -> dict[str, Any]:
    """A copy of a config with another value in one place, or none."""
    changed = copy.deepcopy(config)
    place = changed
    for step in path[:-1]:
        place = place[step]
    if drop:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return changed


def changed_places(value: Any) -> Iterator[tuple[str, Any]]:
    """A JSON object with another value, or none, in each of its places."""
    for place in paths_of(value):
        where = ".".join(map(str, place))
        yield f"{where}: missing", replaced(value, place, None, drop=True)
        there = value
        for step in place:
            there = there[step]
        for what, other in tampered_values(there):
            yield f"{where}: {what}", replaced(value, place, other)


def text_of(value: Any) -> str:
    """Write JSON, whatever is in it."""
    sys.set_int_max_str_digits(0)
    text = json.dumps(value)
    sys.set_int_max_str_digits(4300)
    return text.replace(f'"{DEEP}"', "[" * 900 + "]" * 900)


def odd_contents(data: bytes) -> Iterator[tuple[str, bytes | None]]:
    """Other bytes in place of a file."""
    yield "missing", None
    yield "empty", b""
    for what in (b"[]", b"null", b"{}", b"{", b"\xff\xfe", b"\x00" * 100, b"[" * 100_000, b"9" * 5000, b'{"a": NaN}'):
        yield f"{what[:10]!r}", what
    yield "20 MB of blanks", b" " * 20_000_000 + data
    yield "a byte order mark", b"\xef\xbb\xbf" + data
    for part in range(1, 8):
        yield f"{part} eighths", data[: len(data) * part // 8]
    rng = np.random.default_rng(0)
    for number in range(30):
        flipped = bytearray(data)
        for place in rng.integers(0, len(data), 1 + number // 10):
            flipped[place] ^= 1 << int(rng.integers(8))
        yield f"bits flipped, {number}", bytes(flipped)
