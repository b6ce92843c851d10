"""The most probable classes of one photo, as an object, as JSON and as a row of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tip_adapter.typing import FloatArray

__all__ = ["Prediction", "top_predictions"]


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one photo.

    Attributes
    ----------
    path : str
        The file, or what else the photo is called.
    top : tuple of (class name, probability)
        The most probable first.

    Examples
    --------
    >>> from tip_adapter.predictions import Prediction
    >>> Prediction("a.jpg", (("hat", 0.9), ("cap", 0.1))).flat()
    {'path': 'a.jpg', 'class': 'hat', 'probability': 0.9, 'class_2': 'cap', 'probability_2': 0.1}
    """

    path: str
    top: tuple[tuple[str, float], ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values.

        Returns
        -------
        dict
        """
        (name, probability), *_ = self.top
        return {
            "path": self.path,
            "class": name,
            "probability": probability,
            "top": [{"class": other, "probability": value} for other, value in self.top],
        }

    def flat(self) -> dict[str, Any]:
        """As one row of a table.

        Returns
        -------
        dict
        """
        row: dict[str, Any] = {"path": self.path}
        for rank, (name, probability) in enumerate(self.top, start=1):
            suffix = "" if rank == 1 else f"_{rank}"
            row |= {f"class{suffix}": name, f"probability{suffix}": probability}
        return row


def top_predictions(
    probabilities: FloatArray, class_names: Sequence[str], paths: Sequence[str], top_k: int
) -> list[Prediction]:
    """Name the most probable classes of every photo.

    Parameters
    ----------
    probabilities : ndarray of shape (B, C)
    class_names : sequence of C str
    paths : sequence of B str
    top_k : int
        Classes per photo; all of them where there are fewer.

    Returns
    -------
    list of Prediction

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.predictions import top_predictions
    >>> top_predictions(np.array([[0.1, 0.9]]), ["hat", "cap"], ["a.jpg"], 1)
    [Prediction(path='a.jpg', top=(('cap', 0.9),))]
    """
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
    return [
        Prediction(path, tuple((class_names[column], float(row[column])) for column in columns))
        for path, row, columns in zip(paths, probabilities, best, strict=True)
    ]
