"""Validate scores, probabilities and class indices."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tip_adapter.errors import InputError
from tip_adapter.typing import FloatArray, IntArray


def checked_scores(scores: ArrayLike, labels: ArrayLike) -> tuple[FloatArray, IntArray]:
    """Return scores (B, C) and labels (B,) that fit each other, or raise InputError."""
    values, true = np.asarray(scores, dtype=np.float64), checked_indices(labels, "labels")
    if values.ndim != 2 or len(values) != len(true):
        raise InputError(f"Expected scores of shape ({len(true)}, C) to match the labels, got {values.shape}")
    if true.max() >= values.shape[1]:
        raise InputError(f"Expected labels below the {values.shape[1]} columns of the scores, got {true.max()}")
    if np.isnan(values).any():
        raise InputError(f"Expected scores without NaN, got one in row {int(np.argwhere(np.isnan(values))[0, 0])}")
    return values, true


def checked_probabilities(probabilities: ArrayLike, labels: ArrayLike) -> tuple[FloatArray, IntArray]:
    """Return probabilities (B, C) and labels (B,) that fit each other, or raise InputError."""
    values, true = checked_scores(probabilities, labels)
    wrong = (values.min(axis=1) < 0) | (np.abs(values.sum(axis=1) - 1) > 1e-3)  # 1e-3: float16 rows
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        got = f"a sum of {values[row].sum():.4g} and a minimum of {values[row].min():.4g} in row {row}"
        raise InputError(f"Expected probabilities, that is rows ≥ 0 that sum to 1, got {got}: are these logits?")
    return values, true


def checked_indices(values: ArrayLike, what: str) -> IntArray:
    """Return class indices (B,), or raise InputError; `what` names them in the message."""
    array: NDArray[Any] = np.asarray(values)
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iu" or array.min() < 0:
        got = f"{array.dtype} of shape {array.shape}"
        raise InputError(f"Expected {what} as class indices ≥ 0 of shape (B,), at least one, got {got}")
    return array.astype(np.intp)
