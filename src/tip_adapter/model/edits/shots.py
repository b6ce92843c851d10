"""Corrections of shots: add, remove, relabel and forget, each a function of a model."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from tip_adapter.errors import InputError
from tip_adapter.model.edits.base import Edit, checked, class_column, labels_as_names, names_of
from tip_adapter.model.few_shot_model import FewShotModel
from tip_adapter.model.journal import MovedShots, Undo, forget
from tip_adapter.model.shots import Shots

SHORTEST_PREFIX = 4


def shot_rows(model: FewShotModel, references: Sequence[str]) -> list[int]:
    """Find shots."""
    if isinstance(references, str):
        raise InputError(f"Expected a sequence of ids, got the text {references!r}: put it into a list")
    if not references:
        raise InputError("Expected the id of at least one shot, got none")
    return sorted({_row(model, reference) for reference in references})


def all_among(references: Sequence[str], shots: Sequence[Mapping[str, str]]) -> bool:
    """Tell whether every reference means some of these shots, each of which has an id and a name."""
    ids, names = ([shot.get(key, "") for shot in shots] for key in ("id", "name"))
    return all(_meant(reference, ids, names) for reference in references)


def named(shots: Shots, digests: Collection[str]) -> list[dict[str, str]]:
    """List id, name and digest of all shots of some photos."""
    rows = zip(shots.ids, shots.features.names, shots.features.digests, strict=True)
    return [{"id": one, "name": name, "digest": digest} for one, name, digest in rows if digest in digests]


def _meant(reference: str, ids: Sequence[str], names: Sequence[str]) -> list[int]:
    """Rows that a reference may mean: the shot of that id, else those of that file, else those whose id begins so."""
    if reference in ids:
        return [ids.index(reference)]
    meant = [row for row, name in enumerate(names) if reference in (name, os.path.basename(name))]
    if not meant and len(reference) >= SHORTEST_PREFIX:
        meant = [row for row, name in enumerate(ids) if name.startswith(reference)]
    return meant


def _row(model: FewShotModel, reference: str) -> int:
    shots = model.shots
    if reference in shots.rows:
        return shots.rows[reference]
    meant = _meant(reference, shots.ids, shots.features.names)
    if len(meant) == 1:
        return meant[0]
    if meant:
        several = ", ".join(shots.ids[row] for row in meant[:5])
        raise InputError(f"{reference!r} means {len(meant)} shots ({several}): give the whole id")
    removed = [entry.number for entry in model.journal if reference in entry.ids]
    hint = (
        f"it was taken out (journal, up to entry {removed[-1]}), and undo may bring it back"
        if removed
        else ("`tip-adapter shots` and `model_.shots.ids` list them")
    )
    raise InputError(f"There is no shot {reference!r}: {hint}")


def add_shots(model: FewShotModel, new: Shots) -> Edit:
    """Add shots of known classes, with ids that no other shot has."""
    names = names_of(model, new)
    return Edit(replace(model, shots=model.shots.added(new)), "add", names, about=new, undo=Undo(added=new.ids))


def remove_shots(model: FewShotModel, rows: Sequence[int]) -> Edit:
    """Remove the shots at some rows, which ascend."""
    taken = model.shots.take(rows)
    undo = Undo(removed=MovedShots(taken, labels_as_names(model, taken), tuple(rows)))
    rest = replace(model, shots=model.shots.without(rows))
    return checked(Edit(rest, "remove", names_of(model, taken), about=taken, undo=undo))


def relabel_shots(model: FewShotModel, rows: Sequence[int], class_name: str) -> Edit:
    """Give shots another class."""
    column = class_column(model, class_name)
    rows = [row for row in rows if model.shots.labels[row] != column]
    if not rows:
        raise InputError(f"All of these shots are {class_name!r} already: nothing is to be changed")
    taken = model.shots.take(rows)
    undo = Undo(moved=dict(zip(taken.ids, labels_as_names(model, taken), strict=True)))
    labels = model.shots.labels.copy()
    labels[list(rows)] = column
    names = dict.fromkeys((*names_of(model, taken), class_name))
    moved = replace(model, shots=replace(model.shots, labels=labels))
    return checked(Edit(moved, "relabel", tuple(names), about=taken, undo=undo))


def forget_photos(model: FewShotModel, digests: Collection[str], action: str) -> Edit:
    """Take photos out for good: no shot, no journal entry and no undo knows them any more."""
    rows = [row for row, digest in enumerate(model.shots.features.digests) if digest in digests]
    rest = replace(model, journal=forget(model.journal, digests))
    if rows:
        rest = replace(rest, shots=model.shots.without(rows))
    return checked(Edit(rest, action, n_forgotten=len(set(digests)), stale=None if rows else model.stale))
