"""One rule for the names of classes, wherever they come from: folders, manifests, commands, texts or Python."""

from __future__ import annotations

import numbers
import unicodedata
from collections.abc import Iterable, Sequence, Sized
from itertools import islice

import numpy as np

from tip_adapter.errors import DatasetError, InputError
from tip_adapter.typing import IntArray

_INVISIBLE = dict.fromkeys(map(ord, "\ufeff\u200b"))  # byte order marks and zero-width blanks, which spreadsheets leave
_GAPS = ("nan", "NaN", "NAN", "<NA>", "NaT")  # str() of what pandas and NumPy have for a missing value
LISTED = 5
"""Rows or names that a message lists."""


def class_name(text: str) -> str:
    """Return a name in its one form: composed accents (NFC), no blanks around it, single ones inside it.

    Examples
    --------
    >>> from tip_adapter.data.class_names import class_name
    >>> class_name(" cafe\u0301\u00a0 cre\u0300me ")
    'café crème'
    """
    return " ".join(unicodedata.normalize("NFC", text.translate(_INVISIBLE)).split())


def name_of_label(label: object) -> str:
    """Return the name of the class that a label stands for; empty where the label is missing.

    Missing are None, NaN and its relatives of pandas, and blank text. Whole numbers are named by their digits, also
    where they come as floats: pandas makes 1.0 of 1 in a column with a gap.

    Examples
    --------
    >>> from tip_adapter.data.class_names import name_of_label
    >>> [name_of_label(label) for label in ("hat ", 7, 1.0, float("nan"), None)]
    ['hat', '7', '1', '', '']
    """
    if isinstance(label, str):
        return class_name(label)
    if is_missing(label):
        return ""
    if isinstance(label, numbers.Integral) and not isinstance(label, bool):
        return str(int(label))
    if isinstance(label, numbers.Real) and not isinstance(label, bool) and float(label).is_integer():
        return str(int(float(label)))
    shown = repr(label)
    raise InputError(
        f"Expected one class name or whole number as a label, got {shown[:40]}{' …' if len(shown) > 40 else ''} "
        f"({type(label).__name__})"
    )


def is_missing(label: object) -> bool:
    """Tell whether there is no label: None, NaN and its relatives of pandas, blank text, and "nan" as text."""
    if isinstance(label, str):
        return class_name(label) in ("", *_GAPS)
    if label is None or type(label).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(label, numbers.Real) and bool(np.isnan(float(label)))


def number_labels(labels: Iterable[object]) -> tuple[IntArray, tuple[str, ...]]:
    """Number labels by the sorted names of their classes; whole numbers by their size.

    Shapes: → (N,).

    Examples
    --------
    >>> from tip_adapter.data.class_names import number_labels
    >>> number_labels(["hat", "cap", "hat "])
    (array([1, 0, 1]), ('cap', 'hat'))
    >>> number_labels([10, 9])
    (array([1, 0]), ('9', '10'))
    """
    labels = list(labels)
    names = []
    for row, label in enumerate(labels):
        try:
            names.append(name_of_label(label))
        except InputError as error:
            raise DatasetError(f"{error} in row {row} of the labels (the first is row 0): name its class") from error
    check_labels(labels)
    distinct = sorted(set(names), key=None if labels and isinstance(labels[0], str) else int)
    check_class_names(distinct, "the labels")
    position = {name: number for number, name in enumerate(distinct)}
    return np.array([position[name] for name in names], dtype=np.intp), tuple(distinct)


def check_labels(labels: Sequence[object], *, source: str = "the labels") -> None:
    """Refuse missing labels, and text beside numbers, with their rows."""
    missing = [str(row) for row, label in enumerate(labels) if is_missing(label)]
    if missing:
        raise DatasetError(
            f"Expected a class for every photo, got none in {listed(missing, 'row')} of {source} (the first is row 0): "
            "fill them in, or leave these photos out"
        )
    texts = [row for row, label in enumerate(labels) if isinstance(label, str)]
    if 0 < len(texts) < len(labels):
        number = next(row for row, label in enumerate(labels) if not isinstance(label, str))
        raise DatasetError(
            f"Expected {source} to be all text or all whole numbers, got {labels[texts[0]]!r} in row {texts[0]} and "
            f"{labels[number]} in row {number} (the first is row 0): make them one kind"
        )


def unknown_names(names: Iterable[str], known: Sequence[str]) -> list[str]:
    """List names that are not known, with what is known by the same letters in another case.

    Examples
    --------
    >>> from tip_adapter.data.class_names import unknown_names
    >>> unknown_names(["hat", "Cap", "shoe"], ["hat", "cap"])
    ["Cap (which differs from 'cap' in case alone)", 'shoe']
    """
    by_folded = {folded(name): name for name in known}
    unknown = [name for name in names if name not in set(known)]
    alike = [by_folded.get(folded(name)) for name in unknown]
    return [
        f"{name} (which differs from {other!r} in case alone)" if other else name
        for name, other in zip(unknown, alike, strict=True)
    ]


def check_class_names(names: Sequence[str], source: object) -> None:
    """Refuse names that are no text, or that differ only in case.

    Examples
    --------
    >>> from tip_adapter.data.class_names import check_class_names
    >>> check_class_names(["cap", "hat"], "photos")
    """
    by_folded: dict[str, str] = {}
    for name in names:
        if not name:
            raise DatasetError(f"Expected a name for every class in {source}, got an empty one: rename the class")
        if any("\ud800" <= letter <= "\udfff" for letter in name):  # bytes of a folder's name that are no UTF-8
            raise DatasetError(f"Expected class names in {source} to be UTF-8 text, got {name!r}: rename the class")
        other = by_folded.setdefault(folded(name), name)
        if other != name:
            raise DatasetError(
                f"Expected class names in {source} to differ in more than case, got {other!r} and {name!r}: "
                "merge or rename them"
            )


def folded(name: str) -> str:
    """Return what two names that differ only in case have in common."""
    return unicodedata.normalize("NFC", name.casefold())


def counted(items: Sized, noun: str) -> str:
    """Count things in words.

    Examples
    --------
    >>> from tip_adapter.data.class_names import counted
    >>> counted(["3"], "row"), counted(["3", "4"], "row")
    ('1 row', '2 rows')
    """
    return f"{len(items)} {noun}{'s' * (len(items) != 1)}"


def listed(items: Sequence[str], noun: str = "") -> str:
    """List a few items in words, and say how many more there are.

    Examples
    --------
    >>> from tip_adapter.data.class_names import listed
    >>> listed(["3"], "row"), listed(list("123456789"), "row")
    ('row 3', 'rows 1, 2, 3, 4, 5 and 4 more')
    """
    more = f" and {len(items) - LISTED} more" if len(items) > LISTED else ""
    nouns = f"{noun}{'s' * (len(items) != 1)} " if noun else ""
    return f"{nouns}{', '.join(islice(items, LISTED))}{more}"
