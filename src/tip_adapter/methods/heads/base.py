"""What all heads share: unit features, zero-shot logits, softmax."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Protocol, TypeVar

import numpy as np

from tip_adapter.typing import BoolArray, Float32Array, FloatArray, IntArray

Rows = TypeVar("Rows", bound=FloatArray)


class Head(Protocol):
    """A formula on features."""

    def logits(self, features: Float32Array) -> Float32Array:
        """Logits (B, C) of unit features (B, D)."""
        ...


@dataclasses.dataclass(frozen=True)
class TextHead:
    """Base of formulas that begin with the zero-shot logits ``s·f·Wᵀ``.

    Parameters
    ----------
    n_classes : int
        C.
    zero_shot_weights : ndarray of shape (C, D) or None
        W, unit rows; rows of NaN for classes without text.
    logit_scale : float
        s.
    """

    n_classes: int
    zero_shot_weights: Float32Array | None
    logit_scale: float

    def zero_shot_logits(self, features: Float32Array) -> Float32Array:
        """Zero-shot logits (B, C) of unit features (B, D)."""
        return zero_shot_logits(features, self.zero_shot_weights, self.logit_scale, self.n_classes)


def zero_shot_logits(
    features: Float32Array, zero_shot_weights: Float32Array | None, logit_scale: float, n_classes: int
) -> Float32Array:
    """Zero-shot logits ``s·f·Wᵀ``, also where some or all classes have no text.

    A class without text (a row of NaN) gets the average probability of the classes with text, the prior that says
    nothing about it. Where all classes have one and the same text, the texts say nothing: all logits are 0.

    Shapes: `features` (B, D), `zero_shot_weights` (C, D) → (B, C).

    References
    ----------
    Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021, section 3.1.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.heads import zero_shot_logits
    >>> zero_shot_logits(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32), 10.0, 2)
    array([[10.,  0.],
           [ 0., 10.]], dtype=float32)
    """
    if zero_shot_weights is None or same_texts(zero_shot_weights):
        return np.zeros((len(features), n_classes), dtype=np.float32)
    logits: Float32Array = np.float32(logit_scale) * (features @ zero_shot_weights.T)
    missing = without_text(zero_shot_weights)
    if missing.any():
        known = logits[:, ~missing].astype(np.float64)
        logits[:, missing] = (log_sum_exp(known) - np.log(known.shape[1]))[:, None]
    return logits


SAME_TEXT = 1e-4
"""Distance of unit rows that are the same text: so near two runtimes come to each other with one encoder. The logits
of such texts differ by rounding alone, and a weight against a spread of rounding would be noise."""


def same_texts(zero_shot_weights: Float32Array) -> bool:
    """Whether the classes that have text all have the same one, up to rounding.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.heads.base import same_texts
    >>> same_texts(np.eye(2, dtype=np.float32)), same_texts(np.ones((2, 1), dtype=np.float32))
    (False, True)
    """
    known = zero_shot_weights[~without_text(zero_shot_weights)]
    # Two rows tell nearly always, and quickly.
    return all(len(rows) == 0 or bool(np.abs(rows - rows[0]).max() <= SAME_TEXT) for rows in (known[:2], known))


def without_text(zero_shot_weights: FloatArray) -> BoolArray:
    """Which classes, (C,), have no text: their rows are NaN."""
    missing: BoolArray = np.isnan(zero_shot_weights[:, 0])
    return missing


def with_text(zero_shot_weights: Float32Array | None, n_classes: int) -> BoolArray:
    """Which classes, (C,), have a text that says something; none where all have the same.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.heads.base import with_text
    >>> with_text(np.array([[1, 0], [0, 1], [np.nan, np.nan]], dtype=np.float32), 3)
    array([ True,  True, False])
    """
    if zero_shot_weights is None or same_texts(zero_shot_weights):
        return np.zeros(n_classes, dtype=np.bool_)
    return ~without_text(zero_shot_weights)


def softmax(logits: FloatArray) -> FloatArray:
    """Probabilities of logits along the last axis, in float64.

    Shapes: `logits` (..., C) → (..., C).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.heads import softmax
    >>> softmax(np.zeros((1, 4)))
    array([[0.25, 0.25, 0.25, 0.25]])
    """
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    result: FloatArray = powers / powers.sum(axis=-1, keepdims=True)
    return result


def log_sum_exp(logits: FloatArray) -> FloatArray:
    """Logarithm of the sum of exponentials along the last axis, without overflow; (..., C) → (...)."""
    top = logits.max(axis=-1)
    result: FloatArray = top + np.log(np.exp(logits - top[..., None]).sum(axis=-1))
    return result


def log_softmax(logits: FloatArray) -> FloatArray:
    """Logarithms of the probabilities of logits along the last axis; (..., C) → (..., C)."""
    shifted: FloatArray = logits - logits.max(axis=-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted


def nll_per_sample(logits: FloatArray, labels: IntArray) -> FloatArray:
    """Negative log-likelihood of every image, in nats.

    Shapes: `logits` (B, C), `labels` (B,) → (B,).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.heads.base import nll_per_sample
    >>> nll_per_sample(np.zeros((1, 2)), np.array([1])).round(3)
    array([0.693])
    """
    result: FloatArray = log_sum_exp(logits) - logits[np.arange(len(labels)), labels]
    return result


def unit(rows: Rows) -> Rows:
    """Give vectors along the last axis length 1; zeros stay zeros.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.heads.base import unit
    >>> unit(np.array([[3.0, 4.0], [0.0, 0.0]]))
    array([[0.6, 0.8],
           [0. , 0. ]])
    """
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    result: Rows = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return result


def symmetric_inverse(matrix: FloatArray) -> FloatArray:
    """Invert a symmetric, positive definite matrix by Cholesky's factors; its memory is used."""
    from scipy.linalg import cho_factor, lapack

    factor, _ = cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
    inverse, _ = lapack.dpotri(factor, lower=True, overwrite_c=True)
    result: FloatArray = np.tril(inverse) + np.tril(inverse, -1).T
    return result


CHUNK_ELEMENTS = 8_000_000
"""Values for pairs of query and key held at a time: 32 MB."""


def row_chunks(n_rows: int, n_columns: int) -> Iterator[slice]:
    """Cut rows into runs whose table of pairs with all columns fits in bounded memory.

    Examples
    --------
    >>> from tip_adapter.methods.heads.base import row_chunks
    >>> list(row_chunks(5, 2_500_000))
    [slice(0, 3, None), slice(3, 5, None)]
    """
    step = max(1, CHUNK_ELEMENTS // max(1, n_columns))
    return (slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step))
