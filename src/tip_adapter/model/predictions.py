"""The most probable classes of one photo, as an object, as JSON and as a row of a table."""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from tip_adapter.errors import InputError
from tip_adapter.typing import BoolArray, FloatArray

T = TypeVar("T")

Skipped = tuple[tuple[str, str], ...]
"""Photos that could not be read: what each is called, and why."""


class Results(list[T]):
    """A list of what a classifier says about several photos, with the photos that it left out.

    Attributes
    ----------
    skipped : tuple of (name, reason)
        Photos that could not be read; empty unless they were to be skipped.

    Examples
    --------
    >>> from tip_adapter.model.predictions import Results
    >>> found = Results(["hat"], [("b.jpg", "b.jpg is empty")])
    >>> found, found.skipped
    (['hat'], (('b.jpg', 'b.jpg is empty'),))
    """

    def __init__(self, found: Iterable[T] = (), skipped: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__(found)
        self.skipped: Skipped = tuple(skipped)


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one photo.

    Attributes
    ----------
    path : str
        The file, or what else the photo is called.
    top : tuple of (class name, probability)
        The most probable first.
    none : bool
        Whether the photo shows none of the classes; always False where that was not asked.

    Examples
    --------
    >>> from tip_adapter.model.predictions import Prediction
    >>> Prediction("a.jpg", (("hat", 0.9), ("cap", 0.1))).flat()
    {'path': 'a.jpg', 'class': 'hat', 'probability': 0.9, 'class_2': 'cap', 'probability_2': 0.1}
    """

    path: str
    top: tuple[tuple[str, float], ...]
    none: bool = False

    @property
    def class_name(self) -> str | None:
        """The most probable class; None for a photo that shows none of them."""
        return None if self.none else self.top[0][0]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        (_, probability), *_ = self.top
        return {
            "path": self.path,
            "class": self.class_name,
            "probability": probability,
            "top": [{"class": other, "probability": value} for other, value in self.top],
        }

    def flat(self) -> dict[str, Any]:
        """As one row of a table."""
        row: dict[str, Any] = {"path": self.path}
        for rank, (name, probability) in enumerate(self.top, start=1):
            suffix = "" if rank == 1 else f"_{rank}"
            row |= {f"class{suffix}": name, f"probability{suffix}": probability}
        # Tables have one type per column, and an empty cell where there is no class.
        row |= {"class": ""} if self.none else {}
        return row


def top_predictions(
    probabilities: FloatArray,
    class_names: Sequence[str],
    paths: Sequence[str],
    top_k: int,
    *,
    none: BoolArray | None = None,
) -> list[Prediction]:
    """Name the most probable classes of every photo.

    Shapes: `probabilities` (B, C), `none` (B,).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.model.predictions import top_predictions
    >>> top_predictions(np.array([[0.1, 0.9]]), ["hat", "cap"], ["a.jpg"], 1)
    [Prediction(path='a.jpg', top=(('cap', 0.9),), none=False)]
    """
    if not isinstance(top_k, numbers.Integral) or top_k < 1:
        raise InputError(f"Expected top_k as a whole number of at least 1, got {top_k!r}")
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
    return [
        Prediction(path, tuple((class_names[column], float(row[column])) for column in columns), bool(unknown))
        for path, row, columns, unknown in zip(
            paths, probabilities, best, np.zeros(len(best), dtype=bool) if none is None else none, strict=True
        )
    ]


@dataclass(frozen=True)
class PredictionSet:
    """The classes that one photo may show, the most probable first; none where sets may be empty."""

    path: str
    classes: tuple[tuple[str, float], ...]
    """(class name, probability)."""


@dataclass(frozen=True)
class PredictionSets:
    """Sets of classes for photos, and what they rest on.

    Attributes
    ----------
    coverage : float
        Wanted share of sets that hold the true class.
    kind : str
        "lac" or "aps".
    allow_empty : bool
        Whether a set may be empty.
    origin : str
        What the sets were calibrated on.
    guarantee : str
        What that is worth.
    sets : tuple of PredictionSet
        One for each photo that could be read.
    skipped : tuple of (name, reason)
        Photos that could not be read; empty unless they were to be skipped.
    """

    coverage: float
    kind: str
    allow_empty: bool
    origin: str
    guarantee: str
    sets: tuple[PredictionSet, ...]
    skipped: Skipped = ()

    @property
    def mean_size(self) -> float:
        """Classes in a set, on average."""
        return float(np.mean([len(each.classes) for each in self.sets])) if self.sets else 0.0

    @property
    def summary(self) -> str:
        """One sentence for people."""
        empty = "sets may be empty" if self.allow_empty else "no set is empty"
        return (
            f"{100 * self.coverage:g} % coverage wanted ({self.kind}, {empty}), "
            f"{self.mean_size:.2f} classes on average; from {self.origin}: {self.guarantee}"
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        rows = [
            {"path": each.path, "classes": [{"class": name, "probability": value} for name, value in each.classes]}
            for each in self.sets
        ]
        names = ("coverage", "kind", "allow_empty", "origin", "guarantee", "mean_size")
        return {name: getattr(self, name) for name in names} | {"sets": rows}


def named_sets(
    probabilities: FloatArray, inside: BoolArray, class_names: Sequence[str], paths: Sequence[str]
) -> tuple[PredictionSet, ...]:
    """Name the classes of every set, the most probable first.

    Shapes: `probabilities` (B, C), `inside` (B, C).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.model.predictions import named_sets
    >>> named_sets(np.array([[0.2, 0.7, 0.1]]), np.array([[True, True, False]]), ["hat", "cap", "fez"], ["a.jpg"])
    (PredictionSet(path='a.jpg', classes=(('cap', 0.7), ('hat', 0.2))),)
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")
    return tuple(
        PredictionSet(path, tuple((class_names[c], float(row[c])) for c in columns if member[c]))
        for path, row, columns, member in zip(paths, probabilities, order, inside, strict=True)
    )
