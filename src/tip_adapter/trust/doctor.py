"""Diagnose a support set: suspicious labels and duplicates.

A label is suspicious when the other shots and the texts contradict it: the shot is left out, the rest answers for it,
and the given class is less than a tenth as probable as the most probable one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tip_adapter.errors import ImageError
from tip_adapter.methods.auto import Auto
from tip_adapter.methods.heads import softmax, zero_shot_logits
from tip_adapter.methods.heads.base import without_text
from tip_adapter.methods.left_out import LeftOut, left_out_logits
from tip_adapter.trust.calibration import FEW_SHOTS, fit_temperature
from tip_adapter.trust.duplicates import Duplicate, Photos, find_duplicates
from tip_adapter.trust.enough import Enough
from tip_adapter.typing import BoolArray, Float32Array, FloatArray, IntArray, StrPath

CONTRADICTED = 0.1
"""A label is suspicious when its class is less than this times as probable as the most probable class."""

SMALL = 64
"""Pixels of the shorter side below which a picture is too small to show much."""


@dataclass(frozen=True)
class SuspiciousLabel:
    """A shot whose label the others contradict."""

    index: int
    name: str
    given: str
    suggested: str
    given_probability: float
    suggested_probability: float


@dataclass(frozen=True)
class BadImage:
    """A file that cannot be read, or that is too small to show much."""

    name: str
    reason: str


@dataclass(frozen=True)
class Diagnosis:
    """What the doctor found.

    Attributes
    ----------
    n_shots, n_classes, n_other : int
        Shots, classes, and photos of the other set that were compared with the shots.
    evidence : str
        What contradicts labels.
    labels : tuple of SuspiciousLabel
        Most contradicted first.
    duplicates : tuple of Duplicate
    images : tuple of BadImage
    enough : Enough or None
        Whether there are enough photos of each class, where that was asked.
    """

    n_shots: int
    n_classes: int
    n_other: int
    evidence: str
    labels: tuple[SuspiciousLabel, ...]
    duplicates: tuple[Duplicate, ...]
    images: tuple[BadImage, ...] = ()
    enough: Enough | None = None

    @property
    def healthy(self) -> bool:
        """Whether nothing was found."""
        return not (self.labels or self.duplicates or self.images)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        found = dataclasses.asdict(dataclasses.replace(self, enough=None))
        return found | {"enough": None if self.enough is None else self.enough.to_dict()}


def diagnose(
    shots: Photos,
    class_names: Sequence[str],
    zero_shot_weights: Float32Array | None,
    logit_scale: float,
    *,
    other: Photos | None = None,
    images: Sequence[BadImage] = (),
    queries: Float32Array | None = None,
) -> Diagnosis:
    """Examine a support set.

    Shapes: `zero_shot_weights` (C, D), NaN for a class without text; `queries` (N, D), single views of the shots where
    their features are means of several. `other` should be apart from the shots, such as a test set.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.trust.doctor import diagnose
    >>> from tip_adapter.trust.duplicates import Photos
    >>> features = np.eye(2, dtype=np.float32)[[0] * 8 + [1] * 9]
    >>> names = tuple(f"{index}.jpg" for index in range(17))
    >>> shots = Photos(features, np.array([0] * 8 + [1] * 8 + [0]), names, names)
    >>> found = diagnose(shots, ["hat", "cap"], np.eye(2, dtype=np.float32), 10.0)
    >>> [(shot.name, shot.suggested) for shot in found.labels]
    [('16.jpg', 'cap')]
    """
    opinion = _second_opinion(shots, class_names, zero_shot_weights, logit_scale, queries)
    probabilities, labels, rows, evidence = opinion
    return Diagnosis(
        len(shots),
        len(class_names),
        0 if other is None else len(other),
        evidence,
        suspicious_labels(probabilities, labels, rows, shots, class_names),
        tuple(find_duplicates(shots, class_names, other)),
        tuple(images),
    )


def contradicted(probabilities: FloatArray, labels: IntArray) -> BoolArray:
    """Find the labels that a held-out prediction contradicts: less than a tenth as probable as the most probable class.

    Shapes: `probabilities` (B, C), `labels` (B,) → (B,).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.trust.doctor import contradicted
    >>> contradicted(np.array([[0.05, 0.95], [0.3, 0.7]]), np.array([0, 0]))
    array([ True, False])
    """
    given = probabilities[np.arange(len(labels)), labels]
    result: BoolArray = given < CONTRADICTED * probabilities.max(axis=1)
    return result


def _second_opinion(
    shots: Photos,
    class_names: Sequence[str],
    weights: Float32Array | None,
    logit_scale: float,
    queries: Float32Array | None,
) -> tuple[FloatArray, IntArray, IntArray, str]:
    """Probabilities for shots by what has not seen them, their labels and rows, and who speaks."""
    text = weights if weights is not None and not without_text(weights).all() else None
    method = Auto(text, class_names=class_names, logit_scale=logit_scale)
    method.fit(shots.features, shots.labels, groups=shots.groups, queries=queries)
    answers: LeftOut = left_out_logits(
        method, shots.features, shots.labels, groups=shots.groups, queries=queries, every=True
    )
    if len(answers.rows):
        temperature = 1.0 if answers.shots <= FEW_SHOTS else fit_temperature(answers.logits, answers.labels)
        opinion = f"auto on the other shots, {answers.n_folds} folds"
        return softmax(answers.logits / temperature), answers.labels, answers.rows, opinion
    if text is None:
        none = shots.labels[:0]
        return np.zeros((0, len(class_names))), none, none, "nothing: one shot per class"
    logits = zero_shot_logits(shots.features if queries is None else queries, text, logit_scale, len(class_names))
    return softmax(logits), shots.labels, np.arange(len(shots)), "the texts alone: there is one shot per class"


def suspicious_labels(
    probabilities: FloatArray, labels: IntArray, rows: IntArray, shots: Photos, class_names: Sequence[str]
) -> tuple[SuspiciousLabel, ...]:
    """Name the shots whose labels the answers contradict, the most contradicted first.

    Shapes: `probabilities` (B, C), `labels` (B,), `rows` (B,).
    """
    best, found = probabilities.argmax(axis=1) if len(labels) else labels, []
    for index in np.flatnonzero(contradicted(probabilities, labels)) if len(labels) else ():
        given, suggested, row = int(labels[index]), int(best[index]), int(rows[index])
        values = float(probabilities[index, given]), float(probabilities[index, suggested])
        found.append(SuspiciousLabel(row, shots.names[row], class_names[given], class_names[suggested], *values))
    return tuple(sorted(found, key=lambda shot: shot.given_probability / shot.suggested_probability))


def find_small_images(paths: Sequence[StrPath], known: Collection[str] = ()) -> list[BadImage]:
    """Find images whose shorter side has less than 64 pixels, without opening files that are known to be bad.

    Examples
    --------
    >>> from tip_adapter.trust.doctor import find_small_images
    >>> find_small_images([])
    []
    """
    from tip_adapter.data.decoding import image_size

    found = []
    for path in paths:
        if str(path) in known:
            continue
        try:
            width, height = image_size(path)
        except ImageError as error:
            found.append(BadImage(str(path), str(error)))
            continue
        if min(width, height) < SMALL:
            found.append(BadImage(str(path), f"only {width} × {height} pixels"))
    return found
