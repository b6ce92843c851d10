"""Decompose a head's logits into the parts of the text, the shots and the rest.

The logits of a cache model are a sum of one text term and one term per shot, so this is no approximation: it is the
sum, written out. The same holds for kernel regressions, and for class means, which are sums of shots themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tip_adapter.explain.cache_terms import CacheSum, TopKSum
from tip_adapter.explain.shot_terms import GaussianSum, KernelSum, NeighbourVotes, PrototypeSum, ShotPart
from tip_adapter.methods.heads import (
    CacheHead,
    ChannelCacheHead,
    Head,
    KernelHead,
    LinearHead,
    NeighbourHead,
    TipXHead,
    TopKCacheHead,
    zero_shot_logits,
)
from tip_adapter.methods.heads.affinity import affinity
from tip_adapter.methods.heads.base import symmetric_inverse, unit, with_text
from tip_adapter.methods.heads.cache import text_divergence, text_log_probabilities, unit_channels
from tip_adapter.methods.heads.gaussian import Moments, TextMeans, class_frequency
from tip_adapter.methods.heads.linear import kernel_residuals
from tip_adapter.typing import Float32Array, FloatArray, IntArray

SAME = 1e-4
"""Largest difference, relative, between the weights of a head and what its shots should have made of them."""

ROUNDING = 1e-5
"""What is that small beside the largest bias is rounding."""

MAX_SOLVED = 4000
"""Most shots whose kernel system is solved again, which takes a second or two the first time."""

LOST = -1e4
"""Logit of a class left with neither text nor shots, by methods that never answer with such a class."""


@dataclass(frozen=True, eq=False)
class Contributions:
    """Logits taken apart: the sum of text, rest and shots."""

    text: FloatArray
    """(B, C): zero-shot logits (and what rules out classes with neither text nor shots)."""
    rest: FloatArray | None
    """(B, C), or None: what belongs to no single shot; None where all of it does."""
    parts: tuple[ShotPart, ...]
    """What the shots add; none where the method has no such terms."""
    n_shots: int

    @property
    def exact(self) -> bool:
        """Whether text and shots are all there is, as a sum."""
        return self.rest is None and self.is_sum

    @property
    def is_sum(self) -> bool:
        """Whether what the shots add is one term per shot."""
        return all(part.is_sum for part in self.parts)

    def logits(self) -> FloatArray:
        """Add everything up.

        Shapes: → (B, C).
        """
        base = self.text if self.rest is None else self.text + self.rest
        total: FloatArray = base + sum((part.logits() for part in self.parts), np.zeros_like(base))
        return total

    def to_class(self, query: int, column: int) -> FloatArray:
        """What every shot adds to one class's logit of one query.

        Shapes: → (N,).
        """
        terms: FloatArray = sum((part.to_class(query, column) for part in self.parts), np.zeros(self.n_shots))
        return terms

    def taken_from_class(self, query: int, column: int) -> FloatArray:
        """About what leaving each shot out takes from one class's logit, to put shots in order.

        It is what the shot adds, but for kernels whose coefficients are solved again, where others step in for it.

        Shapes: → (N,).
        """
        terms = (getattr(part, "taken_from_class", part.to_class)(query, column) for part in self.parts)
        total: FloatArray = sum(terms, np.zeros(self.n_shots))
        return total

    def logits_without(self, query: int, shot: int) -> FloatArray:
        """Logits of one query without one of the shots; whatever was fitted to all of them stays as it is.

        Shapes: → (C,).
        """
        base = self.text[query] if self.rest is None else self.text[query] + self.rest[query]
        row: FloatArray = base + sum((part.logits_without(query, shot) for part in self.parts), np.zeros_like(base))
        return row


@dataclass(frozen=True, eq=False)
class TakenApart:
    """A head, ready to be taken apart for any query.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.explain.terms import TakenApart
    >>> from tip_adapter.methods.heads import CacheHead
    >>> eye, labels = np.eye(2, dtype=np.float32), np.array([0, 1])
    >>> head = CacheHead(2, eye, 10.0, keys=eye, labels=labels, alpha=1.0, beta=1.0)
    >>> parts = TakenApart(head, eye, labels).contributions(eye[:1])
    >>> parts.text, parts.to_class(0, 0), parts.logits_without(0, 0)
    (array([[10.,  0.]]), array([1., 0.]), array([10.36787942,  0.36787942]))
    """

    head: Head
    features: Float32Array
    """(N, D): the shots the head was fitted to, unit rows."""
    labels: IntArray
    linear: str | None = None
    """What its linear part is known to be made of. It is checked against the shots."""
    logit_scale: float | None = None
    """s of the encoder, in whose units kernel coefficients were fitted. Default: the head's."""
    ridge: float = 1.0
    """Of the Gaussians' covariance."""

    def contributions(self, queries: Float32Array) -> Contributions:
        """Take the logits of queries apart; for heads that are no sum over shots, into texts and a rest.

        All B·N terms are held at once, so give a few queries at a time.

        Shapes: `queries` (B, D).
        """
        head, n_shots = self.head, len(self.labels)
        if isinstance(head, CacheHead | ChannelCacheHead | TipXHead):
            texts = with_text(head.zero_shot_weights, head.n_classes)
            part = CacheSum(_values(head, queries), head.labels, head.n_classes, head.balanced, texts)
            return Contributions(_text_term(head, queries), None, (part,), n_shots)
        if isinstance(head, TopKCacheHead):
            texts, cosines = with_text(head.zero_shot_weights, head.n_classes), queries @ head.keys.T
            values = head.alpha * np.exp(head.beta * (cosines.astype(np.float64) - 1.0))
            every = CacheSum(values, head.labels, head.n_classes, head.balanced, texts)
            nearest = TopKSum(every, cosines, head.neighbours)
            return Contributions(_text_term(head, queries), None, (nearest,), n_shots)
        if isinstance(head, NeighbourHead):
            votes = NeighbourVotes(queries @ head.keys.T, head.labels, head.n_classes, head.neighbours)
            return Contributions(np.zeros((len(queries), head.n_classes)), None, (votes,), n_shots)
        if isinstance(head, LinearHead | KernelHead):
            return self._linear_contributions(head, queries)
        logits = head.logits(queries).astype(np.float64)
        text = _text_term(head, queries) if hasattr(head, "zero_shot_weights") else np.zeros_like(logits)
        return Contributions(text, logits - text, (), n_shots)

    def _linear_contributions(self, head: LinearHead | KernelHead, queries: Float32Array) -> Contributions:
        text, parts, rest = _text_term(head, queries), list[ShotPart](), None
        wide = queries.astype(np.float64)
        if isinstance(head, KernelHead):
            parts.append(
                KernelSum(np.exp(head.beta * (wide @ self._wide_keys.T - 1.0)), self._wide_coefficients, self._inverse)
            )
        if self._split is not None:
            make, constant, of_text = self._split
            text = text + constant
            if of_text is not None:
                text = text + wide @ of_text.T
            parts.append(make(wide))
        elif head.weights is not None:
            rest = wide @ head.weights.T.astype(np.float64)
            if head.bias is not None:
                rest += head.bias
        elif head.bias is not None:
            # What a class gets whatever the query, as it gets its text.
            text = text + head.bias
        return Contributions(text, rest, tuple(parts), len(self.labels))

    @cached_property
    def _wide_keys(self) -> FloatArray:
        keys: FloatArray = self.head.keys.astype(np.float64)  # type: ignore[attr-defined]
        return keys

    @cached_property
    def _wide_coefficients(self) -> FloatArray:
        wide: FloatArray = self.head.coefficients.astype(np.float64)  # type: ignore[attr-defined]
        return wide

    @cached_property
    def _inverse(self) -> FloatArray | None:
        """``(K/λ + I)⁻¹`` of the system that the coefficients solve; None where they solve none, or it is too large."""
        head = self.head
        if not isinstance(head, KernelHead) or not 0 < len(head.keys) <= MAX_SOLVED:
            return None
        scale = head.logit_scale if self.logit_scale is None else self.logit_scale
        text = zero_shot_logits(head.keys, head.zero_shot_weights, scale, head.n_classes).astype(np.float64)
        labels = kernel_residuals(self.labels, np.zeros_like(text), scale)
        explained = labels - kernel_residuals(self.labels, text, scale)
        return _ridge_inverse(
            self._wide_keys, head.beta, head.coefficients, labels, explained, class_frequency(self.labels)
        )

    @property
    def solves_again(self) -> bool:
        """Whether, where a shot is left out, the kernel coefficients of the others are solved again."""
        return self._inverse is not None

    @cached_property
    def _split(self) -> Split:
        """How the linear part is made of the shots, what remains of its bias and weights; None where it is not."""
        weights, bias = getattr(self.head, "weights", None), getattr(self.head, "bias", None)
        if self.linear is None or weights is None or bias is None or not len(self.labels):
            return None
        # A class without shots has a bias of its own, where it has no text either.
        texts = getattr(self.head, "zero_shot_weights", None)
        lost = 0.0 if texts is not None else LOST
        wide = self.features.astype(np.float64), self.labels, weights.astype(np.float64), bias.astype(np.float64), lost
        return _gaussian(*wide, self.ridge, texts) if self.linear == "gaussian" else _prototype(*wide)


Split = tuple[Callable[[FloatArray], ShotPart], FloatArray, FloatArray | None] | None


def _gaussian(
    features: FloatArray,
    labels: IntArray,
    weights: FloatArray,
    bias: FloatArray,
    lost: float,
    ridge: float,
    texts: Float32Array | None,
) -> Split:
    moments = Moments.of(features, labels, len(weights))
    solve, present = moments.precision(ridge), moments.counts > 0
    text_means = TextMeans(np.full_like(moments.means, np.nan), moments.counts, 0.0)
    if texts is not None and 2 * (moments.counts.min() - 1) < moments.counts.max():
        # A class has few shots, or would have without one of them.
        text_means = moments.text_means(texts.astype(np.float64))
    shares, means = text_means.shares, text_means.joined(moments.means)
    solved, solved_texts = solve(means), solve(np.nan_to_num(text_means.expected))
    made = solved - solved[present].mean(axis=0)
    made[~present & (shares == 0)] = 0.0
    scale = _proportion(weights, made)
    if scale is None:
        return None
    own = np.einsum("nd,nd->n", features, solved[labels])
    offsets = -0.5 * (1 - shares) * np.einsum("cd,cd->c", solved, moments.means)
    offsets -= offsets[present].mean()
    # What corrects texts, or the length of means of few shots (see `Moments.classifier`), belongs to no single shot.
    corrected = bias - scale * offsets
    corrected[np.abs(corrected) < ROUNDING * np.abs(bias).max()] = 0.0
    of_texts = scale * shares[:, None] * solved_texts
    text_offsets = -0.5 * scale * shares * np.einsum("cd,cd->c", solved, np.nan_to_num(text_means.expected))

    def part(queries: FloatArray) -> GaussianSum:
        by_text = queries @ of_texts.T + text_offsets
        sums = moments.means, solve(moments.means)
        return GaussianSum(
            queries, solve(queries), features, labels, *sums, own, solve, scale, lost, text_means, solved_texts, by_text
        )

    of_text = None
    if shares.any():
        of_text = np.where(present[:, None], of_texts - of_texts[present].mean(axis=0), weights)
    return part, np.where(present, corrected, bias), of_text


def _prototype(features: FloatArray, labels: IntArray, weights: FloatArray, bias: FloatArray, lost: float) -> Split:
    sums = np.zeros(weights.shape)
    np.add.at(sums, labels, features)
    scale = _proportion(weights, unit(sums))
    if scale is None:
        return None
    return lambda queries: PrototypeSum(queries @ features.T, features, labels, sums, scale, lost), bias, None


def _ridge_inverse(
    keys: FloatArray,
    beta: float,
    coefficients: Float32Array,
    labels: FloatArray,
    explained: FloatArray,
    frequencies: FloatArray,
) -> FloatArray | None:
    """Invert the matrix of ``(K/λ + diag(frequencies))·A = α·(Y - t·F·Wᵀ)``; None where no λ > 0, α and t solve it."""
    system, solved = np.exp(beta * (keys @ keys.T - 1.0)), coefficients.astype(np.float64)
    smooth = system @ solved
    # diag(frequencies)·A = α·Y - α·t·F·Wᵀ - K·A/λ: three unknowns, N·C equations.
    columns = np.stack([labels.ravel(), -explained.ravel(), -smooth.ravel()], axis=1)
    weighed = (frequencies[:, None] * solved).ravel()
    found, *_ = np.linalg.lstsq(columns, weighed, rcond=None)
    inverse_ridge = float(found[2])
    missed = np.abs(columns @ found - weighed).max(initial=0.0)
    if not inverse_ridge > 0 or missed > SAME * np.abs(weighed).max(initial=0.0):
        return None
    system *= inverse_ridge
    system[np.diag_indices_from(system)] += frequencies
    return symmetric_inverse(system)


def _proportion(weights: FloatArray, made: FloatArray) -> float | None:
    """What `made` must be multiplied by to be `weights`; None where nothing makes them equal."""
    square = float(np.vdot(made, made))
    scale = float(np.vdot(weights, made)) / square if square > 0 else 0.0
    same = np.abs(weights - scale * made).max() <= SAME * np.abs(weights).max()
    return scale if same else None


def _text_term(head: Any, queries: Float32Array) -> FloatArray:
    return zero_shot_logits(queries, head.zero_shot_weights, head.logit_scale, head.n_classes).astype(np.float64)


def _values(head: CacheHead | ChannelCacheHead | TipXHead, queries: Float32Array) -> FloatArray:
    """How strongly every key speaks for its class, before classes are weighed, (B, N)."""
    # Roles swapped, since `affinity` copies its second argument, and there are more keys than queries.
    if isinstance(head, ChannelCacheHead):
        nearness = affinity(head.keys, unit_channels(queries, head.channels), head.beta).T
        return np.float32(head.alpha) * nearness * head.key_weights
    nearness = np.float32(head.alpha) * affinity(head.keys, queries, head.beta).T
    if isinstance(head, CacheHead):
        return nearness
    texts = text_log_probabilities(queries, head.zero_shot_weights)
    divergence = np.empty((len(queries), len(head.keys)))
    divergence[:, head.cache.order] = text_divergence(texts, head.key_texts)
    return nearness + head.gamma * (head.offset - head.slope * divergence)
