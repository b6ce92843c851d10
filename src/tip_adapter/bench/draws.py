"""Draw the support sets of a comparison: equally many photos of every class, or unequal numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tip_adapter.bench.protocols import AS_IT_COMES, BASE_TO_NEW, FEW, few_shot_validation
from tip_adapter.data.sampling import sample_counts, sample_shots
from tip_adapter.errors import DatasetError, InputError
from tip_adapter.features.feature_data import FeatureData, Part
from tip_adapter.typing import FloatArray, IntArray

DEFAULT_SHOTS = (1, 2, 4, 8, 16)
ZIPF, TRAIN = "zipf", "train"
"""Class frequencies: one over the rank, in an order of classes that the seed draws; or those of the training photos."""

Key = tuple[int, int]
"""Shots and seed."""


@dataclass(frozen=True, eq=False)
class Draw:
    """One support set."""

    part: str
    """Name of the part of the data that holds it."""
    rows: IntArray | None = None
    """Which photos of that part; None takes all."""

    def of(self, data: FeatureData) -> Part:
        """Take the support set out of the data."""
        part = data.parts()[self.part]
        return part if self.rows is None else part.subset(self.rows)


@dataclass(frozen=True, eq=False)
class Draws:
    """All support sets of a data set."""

    sets: dict[Key, Draw]
    validation: dict[Key, Draw] = field(default_factory=dict)
    """For the protocol "paper-few": training photos apart from that support set."""
    single: frozenset[int] = frozenset()
    """Shots for which there is one possible support set, so that other seeds would repeat it."""
    notes: tuple[str, ...] = ()
    """What was left out, and why."""
    unequal: dict[Key, Draw] = field(default_factory=dict)
    """For the protocol "as-it-comes": so many shots a class on average."""
    base: dict[Key, Draw] = field(default_factory=dict)
    """For the protocol "base-to-new": the same sets, of the first half of the classes alone."""

    def of(self, protocol: str) -> dict[Key, Draw]:
        """Return the support sets of a protocol."""
        return {AS_IT_COMES: self.unequal, BASE_TO_NEW: self.base}.get(protocol, self.sets)

    def rows(self) -> IntArray:
        """List the photos that any of them has."""
        draws = [draw for sets in (self.sets, self.validation, self.unequal) for draw in sets.values()]
        return np.unique(np.concatenate([draw.rows for draw in draws if draw.rows is not None]))

    def among(self, used: IntArray) -> Draws:
        """Renumber the photos for a part that has only those in use."""

        def moved(draws: dict[Key, Draw]) -> dict[Key, Draw]:
            return {
                key: replace(draw, rows=np.searchsorted(used, draw.rows))
                for key, draw in draws.items()
                if draw.rows is not None
            }

        return self.changed(moved)

    def changed(self, change: Callable[[dict[Key, Draw]], dict[Key, Draw]]) -> Draws:
        """Change the sets of every kind."""
        sets, validation = change(self.sets), change(self.validation)
        return Draws(sets, validation, self.single, self.notes, change(self.unequal), change(self.base))


@dataclass(frozen=True)
class Wanted:
    """What is to be drawn."""

    shots: Sequence[int] | None
    """Photos of every class. Default: those of `DEFAULT_SHOTS` that the data allows."""
    n_seeds: int
    protocols: Sequence[str] = ()
    frequencies: str | Mapping[str, Any] = ZIPF
    """Of the classes under the protocol "as-it-comes"."""


def draws_of_features(data: FeatureData, wanted: Wanted) -> Draws:
    """Take the support sets that a feature file has, and draw others from its training photos or its largest set."""
    part = "train" if data.train is not None else f"support_{max(data.supports)}"
    given = {number: Draw(f"support_{number}") for number in data.supports}
    if wanted.shots is None and data.train is None:
        wanted = replace(wanted, shots=sorted(given))
    pool, wanted_few = data.pool, replace(wanted, protocols=(*wanted.protocols, FEW))
    drawn = draw_all(pool.labels, wanted_few, data.class_names, data.name, pool.group_numbers)
    drawn = drawn.changed(lambda draws: {key: replace(draw, part=part) for key, draw in draws.items()})
    published = {key for key in drawn.sets if key[1] == 0 and key[0] in given}
    sets = {key: given[key[0]] if key in published else draw for key, draw in drawn.sets.items()}
    # A given set may hold other views of any photo of the largest one: what is apart from it is not known.
    validation = {key: draw for key, draw in drawn.validation.items() if key not in published}
    base = {
        key: Draw(draw.part, _of_base(draw.of(data).labels, len(data.class_names), draw.rows))
        for key, draw in sets.items()
        if BASE_TO_NEW in wanted.protocols
    }
    return replace(drawn, sets=sets, validation=validation, base=base)


def draw_all(
    labels: IntArray, wanted: Wanted, class_names: Sequence[str], name: str, groups: IntArray | None = None
) -> Draws:
    """Draw from training photos of these classes; what is tuned on shares no group with the shots."""
    counts = np.bincount(labels, minlength=len(class_names))
    fewest, rarest = int(counts.min()), class_names[int(counts.argmin())]
    shots = DEFAULT_SHOTS if wanted.shots is None else tuple(sorted(set(wanted.shots)))
    if min(shots) < 1 or wanted.n_seeds < 1:
        raise InputError(f"Expected shots and seeds of at least 1, got {list(shots)} and {wanted.n_seeds}")
    too_many = [number for number in shots if number > fewest]
    has = f"{name} has {fewest} photo{'s' * (fewest != 1)} of {rarest!r} to learn from"
    if too_many and (wanted.shots is not None or len(too_many) == len(shots)):
        raise DatasetError(f"Expected at most {fewest} shots, got {too_many[-1]}: {has}; add photos, or ask for fewer")
    listed = ", ".join(map(str, too_many))
    notes = (f"{has}, so {listed} shots are left out",) if too_many else ()
    single = frozenset(number for number in shots if number == counts.max())
    rows = {
        (number, seed): sample_shots(labels, number, random_state=seed)
        for number in shots
        if number not in too_many
        for seed in range(1 if number in single else wanted.n_seeds)
    }
    validation = {
        (number, seed): _apart(sample_shots(labels, number + more, random_state=seed), chosen, groups)
        for (number, seed), chosen in rows.items()
        if FEW in wanted.protocols and number + (more := few_shot_validation(number)) <= fewest
    }
    validation = {key: rows for key, rows in validation.items() if len(rows)}
    unequal, left_out = _draw_unequal(labels, counts, rows, wanted, class_names)
    base = {
        key: _of_base(labels[chosen], len(class_names), chosen)
        for key, chosen in rows.items()
        if BASE_TO_NEW in wanted.protocols
    }
    drawn = (
        {key: Draw("train", chosen) for key, chosen in found.items()} for found in (rows, validation, unequal, base)
    )
    sets, apart, as_they_come, half = drawn
    return Draws(sets, apart, single, (*notes, *left_out), as_they_come, half)


def _apart(drawn: IntArray, chosen: IntArray, groups: IntArray | None) -> IntArray:
    """Leave out what was chosen, and whatever belongs to it."""
    rest: IntArray = np.setdiff1d(drawn, chosen)
    return rest if groups is None else rest[~np.isin(groups[rest], groups[chosen])]


def in_base(n_classes: int) -> IntArray:
    """List the classes that have shots under the protocol "base-to-new": the first half, as in CoCoOp.

    Examples
    --------
    >>> from tip_adapter.bench.draws import in_base
    >>> in_base(5)
    array([0, 1, 2])
    """
    return np.arange(-(-n_classes // 2))


def unequal_counts(available: IntArray, total: int, frequencies: FloatArray) -> IntArray:
    """Share out photos among classes by frequency, at least one each and at most what there are.

    Where rounding does not allow `total` photos in all, somewhat fewer are shared out.

    Shapes: `available`, `frequencies` (C,) → (C,).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.bench.draws import unequal_counts
    >>> unequal_counts(np.array([9, 9, 9, 2]), 12, 1 / np.array([1.0, 2.0, 3.0, 4.0]))
    array([6, 3, 2, 1])
    """

    def shared(scale: float) -> IntArray:
        rounded: IntArray = np.clip(np.floor(scale * frequencies + 0.5), 1, available).astype(np.intp)
        return rounded

    low, high = 0.0, float((available / frequencies).max()) + 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if shared(middle).sum() <= total else (low, middle)
    return shared(low)


def _draw_unequal(
    labels: IntArray, counts: IntArray, drawn: Iterable[Key], wanted: Wanted, class_names: Sequence[str]
) -> tuple[dict[Key, IntArray], tuple[str, ...]]:
    found, equal = {}, set()
    for shots, seed in drawn if AS_IT_COMES in wanted.protocols else ():
        frequencies = _frequencies(wanted.frequencies, counts, class_names, seed)
        chosen = unequal_counts(counts, shots * len(counts), frequencies)
        if np.ptp(chosen) == 0:
            equal.add(shots)
        else:
            found[shots, seed] = sample_counts(labels, chosen, random_state=seed)
    listed = ", ".join(map(str, sorted(equal)))
    notes = (f"{AS_IT_COMES} leaves out {listed} shots: too few, or all there are, to be unequal",) if equal else ()
    return found, notes


def _frequencies(given: str | Mapping[str, Any], counts: IntArray, class_names: Sequence[str], seed: int) -> FloatArray:
    if given == TRAIN:
        return counts.astype(np.float64)
    if given == ZIPF:
        ranks = np.random.default_rng(seed).permutation(len(counts))
        return 1.0 / (1.0 + ranks)
    if isinstance(given, str):
        raise InputError(f"Expected class frequencies as {ZIPF}, {TRAIN} or a JSON file, got {given!r}")
    numbers = [given.get(name) for name in class_names]
    for name, number in zip(class_names, numbers, strict=True):
        if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number < np.inf:
            raise InputError(f"Expected a frequency above 0 of the class {name!r}, got {number!r}: add it")
    return np.array(numbers, dtype=np.float64)


def _of_base(labels: IntArray, n_classes: int, rows: IntArray | None) -> IntArray:
    kept = np.flatnonzero(np.isin(labels, in_base(n_classes)))
    return kept if rows is None else rows[kept]
