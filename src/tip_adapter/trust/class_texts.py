"""Check class texts: names that are codes, and texts whose ROC AUC on the shots is near chance.

The texts have seen no shot, so that shots measure them without leaving any out. The measure of a class is the area
under the ROC curve of ``f·(w_c - mean w)`` between its shots and the others: how often its text finds a photo of the
class more alike than another photo, .5 by chance. Unlike recall it does not ask the text to win over the texts of
similar classes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tip_adapter.trust.figures import percent
from tip_adapter.typing import Float32Array, FloatArray, IntArray

ALL_BELOW, ONE_BELOW = 0.7, 0.6
"""Mean area, and area of one class, that two standard errors must leave below. On real photos good names reach means of
.88 (`lite-fast`, clothes) and .99 (CLIP, cars), and single ones .61; codes and names of other things .5."""

ERRORS = 2.0
"""Standard errors, those of chance, by which an area must lie below."""

PLACEHOLDERS = frozenset({"category", "class", "cls", "folder", "group", "item", "label", "type"})
NAMED = 3
"""Classes that a hint names."""


@dataclass(frozen=True)
class TextDoubts:
    """Texts that seem to be of little use."""

    no_words: tuple[str, ...]
    """Classes that go by a name that looks like no word, such as "n02123045" or "class_01", unless shots prove it a
    good one."""
    weak: tuple[str, ...]
    """Classes whose text tells their photos from others hardly better than chance."""
    mean_area: float
    """Mean area under the ROC curve over classes; .5 is chance, NaN where nothing can be measured."""
    all_weak: bool
    """Whether the texts as a whole are hardly better than chance."""

    def __bool__(self) -> bool:
        """Whether there is anything to say."""
        return bool(self.no_words or self.weak or self.all_weak)

    def __str__(self) -> str:
        """What is wrong, in one clause."""
        if self.no_words:
            verb = "looks like no word" if len(self.no_words) == 1 else "look like no words"
            return f"{_listed(self.no_words)} {verb} that the text encoder could know"
        if self.all_weak:
            area = f"{percent(self.mean_area)}, 50.0 % is chance"
            return f"the classes' texts find their photos hardly better than chance ({area})"
        return f"the text of {_listed(self.weak)} finds photos of the class hardly better than chance"


def doubt_texts(
    class_names: Sequence[str],
    class_texts: Sequence[Sequence[str]],
    zero_shot_weights: Float32Array,
    features: Float32Array,
    labels: IntArray,
) -> TextDoubts:
    """Find texts that seem to be of little use.

    Shapes: `zero_shot_weights` (C, D), `features` (N, D), `labels` (N,).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.trust.class_texts import doubt_texts
    >>> eye, labels = np.eye(2, dtype=np.float32), np.repeat([0, 1], 9)
    >>> str(doubt_texts(["n0212", "dog"], [["n0212"], ["dog"]], eye[::-1], eye[labels], labels))
    'n0212 looks like no word that the text encoder could know'
    >>> bool(doubt_texts(["cat", "dog"], [["cat"], ["dog"]], eye, eye[labels], labels))
    False
    """
    areas, errors = text_areas(zero_shot_weights, features, labels)
    measured = np.isfinite(areas)
    weak = measured & (areas + ERRORS * errors < ONE_BELOW)
    well = measured & (areas - ERRORS * errors > ONE_BELOW)
    no_words = [
        name
        for column, (name, texts) in enumerate(zip(class_names, class_texts, strict=True))
        if texts and not well[column] and all(is_no_word(text) for text in texts)
    ]
    n_measured = int(measured.sum())
    mean = float(areas[measured].mean()) if n_measured else float("nan")
    # Two classes have one area between them, so that their mean is no surer than each.
    error = float(np.sqrt(2 * np.mean(errors[measured] ** 2) / n_measured)) if n_measured else float("inf")
    return TextDoubts(
        tuple(no_words),
        tuple(name for name, doubtful in zip(class_names, weak, strict=True) if doubtful),
        mean,
        mean + ERRORS * error < ALL_BELOW,
    )


def text_areas(
    zero_shot_weights: Float32Array, features: Float32Array, labels: IntArray
) -> tuple[FloatArray, FloatArray]:
    """Measure how well the text of each class tells its shots from the others.

    Shapes: `zero_shot_weights` (C, D), `features` (N, D), `labels` (N,) → (C,).

    References
    ----------
    Mann and Whitney, "On a test of whether one of two random variables is stochastically larger than the other", 1947.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.trust.class_texts import text_areas
    >>> eye = np.eye(2, dtype=np.float32)
    >>> text_areas(eye, eye, np.array([0, 1]))[0]
    array([1., 1.])
    """
    areas = np.full(len(zero_shot_weights), np.nan)
    errors = areas.copy()
    with_text = np.flatnonzero(np.isfinite(zero_shot_weights).all(axis=1))
    if not len(with_text):
        return areas, errors
    weights = zero_shot_weights.astype(np.float64)
    centre = weights[with_text].mean(axis=0)
    for column in with_text:
        own = labels == column
        n_own, n_other = int(own.sum()), int((~own).sum())
        if not n_own or not n_other:
            continue
        alike = features @ (weights[column] - centre)
        others = np.sort(alike[~own])
        below = np.searchsorted(others, alike[own], "left") + np.searchsorted(others, alike[own], "right")
        areas[column] = below.mean() / (2 * n_other)
        errors[column] = np.sqrt((n_own + n_other + 1) / (12 * n_own * n_other))
    return areas, errors


def is_no_word(text: str) -> bool:
    """Tell codes from words: no letters at all, or beside digits only single letters, pairs, and words like "class".

    Examples
    --------
    >>> from tip_adapter.trust.class_texts import is_no_word
    >>> [is_no_word(text) for text in ("n02123045", "class 01", "7", "ox", "boeing 737", "t-shirt", "猫")]
    [True, True, True, False, False, False, False]
    """
    letters = re.findall(r"[^\W\d_]+", text)
    if not any(map(str.isdigit, text)):
        return not letters or (len(letters) == 1 and len(letters[0]) == 1 and letters[0].isascii())
    return all((len(run) < 3 and run.isascii()) or run.casefold() in PLACEHOLDERS for run in letters)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
