"""The eleven standard data sets of the few-shot literature, with their official splits."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tip_adapter.bench.splits import ImageSplits
from tip_adapter.data import ImageDataset, load_dataset
from tip_adapter.errors import DatasetError, InputError
from tip_adapter.features.prompts import TEMPLATES
from tip_adapter.storage.json_files import read_json
from tip_adapter.typing import StrPath


@dataclass(frozen=True)
class StandardDataset:
    """Where a data set of the literature keeps its photos, class names and official split."""

    title: str
    """Its name in papers."""
    folder: str
    """Under the root."""
    images: str
    """Folder of the photos in `folder`, which paths in the split file are relative to."""
    split: str
    """File in `folder` that says which photos there are: for "json" lists of [path, label, class name] for train, val
    and test; for "imagenet" lines of a folder and its class name; for "aircraft" the list of variants."""
    templates: tuple[str, ...]
    """As the papers on few-shot adaptation use them."""
    layout: Literal["json", "imagenet", "aircraft"] = "json"
    other_name: str = ""
    """The name CLIP_benchmark has for it, in files of class names and templates."""


STANDARD_DATASETS: dict[str, StandardDataset] = {
    "imagenet": StandardDataset(
        "ImageNet", "imagenet", "images", "classnames.txt", TEMPLATES["ensemble"], "imagenet", "imagenet1k"
    ),
    "caltech101": StandardDataset(
        "Caltech101", "caltech-101", "101_ObjectCategories", "split_zhou_Caltech101.json", ("a photo of a {}.",)
    ),
    "oxford_pets": StandardDataset(
        "OxfordPets",
        "oxford_pets",
        "images",
        "split_zhou_OxfordPets.json",
        ("a photo of a {}, a type of pet.",),
        other_name="pets",
    ),
    "stanford_cars": StandardDataset(
        "StanfordCars", "stanford_cars", ".", "split_zhou_StanfordCars.json", ("a photo of a {}.",), other_name="cars"
    ),
    "oxford_flowers": StandardDataset(
        "Flowers102",
        "oxford_flowers",
        "jpg",
        "split_zhou_OxfordFlowers.json",
        ("a photo of a {}, a type of flower.",),
        other_name="flowers",
    ),
    "food101": StandardDataset(
        "Food101", "food-101", "images", "split_zhou_Food101.json", ("a photo of {}, a type of food.",)
    ),
    "fgvc_aircraft": StandardDataset(
        "FGVCAircraft",
        "fgvc_aircraft",
        "images",
        "variants.txt",
        ("a photo of a {}, a type of aircraft.",),
        "aircraft",
    ),
    "sun397": StandardDataset("SUN397", "sun397", "SUN397", "split_zhou_SUN397.json", ("a photo of a {}.",)),
    "dtd": StandardDataset("DTD", "dtd", "images", "split_zhou_DescribableTextures.json", ("{} texture.",)),
    "eurosat": StandardDataset(
        "EuroSAT", "eurosat", "2750", "split_zhou_EuroSAT.json", ("a centered satellite photo of {}.",)
    ),
    "ucf101": StandardDataset(
        "UCF101", "ucf101", "UCF-101-midframes", "split_zhou_UCF101.json", ("a photo of a person doing {}.",)
    ),
}
"""Layouts, official splits and prompts of Zhou et al., "Learning to Prompt for Vision-Language Models", IJCV 2022.

ImageNet's prompts are the seven of Radford et al. (2021), as Tip-Adapter uses them, and its validation photos are the
test set, so that it has no validation split.
"""


def standard_name(name: str) -> str | None:
    """Find the standard data set that a name means, whatever its case and hyphens.

    Examples
    --------
    >>> from tip_adapter.bench.standard import standard_name
    >>> standard_name("Stanford-Cars"), standard_name("Flowers102"), standard_name("clothes")
    ('stanford_cars', 'oxford_flowers', None)
    """
    wanted = _plain(name)
    for key, dataset in STANDARD_DATASETS.items():
        if wanted in {_plain(key), _plain(dataset.title)}:
            return key
    return None


def _plain(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())


def load_standard(name: str, root: StrPath) -> ImageSplits:
    """Read the official splits of a standard data set."""
    key = standard_name(name)
    if key is None:
        raise InputError(f"Unknown data set {name!r}: choose one of {', '.join(STANDARD_DATASETS)}")
    dataset = STANDARD_DATASETS[key]
    folder = Path(root) / dataset.folder
    read = {"json": _read_json, "imagenet": _read_imagenet, "aircraft": _read_aircraft}[dataset.layout]
    _require(dataset, folder / dataset.split, Path(root))
    _require(dataset, folder / dataset.images, Path(root))
    return read(key, dataset, folder)


def _require(dataset: StandardDataset, path: Path, root: Path) -> None:
    if path.exists():
        return
    besides = {
        "json": f"and the split {dataset.split} of CoOp beside it",
        "imagenet": "(train/ and val/, one folder per class) and CoOp's classnames.txt beside it",
        "aircraft": "with variants.txt and images_variant_train.txt, …_val.txt, …_test.txt (from its data/) beside it",
    }[dataset.layout]
    photos = root / dataset.folder / dataset.images
    raise DatasetError(f"{dataset.title} needs {path}, which is missing: put its photos into {photos}, {besides}")


Item = tuple[str, int, str]


def _read_json(key: str, dataset: StandardDataset, folder: Path) -> ImageSplits:
    path = folder / dataset.split
    try:
        content: Any = read_json(path)
        parts = {
            part: [(str(image), int(label), str(name)) for image, label, name in content[part]]
            for part in ("train", "val", "test")
        }
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise DatasetError(
            f"Expected lists of [path, label, class name] for train, val and test in {path}, got something else "
            f"({type(error).__name__}: {error}): download it again"
        ) from error
    return _splits(key, dataset, folder / dataset.images, parts, f"official split {dataset.split}")


def _read_aircraft(key: str, dataset: StandardDataset, folder: Path) -> ImageSplits:
    variants = _lines(folder / dataset.split)
    labels = {variant: label for label, variant in enumerate(variants)}
    parts: dict[str, list[Item]] = {}
    for part in ("train", "val", "test"):
        path = folder / f"images_variant_{part}.txt"
        _require(dataset, path, folder.parent)
        rows = [line.split(" ", 1) for line in _lines(path)]
        unknown = [row for row in rows if len(row) != 2 or row[1] not in labels]
        if unknown:
            raise DatasetError(
                f"Expected lines of an image and its variant in {path}, got {' '.join(unknown[0])!r}: download it again"
            )
        parts[part] = [(f"{image}.jpg", labels[variant], variant) for image, variant in rows]
    return _splits(key, dataset, folder / dataset.images, parts, "official variant splits")


def _read_imagenet(key: str, dataset: StandardDataset, folder: Path) -> ImageSplits:
    path = folder / dataset.split
    named = dict(line.split(" ", 1) for line in _lines(path) if " " in line)
    parts = []
    for part in ("train", "val"):
        _require(dataset, folder / dataset.images / part, folder.parent)
        parts.append(load_dataset(folder / dataset.images / part))
    train, test = parts
    unnamed = sorted({*train.class_names, *test.class_names} - set(named))
    if unnamed or train.class_names != test.class_names:
        what = f"no name for {unnamed[0]} in {path}" if unnamed else "different class folders"
        raise DatasetError(f"Expected the same named classes in train and val of {folder}, got {what}: complete them")
    texts = {name: (named[name],) for name in train.class_names}
    origin = "official training photos; official validation photos as the test set"
    return ImageSplits(key, train, test, None, texts, dataset.templates, origin)


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _splits(key: str, dataset: StandardDataset, images: Path, parts: dict[str, list[Item]], origin: str) -> ImageSplits:
    names = _names_of_labels([item for items in parts.values() for item in items], dataset)
    loaded = {part: _dataset(items, names, images, f"{key}/{part}", dataset) for part, items in parts.items()}
    validation = loaded["val"] if len(loaded["val"]) else None
    return ImageSplits(key, loaded["train"], loaded["test"], validation, templates=dataset.templates, origin=origin)


def _names_of_labels(items: list[Item], dataset: StandardDataset) -> tuple[str, ...]:
    by_label = {label: name for _, label, name in items}
    if sorted(by_label) != list(range(len(by_label))):
        raise DatasetError(f"Expected labels from 0 without gaps in the split of {dataset.title}, got others")
    return tuple(by_label[label] for label in range(len(by_label)))


def _dataset(
    items: list[Item], names: tuple[str, ...], images: Path, title: str, dataset: StandardDataset
) -> ImageDataset:
    paths = tuple(images / image for image, _, _ in items)
    missing = [path for path in paths if not os.path.isfile(path)]
    if missing:
        raise DatasetError(
            f"{dataset.title} needs {missing[0]} and {len(missing) - 1} more photos that its split names: put the "
            f"photos into {images}"
        )
    return ImageDataset(paths, np.array([label for _, label, _ in items], dtype=np.intp), names, title)
