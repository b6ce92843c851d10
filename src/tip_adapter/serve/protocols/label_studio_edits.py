"""Annotations of Label Studio as edits, each of which can be taken back for itself."""

from __future__ import annotations

import json
from pathlib import Path

from tip_adapter.classifier import ImageClassifier
from tip_adapter.data.decoding import NamedBytes
from tip_adapter.model.journal import Undo
from tip_adapter.serve.problems import Problem
from tip_adapter.storage.atomic import replace_file
from tip_adapter.storage.json_files import read_json

RECORD = "label_studio.json"
"""In the classifier's folder: by annotation, its shot and the class that this had before; null for a new shot."""

Record = dict[str, list[str | None]]


def annotate(folder: Path, classifier: ImageClassifier, annotation: int, photo: NamedBytes, class_name: str) -> None:
    """Make a photo a shot of the class that was chosen, whatever class it had."""
    record = _read(folder)
    found = classifier.add_shots([photo], [class_name], new_classes=True)
    if found.ids:
        record[str(annotation)] = [found.ids[0], None]
    else:
        ((_, shot, before),) = found.known
        record.setdefault(str(annotation), [shot, before])
        if before != class_name:
            classifier.relabel([shot], class_name)
    _write(folder, record)


def withdraw(folder: Path, classifier: ImageClassifier, annotation: int) -> None:
    """Take an annotation's edit back: undo where it was the last, the opposite edit where others followed."""
    record = _read(folder)
    shot, before = record.pop(str(annotation), (None, None))
    model = classifier.model_
    if shot is not None and shot in model.shots.rows:
        last = next((one for one in reversed(model.journal) if one.undo is not None), None)
        if last is not None and last.undo is not None and _is_of(last.undo, shot, before):
            classifier.undo()
        elif before is None:
            classifier.remove_shots([shot])
        elif model.class_names[model.shots.labels[model.shots.rows[shot]]] != before:
            classifier.relabel([shot], before)
    _write(folder, record)


def _is_of(undo: Undo, shot: str, before: str | None) -> bool:
    if before is None:
        return undo.added == (shot,)
    return list(undo.moved) == [shot] and undo.moved[shot] == before


def _read(folder: Path) -> Record:
    path = folder / RECORD
    if not path.exists():
        return {}
    try:
        return {str(key): [shot, before] for key, (shot, before) in read_json(path).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise Problem(409, f"{RECORD} in the classifier's folder cannot be read ({error}): mend or remove it") from None


def _write(folder: Path, record: Record) -> None:
    replace_file(folder / RECORD, json.dumps(record).encode())
