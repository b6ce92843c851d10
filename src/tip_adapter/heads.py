"""What a fitted method is: arrays and a formula from unit features (B, D) to logits (B, C).

A head needs NumPy alone. Estimators fit one, saved classifiers hold one, exports translate one, explanations take one
apart.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from tip_adapter.cache_model import Cache, tip_logits
from tip_adapter.errors import InputError
from tip_adapter.typing import Float32Array, FloatArray, IntArray

__all__ = ["HEADS", "CacheHead", "Head", "LinearHead", "head_from_state", "head_state", "softmax", "zero_shot_logits"]


class Head(Protocol):
    """A formula on features."""

    def logits(self, features: Float32Array) -> Float32Array:
        """Logits (B, C) of unit features (B, D)."""
        ...


def zero_shot_logits(
    features: Float32Array, zero_shot_weights: Float32Array | None, logit_scale: float, n_classes: int
) -> Float32Array:
    """Zero-shot logits ``s·f·Wᵀ``, also where some or all classes have no text.

    A class without text (a row of NaN) gets the average probability of the classes with text, the prior that says
    nothing about it.

    Parameters
    ----------
    features : ndarray of shape (B, D), float32
        Unit rows.
    zero_shot_weights : ndarray of shape (C, D), float32, or None
        Unit rows; None is no text for any class: all logits are 0.
    logit_scale : float
        s, the inverse temperature the encoder was trained with.
    n_classes : int
        C.

    Returns
    -------
    ndarray of shape (B, C), float32

    References
    ----------
    Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021, section 3.1.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.heads import zero_shot_logits
    >>> zero_shot_logits(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32), 10.0, 2)
    array([[10.,  0.],
           [ 0., 10.]], dtype=float32)
    """
    if zero_shot_weights is None:
        return np.zeros((len(features), n_classes), dtype=np.float32)
    logits: Float32Array = np.float32(logit_scale) * (features @ zero_shot_weights.T)
    silent = np.isnan(zero_shot_weights[:, 0])
    if silent.any():
        known = logits[:, ~silent].astype(np.float64)
        top = known.max(axis=1, keepdims=True)
        logits[:, silent] = top + np.log(np.exp(known - top).mean(axis=1, keepdims=True))
    return logits


def softmax(logits: FloatArray) -> FloatArray:
    """Probabilities of logits along the last axis, in float64.

    Parameters
    ----------
    logits : ndarray of shape (..., C)

    Returns
    -------
    ndarray of shape (..., C), float64

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.heads import softmax
    >>> softmax(np.zeros((1, 4)))
    array([[0.25, 0.25, 0.25, 0.25]])
    """
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    result: FloatArray = powers / powers.sum(axis=-1, keepdims=True)
    return result


@dataclasses.dataclass(frozen=True)
class LinearHead:
    """Zero-shot logits plus a linear function of the feature: ``s·f·Wᵀ + f·Vᵀ + b``.

    Parameters
    ----------
    n_classes : int
        C.
    zero_shot_weights : ndarray of shape (C, D) or None
        W, unit rows; rows of NaN for classes without text.
    logit_scale : float
        s.
    weights : ndarray of shape (C, D) or None
        V.
    bias : ndarray of shape (C,) or None
        b.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.heads import LinearHead
    >>> LinearHead(2, np.eye(2, dtype=np.float32), 10.0).logits(np.eye(2, dtype=np.float32))
    array([[10.,  0.],
           [ 0., 10.]], dtype=float32)
    """

    n_classes: int
    zero_shot_weights: Float32Array | None
    logit_scale: float
    weights: Float32Array | None = None
    bias: Float32Array | None = None

    def logits(self, features: Float32Array) -> Float32Array:
        """Logits (B, C) of unit features (B, D)."""
        result = zero_shot_logits(features, self.zero_shot_weights, self.logit_scale, self.n_classes)
        if self.weights is not None:
            result += features @ self.weights.T
        if self.bias is not None:
            result += self.bias
        return result


@dataclasses.dataclass(frozen=True)
class CacheHead:
    """Tip-Adapter's formula: ``s·f·Wᵀ + α·exp(-β(1 - f·Fᵀ))·Y``.

    Parameters
    ----------
    n_classes : int
        C.
    zero_shot_weights : ndarray of shape (C, D) or None
        W, unit rows; rows of NaN for classes without text.
    logit_scale : float
        s.
    keys : ndarray of shape (N, D), float32
        F.
    labels : ndarray of shape (N,), integers in [0, C)
    alpha, beta : float
        At least 0.
    balanced : bool, default=True
        Weigh classes equally whatever their number of shots; see `tip_adapter.cache_model.Cache.build`.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.heads import CacheHead
    >>> eye = np.eye(2, dtype=np.float32)
    >>> CacheHead(2, eye, 10.0, keys=eye, labels=np.array([0, 1]), alpha=1.0, beta=1.0).logits(eye).round(2)
    array([[11.  ,  0.37],
           [ 0.37, 11.  ]], dtype=float32)
    """

    n_classes: int
    zero_shot_weights: Float32Array | None
    logit_scale: float
    keys: Float32Array
    labels: IntArray
    alpha: float
    beta: float
    balanced: bool = True

    @cached_property
    def cache(self) -> Cache:
        """The keys sorted by class."""
        return Cache.build(self.keys, self.labels, self.n_classes, balanced=self.balanced)

    def logits(self, features: Float32Array) -> Float32Array:
        """Logits (B, C) of unit features (B, D)."""
        text = zero_shot_logits(features, self.zero_shot_weights, self.logit_scale, self.n_classes)
        return tip_logits(text, features, self.cache, alpha=self.alpha, beta=self.beta)


HEADS: dict[str, type[Any]] = {"linear": LinearHead, "cache": CacheHead}
"""Every formula that a saved classifier can hold, by the name it is saved under."""


def head_state(head: Head) -> tuple[str, dict[str, np.ndarray[Any, Any]], dict[str, Any]]:
    """Take a head apart for saving.

    Parameters
    ----------
    head : Head

    Returns
    -------
    kind : str
        Its name in `HEADS`.
    arrays : dict of str to ndarray
    parameters : dict of str to number, bool or None
        Whatever is no array; JSON can hold it.

    Raises
    ------
    InputError
        When the head is none of `HEADS`.

    Examples
    --------
    >>> from tip_adapter.heads import LinearHead, head_state
    >>> head_state(LinearHead(3, None, 1.0))
    ('linear', {}, {'n_classes': 3, 'zero_shot_weights': None, 'logit_scale': 1.0, 'weights': None, 'bias': None})
    """
    kinds = [kind for kind, cls in HEADS.items() if type(head) is cls]
    if not kinds:
        raise InputError(f"Expected a head of one of the kinds {', '.join(HEADS)}, got {type(head).__name__}.")
    fields = {field.name: getattr(head, field.name) for field in dataclasses.fields(head)}  # type: ignore[arg-type]
    arrays = {name: value for name, value in fields.items() if isinstance(value, np.ndarray)}
    return kinds[0], arrays, {name: value for name, value in fields.items() if name not in arrays}


def head_from_state(kind: str, arrays: Mapping[str, np.ndarray[Any, Any]], parameters: Mapping[str, Any]) -> Head:
    """Put a head together again; the inverse of `head_state`.

    Parameters
    ----------
    kind : str
        Name in `HEADS`.
    arrays, parameters : mapping
        As from `head_state`.

    Returns
    -------
    Head

    Raises
    ------
    InputError
        When the kind is unknown, or its fields are not the given ones.

    Examples
    --------
    >>> from tip_adapter.heads import head_from_state
    >>> head_from_state("linear", {}, {"n_classes": 3, "zero_shot_weights": None, "logit_scale": 1.0})
    LinearHead(n_classes=3, zero_shot_weights=None, logit_scale=1.0, weights=None, bias=None)
    """
    if kind not in HEADS:
        raise InputError(f"Unknown kind of head {kind!r}: this version knows {', '.join(HEADS)}.")
    try:
        head: Head = HEADS[kind](**arrays, **parameters)
    except TypeError as error:
        raise InputError(
            f"The saved head of kind {kind!r} has not the fields this version expects: {error}."
        ) from error
    return head
