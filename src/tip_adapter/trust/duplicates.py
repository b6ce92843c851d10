"""Find duplicate photos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tip_adapter.errors import DuplicateWarning, warn
from tip_adapter.methods.heads.base import row_chunks
from tip_adapter.trust.near_copies import SAME_FEATURE
from tip_adapter.typing import BoolArray, Float32Array, IntArray

SAME_PICTURE = (6.0, 0.8)
"""Differing bits (of 64) up to which two pictures are copies, where the cosine does not say they differ."""

USUAL = (8.0, 2.0, 3.5)
"""How many times nearer than photos of different classes usually are copies must be: by feature; by feature and by bits
where pictures are compared."""

ENOUGH_PAIRS, SAMPLE = 30, 500
"""Pairs that tell what is usual, and shots that they are taken from."""


@dataclass(frozen=True, eq=False)
class Photos:
    """Labelled photos as the doctor sees them."""

    features: Float32Array
    """(N, D): unit rows."""
    labels: IntArray
    """(N,), integers in [0, C)."""
    names: tuple[str, ...]
    digests: tuple[str, ...]
    """names and digests: N of them: what each photo is called, and the SHA-256 of its file."""
    hashes: BoolArray | None = None
    """(N, 2, 64): of the pictures and their mirror images; see `tip_adapter.data.thumbnails.picture_hash`."""
    groups: IntArray | None = None
    """(N,): photos of one group have the same number, and say nothing about each other."""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Duplicate:
    """Two photos that show the same."""

    first: str
    second: str
    first_class: str
    second_class: str
    where: Literal["inside a class", "across classes", "train and test"]
    cosine: float
    same_file: bool


@dataclass(frozen=True)
class _Limits:
    """Cosines from which, and differing bits up to which, photos count as copies."""

    same_feature: float
    picture_cosine: float
    picture_bits: float

    @classmethod
    def of(cls, shots: Photos) -> _Limits:
        """Take the fixed limits, or nearer ones where photos of different classes are much alike."""
        (bits, picture_cosine), (by_feature, by_cosine, by_bits) = SAME_PICTURE, USUAL
        rows = np.linspace(0, len(shots) - 1, min(len(shots), SAMPLE)).astype(np.intp)
        first, second = np.nonzero(np.triu(shots.labels[rows][:, None] != shots.labels[rows]))
        if len(first) < ENOUGH_PAIRS:
            return cls(SAME_FEATURE, picture_cosine, bits)
        features = shots.features[rows]
        usual = 1.0 - float(np.median((features @ features.T)[first, second]))
        if shots.hashes is not None:
            hashes = shots.hashes[rows, 0].astype(np.float32)
            ones = hashes.sum(axis=1)
            differing = ones[first] + ones[second] - 2.0 * (hashes @ hashes.T)[first, second]
            bits = min(bits, float(np.median(differing)) / by_bits)
        return cls(max(SAME_FEATURE, 1.0 - usual / by_feature), max(picture_cosine, 1.0 - usual / by_cosine), bits)


def warn_of_copies(digests: Sequence[str], labels: IntArray, names: Sequence[str], class_names: Sequence[str]) -> None:
    """Tell of photos whose files are the same byte for byte: in one class, and in two, where one label is wrong.

    Shapes: `labels` (N,).

    Warns
    -----
    DuplicateWarning
        One for copies inside classes, one for photos in two classes.
    """
    groups: dict[str, list[int]] = {}
    for index, digest in enumerate(digests):
        groups.setdefault(digest, []).append(index)
    several = [(group, len({int(labels[index]) for index in group})) for group in groups.values() if len(group) > 1]
    inside = [group for group, classes in several if classes == 1]
    across = [group for group, classes in several if classes > 1]
    if inside:
        first, second = (names[index] for index in inside[0][:2])
        warn(
            f"{_photos(len(inside))} more than once in a class, such as {first} and {second}: each counts as a shot of "
            "its own, so leave the copies out",
            DuplicateWarning,
        )
    if across:
        by_class = {int(labels[index]): index for index in across[0]}
        shown = [f"{names[index]} ({class_names[label]})" for label, index in list(by_class.items())[:2]]
        warn(f"{_photos(len(across))} in two classes, such as {' and '.join(shown)}: one is wrong", DuplicateWarning)


def _photos(number: int) -> str:
    return "1 photo is" if number == 1 else f"{number} photos are"


def find_duplicates(shots: Photos, class_names: Sequence[str], other: Photos | None = None) -> Iterator[Duplicate]:
    """Find photos that show the same: the same file, nearly the same feature, or nearly the same picture.

    "Nearly" is measured against what is usual here: where photos of different classes look much alike already, as
    digits or X-rays do, copies have to be nearer.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.trust.duplicates import Photos, find_duplicates
    >>> shots = Photos(np.eye(3, dtype=np.float32)[[0, 1, 1]], np.array([0, 1, 0]), ("a", "b", "c"), ("1", "2", "3"))
    >>> [(pair.first, pair.second, pair.where) for pair in find_duplicates(shots, ["hat", "cap"])]
    [('b', 'c', 'across classes')]
    """
    limits = _Limits.of(shots)
    for queries, apart in ((shots, False), *(() if other is None else ((other, True),))):
        for rows in row_chunks(len(queries), len(shots)):
            part = np.arange(len(queries))[rows]
            cosines = queries.features[part] @ shots.features.T
            alike = _alike(queries, part, shots, cosines, limits)
            if not apart:
                # Each pair once.
                alike &= part[:, None] < np.arange(len(shots))
            for row, column in np.argwhere(alike):
                yield _pair(
                    queries, int(part[row]), shots, int(column), float(cosines[row, column]), class_names, apart
                )


def _alike(queries: Photos, part: IntArray, shots: Photos, cosines: Float32Array, limits: _Limits) -> BoolArray:
    same = np.array(queries.digests, dtype=object)[part][:, None] == np.array(shots.digests, dtype=object)
    alike: BoolArray = (cosines >= limits.same_feature) | same.astype(bool)
    if queries.hashes is not None and shots.hashes is not None:
        # Only pairs that the features allow are compared bit by bit.
        rows, columns = np.nonzero((cosines >= limits.picture_cosine) & ~alike)
        mine = queries.hashes[part[rows], 0]
        near = [(mine != shots.hashes[columns, side]).sum(axis=1) <= limits.picture_bits for side in (0, 1)]
        alike[rows, columns] = near[0] | near[1]
    return alike


def _pair(
    queries: Photos, first: int, shots: Photos, second: int, cosine: float, class_names: Sequence[str], apart: bool
) -> Duplicate:
    labels = int(queries.labels[first]), int(shots.labels[second])
    inside: Literal["inside a class", "across classes"] = (
        "inside a class" if labels[0] == labels[1] else "across classes"
    )
    return Duplicate(
        queries.names[first],
        shots.names[second],
        class_names[labels[0]],
        class_names[labels[1]],
        "train and test" if apart else inside,
        min(cosine, 1.0),
        queries.digests[first] == shots.digests[second],
    )
