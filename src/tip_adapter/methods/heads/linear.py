"""Heads that are linear in the feature, or in its kernels to the shots."""

from __future__ import annotations

import dataclasses

import numpy as np

from tip_adapter.methods.heads.base import TextHead, row_chunks
from tip_adapter.typing import Float32Array, FloatArray, IntArray


@dataclasses.dataclass(frozen=True)
class LinearHead(TextHead):
    """Zero-shot logits plus a linear function of the feature: ``s·f·Wᵀ + f·Vᵀ + b``.

    Parameters
    ----------
    weights : ndarray of shape (C, D) or None
        V.
    bias : ndarray of shape (C,) or None
        b.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.heads import LinearHead
    >>> LinearHead(2, np.eye(2, dtype=np.float32), 10.0).logits(np.eye(2, dtype=np.float32))
    array([[10.,  0.],
           [ 0., 10.]], dtype=float32)
    """

    weights: Float32Array | None = None
    bias: Float32Array | None = None

    def logits(self, features: Float32Array) -> Float32Array:
        """Logits (B, C) of unit features (B, D)."""
        result = self.zero_shot_logits(features)
        if self.weights is not None:
            # In float64: weights from small covariances are large and cancel each other.
            result += (features.astype(np.float64) @ self.weights.T.astype(np.float64)).astype(np.float32)
        if self.bias is not None:
            result += self.bias
        return result


@dataclasses.dataclass(frozen=True)
class KernelHead(TextHead):
    """Zero-shot logits, a linear function and a sum of kernels: ``s·f·Wᵀ + f·Vᵀ + b + exp(-β(1 - f·Fᵀ))·A``.

    Parameters
    ----------
    keys : ndarray of shape (N, D), float32
        F.
    coefficients : ndarray of shape (N, C), float32
        A: what every key says about every class.
    beta : float
        At least 0.
    weights : ndarray of shape (C, D) or None
        V.
    bias : ndarray of shape (C,) or None
        b.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.heads import KernelHead
    >>> eye = np.eye(2, dtype=np.float32)
    >>> KernelHead(2, eye, 10.0, keys=eye, coefficients=eye, beta=1.0).logits(eye).round(2)
    array([[11.  ,  0.37],
           [ 0.37, 11.  ]], dtype=float32)
    """

    keys: Float32Array
    coefficients: Float32Array
    beta: float
    weights: Float32Array | None = None
    bias: Float32Array | None = None

    def logits(self, features: Float32Array) -> Float32Array:
        """Logits (B, C) of unit features (B, D)."""
        linear = LinearHead(self.n_classes, self.zero_shot_weights, self.logit_scale, self.weights, self.bias)
        result = linear.logits(features)
        # In float64: coefficients of like shots are large and cancel each other.
        keys, coefficients = self.keys.T.astype(np.float64), self.coefficients.astype(np.float64)
        for rows in row_chunks(len(features), 2 * len(self.keys)):
            affinities = np.exp(self.beta * (features[rows].astype(np.float64) @ keys - 1.0))
            result[rows] += (affinities @ coefficients).astype(np.float32)
        return result


def kernel_residuals(labels: IntArray, text_logits: Float32Array | FloatArray, logit_scale: float) -> FloatArray:
    """What the texts leave unexplained of the one-hot labels, ``Y - F·Wᵀ`` (N, C).

    That of a class without shots is the mean of the others': nothing was seen that speaks against it.
    """
    residuals = -text_logits.astype(np.float64) / logit_scale
    residuals[np.arange(len(labels)), labels] += 1.0
    without = np.bincount(labels, minlength=residuals.shape[1]) == 0
    if without.any():
        residuals[:, without] = residuals[:, ~without].mean(axis=1, keepdims=True)
    return residuals
