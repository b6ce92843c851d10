"""Corrections of a model: shots and classes as they shall be, and what takes the correction back.

Nothing is encoded or fitted here: an `Edit` still has the former head. Whoever fits the new one calls `finished`.
"""

from __future__ import annotations

from tip_adapter.model.edits.base import CALIBRATION, HYPER_PARAMETERS, Edit, class_column, finished, started
from tip_adapter.model.edits.classes import add_class, check_new_name, remove_class, rename_class
from tip_adapter.model.edits.shots import (
    add_shots,
    all_among,
    forget_photos,
    named,
    relabel_shots,
    remove_shots,
    shot_rows,
)
from tip_adapter.model.edits.undo import joined_to_last, undo_last

__all__ = [
    "CALIBRATION",
    "HYPER_PARAMETERS",
    "Edit",
    "add_class",
    "add_shots",
    "all_among",
    "check_new_name",
    "class_column",
    "finished",
    "forget_photos",
    "joined_to_last",
    "named",
    "relabel_shots",
    "remove_class",
    "remove_shots",
    "rename_class",
    "shot_rows",
    "started",
    "undo_last",
]
