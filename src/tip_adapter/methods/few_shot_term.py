"""Describe what a method adds to the zero-shot logits, so that it can be used alone or combined with another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tip_adapter.methods.heads import KernelHead, LinearHead
from tip_adapter.methods.selection.class_offsets import class_offsets
from tip_adapter.methods.selection.evidence import Fit
from tip_adapter.methods.support_set import SupportSet
from tip_adapter.typing import BoolArray, Float32Array, FloatArray

ABSENT_LOGIT = -1e4
"""Logit of a class that has no shots, for methods that do not ask its text: it is never predicted."""


@dataclass(frozen=True, eq=False)
class FewShotTerm:
    """A term beside the zero-shot logits, fitted to all shots: linear in the feature, or in its kernels to the shots.

    Attributes
    ----------
    values : dict of str to float
        Its hyper-parameters, α among them.
    seen : ndarray of shape (B, C), float64
        What it adds for the images that decide, by fits that have not seen them.
    fit : callable
        Fit it to some of the shots; see `tip_adapter.methods.selection.evidence.Fit`.
    bias : ndarray of shape (C,), float64
    weights : ndarray of shape (C, D), float64, or None
    coefficients : ndarray of shape (N, C), float64, or None
    search : Any
        How the hyper-parameters were chosen; None where all were given.
    """

    values: dict[str, float]
    seen: FloatArray
    fit: Fit
    bias: FloatArray
    weights: FloatArray | None = None
    coefficients: FloatArray | None = None
    search: Any = None


def scaled(alpha: float, fit: Fit) -> Fit:
    """Multiply what a term adds."""

    def fitted(kept: BoolArray) -> Callable[[Float32Array], FloatArray]:
        answer = fit(kept)
        return lambda queries: alpha * answer(queries)

    return fitted


def combined_head(
    support: SupportSet,
    terms: Sequence[FewShotTerm],
    shares: Sequence[float] = (1.0,),
    offsets: FloatArray | float = 0.0,
) -> LinearHead | KernelHead:
    """One formula for the weighed sum of the zero-shot logits and terms, of which at most one has kernels.

    What classes with few shots lose to those with many is made up for (`class_offsets`), `offsets` are added.
    """
    bias = sum((share * term.bias for share, term in zip(shares, terms, strict=True)), np.zeros(support.n_classes))
    # Of the keys: an edit fits the head again, and may have no more than they.
    bias += offsets + class_offsets(replace(support, queries=None), _together(terms, shares))
    if support.zero_shot_weights is None:
        bias = np.where(support.counts == 0, ABSENT_LOGIT, bias)
    weights, coefficients, beta = None, None, 0.0
    for share, term in zip(shares, terms, strict=True):
        if term.weights is not None:
            weights = (share * term.weights).astype(np.float32)
        if term.coefficients is not None:
            coefficients, beta = (share * term.coefficients).astype(np.float32), term.values["beta"]
    scale = support.text_scale
    if coefficients is None:
        return LinearHead(
            support.n_classes, support.zero_shot_weights, scale, weights=weights, bias=bias.astype(np.float32)
        )
    return KernelHead(
        support.n_classes,
        support.zero_shot_weights,
        scale,
        keys=support.features,
        coefficients=coefficients,
        beta=beta,
        weights=weights,
        bias=bias.astype(np.float32) if weights is not None or bias.any() else None,
    )


def _together(terms: Sequence[FewShotTerm], shares: Sequence[float]) -> Fit:
    def fit(kept: BoolArray) -> Callable[[Float32Array], FloatArray]:
        answers = [(share, term.fit(kept)) for share, term in zip(shares, terms, strict=True) if share]

        def together(queries: Float32Array) -> FloatArray:
            total: FloatArray = np.zeros((len(queries), 1))
            for share, answer in answers:
                total = total + share * answer(queries)
            return total

        return together

    return fit
