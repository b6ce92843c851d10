"""A folder of class folders or a manifest goes in; image paths with their labels and class names come out."""

from __future__ import annotations

import glob
import os
import unicodedata
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tip_adapter.data.manifests import Row, read_manifest
from tip_adapter.errors import DatasetError
from tip_adapter.typing import IntArray, StrPath

__all__ = ["IMAGE_SUFFIXES", "ImageDataset", "find_images", "load_dataset"]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")

_UNREADABLE_SUFFIXES = (
    ".heic",
    ".heif",
    ".avif",
    ".jxl",
    ".jp2",
)  # photos all the same: not to be passed over in silence
_SPLITS = {"train": "train", "validation": "validation", "val": "validation", "valid": "validation", "test": "test"}
_IGNORED_FOLDERS = ("__MACOSX", "@eaDir", "$RECYCLE.BIN")


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """Image files with a class each.

    Parameters
    ----------
    paths : tuple of Path
        N image files.
    labels : ndarray of shape (N,), intp
        Indices into `class_names`.
    class_names : tuple of str
        C different names.
    name : str
        What reports call the data set.

    Raises
    ------
    DatasetError
        When the number of paths and labels differ, or a label has no name.

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

    def __post_init__(self) -> None:
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
        return ImageDataset(tuple(self.paths[i] for i in chosen), self.labels[chosen], self.class_names, self.name)


def load_dataset(source: StrPath, *, split: str | None = None, min_classes: int = 2) -> ImageDataset:
    """Read which images there are and of which class, without opening any.

    A folder holds one folder per class, whose name is the class's and whose images may lie in folders further down; or
    it holds such folders for train, validation (val, valid) and test. A manifest is a .csv, .jsonl or .parquet file
    (the last with the extra ``data``) with the columns ``path`` (relative to the manifest), ``label``, and optionally
    ``split``. Hidden files, files that are no images, and saved classifiers (``*.tip``) are passed over. Links are
    followed, loops are not.

    Parameters
    ----------
    source : path
        A folder or manifest.
    split : str, optional
        Which split to take; needed where there are several.
    min_classes : int, default=2
        Fewest classes to accept. 1 is enough to evaluate.

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
    path = Path(source)
    if os.path.isdir(path):
        pairs = _read_folder(path, split)
    elif os.path.isfile(path):
        pairs = _read_manifest(path, split)
    else:
        raise DatasetError(f"Expected a folder of class folders or a manifest at {path}, found neither: check the path")
    names = _checked_classes({label for label, _ in pairs}, path, min_classes)
    index = {name: i for i, name in enumerate(names)}
    pairs.sort(key=lambda pair: (pair[0], pair[1].as_posix()))
    labels = np.array([index[label] for label, _ in pairs], dtype=np.intp)
    title = path.resolve().name + (f"/{split}" if split else "")
    return ImageDataset(tuple(image for _, image in pairs), labels, names, title)


def find_images(sources: Iterable[StrPath]) -> list[Path]:
    """List the images that files, folders and patterns stand for.

    Parameters
    ----------
    sources : iterable of paths
        Files, whatever their suffix; folders, searched to any depth for image suffixes; and patterns with ``*``, ``?``,
        ``[...]`` and ``**``, for shells that leave them alone. A folder that matches a pattern is searched too.

    Returns
    -------
    paths : list of Path
        In the order of the sources, sorted within each, each file once.

    Raises
    ------
    DatasetError
        When a source stands for no image.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from tip_adapter.data import find_images
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("b.jpg", "a.png", "notes.txt"):
    ...         Path(folder, name).touch()
    ...     [path.name for path in find_images([folder, f"{folder}/*.jpg"])]
    ['a.png', 'b.jpg']
    """
    found: dict[str, Path] = {}
    for source in [sources] if isinstance(sources, str | os.PathLike) else sources:
        images = _images_at(Path(source))
        if not images:
            raise DatasetError(f"Expected images at {source}, found none: check the path or pattern")
        for image in images:
            found.setdefault(os.path.abspath(image), image)
    if not found:
        raise DatasetError("Expected at least one file, folder or pattern of images, got none: name one")
    return list(found.values())


def _images_at(path: Path) -> list[Path]:
    if os.path.isdir(path):
        return _images_below(path)
    if os.path.lexists(path):
        return [path]
    parts = path.parts
    fixed = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    root = Path(*parts[:fixed])
    if fixed == len(parts) or not os.path.isdir(root):
        return []
    try:
        matches = sorted(root.glob(os.path.join(*parts[fixed:])), key=Path.as_posix)  # follows no links below **
    except (ValueError, OSError) as error:
        raise DatasetError(f"Expected a pattern of image files, got {path} ({error}): correct it") from error
    visible = [match for match in matches if not any(map(_is_ignored, match.relative_to(root).parts))]
    visible = [match for match in visible if not any(map(_is_saved_classifier, (match, *match.parents)))]
    folders = [image for match in visible if os.path.isdir(match) for image in _images_below(match)]
    return folders + [match for match in visible if not os.path.isdir(match) and _is_image(match)]


def _images_below(folder: Path) -> list[Path]:
    """List the images in a folder and below, sorted, entering each real folder once and none of its own parents."""
    start = Path(os.path.realpath(folder))
    entered = {*map(os.path.realpath, folder.absolute().parents), *map(str, start.parents)}
    waiting, images = deque([folder]), []
    while waiting:
        current = waiting.popleft()  # nearest first, so that of several ways to a folder the shortest is shown
        real = os.path.realpath(current)
        if real in entered:
            continue
        entered.add(real)
        for child in _children(current):
            if os.path.isdir(child):
                waiting.append(child)
            elif _is_image(child):
                images.append(child)
    return sorted(images, key=Path.as_posix)


def _children(folder: Path) -> list[Path]:
    """List what a folder holds, sorted by name, without hidden entries."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise DatasetError(
            f"Expected a readable folder at {folder}, got: {error.strerror}: change its access"
        ) from error
    children = [folder / name for name in names if not _is_ignored(name)]
    return [child for child in children if not _is_saved_classifier(child)]


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or name in _IGNORED_FOLDERS


def _is_saved_classifier(path: Path) -> bool:
    """Tell a saved classifier, which holds pictures of its shots and often lies beside the photos."""
    return path.suffix == ".tip" and os.path.isfile(path / "config.json")


def _is_image(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix in _UNREADABLE_SUFFIXES:
        raise DatasetError(f"Expected images in JPEG, PNG, WebP, GIF, BMP or TIFF, got {path}: convert or remove it")
    return suffix in IMAGE_SUFFIXES


def _read_folder(folder: Path, split: str | None) -> list[tuple[str, Path]]:
    splits = _splits_of(folder)
    if split is not None:
        folder = splits[_chosen_split(split, list(splits), folder)]
    elif splits:
        raise DatasetError(f"Expected one split of {folder}, which has {', '.join(splits)}: name the split to take")
    children = _children(folder)
    classes = [child for child in children if os.path.isdir(child)]
    loose = [child for child in children if child not in classes and _is_image(child)]
    if loose:
        got = f"{loose[0].name} and {len(loose) - 1} more images" if len(loose) > 1 else loose[0].name
        raise DatasetError(
            f"Expected only class folders in {folder}, got {got}: move them into a folder of their class"
        )
    if not classes:
        raise DatasetError(f"Expected one folder per class in {folder}, found none: sort the images into class folders")
    return [(_class_name(child.name), image) for child in classes for image in _class_images(child)]


def _class_images(folder: Path) -> list[Path]:
    images = _images_below(folder)
    if not images:
        raise DatasetError(f"Expected images in the class folder {folder}, found none: add some or remove the folder")
    return images


def _class_name(text: str) -> str:
    return unicodedata.normalize("NFC", text)  # file systems differ in how they store accents


def _splits_of(folder: Path) -> dict[str, Path]:
    """Find split folders: those of a split's name that hold folders but no images, unlike a class named "train"."""
    splits: dict[str, Path] = {}
    for child in _children(folder):
        split = _SPLITS.get(child.name.lower())
        if split is None or not os.path.isdir(child):
            continue
        inside = _children(child)
        if any(map(os.path.isdir, inside)) and not any(_is_image(path) for path in inside if not os.path.isdir(path)):
            if split in splits:
                both = f"{splits[split].name} and {child.name}"
                raise DatasetError(f"Expected one {split} folder in {folder}, got {both}: merge or rename them")
            splits[split] = child
    return splits


def _same_split(name: str, other: str) -> bool:
    return _SPLITS.get(name.lower(), name) == _SPLITS.get(other.lower(), other)


def _chosen_split(split: str, available: list[str], source: Path) -> str:
    """Return which of the available names a split means, so that val finds validation."""
    for name in available:
        if _same_split(name, split):
            return name
    listed = f"it has {', '.join(available)}" if available else "it is not split"
    raise DatasetError(f"Expected a split {split!r} in {source}, but {listed}: choose another")


def _checked_classes(labels: set[str], source: Path, min_classes: int) -> tuple[str, ...]:
    names = tuple(sorted(labels))
    by_folded: dict[str, str] = {}
    for name in names:
        if any("\ud800" <= letter <= "\udfff" for letter in name):  # bytes of a folder's name that are no UTF-8
            raise DatasetError(f"Expected class names in {source} to be UTF-8 text, got {name!r}: rename the folder")
        other = by_folded.setdefault(name.casefold(), name)
        if other != name:
            raise DatasetError(
                f"Expected class names in {source} to differ in more than case, got {other!r} and {name!r}: "
                "merge or rename them"
            )
    if len(names) < min_classes:
        found = "only " + repr(names[0]) if names else "none"
        raise DatasetError(f"Expected at least {min_classes} classes in {source}, found {found}: add images of others")
    return names


def _read_manifest(path: Path, split: str | None) -> list[tuple[str, Path]]:
    labels: dict[Path, str] = {}
    pairs = []
    for number, row in _rows_of_split(read_manifest(path), split, path):
        label, image = _label_of(row, number, path), _image_of(row, number, path)
        if labels.setdefault(image, label) != label:
            both = f"{labels[image]!r} and {label!r}"
            raise DatasetError(
                f"Expected one label for {row['path']} in {path}, got {both} in row {number}: correct one"
            )
        pairs.append((label, image))
    return pairs


def _rows_of_split(rows: list[Row], split: str | None, path: Path) -> list[Row]:
    values = [str(row.get("split") or "") for _, row in rows]
    splits = sorted(set(values) - {""})
    if split is not None:
        wanted = _chosen_split(split, splits, path)
        return [row for row, value in zip(rows, values, strict=True) if _same_split(value, wanted)]
    if len(splits) > 1:
        raise DatasetError(f"Expected one split of {path}, which has {', '.join(splits)}: name the split to take")
    return rows


def _label_of(row: dict[str, Any], number: int, path: Path) -> str:
    label = row.get("label")
    named = isinstance(label, str | int) and not isinstance(label, bool)
    text = _class_name(str(label).strip()) if named else ""
    if not text:
        raise DatasetError(f"Expected a label in row {number} of {path}, got {label!r}: fill it in or remove the row")
    return text


def _image_of(row: dict[str, Any], number: int, path: Path) -> Path:
    value = row.get("path")
    if not isinstance(value, str) or not value.strip():
        raise DatasetError(f"Expected a path in row {number} of {path}, got {value!r}: fill it in or remove the row")
    image = path.parent / value
    if not os.path.isfile(image):
        raise DatasetError(
            f"Expected an image at {image} (row {number} of {path}), found none: correct or remove the row"
        )
    return image
