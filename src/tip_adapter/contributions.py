"""A head and features of photos in; what the text and every shot add to each logit out.

The logits of a cache model are a sum of one text term and one term per shot, so this is no approximation: it is the
sum, written out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from tip_adapter.cache_model import affinity
from tip_adapter.heads import CacheHead, ChannelCacheHead, Head, KernelHead, LinearHead, TipXHead, zero_shot_logits
from tip_adapter.heads.cache import text_divergence, text_log_probabilities, unit_channels
from tip_adapter.typing import Float32Array, FloatArray, IntArray

__all__ = ["Contributions", "contributions"]


@dataclass(frozen=True, eq=False)
class Contributions:
    """Logits taken apart: the sum of text, rest and shots.

    Attributes
    ----------
    text : ndarray of shape (B, C), float64
        Zero-shot logits.
    rest : ndarray of shape (B, C), float64, or None
        What belongs to no single shot; None where all of it does.
    values : ndarray of shape (B, N)
        How strongly every shot speaks, columns as the shots of the model; N is 0 where the method has no such terms.
    labels : ndarray of shape (N,)
    n_classes : int
        C.
    coefficients : ndarray of shape (N, C), or None
        What a shot says about every class, per unit of its value. None: it speaks for its own class.
    balanced : bool
        Whether a shot of its own class counts ``mean shots per class / shots of its class``.
    """

    text: FloatArray
    rest: FloatArray | None
    values: FloatArray
    labels: IntArray
    n_classes: int
    coefficients: FloatArray | None = None
    balanced: bool = False

    @property
    def exact(self) -> bool:
        """Whether text and shots are all there is."""
        return self.rest is None

    @cached_property
    def _counts(self) -> IntArray:
        return np.bincount(self.labels, minlength=self.n_classes)

    @cached_property
    def _mass(self) -> FloatArray:
        """Sum of the values of every class's shots, (B, C)."""
        return np.array([np.bincount(self.labels, weights=row, minlength=self.n_classes) for row in self.values])

    @property
    def _base(self) -> FloatArray:
        return self.text if self.rest is None else self.text + self.rest

    def logits(self) -> FloatArray:
        """Add everything up.

        Returns
        -------
        ndarray of shape (B, C), float64
        """
        if self.coefficients is not None:
            return self._base + self.values.astype(np.float64) @ self.coefficients
        return self._base + self._mass * _class_weights(self._counts, self.balanced)

    def to_class(self, columns: IntArray) -> FloatArray:
        """What every shot adds to one class's logit of each query.

        Parameters
        ----------
        columns : ndarray of shape (B,), integers in [0, C)

        Returns
        -------
        ndarray of shape (B, N), float64
        """
        values = self.values.astype(np.float64)
        if self.coefficients is not None:
            return values * self.coefficients[:, columns].T
        weights = _class_weights(self._counts, self.balanced)[self.labels]
        return np.where(self.labels == columns[:, None], values * weights, 0.0)

    def of_query(self, query: int) -> Contributions:
        """The same of one query alone.

        Parameters
        ----------
        query : int

        Returns
        -------
        Contributions
        """
        one = slice(query, query + 1)
        rest = None if self.rest is None else self.rest[one]
        return replace(self, text=self.text[one], rest=rest, values=self.values[one])

    def logits_without(self, query: int, shot: int) -> FloatArray:
        """Logits of one query without one of the shots; whatever was fitted to all of them stays as it is.

        Parameters
        ----------
        query, shot : int

        Returns
        -------
        ndarray of shape (C,), float64
        """
        value = float(self.values[query, shot])
        if self.coefficients is not None:
            row: FloatArray = self._all[query] - value * self.coefficients[shot]
            return row
        counts, mass = self._counts.copy(), self._mass[query].copy()
        counts[self.labels[shot]] -= 1
        # The last shot of a class leaves nothing, not the rounding error of a difference.
        mass[self.labels[shot]] = mass[self.labels[shot]] - value if counts[self.labels[shot]] else 0.0
        result: FloatArray = self._base[query] + mass * _class_weights(counts, self.balanced)
        return result

    @cached_property
    def _all(self) -> FloatArray:
        return self.logits()


def _class_weights(counts: IntArray, balanced: bool) -> FloatArray:
    """What a shot of every class counts, as in `tip_adapter.cache_model.Cache.build`."""
    if not balanced:
        return np.ones(len(counts))
    present = np.count_nonzero(counts)
    return np.divide(counts.sum(), present * counts, out=np.zeros(len(counts)), where=counts > 0)


def contributions(head: Head, features: Float32Array) -> Contributions:
    """Take the logits of a head apart.

    Parameters
    ----------
    head : Head
    features : ndarray of shape (B, D), float32
        Unit rows. All B·N terms are held at once, so give a few at a time.

    Returns
    -------
    Contributions
        With a rest, and no shots, for heads that are no sum over shots.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.contributions import contributions
    >>> from tip_adapter.heads import CacheHead
    >>> eye = np.eye(2, dtype=np.float32)
    >>> head = CacheHead(2, eye, 10.0, keys=eye, labels=np.array([0, 1]), alpha=1.0, beta=1.0)
    >>> parts = contributions(head, eye[:1])
    >>> parts.text, parts.to_class(np.array([0])), parts.logits_without(0, 0)
    (array([[10.,  0.]]), array([[1., 0.]]), array([10.        ,  0.36787945]))
    """
    if isinstance(head, KernelHead):
        linear = LinearHead(head.n_classes, head.zero_shot_weights, head.logit_scale, head.weights, head.bias)
        text, rest = _linear_terms(linear, features)
        # Roles swapped, since `affinity` copies its second argument, and there are more keys than queries.
        values = affinity(head.keys, features, head.beta).T
        labels = np.zeros(len(head.keys), dtype=np.intp)
        return Contributions(text, rest, values, labels, head.n_classes, head.coefficients.astype(np.float64))
    if isinstance(head, CacheHead | ChannelCacheHead | TipXHead):
        text = _text_term(head, features)
        return Contributions(
            text, None, _values(head, features), head.labels, head.n_classes, balanced=head.balanced
        )
    if isinstance(head, LinearHead):
        text, rest = _linear_terms(head, features)
    else:
        logits = head.logits(features).astype(np.float64)
        text = _text_term(head, features) if hasattr(head, "zero_shot_weights") else np.zeros_like(logits)
        rest = logits - text
    no_shots = np.zeros(0, dtype=np.intp)
    return Contributions(text, rest, np.zeros((len(features), 0)), no_shots, text.shape[1])


def _text_term(head: Any, features: Float32Array) -> FloatArray:
    return zero_shot_logits(features, head.zero_shot_weights, head.logit_scale, head.n_classes).astype(np.float64)


def _linear_terms(head: LinearHead, features: Float32Array) -> tuple[FloatArray, FloatArray | None]:
    """The text's term and the linear one, None where there is none."""
    text = _text_term(head, features)
    if head.weights is None and head.bias is None:
        return text, None
    rest = np.zeros_like(text)
    if head.weights is not None:
        rest += features @ head.weights.T
    if head.bias is not None:
        rest += head.bias
    return text, rest


def _values(head: CacheHead | ChannelCacheHead | TipXHead, features: Float32Array) -> FloatArray:
    """How strongly every key speaks for its class, before classes are weighed, (B, N)."""
    if isinstance(head, CacheHead):
        return np.float32(head.alpha) * affinity(head.keys, features, head.beta).T
    if isinstance(head, ChannelCacheHead):
        nearness = affinity(head.keys, unit_channels(features, head.channels), head.beta).T
        return np.float32(head.alpha) * nearness * head.key_weights
    queries = text_log_probabilities(features, head.zero_shot_weights)
    divergence = np.empty((len(features), len(head.keys)), dtype=np.float32)
    divergence[:, head.cache.order] = text_divergence(queries, head.key_texts)
    scaled = np.float32(head.offset) - np.float32(head.slope) * divergence
    return np.float32(head.alpha) * affinity(head.keys, features, head.beta).T + np.float32(head.gamma) * scaled
