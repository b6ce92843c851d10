"""Take back the last edit in a model's journal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tip_adapter.errors import InputError, ModelFileError
from tip_adapter.model.edits.base import Edit, class_column
from tip_adapter.model.edits.classes import with_class, with_class_record, without_class
from tip_adapter.model.few_shot_model import FewShotModel
from tip_adapter.model.fitting import MethodRecord
from tip_adapter.model.journal import JournalEntry, Undo
from tip_adapter.model.shots import Shots

FOR_GOOD = ("forget",)
"""Actions that changed the shots and cannot be taken back."""


def undo_last(model: FewShotModel) -> Edit:
    """Take back the last edit that was not taken back yet."""
    open_entries = [entry for entry in model.journal if entry.undo is not None]
    if not open_entries:
        raise InputError("There is nothing to undo: the journal holds no edit that can be taken back")
    entry = open_entries[-1]
    undo = entry.undo or Undo()
    try:
        restored = _restored(model, undo)
    except (IndexError, KeyError) as error:
        raise ModelFileError(
            f"Expected a journal that fits shots and classes, got an entry {entry.number} that does not: fit again"
        ) from error
    journal = tuple(replace(one, undo=None, undone=True) if one is entry else one for one in model.journal)
    # What was forgotten since stays away, so what was chosen with it stays stale.
    later = [one for one in model.journal if one.number > entry.number and one.action in FOR_GOOD]
    stale = model.stale if later else undo.stale
    changed = replace(restored, journal=journal)
    return Edit(changed, "undo", entry.classes, about=_about(entry, model, restored), stale=stale)


def joined_to_last(refitted: FewShotModel) -> FewShotModel:
    """Count a refit, the last entry of a journal, as part of the edit before it, so that one undo takes back both.

    It is part of the last edit that can be taken back: whatever was taken back since, was chosen for other shots.
    """
    *before, refit = refitted.journal
    places = [place for place, entry in enumerate(before) if entry.undo is not None]
    if places and refit.undo is not None:
        entry = before[places[-1]]
        if entry.undo is not None and entry.undo.method is None:
            undo = replace(entry.undo, method=refit.undo.method, calibration=refit.undo.calibration)
            before[places[-1]] = replace(entry, undo=undo)
    return replace(refitted, journal=tuple(before))


def _restored(model: FewShotModel, undo: Undo) -> FewShotModel:
    if undo.method is not None:
        model = replace(model, method=MethodRecord(**undo.method), calibration=undo.calibration)
    if undo.renamed_class is not None:
        name, record = undo.renamed_class
        return with_class_record(model, class_column(model, name), record)
    if undo.added:
        rows = sorted(model.shots.rows[name] for name in undo.added)
        model = replace(model, shots=model.shots.without(rows))
    if undo.added_class is not None:
        model = without_class(model, class_column(model, undo.added_class))
    if undo.removed_class is not None:
        model = with_class(model, undo.removed_class)
    if undo.removed is not None:
        moved = undo.removed
        labels = np.array([class_column(model, name) for name in moved.class_names], dtype=np.intp)
        return replace(model, shots=model.shots.put_back(replace(moved.shots, labels=labels), moved.rows))
    if undo.moved:
        labels = model.shots.labels.copy()
        for name, class_name in undo.moved.items():
            labels[model.shots.rows[name]] = class_column(model, class_name)
        return replace(model, shots=replace(model.shots, labels=labels))
    return model


def _about(entry: JournalEntry, model: FewShotModel, restored: FewShotModel) -> Shots | None:
    """The shots of the entry, for the journal."""
    for shots in (model.shots, restored.shots):
        if entry.ids and all(name in shots.rows for name in entry.ids):
            return shots.take(sorted(shots.rows[name] for name in entry.ids))
    return None
