"""The journal of a classifier: its edits, and what undoes each; to and from JSON values, arrays and pictures."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from tip_adapter.model.picture_archive import Archive, Source, archived_thumbnails
from tip_adapter.model.shots import Shots, features_from_state, features_state
from tip_adapter.trust.calibration import Calibration
from tip_adapter.typing import Float32Array


def now() -> str:
    """Give the time, to the second, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, eq=False)
class ClassRecord:
    """A class as it was: its column, name, texts, and row of zero-shot weights (D,)."""

    column: int
    name: str
    texts: tuple[str, ...]
    weights: Float32Array


@dataclass(frozen=True, eq=False)
class MovedShots:
    """Shots that were taken out or got another class: the classes they had, and the rows where they were."""

    shots: Shots
    """Their labels mean nothing: columns may be others by now."""
    class_names: tuple[str, ...]
    rows: tuple[int, ...]

    def without(self, digests: Collection[str]) -> MovedShots | None:
        """Drop the shots of some photos for good; None when no shot is left."""
        kept = [index for index, one in enumerate(self.shots.features.digests) if one not in digests]
        if len(kept) == len(self.rows):
            return self
        if not kept:
            return None
        # `take` copies, so that nothing of the others stays behind in the memory of the whole.
        names, rows = (tuple(values[index] for index in kept) for values in (self.class_names, self.rows))
        return MovedShots(self.shots.take(kept), names, rows)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Undo:
    """What takes an edit back; parts that do not apply are empty."""

    stale: tuple[str, ...] = ()
    """What was stale before."""
    added: tuple[str, ...] = ()
    """Ids of shots to take out."""
    removed: MovedShots | None = None
    """Shots to put back."""
    moved: Mapping[str, str] = field(default_factory=dict)
    """Class that shots had, by id."""
    added_class: str | None = None
    """Class to take out."""
    removed_class: ClassRecord | None = None
    """Class to put back."""
    renamed_class: tuple[str, ClassRecord] | None = None
    """A class's new name, and how it was before."""
    method: Mapping[str, Any] | None = None
    """Record of the method before a refit."""
    calibration: Calibration | None = None
    """As it was before a refit."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing left to take back."""
        parts = (self.added, self.removed, self.moved, self.added_class, self.removed_class, self.renamed_class)
        return not any(parts) and self.method is None


@dataclass(frozen=True, eq=False)
class JournalEntry:
    """One thing that was done."""

    number: int
    """From 1."""
    when: str
    """See `now`."""
    action: str
    """fit, add, remove, relabel, add-class, remove-class, rename-class, refit, undo, forget, purge."""
    classes: tuple[str, ...] = ()
    """The classes it was about."""
    ids: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    """ids and digests: the shots it was about, those apart that were forgotten since; none for a fit."""
    n_shots: int = 0
    """How many shots it was about."""
    undo: Undo | None = None
    """What takes it back; None where nothing can, or it was taken back already."""
    undone: bool = False
    """Whether it was taken back."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, for people: without what undo needs."""
        return {
            "number": self.number,
            "when": self.when,
            "action": self.action,
            "classes": list(self.classes),
            "shots": self.n_shots,
            "ids": list(self.ids),
            "can_be_undone": self.undo is not None,
            "undone": self.undone,
        }


def forget(journal: Sequence[JournalEntry], digests: Collection[str]) -> tuple[JournalEntry, ...]:
    """Drop every trace of some photos, named by their SHA-256: their ids, and what undo would put back.

    Examples
    --------
    >>> from tip_adapter.model.journal import JournalEntry, forget, now
    >>> entry = JournalEntry(1, now(), "remove", ids=("a", "b"), digests=("a" * 64, "b" * 64), n_shots=2)
    >>> forget([entry], ["a" * 64])[0].to_dict()["ids"]
    ['b']
    """
    return tuple(_without(entry, digests) for entry in journal)


def _without(entry: JournalEntry, digests: Collection[str]) -> JournalEntry:
    kept = [index for index, digest in enumerate(entry.digests) if digest not in digests]
    lost = set(entry.ids) - {entry.ids[index] for index in kept}
    if not lost:
        return entry
    undo = entry.undo
    if undo is not None:
        undo = replace(
            undo,
            added=tuple(one for one in undo.added if one not in lost),
            moved={one: before for one, before in undo.moved.items() if one not in lost},
            removed=undo.removed and undo.removed.without(digests),
        )
    return replace(
        entry,
        ids=tuple(entry.ids[index] for index in kept),
        digests=tuple(entry.digests[index] for index in kept),
        undo=None if undo is None or undo.empty else undo,
    )


def journal_pictures(journal: Sequence[JournalEntry]) -> dict[str, Source]:
    """Say where the pictures of the removed shots are, by the SHA-256 of their photos."""
    removed = [entry.undo.removed for entry in journal if entry.undo is not None and entry.undo.removed is not None]
    return {digest: source for moved in removed for digest, source in moved.shots.pictures().items()}


def journal_state(
    journal: Sequence[JournalEntry], pictures: Collection[str]
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray[Any, Any]]]:
    """Take a journal apart for saving."""
    entries: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for entry in journal:
        facts = {name: value for name, value in vars(entry).items() if name != "undo"}
        facts["undo"] = None
        if entry.undo is not None:
            facts["undo"] = _undo_state(entry.undo, f"{entry.number}", arrays, pictures)
        entries.append(facts)
    return entries, arrays


def _undo_state(
    undo: Undo, prefix: str, arrays: dict[str, np.ndarray[Any, Any]], pictures: Collection[str]
) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "stale": undo.stale,
        "added": undo.added,
        "moved": dict(undo.moved),
        "added_class": undo.added_class,
        "method": undo.method and dict(undo.method),
    }
    if undo.calibration is not None:
        parts, facts["calibration"] = undo.calibration.state()
        arrays |= {f"{prefix}.calibration.{name}": array for name, array in parts.items()}
    if undo.removed is not None:
        shots = undo.removed.shots
        arrays |= features_state(shots.features, f"{prefix}.")
        facts["removed"] = {
            "ids": shots.ids,
            "names": shots.features.names,
            "digests": shots.features.digests,
            "thumbnails": shots.ids_with(pictures),
            "groups": shots.groups if any(shots.groups) else (),
            "classes": undo.removed.class_names,
            "rows": undo.removed.rows,
        }
    for key, record in (
        ("removed_class", undo.removed_class),
        ("renamed_class", undo.renamed_class and undo.renamed_class[1]),
    ):
        if record is not None:
            arrays[f"{prefix}.{key}"] = record.weights
            facts[key] = {"column": record.column, "name": record.name, "texts": record.texts}
    if undo.renamed_class is not None:
        facts["renamed_class"]["new_name"] = undo.renamed_class[0]
    return facts


def journal_from_state(
    entries: Sequence[Mapping[str, Any]],
    arrays: Mapping[str, np.ndarray[Any, Any]],
    pictures: Archive,
    encoder_id: str,
) -> tuple[JournalEntry, ...]:
    """Put a journal together again; the inverse of `journal_state`."""
    return tuple(_entry(facts, arrays, pictures, encoder_id) for facts in entries)


def _entry(facts: Mapping[str, Any], arrays: Mapping[str, Any], pictures: Archive, encoder_id: str) -> JournalEntry:
    plain: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in facts.items()}
    undo = plain.pop("undo")
    prefix = f"{plain['number']}"
    return JournalEntry(**plain, undo=None if undo is None else _undo(undo, prefix, arrays, pictures, encoder_id))


def _undo(facts: Mapping[str, Any], prefix: str, arrays: Mapping[str, Any], pictures: Archive, encoder_id: str) -> Undo:
    removed, removed_class, renamed = (facts.get(key) for key in ("removed", "removed_class", "renamed_class"))
    shots = None
    if removed is not None:
        features = features_from_state(arrays, f"{prefix}.", encoder_id, removed["digests"], removed["names"])
        labels = np.zeros(len(features), dtype=np.intp)
        ids, names, rows = (tuple(removed[key]) for key in ("ids", "classes", "rows"))
        shown = archived_thumbnails(pictures, ids, features.digests, removed["thumbnails"])
        shots = MovedShots(Shots(features, labels, ids, shown, tuple(removed["groups"])), names, rows)

    def record(known: Mapping[str, Any], key: str) -> ClassRecord:
        return ClassRecord(known["column"], known["name"], tuple(known["texts"]), arrays[f"{prefix}.{key}"])

    return Undo(
        stale=tuple(facts["stale"]),
        added=tuple(facts["added"]),
        removed=shots,
        moved=dict(facts["moved"]),
        added_class=facts["added_class"],
        removed_class=None if removed_class is None else record(removed_class, "removed_class"),
        renamed_class=None if renamed is None else (renamed["new_name"], record(renamed, "renamed_class")),
        method=facts["method"],
        calibration=_calibration(facts.get("calibration"), arrays, f"{prefix}.calibration."),
    )


def _calibration(values: Mapping[str, Any] | None, arrays: Mapping[str, Any], prefix: str) -> Calibration | None:
    if values is None:
        return None
    parts = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
    return Calibration.from_state(parts, values)
