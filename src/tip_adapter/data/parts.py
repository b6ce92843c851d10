"""A part of a data set: its photos with their classes, read when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tip_adapter.data.splits import UNLABELLED, split_name
from tip_adapter.errors import DatasetError, SplitError

Pair = tuple[str, Path]


@dataclass(frozen=True)
class Part:
    """All of a data set, or a split of it."""

    split: str
    """One of `SPLITS`, or what the data call it; empty for a whole."""
    shown: str
    """What the data call it."""
    source: Path
    """The folder or table, as messages name it."""
    load: Callable[[], list[Pair]]
    """Reads its photos: (class name, image) each."""


def chosen_part(parts: Sequence[Part], split: str | None, prefer: Sequence[str], source: Path) -> Part:
    """Choose a part by the name of its split, or else the first that is preferred."""
    labelled = [part for part in parts if part.split != UNLABELLED]
    available = ", ".join(called(part) for part in labelled if part.split) or "no splits"
    if split is not None:
        meant = split_name(split)
        for is_meant in (
            lambda part: split in (part.split, part.shown),
            lambda part: meant is not None and meant == split_name(part.shown),
            lambda part: meant is not None and meant.split == part.split,
        ):
            for part in parts:
                if is_meant(part):
                    return _with_classes(part)
        raise DatasetError(f"Expected a split {split!r} in {source}, but it has {available}: choose another")
    for name in ("", *prefer):
        for part in labelled:
            if part.split == name:
                return part
    if len(labelled) == 1 and not prefer:
        return labelled[0]
    raise SplitError(f"Expected one split of {source}, which has {available}: name the split to take")


def _with_classes(part: Part) -> Part:
    if part.split == UNLABELLED:
        raise DatasetError(
            f"Expected class folders in {part.source}, got photos without a class: predict names the classes of such"
        )
    return part


def called(part: Part) -> str:
    """Name a split, and what the data call it where that is something else."""
    return part.split if part.shown == part.split else f"{part.split} ({part.shown})"
