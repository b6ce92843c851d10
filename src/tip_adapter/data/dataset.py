"""Labelled photos as one data set, read from a folder, an archive or a manifest."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from tip_adapter.data.class_names import check_class_names, class_name
from tip_adapter.data.files import is_file, is_folder
from tip_adapter.data.findings import Findings
from tip_adapter.data.folders import FolderReader
from tip_adapter.data.layouts import folder_parts
from tip_adapter.data.manifests import TABLE_SUFFIXES, table_parts
from tip_adapter.data.parts import Part, called, chosen_part
from tip_adapter.data.splits import AS_IT_IS, SPLITS, UNLABELLED
from tip_adapter.errors import DatasetError
from tip_adapter.typing import IntArray, StrPath


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """Image files with a class each.

    Parameters
    ----------
    paths : tuple of Path
        N image files; one in an archive is called by the archive's path and its own.
    labels : ndarray of shape (N,), intp
        Indices into `class_names`.
    class_names : tuple of str
        C different names.
    name : str
        What reports call the data set.
    findings : Findings, optional
        What was understood, passed over and skipped when it was read.
    groups : tuple of N str, optional
        What each photo belongs to, such as a burst, where the data say so; empty for one on its own.

    Raises
    ------
    DatasetError
        When the number of paths and labels differ, a label has no name, or two names are one class's.

    Examples
    --------
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from tip_adapter.data import ImageDataset
    >>> pets = ImageDataset((Path("a.jpg"), Path("b.jpg")), np.array([0, 1]), ("cat", "dog"), "pets")
    >>> len(pets), pets.subset([1]).paths[0].name
    (2, 'b.jpg')
    """

    paths: tuple[Path, ...]
    labels: IntArray
    class_names: tuple[str, ...]
    name: str
    findings: Findings = field(default_factory=Findings)
    groups: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_names", tuple(map(class_name, self.class_names)))
        check_class_names(self.class_names, self.name)
        if len(set(self.class_names)) < len(self.class_names):
            raise DatasetError(
                f"Expected different class names for {self.name}, got {', '.join(self.class_names[:20])}"
            )
        if self.labels.shape != (len(self.paths),):
            raise DatasetError(f"Expected a label for each of {len(self.paths)} images, got shape {self.labels.shape}")
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < len(self.class_names):
            got = f"{self.labels.min()} to {self.labels.max()}"
            raise DatasetError(f"Expected labels that index {len(self.class_names)} class names, got {got}")

    def __len__(self) -> int:
        return len(self.paths)

    def subset(self, indices: ArrayLike) -> ImageDataset:
        """Return the chosen images, with all class names.

        Parameters
        ----------
        indices : array-like of int, or of N booleans

        Returns
        -------
        dataset : ImageDataset
        """
        chosen = np.arange(len(self))[np.asarray(indices)]
        groups = None if self.groups is None else tuple(self.groups[i] for i in chosen)
        return replace(self, paths=tuple(self.paths[i] for i in chosen), labels=self.labels[chosen], groups=groups)


def load_dataset(
    source: StrPath,
    *,
    split: str | None = None,
    prefer: Sequence[str] = (),
    min_classes: int = 2,
    skip_bad: bool = False,
) -> ImageDataset:
    """Read which images there are and of which class, without decoding any.

    A folder, or an archive (.zip, .tar, also compressed) of one, holds one folder per class, whose name is the class's
    and whose images may lie in folders further down. It may hold such folders for each split: those that are called
    like train, validation or test, in any spelling, are taken for splits where the same classes recur in two of them.
    A manifest is a .csv, .tsv, .jsonl or .parquet file (the last with the extra ``data``) with a column of files
    (``path``, ``file_name``, ``image``, ``id`` …; relative to the manifest, or names alone), one of classes (``label``,
    ``class``, ``breed`` …, or columns of zeros and ones), and optionally ``split``; a folder may hold one beside its
    photos. Hidden files, system folders, files that are no images, and saved classifiers (``*.tip``) are passed over,
    and counted in `findings`. Links are followed, loops are not.

    Parameters
    ----------
    source : path
        A folder, an archive or a manifest.
    split : str, optional
        Which split to take, by any of its names. "none" takes folders for classes whatever they are called, and rows
        of a manifest whatever their split.
    prefer : sequence of str, optional
        Of "train", "validation" and "test", the splits to take where none is named, the first that is there.
    min_classes : int, default=2
        Fewest classes to accept. 1 is enough to evaluate.
    skip_bad : bool, default=False
        Go on without folders, rows and files that cannot be read; ``findings.skipped`` lists them.

    Returns
    -------
    dataset : ImageDataset
        Sorted by class name, then by path; the class names are those that occur in the split.

    Raises
    ------
    DatasetError
        When the source is no data set of this kind; the message names the file and what to do.
    MissingExtraError
        When a Parquet manifest is read without pyarrow.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from tip_adapter.data import load_dataset
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("cat/1.jpg", "cat/2.jpg", "dog/1.jpg"):
    ...         path = Path(folder, name)
    ...         path.parent.mkdir(exist_ok=True)
    ...         path.touch()
    ...     pets = load_dataset(folder)
    >>> pets.class_names, pets.labels.tolist()
    (('cat', 'dog'), [0, 0, 1])
    """
    path, findings = checked_path(source), Findings(skip_bad=skip_bad)
    parts = _parts(path, findings, as_it_is=split == AS_IT_IS)
    part = parts[0] if split == AS_IT_IS else chosen_part(parts, split, prefer, path)
    dataset = _loaded(part, path, findings, min_classes)
    if len(parts) > 1:
        findings.splits = f"{_described(path, dataset, parts)}; {part.split} is taken"
    return dataset


def load_splits(source: StrPath, *, min_classes: int = 2, skip_bad: bool = False) -> dict[str, ImageDataset]:
    """Read all splits of a data set, by name; the whole under an empty name where there are none."""
    path, findings = checked_path(source), Findings(skip_bad=skip_bad)
    parts = [part for part in _parts(path, findings) if part.split != UNLABELLED]
    fewest = {part.split: min_classes if part.split in ("", "train") else 1 for part in parts}
    splits = {part.split: _loaded(part, path, findings, fewest[part.split]) for part in parts}
    if len(parts) > 1:
        findings.splits = _described(path, splits.get("train") or splits[parts[0].split], parts)
    return splits


def _described(path: Path, dataset: ImageDataset, parts: Sequence[Part]) -> str:
    number = len(dataset.class_names)
    splits = " and ".join(map(called, parts))
    return f"{path}: {number} class{'es' * (number != 1)}, splits {splits}"


def is_table(source: StrPath) -> bool:
    """Tell a manifest by its name."""
    path = Path(source)
    return path.suffix.lower() in TABLE_SUFFIXES and not os.path.isdir(path)


def says_classes(source: StrPath) -> bool:
    """Tell labelled photos from photos alone: a manifest, or a folder that holds all of them in folders."""
    path = checked_path(source)
    if not is_folder(path):
        return is_table(path)
    listing = FolderReader(Findings()).listing(path)
    return bool(listing.folders) and not listing.images


def checked_path(source: StrPath) -> Path:
    """Refuse web addresses, and an empty path, which would be the current folder: a variable that is not set."""
    if not os.fspath(source):
        raise DatasetError("Expected the path of photos, got an empty one: name a folder, or . for the current one")
    if "://" in os.fspath(source):
        raise DatasetError(f"Expected the path of photos on this machine, got {source}: download them first")
    return Path(source)


def _parts(path: Path, findings: Findings, *, as_it_is: bool = False) -> list[Part]:
    """Find the parts of a data set, the usual splits in their usual order."""
    reader = FolderReader(findings)
    if is_folder(path):
        if error := reader.listing(path).error:
            raise error  # the whole of it, so that skipping would leave nothing
        parts = folder_parts(reader, path, as_it_is=as_it_is)
        return sorted(parts, key=lambda part: SPLITS.index(part.split) if part.split in SPLITS else len(SPLITS))
    if is_file(path):
        return table_parts(path, reader, one_part=as_it_is)
    raise DatasetError(
        f"Expected a folder of class folders, an archive of one or a manifest at {path}, found neither: check the path"
    )


def _loaded(part: Part, path: Path, findings: Findings, min_classes: int) -> ImageDataset:
    pairs = sorted(part.load(), key=lambda pair: (pair[0], pair[1].as_posix()))
    names = tuple(sorted({label for label, _ in pairs}))
    check_class_names(names, path)
    if len(names) < min_classes:
        found = "only " + repr(names[0]) if names else "none"
        raise DatasetError(f"Expected at least {min_classes} classes in {path}, found {found}: add images of others")
    index = {name: i for i, name in enumerate(names)}
    labels = np.array([index[label] for label, _ in pairs], dtype=np.intp)
    title = path.resolve().name + (f"/{part.split}" if part.split else "")
    paths = tuple(image for _, image in pairs)
    groups = tuple(findings.groups.get(image, "") for image in paths) if findings.groups else None
    return ImageDataset(paths, labels, names, title, findings, groups)
