"""Tip-X: the cache of Tip-Adapter, with a second affinity from the class probabilities that the texts give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tip_adapter.errors import InputError
from tip_adapter.methods.base import FewShotMethod
from tip_adapter.methods.heads import TipXHead
from tip_adapter.methods.heads.affinity import Cache, affinity, class_mass
from tip_adapter.methods.heads.cache import text_divergence, text_log_probabilities
from tip_adapter.methods.inputs import given_or_auto
from tip_adapter.methods.selection.weight import choose
from tip_adapter.methods.support_set import SupportSet
from tip_adapter.typing import BoolArray, Float32Array, FloatArray

BETAS = (5.5, 1.0, 2.5, 12.0, 25.0)
MIXES = (0.5, 0.0, 2.0, 8.0)
"""What "auto" tries for β and for γ/α, what is taken without evidence first."""

MAX_RANGE_SHOTS = 2000
"""Shots between which the ranges of affinity and divergence are looked up; with more, an even part of them."""


class TipX(FewShotMethod):
    """Tip-X, ``s·f·Wᵀ + α·A·Y + γ·ψ(-KL(p_f ‖ p_F))·Y``, without training.

    ``A = exp(-β(1 - f·Fᵀ))`` as for Tip-Adapter; ``p = softmax(f·Wᵀ / .5)`` are the class probabilities that the texts
    give, and ψ brings the negative divergence between query and shot to the range of A.

    Parameters
    ----------
    zero_shot_weights : array-like of shape (C, D)
        W, class text features; a row of NaN for a class without text. Required.
    class_names : sequence of str, optional
        Names of the rows of `zero_shot_weights`.
    alpha, gamma : float or "auto", default="auto"
        α and γ, weights of affinity and divergence against the text: both given, or both chosen from the shots alone.
    beta : float or "auto", default="auto"
        β, sharpness of the affinity.
    text_weight : float or "auto", default="auto"
        t, weight of the zero-shot logits. Chosen as for `TipAdapter`.
    logit_scale : float, default=100.0
        s, the inverse temperature the encoder was trained with.

    Attributes
    ----------
    alpha_, beta_, gamma_ : float
        What was chosen.
    search_ : Choice or None
        The evidence for it; None where all were given. Its `alpha` counts per mean of a class's shots, not per sum, and
        `mix` is γ/α.

    Notes
    -----
    ψ takes its range from the pairs of shots, so that a single image has a prediction; in the official code from all
    pairs of test images and shots, so that a prediction depends on the others. Classes count equally whatever their
    number of shots.

    References
    ----------
    Udandarao et al., "SuS-X: Training-Free Name-Only Transfer of Vision-Language Models", ICCV 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.closed_form.tip_x import TipX
    >>> texts = np.array([[1, 0, 0], [0, 1, 0]], dtype=np.float32)
    >>> shots = np.array([[0.6, 0, 0.8], [0.8, 0, 0.6], [0, 0.6, 0.8], [0, 0.8, 0.6]], dtype=np.float32)
    >>> method = TipX(texts, class_names=["hat", "cap"]).fit(shots, ["hat", "hat", "cap", "cap"])
    >>> method.predict([[0.6, 0, 0.8]]).tolist()
    ['hat']
    """

    needs_text = True
    _weights_of_sums = ("alpha", "gamma")

    alpha: float | Literal["auto"] = "auto"
    beta: float | Literal["auto"] = "auto"
    gamma: float | Literal["auto"] = "auto"
    text_weight: float | Literal["auto"] = "auto"

    def _fit_head(self, support: SupportSet) -> TipXHead:
        alpha, beta = given_or_auto("alpha", self.alpha), given_or_auto("beta", self.beta)
        gamma = given_or_auto("gamma", self.gamma)
        if (alpha is None) != (gamma is None):
            raise InputError("Expected alpha and gamma both as numbers or both as 'auto', got one of each")
        if support.zero_shot_weights is None:
            raise InputError("TipX needs the classes' texts: give zero_shot_weights of shape (C, D)")
        text_weight = given_or_auto("text_weight", self.text_weight)
        ranges = _Ranges.of(support.features, support.zero_shot_weights)
        self.search_ = None
        if alpha is None or beta is None or gamma is None:
            shots = len(support.labels) / len(np.unique(support.labels))
            given = None if alpha is None or gamma is None else (alpha * shots, gamma * shots)
            self.search_, _ = choose(
                support.evidence,
                lambda values: _fit(support, ranges, values["beta"], given or (1.0, values["mix"])),
                {"beta": BETAS if beta is None else (beta,)} | ({} if given else {"mix": MIXES}),
                alpha=1.0 if given else None,
                text_weight=text_weight,
            )
            beta, text_weight = self.search_.parameters["beta"], self.search_.text_weight
            if alpha is None or gamma is None:
                alpha = self.search_.alpha / shots
                gamma = alpha * self.search_.parameters["mix"]
        self.alpha_, self.beta_, self.gamma_ = alpha, beta, gamma
        self.text_weight_ = 1.0 if text_weight is None else text_weight
        slope, offset = ranges.rescaling(beta)
        return TipXHead(
            support.n_classes,
            support.zero_shot_weights,
            support.logit_scale * self.text_weight_,
            keys=support.features,
            labels=support.labels,
            alpha=alpha,
            beta=beta,
            gamma=gamma,
            slope=slope,
            offset=offset,
        )


@dataclass(frozen=True)
class _Ranges:
    """Least and largest cosine and divergence between two different shots."""

    cosines: tuple[float, float]
    divergences: tuple[float, float]

    @classmethod
    def of(cls, features: Float32Array, zero_shot_weights: Float32Array) -> _Ranges:
        # In an order that does not depend on that of the files.
        order = np.lexsort(features.T[:3][::-1])
        rows = order[np.linspace(0, len(order) - 1, min(len(order), MAX_RANGE_SHOTS)).astype(np.intp)]
        texts = text_log_probabilities(features[rows], zero_shot_weights)
        other = ~np.eye(len(rows), dtype=bool)
        cosines, divergences = (features[rows] @ features[rows].T)[other], text_divergence(texts, texts)[other]
        if not len(cosines):
            return cls((0.0, 0.0), (0.0, 0.0))
        return cls((float(cosines.min()), float(cosines.max())), (float(divergences.min()), float(divergences.max())))

    def rescaling(self, beta: float) -> tuple[float, float]:
        """Slope and offset of ψ: the largest divergence becomes the least affinity, the least the largest."""
        low, high = (float(np.exp(beta * (cosine - 1.0))) for cosine in self.cosines)
        width = self.divergences[1] - self.divergences[0]
        if width <= 1e-9:
            return 0.0, 0.0
        slope = (high - low) / width
        return slope, low + slope * self.divergences[1]


def _fit(
    support: SupportSet, ranges: _Ranges, beta: float, weights: tuple[float, float]
) -> Callable[[BoolArray], Callable[[Float32Array], FloatArray]]:
    """Weigh the means over every class's kept shots of affinity and rescaled divergence."""
    text_weights = np.asarray(support.zero_shot_weights)
    texts = text_log_probabilities(support.features, text_weights)
    slope, offset = ranges.rescaling(beta)

    def fit(kept: BoolArray) -> Callable[[Float32Array], FloatArray]:
        cache = Cache.build(support.features[kept], support.labels[kept], support.n_classes)
        key_texts = texts[kept][cache.order]

        def logits(queries: Float32Array) -> FloatArray:
            seen = text_log_probabilities(queries, text_weights)
            scaled = offset - slope * text_divergence(seen, key_texts)
            values = np.float32(weights[0]) * affinity(queries, cache.keys, beta) + weights[1] * scaled
            return class_mass(values, cache) * (len(cache.classes) / len(cache.keys))

        return logits

    return fit
