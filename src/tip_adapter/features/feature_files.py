"""Save the features of a data set as one .npz file, which `fit` learns from and `bench` measures on, and read it."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import ArrayLike

from tip_adapter.data.sampling import split_dataset
from tip_adapter.errors import DatasetError, FeatureError, InputError
from tip_adapter.features.feature_data import DEFAULT_LOGIT_SCALE, FeatureData, Part, check_part
from tip_adapter.features.feature_shards import is_feature_shards, load_feature_shards, read_feature_shards
from tip_adapter.features.npz import Arrays, read_arrays
from tip_adapter.storage.atomic import write_file
from tip_adapter.storage.strict_json import parse_json
from tip_adapter.typing import Float32Array, FloatArray, StrPath

NORM_TOLERANCE = 1e-3
"""Rows of float16 are this close to unit length; they are taken as they are, as every method takes them."""

HALVES = (0.5, 0.5)
"""How photos without test photos among them are divided, to learn from and to test on."""


def load_feature_file(path: StrPath, *, name: str | None = None) -> FeatureData:
    """Read a data set of saved features; docs/benchmark.md lists its arrays.

    Parameters
    ----------
    path : path-like
        A .npz file of NumPy, where objects (pickle) are refused; or what ``embed`` wrote as Parquet.
    name : str, optional
        Default: the name of the file.

    Raises
    ------
    DatasetError
        When the file is missing or damaged, or lacks an array, or labels do not fit.
    FeatureError
        When features have the wrong shape, or hold NaN.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> from tip_adapter.features.feature_data import FeatureData, Part
    >>> from tip_adapter.features.feature_files import load_feature_file, save_feature_file
    >>> eye = np.eye(2, dtype=np.float32)
    >>> pets = FeatureData("pets", ("cat", "dog"), Part(eye, np.arange(2)), eye, supports={1: Part(eye, np.arange(2))})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "pets.npz"
    ...     save_feature_file(path, pets)
    ...     load_feature_file(path).digest == pets.digest
    True
    """
    path = Path(path)
    if path.suffix.lower() != ".npz":
        return load_feature_shards(path, name=name)
    arrays = read_arrays(path)
    names = _class_names(arrays, path)
    parts = {what: _read_part(arrays, what, path) for what in ("validation", "train") if f"{what}_features" in arrays}
    description = _read_description(arrays, path)
    if "test_features" not in arrays and "train" in parts:
        whole = parts["train"]
        groups = whole.group_numbers
        train, test = split_dataset(whole.labels, HALVES, random_state=0, class_names=names, groups=groups)
        parts |= {"test": parts["train"].subset(test), "train": parts["train"].subset(train)}
        description |= {"origin": "half of every class is the test set" + ", in whole groups" * (groups is not None)}
    else:
        parts["test"] = _read_part(arrays, "test", path)
    return FeatureData(
        name or path.stem,
        names,
        parts["test"],
        _read_weights(arrays, path),
        float(_scalar(arrays, "logit_scale", path, DEFAULT_LOGIT_SCALE)),
        parts.get("validation"),
        {number: _read_part(arrays, f"support_{number}", path) for number in _shots(arrays)},
        parts.get("train"),
        description,
        _read_prompts(arrays, path),
    )


@dataclass(frozen=True, eq=False)
class TrainingFeatures:
    """What a classifier learns from: the photos to train on, the texts, and where the features come from."""

    class_names: tuple[str, ...]
    part: Part
    zero_shot_weights: Float32Array | None
    logit_scale: float
    description: Mapping[str, Any]


def load_training_features(path: StrPath) -> TrainingFeatures:
    """Read the photos to learn from, all of them: the split train, else the largest support set."""
    path = Path(path)
    if path.suffix.lower() != ".npz":
        class_names, part, logit_scale, about = read_feature_shards(path)
        return TrainingFeatures(class_names, part, None, logit_scale, about)
    arrays = read_arrays(path)
    names, shots = _class_names(arrays, path), _shots(arrays)
    what = f"support_{max(shots)}" if shots and "train_features" not in arrays else "train"
    part, weights = _read_part(arrays, what, path), _read_weights(arrays, path)
    size = (len(names), part.features.shape[1])
    check_part(part, what, path.stem, size)
    if weights is not None and weights.shape != size:
        raise FeatureError(f"Expected zero_shot_weights of shape {size} in {path}, got {weights.shape}")
    scale = float(_scalar(arrays, "logit_scale", path, DEFAULT_LOGIT_SCALE))
    return TrainingFeatures(names, part, weights, scale, _read_description(arrays, path))


def load_test_features(path: StrPath) -> tuple[tuple[str, ...], Part, Mapping[str, Any]]:
    """Read class names, photos to measure a classifier on (the split test, or all of Parquet), and the description."""
    if Path(path).suffix.lower() != ".npz":
        class_names, part, _, about = read_feature_shards(path)
        return class_names, part, about
    data = load_feature_file(path)
    return data.class_names, data.test, data.description


def save_feature_file(path: StrPath, data: FeatureData) -> None:
    """Save features as a data set that `tip-adapter bench` reads, whole or not at all.

    Parameters
    ----------
    path : path-like
        Ends in .npz.
    data : FeatureData

    Raises
    ------
    InputError
        When the ending is another.
    TipAdapterError
        When the file cannot be written or the disk is full.
    """
    save_parts(
        path,
        data.class_names,
        data.parts(),
        zero_shot_weights=data.zero_shot_weights,
        logit_scale=data.logit_scale,
        description=data.description,
        prompt_features=data.prompt_features,
    )


def save_parts(
    path: StrPath,
    class_names: Sequence[str],
    parts: Mapping[str, Part],
    *,
    zero_shot_weights: Float32Array | None = None,
    logit_scale: float = DEFAULT_LOGIT_SCALE,
    description: Mapping[str, Any] | None = None,
    prompt_features: Float32Array | None = None,
) -> None:
    """Save parts by their names, such as train and test; without test photos, `load_feature_file` halves the others."""
    path = check_feature_path(path)
    arrays: dict[str, Any] = {"class_names": np.array(class_names), "logit_scale": np.float64(logit_scale)}
    if description:
        arrays["description"] = np.array(json.dumps(dict(description), sort_keys=True))
    if zero_shot_weights is not None:
        arrays["zero_shot_weights"] = zero_shot_weights
    if prompt_features is not None:
        arrays["prompt_features"] = prompt_features
    for name, part in parts.items():
        given: dict[str, Any] = {"features": part.features, "labels": part.labels.astype(np.int32)}
        given |= {"views": part.views, "names": part.names, "digests": part.digests, "groups": part.groups}
        arrays |= {f"{name}_{what}": np.asarray(values) for what, values in given.items() if values is not None}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_file(path, buffer.getvalue())


def is_feature_file(source: object) -> TypeGuard[StrPath]:
    """Tell saved features from photos: a .npz file, or Parquet with features."""
    if not isinstance(source, str | os.PathLike):
        return False
    return Path(source).suffix.lower() == ".npz" or is_feature_shards(Path(source))


def check_feature_path(path: StrPath) -> Path:
    """Refuse a path that features cannot be saved at, before they are made."""
    if Path(path).suffix != ".npz":
        raise InputError(f"Expected a file ending in .npz, got {path}: rename it")
    return Path(path)


def _class_names(arrays: Arrays, path: Path) -> tuple[str, ...]:
    return _texts(_required(arrays, "class_names", path), "class_names", path)


def _texts(array: np.ndarray[Any, Any], key: str, path: Path) -> tuple[str, ...]:
    if array.ndim != 1 or array.dtype.kind != "U":
        raise DatasetError(f"Expected {key} as text in one dimension in {path}, got {array.dtype} {array.shape}")
    return tuple(array.tolist())


def _shots(arrays: Arrays) -> list[int]:
    return sorted(int(key.split("_")[1]) for key in arrays if _is_support(key))


def _read_weights(arrays: Arrays, path: Path) -> Float32Array | None:
    weights = arrays.get("zero_shot_weights")
    return None if weights is None else _unit(_checked(weights, "zero_shot_weights", path, ndim=2))


def _read_prompts(arrays: Arrays, path: Path) -> Float32Array | None:
    """Features of every prompt; rows of NaN, and nothing else that is not finite, fill up classes with fewer."""
    prompts = arrays.get("prompt_features")
    if prompts is None:
        return None
    known = ~np.isnan(prompts[..., 0]) if prompts.ndim == 3 and prompts.dtype.kind == "f" and prompts.size else None
    if known is None or not known.any(axis=1).all():
        raise FeatureError(
            f"Expected prompt_features as floats of shape (C, P, D), with a prompt of every class, in {path}, got "
            f"{prompts.dtype} {prompts.shape}"
        )
    unit = np.full(prompts.shape, np.nan, dtype=np.float32)
    unit[known] = _unit(_checked(prompts[known], "prompt_features", path, ndim=2))
    return unit


def _is_support(key: str) -> bool:
    words = key.split("_")
    shots = words[1] if len(words) == 3 else ""
    return words[0] == "support" and words[-1] == "features" and shots.isascii() and shots.isdigit() and len(shots) < 7


def _required(arrays: Mapping[str, Any], key: str, path: Path) -> np.ndarray[Any, Any]:
    if key not in arrays:
        have = ", ".join(sorted(arrays)) or "nothing"
        raise DatasetError(f"Expected the array {key} in {path}, found {have}: add it")
    array: np.ndarray[Any, Any] = arrays[key]
    return array


def _read_part(arrays: Mapping[str, Any], name: str, path: Path) -> Part:
    features = _unit(_checked(_required(arrays, f"{name}_features", path), f"{name}_features", path, ndim=2))
    labels = _required(arrays, f"{name}_labels", path)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DatasetError(
            f"Expected {name}_labels as integers of shape (N,) in {path}, got {labels.dtype} {labels.shape}: give the "
            "positions in class_names"
        )
    views = arrays.get(f"{name}_views")
    checked = None if views is None else _unit(_checked(views, f"{name}_views", path, ndim=3))
    texts = [arrays.get(f"{name}_{what}") for what in ("names", "digests")]
    known = [None if text is None else _texts(text, f"{name} texts", path) for text in texts]
    if any(text is not None and len(text) != len(labels) for text in known):
        raise DatasetError(f"Expected {len(labels)} {name}_names and {name}_digests in {path}, got another number")
    groups = _read_groups(arrays, name, len(labels), path)
    return Part(features, labels.astype(np.intp), checked, known[0], known[1], groups)


def _read_groups(arrays: Mapping[str, Any], name: str, count: int, path: Path) -> tuple[str, ...] | None:
    groups = arrays.get(f"{name}_groups")
    if groups is None:
        return None
    if groups.shape != (count,) or groups.dtype.kind not in "Uiu":
        raise DatasetError(
            f"Expected {name}_groups as {count} names or integers in {path}, got {groups.dtype} {groups.shape}"
        )
    return tuple(map(str, groups.tolist()))


def _checked(array: ArrayLike, key: str, path: Path, *, ndim: int) -> Float32Array:
    values = np.asarray(array)
    if values.ndim != ndim or values.dtype.kind != "f" or values.size == 0:
        raise FeatureError(
            f"Expected {key} as floats in {ndim} dimensions in {path}, got {values.dtype} {values.shape}"
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and refused
        converted = values.astype(np.float32)
    if not np.isfinite(converted).all():
        row = int(np.argwhere(~np.isfinite(converted))[0, 0])
        raise FeatureError(f"Expected finite {key} in {path}, got NaN or infinity in row {row}: leave it out")
    if not _lengths(converted).all():
        raise FeatureError(f"Expected rows of {key} other than zero in {path}, got a row of zeros: leave it out")
    return converted


def _unit(rows: Float32Array) -> Float32Array:
    lengths = _lengths(rows)
    unit: Float32Array = rows if np.all(np.abs(lengths - 1) < NORM_TOLERANCE) else (rows / lengths).astype(np.float32)
    return unit


def _lengths(rows: Float32Array) -> FloatArray:
    """Of every row; in float64, since squares of large numbers overflow."""
    lengths: FloatArray = np.linalg.norm(rows.astype(np.float64), axis=-1, keepdims=True)
    return lengths


def _scalar(arrays: Mapping[str, Any], key: str, path: Path, default: float) -> float:
    value = np.asarray(arrays.get(key, default))
    if value.size != 1 or value.dtype.kind not in "fiu" or not np.isfinite(value).all() or value.item() <= 0:
        raise DatasetError(f"Expected {key} as one number above 0 in {path}, got {value.dtype} {value.shape}")
    return float(value.item())


def _read_description(arrays: Mapping[str, Any], path: Path) -> dict[str, Any]:
    try:
        content = parse_json(str(arrays.get("description", "{}")))
    except ValueError as error:
        raise DatasetError(f"Expected description as JSON text in {path}, got an error ({error})") from error
    if not isinstance(content, dict):
        raise DatasetError(f"Expected description as a JSON object in {path}, got a {type(content).__name__}")
    return content
