"""Turn encoded photos into new shots of a model, without duplicates and in the groups they belong to."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tip_adapter.classifier.inputs import EncodedPhotos, new_shots
from tip_adapter.data.class_names import unknown_names
from tip_adapter.data.thumbnails import grey_squares
from tip_adapter.errors import DatasetError, InputError
from tip_adapter.model.few_shot_model import FewShotModel
from tip_adapter.model.predictions import Skipped
from tip_adapter.model.shots import Shots
from tip_adapter.trust.near_copies import near_copies
from tip_adapter.typing import Float32Array, IntArray

FOUND = "~"
"""What names of groups begin with that were found, not given."""


@dataclass(frozen=True)
class AddedShots:
    """What `ImageClassifier.add_shots` did.

    Attributes
    ----------
    ids : tuple of str
        The new shots.
    known : tuple of (name, id, class name)
        Photos that were there already, and were not added again.
    skipped : tuple of (name, reason)
        Photos that could not be read; empty unless they were to be skipped.
    """

    ids: tuple[str, ...]
    known: tuple[tuple[str, str, str], ...] = ()
    skipped: Skipped = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        known = [{"path": name, "id": shot, "class": class_name} for name, shot, class_name in self.known]
        skipped = [{"path": name, "reason": reason} for name, reason in self.skipped]
        return {"ids": list(self.ids), "already_there": known, "skipped": skipped}


def unknown_classes(model: FewShotModel, names: Sequence[str], *, allowed: bool) -> list[str]:
    """List the classes that a model does not know, or refuse them."""
    unknown = [name for name in names if name not in model.class_names]
    if unknown and not allowed:
        shown = ", ".join(unknown_names(unknown[:5], model.class_names))
        raise DatasetError(
            f"The photos have classes that the classifier does not know: {shown}. Add them first "
            "(add_class, `tip-adapter class add`), or say that they are new (new_classes=True, --new-classes)"
        )
    return unknown


def like_shots(
    model: FewShotModel, photos: EncodedPhotos, columns: IntArray, groups: Sequence[str] | None
) -> tuple[FewShotModel, Shots]:
    """Make shots with single views, if the model's have theirs; without a word they join their near-copies' groups."""
    several = model.shots.features.n_views > 1
    new = new_shots(photos, columns, model.shots.ids, keep_views=several, groups=groups or ())
    if groups is not None or model.copy_cosine is None or not len(new):
        return model, new
    shots, new = joined(model.shots, new, model.copy_cosine)
    return replace(model, shots=shots), new


def first_shots(model: FewShotModel, photos: EncodedPhotos, class_name: str) -> Shots:
    """Make the shots of a new class."""
    given = [class_name] * (1 + max(photos.extraction.kept, default=-1))
    fresh, known = apart(photos, model, given)
    if known:
        photo, shot, other = known[0]
        raise InputError(f"{photo} is the shot {shot} of {other!r} already: add the class, and relabel it")
    # Behind all others: shots of other classes are no copies of theirs.
    return like_shots(model, fresh, np.full(len(given), len(model.class_names)), None)[1]


def apart(
    photos: EncodedPhotos, model: FewShotModel, classes: Sequence[str]
) -> tuple[EncodedPhotos, tuple[tuple[str, str, str], ...]]:
    """Part encoded photos from those that are shots already, or were given twice; `classes` are those given."""
    features, shots = photos.extraction.features, model.shots
    there, given = set(features.digests).intersection(shots.features.digests), dict[str, tuple[str, str]]()
    fresh, known = [], []
    for row, (digest, name) in enumerate(zip(features.digests, features.names, strict=True)):
        if digest in there:
            shot = shots.features.digests.index(digest)
            known.append((name, shots.ids[shot], model.class_names[shots.labels[shot]]))
        elif digest in given:
            known.append((name, *given[digest]))
        else:
            given[digest] = (digest[:12], classes[photos.extraction.kept[row]])
            fresh.append(row)
    return photos.subset(fresh), tuple(known)


def with_near_copies(shots: Shots, cosine: float) -> Shots:
    """Group shots of a class that hardly differ from each other."""
    return joined(shots.take([]), shots, cosine)[1]


def joined(shots: Shots, new: Shots, cosine: float) -> tuple[Shots, Shots]:
    """Let new shots join the groups of those of their class that they hardly differ from, which then have a name."""
    near = _near(shots, new, cosine)
    features = np.concatenate([shots.features.unit[near], new.features.unit])
    labels = np.concatenate([shots.labels[near], new.labels])
    sources = [(shots, row) for row in near] + [(new, row) for row in range(len(new))]

    def pictures(rows: IntArray) -> Float32Array:
        return grey_squares([one.thumbnails[one.ids[row]] for one, row in (sources[place] for place in rows)])

    seen = all(one.ids[row] in one.thumbnails for one, row in sources)
    numbers = near_copies(features, labels, cosine, pictures if seen else None)
    names = [*(shots.groups[row] for row in near), *new.groups]
    taken = [int(name[1:]) for name in shots.groups if name.startswith(FOUND) and name[1:].isdecimal()]
    fresh = (f"{FOUND}{number}" for number in itertools.count(max(taken, default=-1) + 1))
    for number in np.flatnonzero(np.bincount(numbers) > 1):
        members = np.flatnonzero(numbers == number)
        name = next((names[place] for place in members if names[place]), "") or next(fresh)
        for place in members:
            names[place] = names[place] or name
    groups = list(shots.groups)
    for row, name in zip(near, names, strict=False):
        groups[row] = name
    return replace(shots, groups=tuple(groups)), replace(new, groups=tuple(names[len(near) :]))


def _near(shots: Shots, new: Shots, cosine: float) -> list[int]:
    """Rows of the shots that some new one of their class may be a copy of."""
    found = set[int]()
    for label in np.unique(new.labels):
        rows = np.flatnonzero(shots.labels == label)
        if len(rows):
            alike = shots.features.unit[rows] @ new.features.unit[new.labels == label].T
            found |= set(rows[(alike >= cosine).any(axis=1)].tolist())
    return sorted(found)
