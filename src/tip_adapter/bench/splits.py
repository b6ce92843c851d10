"""Find the training, validation and test parts of a folder or manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tip_adapter.data import ImageDataset
from tip_adapter.data import load_splits as load_parts
from tip_adapter.data.groups import numbered_groups
from tip_adapter.data.sampling import split_dataset
from tip_adapter.errors import DatasetError
from tip_adapter.typing import IntArray, StrPath

HALVES = (0.5, 0.5)


@dataclass(frozen=True, eq=False)
class ImageSplits:
    """Photos of one data set, in parts that share their class names."""

    name: str
    """What results call the data set."""
    train: ImageDataset
    test: ImageDataset
    """train and test: shots are drawn from `train`; nothing but the final measurement sees `test`."""
    validation: ImageDataset | None
    """Whatever the protocol "paper" tunes on."""
    class_texts: Mapping[str, tuple[str, ...]] | None = None
    """Better words for the classes than their names."""
    templates: tuple[str, ...] | None = None
    """Prompts that belong to the data set."""
    origin: str = "as given"
    """Where the parts come from, in words."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, which labels index."""
        return self.train.class_names


def load_splits(source: StrPath, *, skip_bad: bool = False) -> ImageSplits:
    """Read a folder or a manifest with the splits train and test, and perhaps validation; or one without splits.

    Without splits, half of every class's photos, always the same ones, are the test set; photos of one group stay
    together.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from tip_adapter.bench.splits import load_splits
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for path in (Path(folder, kind, f"{i}.jpg") for kind in ("cat", "dog") for i in range(4)):
    ...         path.parent.mkdir(exist_ok=True)
    ...         path.touch()
    ...     pets = load_splits(folder)
    >>> len(pets.train), len(pets.test), pets.validation, pets.origin
    (4, 4, None, 'half of every class is the test set')
    """
    path = Path(source)
    title = path.resolve().stem
    parts = load_parts(path, skip_bad=skip_bad)
    train, test = parts.get("train"), parts.get("test")
    if "" in parts:
        whole = parts[""]
        groups = None if whole.groups is None else numbered_groups(whole.groups)
        train_rows, test_rows = split_dataset(
            whole.labels, HALVES, random_state=0, class_names=whole.class_names, groups=groups
        )
        origin = "half of every class is the test set" + ", in whole groups" * (groups is not None)
        return ImageSplits(title, whole.subset(train_rows), whole.subset(test_rows), None, origin=origin)
    if train is None or test is None:
        missing = "train" if train is None else "test"
        raise DatasetError(f"Expected the splits train and test in {path}, found no {missing}: add it")
    validation = parts.get("validation")
    return ImageSplits(
        title,
        train,
        with_classes_of(train, test, path),
        None if validation is None else with_classes_of(train, validation, path),
    )


def with_classes_of(train: ImageDataset, part: ImageDataset, path: Path) -> ImageDataset:
    """Let labels index the class names of the training split."""
    unknown = sorted(set(part.class_names) - set(train.class_names))
    if unknown:
        raise DatasetError(
            f"Expected {part.name} in {path} to have the classes of train, got {', '.join(unknown[:5])} besides: add "
            "photos of them to train, or remove them"
        )
    own: IntArray = np.array([train.class_names.index(name) for name in part.class_names], dtype=np.intp)
    return replace(part, labels=own[part.labels], class_names=train.class_names)
