"""Draw support sets and disjoint parts from labels, with a seed."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tip_adapter.errors import InputError, ShotsWarning, warn
from tip_adapter.typing import IntArray

NAMED = 5
"""Classes that a warning names."""


def sample_shots(
    labels: ArrayLike,
    shots: int | None,
    *,
    random_state: int,
    at_most: bool = False,
    class_names: Sequence[str] | None = None,
) -> IntArray:
    """Draw the same number of items of every class, without replacement.

    Each class has a random stream of its own, made of the seed and the class's rank among the classes present. So the
    items drawn of a class depend on the seed and on the order of that class's items alone: mixing the classes
    differently, or adding items to another class, leaves them as they are. And the draw is nested: with the same seed,
    the items of 4 shots are among those of 8.

    Shapes: `labels` (N,) → (n_sampled,).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.data.sampling import sample_shots
    >>> labels = np.array([0, 0, 0, 1, 1, 1, 1])
    >>> labels[sample_shots(labels, 2, random_state=0)]
    array([0, 0, 1, 1])
    """
    labels = _checked_labels(labels)
    check_seed(random_state)
    if shots is None:
        return np.arange(len(labels))
    if not isinstance(shots, numbers.Integral) or shots < 1:
        raise InputError(f"Expected at least 1 shot per class as a whole number, got {shots!r}: use None for all")
    chosen = []
    for rank, (label, members) in enumerate(_members_of(labels)):
        if len(members) < shots and not at_most:
            count = f"{len(members)} image{'s' * (len(members) != 1)}"
            raise InputError(
                f"Expected at least {shots} images of every class, got {count} of {_named(label, class_names)!r}: "
                f"add images, or ask for at most {len(members)} shots"
            )
        chosen.append(_shuffled(members, rank, random_state)[:shots])
    return np.sort(np.concatenate(chosen))


def sample_counts(labels: ArrayLike, counts: ArrayLike, *, random_state: int) -> IntArray:
    """Draw so many items of every class, in ascending order of the labels, as `sample_shots` draws them.

    Shapes: `labels` (N,), `counts` (C,) → (n_sampled,).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.data.sampling import sample_counts
    >>> labels = np.array([0, 0, 0, 1, 1, 1, 1])
    >>> labels[sample_counts(labels, [1, 3], random_state=0)]
    array([0, 1, 1, 1])
    """
    members, wanted = _members_of(_checked_labels(labels)), np.asarray(counts)
    short = [len(items) for (_, items), count in zip(members, wanted, strict=True) if not 0 <= count <= len(items)]
    if short:
        raise InputError(f"Expected at most as many items as a class has, {short[0]}, got more: ask for fewer")
    drawn = [
        _shuffled(items, rank, random_state)[:count]
        for rank, ((_, items), count) in enumerate(zip(members, wanted, strict=True))
    ]
    return np.sort(np.concatenate(drawn))


def shots_at_most(
    labels: ArrayLike, shots: int | None, *, random_state: int, class_names: Sequence[str] | None = None
) -> IntArray:
    """Draw as `sample_shots`, but take all items of a class that has fewer than `shots`, and warn which these are.

    For classifiers of one's own photos, where classes differ in how many there are. A comparison at K shots needs
    exactly K, and `sample_shots`.

    Shapes: `labels` (N,) → (n_sampled,).

    Warns
    -----
    ShotsWarning
        When a class has fewer items than `shots`.

    Examples
    --------
    >>> from tip_adapter.data.sampling import shots_at_most
    >>> shots_at_most(["cat", "cat", "cat", "dog", "dog"], 2, random_state=0).shape
    (4,)
    """
    chosen = sample_shots(labels, shots, random_state=random_state, at_most=True, class_names=class_names)
    members = _members_of(np.asarray(labels))
    fewer = sorted(
        (len(items), _named(label, class_names)) for label, items in members if shots is not None and len(items) < shots
    )
    if fewer:
        classes = f"{len(fewer)} of {len(members)} classes" if len(fewer) < len(members) else "every class"
        named = ", ".join(f"{name} ({count})" for count, name in fewer[:NAMED])
        rest = f" and {len(fewer) - NAMED} more" if len(fewer) > NAMED else ""
        warn(
            f"Fewer than {shots} photos in {classes}, all of theirs are taken: {named}{rest}",
            ShotsWarning,
        )
    return chosen


def split_dataset(
    labels: ArrayLike,
    fractions: Sequence[float],
    *,
    random_state: int,
    class_names: Sequence[str] | None = None,
    groups: IntArray | None = None,
) -> tuple[IntArray, ...]:
    """Divide items into disjoint parts that hold about the same share of every class.

    Shapes: `labels` (N,), `groups` (N,).

    Parameters
    ----------
    groups : ndarray of shape (N,), optional
        Items of one group go to one part: the shares are of groups, each counted in the class of its first item.

    Examples
    --------
    >>> from tip_adapter.data.sampling import split_dataset
    >>> train, test = split_dataset(["cat"] * 8 + ["dog"] * 4, (0.75, 0.25), random_state=0)
    >>> len(train), len(test)
    (9, 3)
    """
    if groups is not None:
        firsts = np.unique(groups, return_index=True)[1]
        of_firsts = _checked_labels(labels)[firsts]
        parts = split_dataset(of_firsts, fractions, random_state=random_state, class_names=class_names)
        return tuple(np.flatnonzero(np.isin(groups, groups[firsts[part]])) for part in parts)
    labels = _checked_labels(labels)
    shares = np.asarray(fractions, dtype=np.float64)
    if shares.ndim != 1 or shares.size == 0 or not (shares > 0).all() or shares.sum() > 1 + 1e-9:
        raise InputError(f"Expected positive fractions with a sum of at most 1, got {list(fractions)}")
    bounds = np.concatenate(([0.0], np.cumsum(shares)))
    drawn: list[list[IntArray]] = [[] for _ in shares]
    for rank, (label, members) in enumerate(_members_of(labels)):
        shuffled = _shuffled(members, rank, random_state)
        edges = [math.floor(bound * len(members) + 0.5 + 1e-9) for bound in bounds]
        for part, start, stop in zip(drawn, edges, edges[1:], strict=False):
            if start == stop:
                name = _named(label, class_names)
                raise InputError(
                    f"Expected images of every class in all {len(shares)} parts, {len(members)} of {name!r} do not "
                    "suffice: add images, or change the fractions"
                )
            part.append(shuffled[start:stop])
    return tuple(np.sort(np.concatenate(part)) for part in drawn)


def check_seed(random_state: object) -> None:
    """Refuse what is no seed: the draw of shots, like everything here, can be repeated."""
    if not isinstance(random_state, numbers.Integral) or random_state < 0:
        raise InputError(f"Expected random_state to be a whole number of at least 0, got {random_state!r}")


def _named(label: Any, class_names: Sequence[str] | None) -> str:
    return str(label if class_names is None else class_names[int(label)])


def _checked_labels(labels: ArrayLike) -> np.ndarray[Any, Any]:
    array = np.asarray(labels)
    if array.ndim != 1 or array.size == 0:
        raise InputError(f"Expected labels of shape (N,), at least one, got shape {array.shape}")
    return array


def _members_of(labels: np.ndarray[Any, Any]) -> list[tuple[Any, IntArray]]:
    """Return each label, in ascending order, with the indices that have it, in ascending order."""
    classes, inverse = np.unique(labels, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(inverse))[:-1])
    return list(zip(classes, members, strict=True))


def _shuffled(members: IntArray, rank: int, random_state: int) -> IntArray:
    check_seed(random_state)
    return np.random.default_rng((random_state, rank)).permutation(members)
