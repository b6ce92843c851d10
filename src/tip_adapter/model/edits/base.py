"""What all edits share: their form, how they end, and what must remain after them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tip_adapter.data.class_names import folded, name_of_label
from tip_adapter.errors import InputError
from tip_adapter.methods.heads import Head
from tip_adapter.model.few_shot_model import FewShotModel
from tip_adapter.model.journal import JournalEntry, Undo, now
from tip_adapter.model.shots import Shots

HYPER_PARAMETERS, CALIBRATION = "hyper-parameters", "calibration"


@dataclass(frozen=True, eq=False)
class Edit:
    """A correction that has no head yet.

    Attributes
    ----------
    model : FewShotModel
        Shots, classes and journal as they shall be; head and method as they were.
    action : str
        See `JournalEntry`.
    classes : tuple of str
        What it is about.
    about : Shots or None
        What it is about.
    undo : Undo or None
    n_forgotten : int
        Photos whose names must not be told.
    stale : tuple of str or None
        What is stale afterwards; None: whatever was chosen.
    """

    model: FewShotModel
    action: str
    classes: tuple[str, ...] = ()
    about: Shots | None = None
    undo: Undo | None = None
    n_forgotten: int = 0
    stale: tuple[str, ...] | None = None


def started(model: FewShotModel) -> FewShotModel:
    """Begin the journal of a model that was just fitted."""
    return replace(model, journal=(JournalEntry(1, now(), "fit", n_shots=len(model.shots)),))


def finished(edit: Edit, head: Head, **fitted_anew: Any) -> FewShotModel:
    """Put the new head in place, write the journal, and mark what was chosen for other shots as stale.

    `fitted_anew` are other fields of the model that were fitted together with the head, such as `method`.
    """
    model, about = edit.model, edit.about
    stale = _chosen_parts(model) if edit.stale is None else edit.stale
    fresh = {HYPER_PARAMETERS if name == "method" else name for name in fitted_anew}
    entry = JournalEntry(
        number=model.journal[-1].number + 1 if model.journal else 1,
        when=now(),
        action=edit.action,
        classes=edit.classes,
        ids=() if about is None else about.ids,
        digests=() if about is None else about.features.digests,
        n_shots=edit.n_forgotten if about is None else len(about),
        undo=None if edit.undo is None else replace(edit.undo, stale=model.stale),
    )
    return replace(
        model,
        head=head,
        stale=tuple(part for part in stale if part not in fresh),
        journal=(*model.journal, entry),
        **fitted_anew,
    )


def _chosen_parts(model: FewShotModel) -> tuple[str, ...]:
    method = model.method
    # Texts that count 1 count what papers have them count, where nothing else was chosen.
    given = {"text_weight": 1.0, **{name: value for name, value in method.parameters.items() if value != "auto"}}
    chosen = any(given.get(name) != value for name, value in method.held.items()) or method.trains
    parts = {HYPER_PARAMETERS: chosen, CALIBRATION: model.calibration is not None}
    return tuple(part for part, there in parts.items() if there)


def class_column(model: FewShotModel, name: str) -> int:
    """Return the column of a class; raise where there is none of that name."""
    name = name_of_label(name)
    if name not in model.class_names:
        alike = next((known for known in model.class_names if folded(known) == folded(name)), None)
        if alike:
            raise InputError(f"There is no class {name!r}, which differs in case from {alike!r}: write it like that")
        known = ", ".join(model.class_names[:10]) + (" …" if len(model.class_names) > 10 else "")
        raise InputError(f"There is no class {name!r}: the classes are {known}. Add it first, or correct the name")
    return model.class_names.index(name)


def checked(edit: Edit) -> Edit:
    """Refuse to leave no shot, or a class with neither shots nor text."""
    model = edit.model
    if not len(model.shots):
        raise InputError("Expected at least one shot to remain, got none: add others first, or fit again")
    empty = [
        name
        for name, count, texts in zip(model.class_names, model.counts, model.class_texts, strict=True)
        if not count and not texts
    ]
    if empty:
        raise InputError(
            f"Expected a shot or a text for every class, got neither for {empty[0]!r}: add another photo of it first, "
            "give it a text, or remove the class"
        )
    return edit


def labels_as_names(model: FewShotModel, shots: Shots) -> tuple[str, ...]:
    """Name the class of every shot."""
    return tuple(model.class_names[label] for label in shots.labels)


def names_of(model: FewShotModel, shots: Shots) -> tuple[str, ...]:
    """Name the classes that shots have, each once."""
    return tuple(dict.fromkeys(labels_as_names(model, shots)))
