"""Corrections of classes: add, remove and rename, each a function of a model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tip_adapter.data.class_names import folded, name_of_label
from tip_adapter.errors import InputError
from tip_adapter.model.edits.base import Edit, checked, class_column
from tip_adapter.model.few_shot_model import FewShotModel
from tip_adapter.model.journal import ClassRecord, MovedShots, Undo
from tip_adapter.model.shots import Shots
from tip_adapter.typing import Float32Array


def add_class(
    model: FewShotModel, name: str, texts: tuple[str, ...], weights: Float32Array | None, new: Shots | None = None
) -> Edit:
    """Add a class behind the others, with its texts, their weights (D,) and its first shots, as far as it has them."""
    name = check_new_name(model, name)
    column = len(model.class_names)
    row = np.full(model.zero_shot_weights.shape[1], np.nan, dtype=np.float32) if weights is None else weights
    larger = replace(
        model,
        class_names=(*model.class_names, name),
        class_texts=(*model.class_texts, texts),
        zero_shot_weights=np.concatenate([model.zero_shot_weights, row[None]]),
    )
    if new is not None:
        new = replace(new, labels=np.full(len(new), column, dtype=np.intp))
        larger = replace(larger, shots=model.shots.added(new))
    undo = Undo(added_class=name, added=() if new is None else new.ids)
    return checked(Edit(larger, "add-class", (name,), about=new, undo=undo))


def remove_class(model: FewShotModel, name: str) -> Edit:
    """Remove a class and its shots."""
    column = class_column(model, name)
    name = model.class_names[column]
    if len(model.class_names) < 3:
        raise InputError(f"Expected at least two classes to remain, got one without {name!r}: add another class first")
    rows = np.flatnonzero(model.shots.labels == column).tolist()
    record = ClassRecord(column, name, model.class_texts[column], model.zero_shot_weights[column].copy())
    taken = model.shots.take(rows)
    removed = MovedShots(taken, (name,) * len(rows), tuple(rows)) if rows else None
    smaller = without_class(replace(model, shots=model.shots.without(rows)), column)
    undo = Undo(removed_class=record, removed=removed)
    return checked(Edit(smaller, "remove-class", (name,), about=taken, undo=undo))


def rename_class(
    model: FewShotModel, name: str, new_name: str, texts: tuple[str, ...] | None, weights: Float32Array | None
) -> Edit:
    """Rename a class, or change its texts alone, where the name stays; None keeps the texts, () takes them away."""
    column = class_column(model, name)
    name = model.class_names[column]
    new_name = check_new_name(model, new_name, instead_of=name)
    record = ClassRecord(column, name, model.class_texts[column], model.zero_shot_weights[column].copy())
    renamed = with_class_record(
        model,
        column,
        ClassRecord(
            column,
            new_name,
            record.texts if texts is None else texts,
            record.weights if texts is None else np.full_like(record.weights, np.nan) if weights is None else weights,
        ),
    )
    undo, names = Undo(renamed_class=(new_name, record)), tuple(dict.fromkeys((name, new_name)))
    stale = model.stale if texts is None else None
    return checked(Edit(renamed, "rename-class", names, undo=undo, stale=stale))


def without_class(model: FewShotModel, column: int) -> FewShotModel:
    """Take a class without shots out."""
    labels = model.shots.labels
    return replace(
        model,
        class_names=model.class_names[:column] + model.class_names[column + 1 :],
        class_texts=model.class_texts[:column] + model.class_texts[column + 1 :],
        zero_shot_weights=np.delete(model.zero_shot_weights, column, axis=0),
        shots=replace(model.shots, labels=labels - (labels > column)),
    )


def with_class(model: FewShotModel, record: ClassRecord) -> FewShotModel:
    """Put a class without shots in at its column."""
    column, labels = record.column, model.shots.labels
    return replace(
        model,
        class_names=(*model.class_names[:column], record.name, *model.class_names[column:]),
        class_texts=(*model.class_texts[:column], record.texts, *model.class_texts[column:]),
        zero_shot_weights=np.insert(model.zero_shot_weights, column, record.weights, axis=0),
        shots=replace(model.shots, labels=labels + (labels >= column)),
    )


def with_class_record(model: FewShotModel, column: int, record: ClassRecord) -> FewShotModel:
    """Give a class another name, texts and weights."""
    weights = model.zero_shot_weights.copy()
    weights[column] = record.weights
    names, texts = list(model.class_names), list(model.class_texts)
    names[column], texts[column] = record.name, record.texts
    return replace(model, class_names=tuple(names), class_texts=tuple(texts), zero_shot_weights=weights)


def check_new_name(model: FewShotModel, name: str, instead_of: str | None = None) -> str:
    """Refuse a name that no new class can have, and return it in its one form."""
    name = name_of_label(name)
    if not name:
        raise InputError("Expected a name for the class, got an empty one")
    for other in model.class_names:
        if other != instead_of and folded(other) == folded(name):
            case = "" if other == name else f", which differs from {name!r} in case alone"
            raise InputError(f"There is a class {other!r} already{case}: choose another name, or add shots to it")
    return name
