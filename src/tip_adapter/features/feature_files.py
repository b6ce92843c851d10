"""A .npz file of saved features goes in, checked arrays of a data set come out; and the other way round."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tip_adapter.errors import DatasetError, FeatureError, InputError
from tip_adapter.storage.atomic import write_file
from tip_adapter.typing import Float32Array, IntArray, StrPath

__all__ = ["FeatureData", "Part", "digest", "load_feature_file", "save_feature_file"]

NORM_TOLERANCE = 1e-3
"""Rows of float16 are this close to unit length; they are taken as they are, as every method takes them."""

DEFAULT_LOGIT_SCALE = 100.0


@dataclass(frozen=True, eq=False)
class Part:
    """Features of some photos with their labels.

    Attributes
    ----------
    features : ndarray of shape (N, D), float32
        Unit rows.
    labels : ndarray of shape (N,), integers in [0, C)
    views : ndarray of shape (N, V, D), float32, or None
        Unit rows: augmented views of each photo, where there are several.
    """

    features: Float32Array
    labels: IntArray
    views: Float32Array | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, rows: IntArray) -> Part:
        """Keep some of the photos.

        Parameters
        ----------
        rows : ndarray of int

        Returns
        -------
        Part
        """
        return Part(self.features[rows], self.labels[rows], None if self.views is None else self.views[rows])

    @property
    def digest(self) -> str:
        """SHA-256 of features, labels and views."""
        return digest(self.features, self.labels, *([] if self.views is None else [self.views]))


@dataclass(frozen=True, eq=False)
class FeatureData:
    """All that methods on features need of one data set.

    Attributes
    ----------
    name : str
        What results call it.
    class_names : tuple of C str
    test : Part
    zero_shot_weights : ndarray of shape (C, D), float32, or None
        Unit rows; None where there are no texts.
    logit_scale : float
        s, the inverse temperature the encoder was trained with.
    validation : Part or None
        What the protocol "paper" tunes on.
    supports : dict of int to Part
        Given K-shot support sets, by K.
    train : Part or None
        Photos that support sets are drawn from; without it they are drawn from the largest given one.
    description : dict of str to JSON value
        Where the features come from: encoder, templates, views …
    """

    name: str
    class_names: tuple[str, ...]
    test: Part
    zero_shot_weights: Float32Array | None = None
    logit_scale: float = DEFAULT_LOGIT_SCALE
    validation: Part | None = None
    supports: Mapping[int, Part] = field(default_factory=dict)
    train: Part | None = None
    description: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(set(self.class_names)) != len(self.class_names) or len(self.class_names) < 2:
            raise DatasetError(f"Expected at least two different class names in {self.name}, got others: rename them")
        weights = self.zero_shot_weights
        expected = (len(self.class_names), self.dim)
        if weights is not None and weights.shape != expected:
            raise FeatureError(f"Expected zero_shot_weights of shape {expected} in {self.name}, got {weights.shape}")
        for what, part in self.parts().items():
            _check_part(part, what, self.name, expected)
        if not self.supports and self.train is None:
            raise DatasetError(
                f"Expected support_K_features or train_features in {self.name}, found neither: add some to learn from"
            )
        for shots, part in self.supports.items():
            counts = np.bincount(part.labels, minlength=len(self.class_names))
            if counts.max() != shots or counts.min() != shots:
                wrong = self.class_names[int(np.argmax(counts != shots))]
                raise DatasetError(
                    f"Expected {shots} shots of every class in support_{shots} of {self.name}, got "
                    f"{counts[self.class_names.index(wrong)]} of {wrong!r}"
                )

    @property
    def dim(self) -> int:
        """D."""
        return int(self.test.features.shape[1])

    @property
    def pool(self) -> Part:
        """Photos that support sets are drawn from."""
        return self.train if self.train is not None else self.supports[max(self.supports)]

    @property
    def digest(self) -> str:
        """SHA-256 of what all results on this data set share: classes, texts and test photos."""
        weights = [] if self.zero_shot_weights is None else [self.zero_shot_weights]
        names = np.frombuffer(json.dumps([self.class_names, self.logit_scale]).encode(), dtype=np.uint8)
        return digest(names, self.test.features, self.test.labels, *weights)

    def parts(self) -> dict[str, Part]:
        """Every part by the name it has in a file.

        Returns
        -------
        dict of str to Part
        """
        named = {"test": self.test, "validation": self.validation, "train": self.train}
        given = {f"support_{shots}": part for shots, part in self.supports.items()}
        return {name: part for name, part in named.items() if part is not None} | given


def digest(*arrays: np.ndarray[Any, Any]) -> str:
    """Hash arrays with their kinds and shapes.

    Parameters
    ----------
    *arrays : ndarray

    Returns
    -------
    str
        SHA-256 in hexadecimal digits.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.features.feature_files import digest
    >>> digest(np.zeros(2)) == digest(np.zeros(2)), digest(np.zeros(2)) == digest(np.zeros((2, 1)))
    (True, False)
    """
    whole = hashlib.sha256()
    for array in arrays:
        whole.update(f"{array.dtype.str} {array.shape};".encode())
        whole.update(np.ascontiguousarray(array).tobytes())
    return whole.hexdigest()


def load_feature_file(path: StrPath, *, name: str | None = None) -> FeatureData:
    """Read a data set of saved features; docs/benchmark.md lists its arrays.

    Parameters
    ----------
    path : path-like
        A .npz file of NumPy. Objects in it (pickle) are refused.
    name : str, optional
        Default: the name of the file.

    Returns
    -------
    FeatureData

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
    >>> from tip_adapter.features.feature_files import FeatureData, Part, load_feature_file, save_feature_file
    >>> eye = np.eye(2, dtype=np.float32)
    >>> pets = FeatureData("pets", ("cat", "dog"), Part(eye, np.arange(2)), eye, supports={1: Part(eye, np.arange(2))})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "pets.npz"
    ...     save_feature_file(path, pets)
    ...     load_feature_file(path).digest == pets.digest
    True
    """
    path = Path(path)
    arrays = _read_arrays(path)
    name = name or path.stem
    names = _required(arrays, "class_names", path)
    if names.ndim != 1 or names.dtype.kind != "U":
        raise DatasetError(f"Expected class_names as text of shape (C,) in {path}, got {names.dtype} {names.shape}")
    shots = sorted(int(key.split("_")[1]) for key in arrays if _is_support(key))
    weights = arrays.get("zero_shot_weights")
    return FeatureData(
        name,
        tuple(names.tolist()),
        _read_part(arrays, "test", path),
        None if weights is None else _unit(_checked(weights, "zero_shot_weights", path, ndim=2)),
        float(_scalar(arrays, "logit_scale", path, DEFAULT_LOGIT_SCALE)),
        _read_part(arrays, "validation", path) if "validation_features" in arrays else None,
        {number: _read_part(arrays, f"support_{number}", path) for number in shots},
        _read_part(arrays, "train", path) if "train_features" in arrays else None,
        _read_description(arrays, path),
    )


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
    path = Path(path)
    if path.suffix != ".npz":
        raise InputError(f"Expected a file ending in .npz, got {path}: rename it.")
    arrays: dict[str, Any] = {"class_names": np.array(data.class_names), "logit_scale": np.float64(data.logit_scale)}
    if data.description:
        arrays["description"] = np.array(json.dumps(dict(data.description), sort_keys=True))
    if data.zero_shot_weights is not None:
        arrays["zero_shot_weights"] = data.zero_shot_weights
    for name, part in data.parts().items():
        arrays |= {f"{name}_features": part.features, f"{name}_labels": part.labels.astype(np.int32)}
        if part.views is not None:
            arrays[f"{name}_views"] = part.views
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_file(path, buffer.getvalue())


def _is_support(key: str) -> bool:
    words = key.split("_")
    return len(words) == 3 and words[0] == "support" and words[1].isdigit() and words[2] == "features"


def _read_arrays(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    if not path.is_file():
        raise DatasetError(f"There is no feature file {path}: check the path")
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError, AttributeError) as error:
        raise DatasetError(
            f"Expected a .npz file of arrays of numbers and text at {path}, got an error ({error}): write it again "
            "with numpy.savez"
        ) from error


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
    return Part(features, labels.astype(np.intp), checked)


def _checked(array: ArrayLike, key: str, path: Path, *, ndim: int) -> Float32Array:
    values = np.asarray(array)
    if values.ndim != ndim or values.dtype.kind != "f" or values.size == 0:
        raise FeatureError(
            f"Expected {key} as floats in {ndim} dimensions in {path}, got {values.dtype} {values.shape}"
        )
    converted = values.astype(np.float32)
    if not np.isfinite(converted).all():
        row = int(np.argwhere(~np.isfinite(converted))[0, 0])
        raise FeatureError(f"Expected finite {key} in {path}, got NaN or infinity in row {row}: leave it out")
    if not np.linalg.norm(converted, axis=-1).all():
        raise FeatureError(f"Expected rows of {key} other than zero in {path}, got a row of zeros: leave it out")
    return converted


def _unit(rows: Float32Array) -> Float32Array:
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows if np.all(np.abs(norms - 1) < NORM_TOLERANCE) else rows / norms


def _scalar(arrays: Mapping[str, Any], key: str, path: Path, default: float) -> float:
    value = np.asarray(arrays.get(key, default))
    if value.size != 1 or value.dtype.kind not in "fiu" or not np.isfinite(value).all() or value.item() <= 0:
        raise DatasetError(f"Expected {key} as one number above 0 in {path}, got {value.dtype} {value.shape}")
    return float(value.item())


def _read_description(arrays: Mapping[str, Any], path: Path) -> dict[str, Any]:
    try:
        content = json.loads(str(arrays.get("description", "{}")))
    except ValueError as error:
        raise DatasetError(f"Expected description as JSON text in {path}, got an error ({error})") from error
    if not isinstance(content, dict):
        raise DatasetError(f"Expected description as a JSON object in {path}, got a {type(content).__name__}")
    return content


def _check_part(part: Part, what: str, name: str, expected: tuple[int, int]) -> None:
    n_classes, dim = expected
    if part.features.shape != (len(part.labels), dim):
        raise FeatureError(
            f"Expected {what}_features of shape ({len(part.labels)}, {dim}) in {name}, as its labels and test_features "
            f"have it, got {part.features.shape}"
        )
    if part.views is not None and (len(part.views), part.views.shape[2]) != part.features.shape:
        raise FeatureError(f"Expected {what}_views of shape (N, V, {dim}) in {name}, got {part.views.shape}")
    if len(part.labels) == 0 or part.labels.min() < 0 or part.labels.max() >= n_classes:
        got = f"{part.labels.min()} to {part.labels.max()}" if len(part.labels) else "none"
        raise DatasetError(f"Expected {what}_labels from 0 to {n_classes - 1} in {name}, got {got}")
