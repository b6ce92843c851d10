"""Fit a Gaussian model to features: class means and one shared precision, from sums over the shots."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from tip_adapter.methods.heads.base import without_text
from tip_adapter.typing import BoolArray, Float32Array, FloatArray, IntArray

EMPTY = 1e-6
"""Within-class scatter per shot of unit features below which there is none: one shot a class, or copies."""


@dataclass(frozen=True)
class Moments:
    """Sums over shots that a Gaussian model is made of; those of a part can be taken from those of the whole.

    Attributes
    ----------
    square : ndarray of shape (D, D), float64
        Σ f fᵀ.
    sums : ndarray of shape (C, D), float64
        Σ f of every class.
    counts : ndarray of shape (C,)
        Shots of every class; where some are weighed, the sum of their weights.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.heads.gaussian import Moments
    >>> moments = Moments.of(np.eye(2, dtype=np.float32)[[0, 0, 1]], np.array([0, 0, 1]), 2)
    >>> moments.means, moments.classifier()
    (array([[1., 0.],
           [0., 1.]]), (array([[ 0.5, -0.5],
           [-0.5,  0.5]]), array([0., 0.])))
    """

    square: FloatArray
    sums: FloatArray
    counts: IntArray | FloatArray

    @classmethod
    def of(cls, features: Float32Array | FloatArray, labels: IntArray, n_classes: int) -> Self:
        """Sum up shots."""
        rows = features.astype(np.float64, copy=False)
        sums = np.zeros((n_classes, rows.shape[1]))
        np.add.at(sums, labels, rows)
        return cls(rows.T @ rows, sums, np.bincount(labels, minlength=n_classes))

    def without(self, part: Moments) -> Moments:
        """Take some of the shots out."""
        return Moments(self.square - part.square, self.sums - part.sums, self.counts - part.counts)

    def with_(self, part: Moments) -> Moments:
        """Put others beside."""
        return Moments(self.square + part.square, self.sums + part.sums, self.counts + part.counts)

    @property
    def means(self) -> FloatArray:
        """Mean of every class's shots, (C, D); zeros for a class without any."""
        means: FloatArray = self.sums / np.maximum(self.counts, 1)[:, None]
        return means

    def precision(self, ridge: float = 1.0) -> Callable[[FloatArray], FloatArray]:
        """Give the function from rows (R, D) to rows·Σ⁻¹.

        Σ is ``Σ + ridge·tr(Σ)/(N-1)·I``, with a ridge of 1 in the paper, and this is the paper's precision times
        (N-1)/D, which does not shrink as shots are added. Where shots have no scatter within their classes, Σ⁻¹ is the
        identity: the nearest class mean.
        """
        from scipy.linalg import cho_solve

        factor, n, _ = self._factor(ridge)
        if factor is None:
            return lambda rows: rows
        return lambda rows: np.asarray((n - 1) * cho_solve(factor, rows.T, check_finite=False).T)

    def root(self, ridge: float = 1.0) -> FloatArray | None:
        """Lower triangular L (D, D) whose ``L·Lᵀ`` is the Σ of `precision`; None where there is no scatter."""
        factor, n, _ = self._factor(ridge)
        return None if factor is None else np.asarray(np.tril(factor[0]) / np.sqrt(n - 1))

    def classifier(self, ridge: float = 1.0, texts: FloatArray | None = None) -> tuple[FloatArray, FloatArray]:
        """Weights (C, D) and bias (C,) of ``f·Σ⁻¹μᵀ - ½ (μΣ⁻¹μ - v/n_c)``, centred over the classes with shots.

        With texts (C, D) a class without shots, or with few beside others with many, has the mean that `Means` tells.

        A mean of few shots is longer than the true one, by ``v = tr(Σ⁻¹S)`` over its shots, S being the covariance
        within classes: without that term, which the paper with its equal shots does not need, classes with few shots
        among others with many would hardly be predicted.
        """
        present, means = self.counts > 0, self.means
        shares: FloatArray = np.zeros(len(self.counts))
        if texts is not None:
            of_texts = self.text_means(texts)
            means, shares = of_texts.joined(means), of_texts.shares
        weights = self.precision(ridge)(means)
        bias = -0.5 * np.einsum("cd,cd->c", weights, means)
        if np.ptp(self.counts[present]) > 0:
            bias += np.where(present, 0.5 * self._noise(ridge) * (1 - shares) ** 2 / np.maximum(self.counts, 1), 0.0)
        answered: BoolArray = np.any(means != 0, axis=1)
        weights = np.where(answered[:, None], weights - weights[present].mean(axis=0), 0.0)
        return weights, np.where(answered, bias - bias[present].mean(), 0.0)

    def text_means(self, texts: FloatArray) -> TextMeans:
        """Say what the texts (C, D) tell of the means of classes with few shots, as far as they do of the others."""
        counts, means = self.counts, self.means
        many = (counts > 0) & (2 * counts >= counts.max())
        if np.count_nonzero(many & ~without_text(texts)) < 2:
            many = counts > 0
        expected = expected_means(means, many, texts)
        known = many & ~without_text(expected)
        freedom = float(counts.sum() - np.count_nonzero(counts))
        worth = 0.0
        if freedom > 0 and known.any():
            within = (float(np.trace(self.square)) - float(counts @ np.sum(means**2, axis=1))) / freedom
            off = np.sum((means[known] - expected[known]) ** 2, axis=1)
            # The means of many shots are off the true ones, too, and their centre is one of them.
            between = float(np.sum(off)) / (len(off) - 1) - float(np.mean(within / counts[known]))
            worth = min(max(within, 0.0) / max(between, 1e-12), float(counts.max()))
        return TextMeans(expected, counts, worth)

    def _factor(self, ridge: float) -> tuple[Any, float, float]:
        """Cholesky factor of the scatter within classes plus a multiple of I, the number of shots, and the multiple.

        None for the factor where there is no scatter.
        """
        from scipy.linalg import cho_factor

        means = self.means
        scatter = self.square - (means * self.counts[:, None]).T @ means
        n, trace = float(self.counts.sum()), float(np.trace(scatter))
        if trace <= EMPTY * n:
            return None, n, 0.0
        added = ridge * trace / (n - 1)
        scatter[np.diag_indices_from(scatter)] += added
        return cho_factor(scatter, lower=True, overwrite_a=True, check_finite=False), n, added

    def _noise(self, ridge: float) -> float:
        """``tr(Σ⁻¹S)``: the squared length, in units of Σ, that a new image has from its class's mean.

        Shots that Σ is made of are nearer to their means than new images, as residuals of a regression are smaller than
        errors: generalised cross-validation corrects for the share of their freedom that Σ takes.
        """
        from scipy.linalg.lapack import dpotri

        factor, n, added = self._factor(ridge)
        freedom = n - int(np.count_nonzero(self.counts))
        if factor is None or freedom < 1:
            return 0.0
        inverse, _ = dpotri(factor[0], lower=1)
        within = len(inverse) - added * float(np.trace(inverse))  # tr((scatter + added·I)⁻¹ scatter)
        return (n - 1) * within / (freedom - within)


@dataclass(frozen=True, eq=False)
class TextMeans:
    """What texts tell of the means of classes: the likeliest mean is that of the shots and so many of the text's.

    Attributes
    ----------
    expected : ndarray of shape (C, D), float64
        See `expected_means`.
    counts : ndarray of shape (C,)
        Shots of every class.
    worth : float
        Shots that a text is worth: the variance of shots around their class's mean, over that of such means around what
        the texts let expect.
    """

    expected: FloatArray
    counts: IntArray | FloatArray
    worth: float

    @property
    def shares(self) -> FloatArray:
        """Share of the text in every class's mean, (C,): 1 without shots, 0 with at least half of the most."""
        return self.shares_of(self.counts)

    def shares_of(self, counts: IntArray | FloatArray) -> FloatArray:
        """Share of the text, had the classes so many shots, (C,)."""
        few = 2 * counts < self.counts.max()
        shares = np.where(few, self.worth / np.maximum(self.worth + counts, 1e-12), 0.0)
        result: FloatArray = np.where(without_text(self.expected), 0.0, np.where(counts == 0, 1.0, shares))
        return result

    def joined(self, means: FloatArray) -> FloatArray:
        """Means (C, D) of shots and texts; zeros for a class without either."""
        shares = self.shares[:, None]
        result: FloatArray = (1 - shares) * means + shares * np.nan_to_num(self.expected)
        return result


def expected_means(means: FloatArray, present: BoolArray, texts: FloatArray) -> FloatArray:
    """Predict the means of classes from their texts.

    A text differs from the mean of the texts in part as its class does from the mean of the classes; how much is fitted
    to the classes with shots in least squares. NaN for a class without text, and where fewer than two have both.

    Shapes: `means`, `texts` (C, D), `present` (C,) → (C, D).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.heads.gaussian import expected_means
    >>> means = np.array([[2.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    >>> expected_means(means, np.array([True, True, False]), np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.5]]))
    array([[2., 0.],
           [0., 2.],
           [0., 1.]])
    """
    known = present & ~np.isnan(texts).any(axis=1)
    if np.count_nonzero(known) < 2:
        return np.full(means.shape, np.nan)
    centre, about = means[known].mean(axis=0), texts - texts[known].mean(axis=0)
    square = float(np.sum(about[known] ** 2))
    gain = float(np.sum((means[known] - centre) * about[known])) / square if square > 0 else 0.0
    result: FloatArray = centre + max(gain, 0.0) * about
    return result


def class_frequency(labels: IntArray) -> FloatArray:
    """Shots of every shot's class over the mean of the classes that have any: 1 where classes have equally many.

    Shapes: `labels` (N,) → (N,).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.heads.gaussian import class_frequency
    >>> class_frequency(np.array([0, 0, 0, 1]))
    array([1.5, 1.5, 1.5, 0.5])
    """
    counts = np.bincount(labels)
    result: FloatArray = counts[labels] * np.count_nonzero(counts) / max(1, len(labels))
    return result


def spanned(features: Float32Array) -> tuple[FloatArray, FloatArray | None]:
    """Write features in an orthonormal basis of what they span, where shots are fewer than dimensions.

    Means and scatter lie in that span and the ridge is the same in every direction, so the Gaussian model is the same;
    its matrices are (N, N) instead of (D, D). The features are ``coordinates @ basis.T``, or just the coordinates.

    Shapes: `features` (N, D) → coordinates (N, min(N, D)), basis (D, N) or None.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.heads.gaussian import spanned
    >>> features = np.array([[3, 0, 4]], dtype=np.float32)
    >>> coordinates, basis = spanned(features)
    >>> coordinates.shape, (coordinates @ basis.T).round(6)
    ((1, 1), array([[3., 0., 4.]]))
    """
    rows = features.astype(np.float64)
    if len(rows) >= rows.shape[1]:
        return rows, None
    basis, _ = np.linalg.qr(rows.T)
    return rows @ basis, basis
