"""Specify the values and arrays of a file, and check what was read against that."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rule = Callable[[Any, str], None]
"""Raises a ValueError that names the place of a value which is not as it should be."""

LARGEST = 1e9
"""Of numbers in arrays: far above what any fit gives, and its products with features are finite."""

_PLAIN_ITEMS = 10_000
_KINDS = {
    "float32": ("float32",),
    "float": ("float32", "float64"),
    "integer": ("int32", "int64"),
    "bytes": ("uint8",),
}


def _fail(where: str, expected: str, got: Any) -> None:
    shown = repr(got).encode("ascii", "backslashreplace").decode()
    raise ValueError(f"{where} should be {expected}, got {shown[:60]}{'…' * (len(shown) > 60)}")


def text(*, longest: int = 1000, pattern: str | None = None, named: str = "text") -> Rule:
    """Text that is not longer, and wholly matches a pattern."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, str) or len(value) > longest or (pattern and not re.fullmatch(pattern, value)):
            _fail(where, named, value)

    return check


def whole(low: int, high: int) -> Rule:
    """A whole number from low to high."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            _fail(where, f"a whole number from {low} to {high}", value)

    return check


def number(low: float = -math.inf, high: float = math.inf, *, above: float = -math.inf) -> Rule:
    """A finite number from low to high, more than `above`."""

    def check(value: Any, where: str) -> None:
        sound = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
        if not sound or not low <= value <= high or value <= above:
            bounds = [f"from {low:g}"] * (low > -math.inf) + [f"above {above:g}"] * (above > -math.inf)
            bounds += [f"to {high:g}"] * (high < math.inf)
            _fail(where, " ".join(["a finite number", *bounds]), value)

    return check


def flag(value: Any, where: str) -> None:
    """Either true or false."""
    if not isinstance(value, bool):
        _fail(where, "true or false", value)


def one_of(*values: Any) -> Rule:
    """One of some values."""

    def check(value: Any, where: str) -> None:
        if not any(type(value) is type(each) and value == each for each in values):
            _fail(where, f"one of {', '.join(map(str, values))}", value)

    return check


def optional(rule: Rule) -> Rule:
    """Nothing, or what the rule says."""

    def check(value: Any, where: str) -> None:
        if value is not None:
            rule(value, where)

    return check


def items(rule: Rule, *, least: int = 0, length: int | None = None, unique: bool = False) -> Rule:
    """A list whose items are as the rule says."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, list) or len(value) < least:
            _fail(where, f"a list of at least {least}" if least else "a list", value)
        if length is not None and len(value) != length:
            _fail(where, f"a list of {length}", value)
        for index, item in enumerate(value):
            rule(item, f"{where}[{index}]")
        if unique and len(set(value)) != len(value):
            _fail(where, "a list without repetitions", value)

    return check


def mapping(rule: Rule, *, names: Rule | None = None) -> Rule:
    """An object with any names, whose values are as the rule says."""
    named = names or text()

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            _fail(where, "an object", value)
        for name, item in value.items():
            named(name, f"a name in {where}")
            rule(item, f"{where}.{name}")

    return check


def fields(rules: Mapping[str, Rule], *, others: Mapping[str, Rule] | None = None, open_ended: bool = False) -> Rule:
    """An object with these names; `others`, or any, may be there, too."""
    allowed = {**rules, **(others or {})}

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            _fail(where, "an object", value)
        missing, unknown = set(rules) - set(value), set() if open_ended else set(value) - set(allowed)
        if missing or unknown:
            what = f"lacks {min(missing)}" if missing else f"has the unknown name {min(unknown)!a:.60}"
            raise ValueError(f"{where} {what}")
        for name, rule in allowed.items():
            if name in value:
                rule(value[name], f"{where}.{name}")

    return check


def plain(value: Any, where: str) -> None:
    """Text, numbers, and lists and objects of them, not many."""
    left, level = _PLAIN_ITEMS, [value]
    while level:
        left -= len(level)
        if left < 0:
            raise ValueError(f"{where} holds more than {_PLAIN_ITEMS} values")
        for item in level:
            if isinstance(item, int | float) and not isinstance(item, bool):
                number()(item, where)
        inner = [item for item in level if isinstance(item, dict | list)]
        level = [each for item in inner for each in (item.values() if isinstance(item, dict) else item)]


@dataclass(frozen=True)
class ArrayRule:
    """What an array must be."""

    kind: str
    """"float32", "float" (32 or 64 bits), "integer" (signed, 32 or 64 bits), or "bytes"."""
    axes: tuple[str | int, ...]
    """Their lengths; the same letter stands for the same length in all arrays of a file."""
    low: float = -LARGEST
    high: float = LARGEST
    """low and high: of the values."""
    below: str | None = None
    """The letter of a length that all values are below: what labels count."""
    unit_rows: bool = False
    """Whether rows have the length 1."""
    may_lack_rows: bool = False
    """Whether a row may be all NaN, for what is not there."""
    required: bool = True


def check_arrays(arrays: Mapping[str, NDArray[Any]], rules: Mapping[str, ArrayRule], sizes: dict[str, int]) -> None:
    """Check all arrays of a file."""
    unknown = sorted(set(arrays) - set(rules))
    missing = sorted(name for name, rule in rules.items() if rule.required and name not in arrays)
    if missing or unknown:
        raise ValueError(f"the array {missing[0]} is missing" if missing else f"the array {unknown[0]:.60} is unknown")
    for name, rule in rules.items():
        if name in arrays:
            _check_shape(name, arrays[name], rule, sizes)
    for name, rule in rules.items():
        if name in arrays and arrays[name].size:
            _check_numbers(name, arrays[name], rule, sizes)


def _check_shape(name: str, array: NDArray[Any], rule: ArrayRule, sizes: dict[str, int]) -> None:
    kinds = _KINDS[rule.kind]
    if array.dtype.name not in kinds:
        raise ValueError(f"the array {name} should be of {' or '.join(kinds)}, got {array.dtype.name}")
    if array.ndim == len(rule.axes):
        for axis, length in zip(rule.axes, array.shape, strict=True):
            if isinstance(axis, str):
                sizes.setdefault(axis, length)
    expected = tuple(sizes.get(axis, -1) if isinstance(axis, str) else axis for axis in rule.axes)
    if array.shape != expected:
        axes = ", ".join(map(str, rule.axes))
        told = ", ".join(f"{axis} = {sizes[axis]}" for axis in rule.axes if isinstance(axis, str) and axis in sizes)
        raise ValueError(f"the array {name} should be of shape ({axes}) with {told}, got {array.shape}")


def _check_numbers(name: str, array: NDArray[Any], rule: ArrayRule, sizes: Mapping[str, int]) -> None:
    if rule.may_lack_rows:
        array = array[~np.isnan(array).all(axis=-1)]
        if not array.size:
            return
    high = rule.high if rule.below is None else sizes[rule.below] - 1
    low = 0 if rule.below is not None else rule.low
    lowest, highest = array.min(), array.max()  # NaN, where there is one
    if not (low <= lowest and highest <= high):
        raise ValueError(f"the array {name} should hold numbers from {low:g} to {high:g}, got {lowest} to {highest}")
    if rule.unit_rows and not np.allclose(np.linalg.norm(array.astype(np.float64), axis=-1), 1, atol=1e-2):
        raise ValueError(f"the array {name} should have rows of length 1")


def lengths_of(**lists: Sequence[Any]) -> int:
    """The common length of lists."""
    lengths = {name: len(each) for name, each in lists.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(
            f"{' and '.join(lengths)} should be of the same length, got {', '.join(map(str, lengths.values()))}"
        )
    return next(iter(lengths.values()))
