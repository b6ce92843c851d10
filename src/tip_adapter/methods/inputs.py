"""Validate what a caller gives a method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tip_adapter.data.class_names import check_labels
from tip_adapter.data.sequences import list_items, list_labels
from tip_adapter.errors import FeatureError, FeatureWarning, InputError, warn
from tip_adapter.methods.heads.base import unit
from tip_adapter.typing import Float32Array, IntArray

NORM_TOLERANCE = 1e-3
"""Rows of float16 features are this close to unit length; they are taken as they are."""


def as_numpy(X: Any) -> Any:
    """Take a tensor off its device and its graph; leave the rest to whoever checks it."""
    return X.detach().cpu().numpy() if hasattr(type(X), "detach") else X


def as_labels(y: Any) -> Any:
    """Bring labels into one array, with those refused that are missing, or text beside numbers.

    Examples
    --------
    >>> from tip_adapter.methods.inputs import as_labels
    >>> as_labels(["hat", "cap"])
    array(['hat', 'cap'], dtype='<U3')
    """
    y = as_numpy(y)
    if y is None or (isinstance(y, np.ndarray) and y.dtype.kind != "O"):
        return y  # scikit-learn's checks know these well
    labels = list_labels(y)
    if any(isinstance(label, list | tuple | np.ndarray) for label in labels):
        raise InputError("Expected one label for each row, got lists of labels: give one class each")
    check_labels(labels, source="y")
    return np.asarray(labels)


def as_names(class_names: Any) -> list[Any] | None:
    """List class names, whose order says which row of the weights, or which number, is whose."""
    if class_names is None:
        return None
    if isinstance(class_names, str) or not hasattr(class_names, "__len__"):
        got = f"the text {class_names!r}" if isinstance(class_names, str) else f"a {type(class_names).__name__}"
        raise InputError(f"Expected class_names as a list, got {got}: put the names into a list")
    return list_items(class_names, "class_names")


def unit_rows(features: Float32Array) -> Float32Array:
    """Give rows unit length, with a warning where they had another.

    Shapes: `features` (N, D) → (N, D).

    Warns
    -----
    FeatureWarning
        When rows had to be normalised.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.inputs import unit_rows
    >>> unit_rows(np.eye(2, dtype=np.float32))
    array([[1., 0.],
           [0., 1.]], dtype=float32)
    """
    if np.all(np.abs(np.linalg.norm(features, axis=1) - 1) < NORM_TOLERANCE):
        return features
    warn(
        "Features are not of unit length, so their rows were normalised: give normalised features to silence this",
        FeatureWarning,
    )
    return unit(features)


def checked_views(views: Any, expected: tuple[int, ...]) -> Float32Array:
    """Check features of several views of each shot, and give them unit length.

    Shapes: `views` (N, V, D) → (N, V, D).

    Examples
    --------
    >>> from tip_adapter.methods.inputs import checked_views
    >>> checked_views([[[2.0, 0.0], [0.0, 1.0]]], (1, 2)).tolist()
    [[[1.0, 0.0], [0.0, 1.0]]]
    """
    array = np.asarray(as_numpy(views), dtype=np.float32)
    if array.ndim != 3 or array.shape[1] == 0 or (array.shape[0], array.shape[2]) != expected:
        raise FeatureError(f"Expected views of shape (N, V, D) of features of shape {expected}, got {array.shape}")
    norms = np.linalg.norm(array, axis=2, keepdims=True)
    if not (np.isfinite(norms).all() and (norms > 0).all()):
        raise FeatureError("Expected finite views other than zero, got NaN, infinity or zeros")
    rows: Float32Array = array / norms
    return rows


def checked_queries(queries: Any, expected: tuple[int, ...]) -> Float32Array:
    """Check single views of the shots, and give them unit length.

    Shapes: `queries` (N, D) → (N, D).

    Examples
    --------
    >>> from tip_adapter.methods.inputs import checked_queries
    >>> checked_queries([[2.0, 0.0]], (1, 2)).tolist()
    [[1.0, 0.0]]
    """
    array = np.asarray(as_numpy(queries), dtype=np.float32)
    if array.shape != expected:
        raise InputError(f"Expected queries of shape {expected}, as the shots, got {array.shape}")
    return checked_views(array[:, None], expected)[:, 0]


def checked_weights(zero_shot_weights: Any, dim: int, class_names: Sequence[str] | None) -> Float32Array:
    """Check zero-shot weights against the features and the class names.

    Shapes: `zero_shot_weights` (C, D) → (C, D).

    Examples
    --------
    >>> from tip_adapter.methods.inputs import checked_weights
    >>> checked_weights([[1.0, 0.0], [float("nan"), 0.0]], 2, ["hat", "cap"])
    array([[ 1.,  0.],
           [nan, nan]], dtype=float32)
    """
    weights = np.array(as_numpy(zero_shot_weights), dtype=np.float32)  # a copy: the caller's stays as it is
    if weights.ndim != 2 or weights.shape[1] != dim:
        raise FeatureError(
            f"Expected zero_shot_weights of shape (C, {dim}) to match the features, got {weights.shape}: "
            "was another encoder used?"
        )
    if class_names is not None and len(weights) != len(class_names):
        raise InputError(
            f"Expected {len(class_names)} rows of zero_shot_weights, one per class name, got {len(weights)}"
        )
    missing = np.isnan(weights).any(axis=1)
    if np.isinf(weights).any() or missing.all():
        raise FeatureError("Expected finite zero_shot_weights, got NaN or infinite rows: give None for no text at all")
    weights[missing] = np.nan
    weights[~missing] = unit_rows(weights[~missing])
    return weights


def aligned(
    y: np.ndarray[Any, Any], class_names: Sequence[str] | None, n_texts: int | None
) -> tuple[Any, IntArray, IntArray]:
    """Bring labels, class names and texts into one order of classes.

    Shapes: `y` (N,) → (C,).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.inputs import aligned
    >>> aligned(np.array(["hat", "cap", "hat"]), ["hat", "cap"], 2)
    (array(['cap', 'hat'], dtype='<U3'), array([1, 0, 1]), array([1, 0]))
    """
    if class_names is None and n_texts is None:
        classes, labels = np.unique(y, return_inverse=True)
        return classes, labels.astype(np.intp), np.arange(len(classes))
    n_classes = len(class_names) if class_names is not None else int(n_texts or 0)
    if y.dtype.kind == "f" and (y == np.floor(y)).all():
        y = y.astype(np.intp)  # pandas makes floats of a column with a gap
    if np.issubdtype(y.dtype, np.integer):
        if y.min() < 0 or y.max() >= n_classes:
            raise InputError(
                f"Expected labels from 0 to {n_classes - 1}, which index the classes, got {y.min()} to {y.max()}"
            )
        return np.arange(n_classes), y.astype(np.intp), np.arange(n_classes)
    if y.dtype.kind not in "OU":
        raise InputError(
            f"Expected labels as class names, or as numbers from 0 to {n_classes - 1} that index the classes, got "
            f"{y.dtype.name} such as {y[0]}: name the classes"
        )
    if class_names is None:
        raise InputError("Labels are names, so class_names must name the rows of zero_shot_weights, in their order")
    classes, columns = np.unique(np.asarray(class_names), return_index=True)
    if len(classes) != n_classes:
        raise InputError("Expected class names that differ from each other, got some of them twice")
    unknown = sorted(set(np.unique(y).tolist()) - set(classes.tolist()))
    if unknown:
        raise InputError(f"Labels {', '.join(map(str, unknown[:5]))} are not among the class names")
    return classes, np.searchsorted(classes, y).astype(np.intp), columns


def given_or_auto(name: str, value: float | str, *, positive: bool = False) -> float | None:
    """Read a hyper-parameter: a number that is at least 0, or above it if `positive`, or "auto" as None.

    Examples
    --------
    >>> from tip_adapter.methods.inputs import given_or_auto
    >>> given_or_auto("alpha", "auto"), given_or_auto("alpha", 1)
    (None, 1.0)
    """
    if isinstance(value, str) and value == "auto":
        return None
    if isinstance(value, str | bool) or not np.isfinite(value) or value < 0 or (positive and value == 0):
        least = "above 0" if positive else "at least 0"
        raise InputError(f"Expected {name} to be {least}, or 'auto', got {value!r}")
    return float(value)


def checked_groups(groups: Any, n: int) -> IntArray | None:
    """Number the groups of shots; None where each shot is its own.

    Examples
    --------
    >>> from tip_adapter.methods.inputs import checked_groups
    >>> checked_groups(["b", "a", "b"], 3), checked_groups([1, 2, 3], 3)
    (array([1, 0, 1]), None)
    """
    if groups is None:
        return None
    given = np.asarray(groups)
    if given.shape != (n,):
        raise InputError(f"Expected a group for each of {n} shots, got an array of shape {given.shape}")
    names, numbers = np.unique(given, return_inverse=True)
    return None if len(names) == n else numbers.astype(np.intp)
