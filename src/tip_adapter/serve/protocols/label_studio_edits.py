"""Turn annotations of Label Studio into edits, each of which can be undone by itself."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tip_adapter.classifier import ImageClassifier
from tip_adapter.data.decoding import NamedBytes
from tip_adapter.model.journal import Undo
from tip_adapter.serve.problems import Problem
from tip_adapter.storage.atomic import replace_file
from tip_adapter.storage.json_files import read_json

RECORD = "label_studio.json"
"""In the classifier's folder: what is known of each annotated shot."""


@dataclass
class Annotated:
    """A shot that somebody annotated."""

    before: str | None
    """Its class before the first annotation; None for a shot that came with it."""
    annotations: dict[str, str] = field(default_factory=dict)
    """The class of every annotation that stands, the latest word last."""
    coming: tuple[str, str] | None = None
    """(annotation, class) or None: an annotation whose edit is on the disk if the shot has that class: it is written
    down before the edit."""

    @property
    def class_name(self) -> str | None:
        """What the shot should be: the latest word, or what it was before."""
        return next(reversed(self.annotations.values()), self.before)

    def settled(self, present: str) -> Annotated:
        """Agree with the class that the shot has, whatever was interrupted, or changed by somebody else."""
        standing = dict(self.annotations)
        if self.coming is not None and self.coming[1] == present:
            standing.pop(self.coming[0], None)
            standing[self.coming[0]] = present
        while standing and next(reversed(standing.values())) != present:
            standing.popitem()
        return Annotated(self.before if standing else present, standing)


def annotate(folder: Path, classifier: ImageClassifier, annotation: int, photo: NamedBytes, class_name: str) -> None:
    """Make a photo a shot of the class that was chosen, whatever class it had."""
    record = _read(folder)
    found = classifier.add_shots([photo], [class_name], new_classes=True)
    if found.ids:
        shot, known = found.ids[0], Annotated(None)
    else:
        ((_, shot, present),) = found.known
        known = record.get(shot, Annotated(present)).settled(present)
        if present != class_name:
            classifier.relabel([shot], class_name)
    known.coming = str(annotation), class_name
    _write(folder, record | {shot: known})


def withdraw(folder: Path, classifier: ImageClassifier, annotation: int) -> None:
    """Take an annotation's edit back: undo where it was the last, the opposite edit where others followed.

    Where other annotations of the photo stand, the latest of them counts.
    """
    shot, known = _find(_read(folder), annotation)
    model = classifier.model_
    if known is None or shot not in model.shots.rows:
        return
    present = model.class_names[model.shots.labels[model.shots.rows[shot]]]
    known = known.settled(present)
    known.annotations.pop(str(annotation), None)
    last = next((one for one in reversed(model.journal) if one.undo is not None), None)
    if known.class_name == present:
        return
    if last is not None and last.undo is not None and _is_of(last.undo, shot, known.class_name):
        classifier.undo()
    elif known.class_name is None:
        classifier.remove_shots([shot])
    else:
        classifier.relabel([shot], known.class_name)


def strike(folder: Path, annotation: int) -> None:
    """Remove a withdrawn annotation from the record, once its edit is on the disk."""
    record = _read(folder)
    shot, known = _find(record, annotation)
    if known is None:
        return
    known.annotations.pop(str(annotation), None)
    if known.coming and known.coming[0] == str(annotation):
        known.coming = None
    if not known.annotations and not known.coming:
        del record[shot]
    _write(folder, record)


def _find(record: dict[str, Annotated], annotation: int) -> tuple[str, Annotated | None]:
    for shot, known in record.items():
        if str(annotation) in known.annotations or (known.coming and known.coming[0] == str(annotation)):
            return shot, known
    return "", None


def _is_of(undo: Undo, shot: str, before: str | None) -> bool:
    if before is None:
        return undo.added == (shot,)
    return list(undo.moved) == [shot] and undo.moved[shot] == before


def _read(folder: Path) -> dict[str, Annotated]:
    path = folder / RECORD
    if not path.exists():
        return {}
    try:
        return {shot: _annotated(**row) for shot, row in read_json(path).items()}
    except (ValueError, TypeError, AttributeError, IndexError) as error:
        raise Problem(409, f"{RECORD} in the classifier's folder cannot be read ({error}): mend or remove it") from None


def _annotated(*, before: str | None, annotations: dict[str, str], coming: list[str] | None) -> Annotated:
    return Annotated(before, dict(annotations), None if coming is None else (coming[0], coming[1]))


def _write(folder: Path, record: dict[str, Annotated]) -> None:
    replace_file(folder / RECORD, json.dumps({shot: asdict(known) for shot, known in record.items()}).encode())
