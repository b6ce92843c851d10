"""Turn whatever a user gives, labelled photos or words for classes, into images, numbers and names."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from tip_adapter.data import ImageDataset, is_table, load_dataset
from tip_adapter.data.class_names import name_of_label, number_labels
from tip_adapter.data.decoding import ImageSource, StoredImage, read_image_bytes
from tip_adapter.data.files import is_folder
from tip_adapter.data.frames import images_of_frame, is_frame, labelled_images_of_frame, named_labels, split_of
from tip_adapter.data.groups import GroupBy, groups_by
from tip_adapter.data.sequences import column_names, is_one_image, list_images, list_items, list_labels
from tip_adapter.data.thumbnails import make_thumbnails
from tip_adapter.errors import DatasetError, InputError
from tip_adapter.features.extraction import Extraction
from tip_adapter.features.prompts import texts_for
from tip_adapter.model.picture_archive import Thumbnails
from tip_adapter.model.shots import Shots, shot_ids
from tip_adapter.typing import IntArray


@dataclass(frozen=True)
class LabelledImages:
    """Images with a class each."""

    images: list[ImageSource]
    labels: IntArray
    """(N,) that index `class_names`."""
    class_names: tuple[str, ...]
    """C of them: sorted; as numbers where all labels are whole numbers."""
    integer_labels: bool = False
    """Whether the labels were whole numbers, which predictions are then, too."""
    skipped: tuple[tuple[str, str], ...] = ()
    """(name, reason): what could not be read when they were looked for."""
    groups: tuple[str, ...] | None = None
    """N of them: what each image belongs to; empty for one on its own."""


def labelled_images(
    data: Any, labels: Any = None, *, min_classes: int = 2, prefer: Sequence[str] = (), skip_bad: bool = False
) -> LabelledImages:
    """List images and number their classes, from a data set, a table, pairs, or images with labels.

    Of a data set on the disk that has splits, the first of those preferred is taken.
    """
    is_path = isinstance(data, str | os.PathLike)
    brings_labels = is_folder(Path(data)) or is_table(data) if is_path else isinstance(data, ImageDataset)
    if labels is not None and brings_labels:
        raise InputError("Labels were given twice: a data set brings its own")
    if labels is None and is_path:
        data = load_dataset(data, min_classes=min_classes, prefer=prefer, skip_bad=skip_bad)
    if isinstance(data, ImageDataset):
        skipped = tuple(data.findings.skipped)
        return LabelledImages(list(data.paths), data.labels, data.class_names, skipped=skipped, groups=data.groups)
    images, values = _labelled(data, prefer) if labels is None else (images_of(data), list_labels(labels))
    if len(values) != len(images):
        raise InputError(f"Expected a label for each of the {len(images)} images, got {len(values)}")
    if not images:
        raise InputError("Expected at least one image, got none")
    numbers, names = number_labels(values)
    if len(names) < min_classes:
        raise DatasetError(f"Expected at least {min_classes} classes, got {len(names)}: add photos of another class")
    return LabelledImages(images, numbers, names, integer_labels=not isinstance(values[0], str))


def grouped(photos: LabelledImages, by: Iterable[Any] | GroupBy | None) -> LabelledImages:
    """Say what each photo belongs to; without a word, what its table says."""
    if by is None or by == "duplicates":
        return photos if by is None else replace(photos, groups=None)
    if isinstance(by, str):
        return replace(photos, groups=groups_by(by, photos.images))
    return replace(photos, groups=named_groups(by, len(photos.images)))


def named_groups(groups: Iterable[Any], count: int) -> tuple[str, ...]:
    """Name the group of every image; empty where it is missing."""
    names = tuple(name_of_label(name) for name in list_items(groups, "groups"))
    if len(names) != count:
        raise InputError(f"Expected a group for each of the {count} images, got {len(names)}")
    return names


def images_of(data: Any) -> list[ImageSource]:
    """List the images of a data set, of a table's column of images, of a sequence, or one alone."""
    if isinstance(data, ImageDataset):
        return list(data.paths)
    return images_of_frame(data) if is_frame(data) else list_images(data)


def _labelled(data: Any, prefer: Sequence[str]) -> tuple[list[ImageSource], list[Any]]:
    """Take labelled images apart: columns of a table, or pairs."""
    data = split_of(data, prefer)
    if _is_indexed(data):
        return _indexed_pairs(data)
    items = data if is_frame(data) or is_one_image(data) else list_items(data, "images")
    if is_frame(items):
        return labelled_images_of_frame(items, prefer)
    if not isinstance(items, list) or not all(isinstance(item, tuple | list) and len(item) == 2 for item in items):
        raise InputError(
            f"Expected a label for each of the {len(items) if isinstance(items, list) else 1} images, got none: give "
            "labels, (image, label) pairs, or a table with both"
        )
    labels = list_labels([label for _, label in items])
    return list_images([image for image, _ in items]), named_labels(labels, getattr(data, "classes", None))


def _is_indexed(data: Any) -> bool:
    """Tell a data set of torch, which gives (image, label) by index alone, from sequences."""
    kind = type(data)
    indexed = hasattr(kind, "__getitem__") and hasattr(kind, "__len__") and not hasattr(kind, "__iter__")
    return indexed and column_names(data) is None


def _indexed_pairs(data: Any) -> tuple[list[ImageSource], list[Any]]:
    """Take a data set apart; its images, which may be more than the memory holds, are read when they are wanted."""
    count = len(data)
    targets = getattr(data, "targets", None)
    first = data[0] if count else (None, None)
    if not (isinstance(first, tuple | list) and len(first) == 2):
        raise InputError(f"Expected (image, label) from every index of a {type(data).__name__}, got something else")
    values = targets if targets is not None and len(targets) == count else [data[row][1] for row in range(count)]
    images = [StoredImage(partial(_bytes_at, data, row), f"image {row}") for row in range(count)]
    # The data sets of torchvision name their classes.
    return list(images), named_labels(list_labels(values), getattr(data, "classes", None))


def _bytes_at(data: Any, row: int) -> bytes:
    return read_image_bytes(list_images([data[row][0]])[0])


def check_classes_left(numbers: IntArray, kept: IntArray, names: Sequence[str]) -> None:
    """Refuse to go on without a class whose photos were all left out as bad."""
    lost = np.setdiff1d(numbers, numbers[kept])
    if lost.size:
        raise DatasetError(f"Expected a readable photo of every class, got none of {names[lost[0]]!r}: add some")


def words_of(
    names: Sequence[str], texts: Mapping[Any, str | Sequence[str]] | Literal["none"] | None
) -> tuple[tuple[str, ...], ...]:
    """Texts of every class; none at all where "none" was asked for."""
    return ((),) * len(names) if texts == "none" else texts_for(names, as_tuples(texts))


def as_tuples(texts: Mapping[Any, str | Sequence[str]] | None) -> dict[Any, tuple[str, ...]] | None:
    """Words for classes, with one text alone as a tuple of one."""
    if texts is None:
        return None
    return {name: (value,) if isinstance(value, str) else tuple(value) for name, value in texts.items()}


@dataclass(frozen=True)
class EncodedPhotos:
    """Photos that can become shots: all that takes long is done."""

    extraction: Extraction
    pictures: list[bytes]
    """Thumbnails of the photos that were kept."""

    @classmethod
    def of(cls, extraction: Extraction, images: Sequence[ImageSource]) -> Self:
        """Add the thumbnails to what was encoded of some images."""
        return cls(extraction, make_thumbnails([images[index] for index in extraction.kept]))

    def subset(self, rows: list[int]) -> Self:
        """Take some of the photos that were kept."""
        whole = self.extraction
        extraction = Extraction(whole.features.subset(rows), whole.kept[rows], whole.skipped)
        return replace(self, extraction=extraction, pictures=[self.pictures[row] for row in rows])


def new_shots(
    photos: EncodedPhotos,
    numbers: IntArray,
    taken: Sequence[str] = (),
    *,
    keep_views: bool,
    groups: Sequence[str] = (),
) -> Shots:
    """Make shots of encoded photos, sorted by class as the photos were; `taken` are ids of other shots."""
    kept, several = photos.extraction.kept, photos.extraction.features
    # What is fitted again to the mean of the views alone needs V times less to be saved.
    features = several if keep_views else several.averaged()
    ids = shot_ids(several.digests, taken)
    thumbnails = Thumbnails(dict(zip(ids, photos.pictures, strict=True)))
    return Shots(features, numbers[kept], ids, thumbnails, tuple(groups[index] for index in kept) if groups else ())
