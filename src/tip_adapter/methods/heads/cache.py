"""Heads that compare a query with the key of every shot."""

from __future__ import annotations

import dataclasses
from functools import cached_property

import numpy as np

from tip_adapter.methods.heads.affinity import Cache, affinity, class_mass, tip_logits
from tip_adapter.methods.heads.base import (
    TextHead,
    log_softmax,
    row_chunks,
    unit,
    with_text,
    without_text,
    zero_shot_logits,
)
from tip_adapter.typing import Float32Array, FloatArray, IntArray


def cache_of(head: CacheHead | TipXHead | ChannelCacheHead) -> Cache:
    """Sort the keys of a head by class."""
    texts = with_text(head.zero_shot_weights, head.n_classes)
    return Cache.build(head.keys, head.labels, head.n_classes, balanced=head.balanced, with_text=texts)


@dataclasses.dataclass(frozen=True)
class CacheHead(TextHead):
    """Tip-Adapter's formula: ``s·f·Wᵀ + α·exp(-β(1 - f·Fᵀ))·Y``.

    A class with text but without keys gets, as its cache logit, that of the runner-up among the others.

    Parameters
    ----------
    keys : ndarray of shape (N, D), float32
        F.
    labels : ndarray of shape (N,), integers in [0, C)
    alpha, beta : float
        At least 0.
    balanced : bool, default=True
        Weigh classes equally whatever their number of shots; see `tip_adapter.methods.heads.affinity.Cache.build`.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.heads import CacheHead
    >>> eye = np.eye(2, dtype=np.float32)
    >>> CacheHead(2, eye, 10.0, keys=eye, labels=np.array([0, 1]), alpha=1.0, beta=1.0).logits(eye).round(2)
    array([[11.  ,  0.37],
           [ 0.37, 11.  ]], dtype=float32)
    """

    keys: Float32Array
    labels: IntArray
    alpha: float
    beta: float
    balanced: bool = True

    @cached_property
    def cache(self) -> Cache:
        """The keys sorted by class."""
        return cache_of(self)

    def logits(self, features: Float32Array) -> Float32Array:
        """Logits (B, C) of unit features (B, D)."""
        text = self.zero_shot_logits(features)
        return tip_logits(text, features, self.cache, alpha=self.alpha, beta=self.beta)


@dataclasses.dataclass(frozen=True)
class TipXHead:
    """Tip-X's formula: ``s·f·Wᵀ + (α·exp(-β(1 - f·Fᵀ)) + γ·ψ(-KL(p_f ‖ p_F)))·Y``, ``p = softmax(f·Wᵀ / .5)``.

    Parameters
    ----------
    n_classes : int
        C.
    zero_shot_weights : ndarray of shape (C, D)
        W, unit rows; rows of NaN for classes without text.
    logit_scale : float
        s.
    keys : ndarray of shape (N, D), float32
        F.
    labels : ndarray of shape (N,), integers in [0, C)
    alpha, beta, gamma : float
        At least 0.
    slope, offset : float
        ψ(x) = slope·x + offset, which brings -KL to the range of the affinities.
    balanced : bool, default=True
        As for `CacheHead`.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.heads import TipXHead
    >>> eye = np.eye(2, dtype=np.float32)
    >>> head = TipXHead(
    ...     2, eye, 10.0, keys=eye, labels=np.array([0, 1]), alpha=1.0, beta=1.0, gamma=1.0, slope=1.0, offset=1.0
    ... )
    >>> head.logits(eye).round(2)
    array([[12.  , -0.16],
           [-0.16, 12.  ]], dtype=float32)
    """

    n_classes: int
    zero_shot_weights: Float32Array
    logit_scale: float
    keys: Float32Array
    labels: IntArray
    alpha: float
    beta: float
    gamma: float
    slope: float
    offset: float
    balanced: bool = True

    @cached_property
    def cache(self) -> Cache:
        """The keys sorted by class."""
        return cache_of(self)

    @cached_property
    def key_texts(self) -> FloatArray:
        """Logarithms of the keys' probabilities over the texts, in the order of `cache`."""
        return text_log_probabilities(self.cache.keys, self.zero_shot_weights)

    def logits(self, features: Float32Array) -> Float32Array:
        """Logits (B, C) of unit features (B, D)."""
        result = zero_shot_logits(features, self.zero_shot_weights, self.logit_scale, self.n_classes)
        texts = text_log_probabilities(features, self.zero_shot_weights)
        for rows in row_chunks(len(features), len(self.keys)):
            values = np.float32(self.alpha) * affinity(features[rows], self.cache.keys, self.beta)
            scaled = self.offset - self.slope * text_divergence(texts[rows], self.key_texts)
            result[rows] += class_mass(values + self.gamma * scaled, self.cache).astype(np.float32)
        return result


TEXT_TEMPERATURE = 0.5
"""Tip-X's temperature of the probabilities over the texts."""


def text_log_probabilities(features: Float32Array, zero_shot_weights: Float32Array) -> FloatArray:
    """Log of ``softmax(f·Wᵀ / .5)`` over the classes with text.

    In float64: texts see most images nearly alike, so divergences are small differences of large numbers, which Tip-X
    then enlarges a thousandfold.

    Shapes: `features` (B, D), `zero_shot_weights` (C, D) → (B, classes with text).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.heads.cache import text_log_probabilities
    >>> eye = np.eye(2, dtype=np.float32)
    >>> text_log_probabilities(eye, eye).round(3)
    array([[-0.127, -2.127],
           [-2.127, -0.127]])
    """
    known = zero_shot_weights[~without_text(zero_shot_weights)]
    return log_softmax((features @ (known.T / np.float32(TEXT_TEMPERATURE))).astype(np.float64))


def text_divergence(queries: FloatArray, keys: FloatArray) -> FloatArray:
    """Kullback-Leibler divergence of every query's text probabilities from every key's.

    Shapes: `queries` (B, T), `keys` (N, T) → (B, N).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.heads.cache import text_divergence
    >>> logs = np.log(np.array([[0.5, 0.5], [0.25, 0.75]]))
    >>> text_divergence(logs, logs).round(3)
    array([[0.   , 0.144],
           [0.131, 0.   ]])
    """
    probabilities = np.exp(queries)
    result: FloatArray = (probabilities * queries).sum(axis=1, keepdims=True) - probabilities @ keys.T
    return result


@dataclasses.dataclass(frozen=True)
class ChannelCacheHead(TextHead):
    """APE's formula: ``s·f·Wᵀ + α·exp(-β(1 - f′·F′ᵀ))·diag(v)·Y``, ``f′`` the chosen channels of f, normalised.

    Parameters
    ----------
    keys : ndarray of shape (N, Q), float32
        F′, unit rows.
    labels : ndarray of shape (N,), integers in [0, C)
    key_weights : ndarray of shape (N,), float32
        v: how much every key counts.
    channels : ndarray of shape (Q,), integers in [0, D)
    alpha, beta : float
        At least 0.
    balanced : bool, default=True
        As for `CacheHead`.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.heads import ChannelCacheHead
    >>> eye = np.eye(2, dtype=np.float32)
    >>> ones, both = np.ones(2, dtype=np.float32), np.array([0, 1])
    >>> head = ChannelCacheHead(
    ...     2, eye, 10.0, keys=eye, labels=both, key_weights=ones, channels=both, alpha=1.0, beta=1.0
    ... )
    >>> head.logits(eye).round(2)
    array([[11.  ,  0.37],
           [ 0.37, 11.  ]], dtype=float32)
    """

    keys: Float32Array
    labels: IntArray
    key_weights: Float32Array
    channels: IntArray
    alpha: float
    beta: float
    balanced: bool = True

    @cached_property
    def cache(self) -> Cache:
        """The keys sorted by class."""
        return cache_of(self)

    def logits(self, features: Float32Array) -> Float32Array:
        """Logits (B, C) of unit features (B, D)."""
        result = self.zero_shot_logits(features)
        queries, weights = unit_channels(features, self.channels), self.key_weights[self.cache.order]
        for rows in row_chunks(len(features), len(self.keys)):
            values = affinity(queries[rows], self.cache.keys, self.beta) * weights
            result[rows] += np.float32(self.alpha) * class_mass(values, self.cache).astype(np.float32)
        return result


def unit_channels(features: Float32Array, channels: IntArray) -> Float32Array:
    """Keep some channels of features and normalise the rows; rows of zeros stay.

    Shapes: `features` (B, D), `channels` (Q,) → (B, Q).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.heads.cache import unit_channels
    >>> unit_channels(np.array([[3, 9, 4]], dtype=np.float32), np.array([0, 2]))
    array([[0.6, 0.8]], dtype=float32)
    """
    return unit(features[:, channels])


@dataclasses.dataclass(frozen=True)
class NeighbourHead:
    """Votes of the k nearest keys: ``log((votes + 1/C) / (k + 1))``.

    Parameters
    ----------
    n_classes : int
        C.
    keys : ndarray of shape (N, D), float32
        Unit rows.
    labels : ndarray of shape (N,), integers in [0, C)
    neighbours : int
        k, from 1 to N.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.heads import NeighbourHead
    >>> eye = np.eye(2, dtype=np.float32)
    >>> NeighbourHead(2, eye, np.array([0, 1]), 1).logits(eye).round(2)
    array([[-0.29, -1.39],
           [-1.39, -0.29]], dtype=float32)
    """

    n_classes: int
    keys: Float32Array
    labels: IntArray
    neighbours: int

    def logits(self, features: Float32Array) -> Float32Array:
        """Logits (B, C) of unit features (B, D)."""
        result = np.empty((len(features), self.n_classes), dtype=np.float32)
        for rows in row_chunks(len(features), len(self.keys)):
            result[rows] = neighbour_votes(features[rows] @ self.keys.T, self.labels, self.n_classes, self.neighbours)
        return result


TIE = 1e-3
"""What a vote's cosine adds to it, so that equal votes go to the nearer class."""


def neighbour_votes(cosines: Float32Array, labels: IntArray, n_classes: int, neighbours: int) -> Float32Array:
    """Logarithm of the smoothed share of votes of the nearest keys.

    Shapes: `cosines` (B, N), `labels` (N,) → (B, C).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.heads.cache import neighbour_votes
    >>> neighbour_votes(np.array([[0.9, 0.8, 0.1]], dtype=np.float32), np.array([0, 1, 1]), 2, 3).round(2)
    array([[-0.98, -0.47]], dtype=float32)
    """
    nearest = np.argpartition(-cosines, neighbours - 1, axis=1)[:, :neighbours]
    return counted_votes(np.take_along_axis(cosines, nearest, axis=1), labels[nearest], n_classes)


def counted_votes(similar: Float32Array, owners: IntArray, n_classes: int) -> Float32Array:
    """Logarithm of the smoothed share of votes of the nearest keys, once those are found.

    Shapes: `similar` (B, k), `owners` (B, k) → (B, C).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.heads.cache import counted_votes
    >>> counted_votes(np.array([[0.9, 0.8]], dtype=np.float32), np.array([[0, 1]]), 2).round(2)
    array([[-0.69, -0.69]], dtype=float32)
    """
    known = np.isfinite(similar)
    voting = np.where(known, 1 + TIE * np.where(known, similar, 0).astype(np.float64), 0)
    votes = np.zeros((len(similar), n_classes))
    np.add.at(votes, (np.arange(len(similar))[:, None], owners), voting)
    result: Float32Array = np.log((votes + 1 / n_classes) / (similar.shape[1] + 1)).astype(np.float32)
    return result
