"""Whatever a user gives a classifier, labelled photos or words for classes, in; images, numbers and names out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np

from tip_adapter.data import ImageDataset, load_dataset
from tip_adapter.data.class_names import number_labels
from tip_adapter.data.decoding import ImageSource
from tip_adapter.data.thumbnails import make_thumbnails
from tip_adapter.errors import DatasetError, InputError
from tip_adapter.features.extraction import Extraction
from tip_adapter.model.picture_archive import Thumbnails
from tip_adapter.model.shots import Shots, shot_ids
from tip_adapter.typing import IntArray, StrPath

__all__ = ["as_tuples", "check_classes_left", "labelled_images", "new_shots", "path_of"]


def path_of(source: ImageSource, name: str) -> str:
    """Call a photo by its path, or by its name where it has none."""
    return os.fspath(source) if isinstance(source, str | os.PathLike) else name


def labelled_images(
    data: StrPath | ImageDataset | Sequence[ImageSource], labels: Sequence[str] | None, *, min_classes: int = 2
) -> tuple[Sequence[ImageSource], IntArray, tuple[str, ...]]:
    """Images, class numbers and class names of whatever a user gives."""
    if isinstance(data, str | os.PathLike):
        data = load_dataset(data, min_classes=min_classes)
    if isinstance(data, ImageDataset):
        if labels is not None:
            raise InputError("Labels were given twice: a data set brings its own.")
        return data.paths, data.labels, data.class_names
    if labels is None or len(labels) != len(data):
        got = "none" if labels is None else f"{len(labels)}"
        raise InputError(f"Expected a label for each of the {len(data)} images, got {got}.")
    numbers, names = number_labels(labels)
    if len(names) < min_classes:
        raise DatasetError(f"Expected at least {min_classes} classes, got {len(names)}: add photos of another class.")
    return data, numbers, names


def check_classes_left(numbers: IntArray, kept: IntArray, names: Sequence[str]) -> None:
    """Refuse to go on without a class whose photos were all left out as bad."""
    lost = np.setdiff1d(numbers, numbers[kept])
    if lost.size:
        raise DatasetError(f"Expected a readable photo of every class, got none of {names[lost[0]]!r}: add some.")


def as_tuples(texts: Mapping[str, str | Sequence[str]] | None) -> dict[str, tuple[str, ...]] | None:
    """Words for classes, with one text alone as a tuple of one."""
    if texts is None:
        return None
    return {name: (value,) if isinstance(value, str) else tuple(value) for name, value in texts.items()}


def new_shots(
    extraction: Extraction,
    images: Sequence[ImageSource],
    numbers: IntArray,
    taken: Sequence[str] = (),
    *,
    keep_views: bool,
) -> Shots:
    """Make shots of encoded photos, sorted by class as the photos were; `taken` are ids of other shots."""
    kept, several = extraction.kept, extraction.features
    # What is fitted again to the mean of the views alone needs V times less to be saved.
    features = several if keep_views else several.averaged()
    ids = shot_ids(several.digests, taken)
    pictures = make_thumbnails([images[index] for index in kept])
    thumbnails = Thumbnails(dict(zip(ids, pictures, strict=True)))
    return Shots(features, numbers[kept], ids, thumbnails)
