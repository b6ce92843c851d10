"""APE: a cache on the channels that discriminate between the classes, with keys weighted by the texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from tip_adapter.errors import InputError
from tip_adapter.methods.base import FewShotMethod
from tip_adapter.methods.closed_form.prototype import unit_means
from tip_adapter.methods.heads import ChannelCacheHead
from tip_adapter.methods.heads.affinity import Cache, affinity, class_mass
from tip_adapter.methods.heads.base import log_sum_exp, without_text
from tip_adapter.methods.heads.cache import unit_channels
from tip_adapter.methods.inputs import given_or_auto
from tip_adapter.methods.selection.weight import choose
from tip_adapter.methods.support_set import SupportSet
from tip_adapter.typing import BoolArray, Float32Array, FloatArray, IntArray

BETAS = (5.5, 1.0, 2.5, 12.0, 25.0)
FRACTIONS = (0.75, 0.5, 1.0)
GAMMAS = (1.0, 0.0, 5.0, 20.0)
"""What "auto" tries for β, the fraction of channels, and γ; what is taken without evidence first."""

SIMILARITY_SHARE = 0.7
"""How much of a channel's score is low similarity between classes; the rest is high variance."""


MAX_EXPONENT = 600.0
"""Largest exponent of a key's weight, with room in float64 for the sums of many."""


class APE(FewShotMethod):
    """Adaptive prior refinement, ``s·f·Wᵀ + α·A(f′, F′)·(Y ⊙ exp(γ·KL(onehot ‖ softmax(F′W′ᵀ))))``, without training.

    ``f′, F′, W′`` are the channels with the best `channel_scores`, normalised again; ``A`` is Tip-Adapter's affinity. A
    shot that the texts classify wrongly counts more.

    Parameters
    ----------
    zero_shot_weights : array-like of shape (C, D)
        W, class text features; a row of NaN for a class without text. Required.
    class_names : sequence of str, optional
        Names of the rows of `zero_shot_weights`.
    alpha : float or "auto", default="auto"
        α, weight of the cache against the text. "auto" chooses it, and the others, from the shots alone.
    beta : float or "auto", default="auto"
        β, sharpness of the affinity.
    gamma : float or "auto", default="auto"
        γ, how much more a shot counts that the texts classify wrongly.
    channels : int or "auto", default="auto"
        Q, how many channels are kept, from 1 to D.
    text_weight : float or "auto", default="auto"
        t, weight of the zero-shot logits. Chosen as for `TipAdapter`.
    logit_scale : float, default=100.0
        s, the inverse temperature the encoder was trained with.

    Attributes
    ----------
    alpha_, beta_, gamma_ : float
        What was chosen.
    channels_ : int
        How many channels were kept.
    search_ : Choice or None
        The evidence for it; None where all were given. Its `alpha` counts per mean of a class's shots, not per sum,
        with key weights of mean 1.

    Notes
    -----
    Classes count equally whatever their number of shots. Two things differ from the official code: channels are scored
    on texts and on class means of the shots alike, .7 similarity to .3 variance (there similarity between the texts, or
    texts and shots, and variance over texts, in shares set per data set), and the divergence is in nats (there in
    bits, so that its γ is this one times ln 2).

    References
    ----------
    Zhu et al., "Not All Features Matter: Enhancing Few-shot CLIP with Adaptive Prior Refinement", ICCV 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.closed_form.ape import APE
    >>> texts = np.array([[1, 0, 0], [0, 1, 0]], dtype=np.float32)
    >>> shots = np.array([[0.6, 0, 0.8], [0.8, 0, 0.6], [0, 0.6, 0.8], [0, 0.8, 0.6]], dtype=np.float32)
    >>> method = APE(texts, class_names=["hat", "cap"]).fit(shots, ["hat", "hat", "cap", "cap"])
    >>> method.predict([[0.6, 0, 0.8]]).tolist()
    ['hat']
    """

    needs_text = True
    _weights_of_sums = ("alpha",)

    alpha: float | Literal["auto"] = "auto"
    beta: float | Literal["auto"] = "auto"
    gamma: float | Literal["auto"] = "auto"
    channels: int | Literal["auto"] = "auto"
    text_weight: float | Literal["auto"] = "auto"

    def _fit_head(self, support: SupportSet) -> ChannelCacheHead:
        alpha, axes = given_or_auto("alpha", self.alpha), self._axes(support.features.shape[1])
        text_weight = given_or_auto("text_weight", self.text_weight)
        shots = len(support.labels) / len(np.unique(support.labels))
        self.search_ = None
        values = {name: tried[0] for name, tried in axes.items()}
        if alpha is None or any(len(tried) > 1 for tried in axes.values()):
            # A given α counts sums of the paper's key weights; the choice is made on means of weights of mean 1.
            given = alpha is not None
            self.search_, _ = choose(
                support.evidence,
                lambda values: _fit(support, values, scaled=given),
                axes,
                alpha=None if alpha is None else alpha * shots,
                text_weight=text_weight,
            )
            values, text_weight = self.search_.parameters, self.search_.text_weight
        keys, weights, channels = _refined(support, np.ones(len(support.labels), dtype=bool), values)
        # With many classes weights are huge and α tiny, beyond float32: their mean goes from the one to the other.
        mean = float(weights.mean())
        if alpha is None and self.search_ is not None:
            alpha = self.search_.alpha / shots / mean
        self.alpha_, self.beta_, self.gamma_ = alpha, values["beta"], values["gamma"]
        self.channels_ = len(channels)
        self.text_weight_ = 1.0 if text_weight is None else text_weight
        return ChannelCacheHead(
            support.n_classes,
            support.zero_shot_weights,
            support.logit_scale * self.text_weight_,
            keys=keys,
            labels=support.labels,
            key_weights=(weights / mean).astype(np.float32),
            channels=channels,
            alpha=float(alpha or 0.0) * mean,
            beta=values["beta"],
        )

    def _axes(self, dim: int) -> dict[str, Sequence[float]]:
        beta, gamma = given_or_auto("beta", self.beta), given_or_auto("gamma", self.gamma)
        axes: dict[str, Sequence[float]] = {
            "beta": BETAS if beta is None else (beta,),
            "gamma": GAMMAS if gamma is None else (gamma,),
        }
        if self.channels == "auto":
            kept = [max(1, round(fraction * dim)) for fraction in FRACTIONS]
            return axes | {"channels": list(dict.fromkeys(kept))}
        if not isinstance(self.channels, int | np.integer) or not 1 <= self.channels <= dim:
            raise InputError(
                f"Expected channels to be a whole number from 1 to {dim} (the features' dimensions), or 'auto', "
                f"got {self.channels!r}"
            )
        return axes | {"channels": (int(self.channels),)}


def channel_scores(zero_shot_weights: Float32Array, means: Float32Array) -> FloatArray:
    """How well every channel tells classes apart: ``-.7·S + .3·V``, added up for texts and class means of the shots.

    ``S`` is the mean over pairs of different classes of the product of their values on the channel, ``V`` the variance
    over classes.

    Shapes: (classes with text or shots, D) → (D,).

    References
    ----------
    Zhu et al., APE, ICCV 2023, section 3.1.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.closed_form.ape import channel_scores
    >>> rows = np.array([[0.6, 0.8, 0.0], [-0.6, 0.8, 0.0]])
    >>> channel_scores(rows, rows).round(3)
    array([ 0.72 , -0.896,  0.   ])
    """
    scores = np.zeros(zero_shot_weights.shape[1])
    for rows in (zero_shot_weights.astype(np.float64), means.astype(np.float64)):
        if len(rows) > 1:
            pairs = rows.sum(axis=0) ** 2 - (rows**2).sum(axis=0)
            similarity = pairs / (len(rows) * (len(rows) - 1))
            scores += (1 - SIMILARITY_SHARE) * rows.var(axis=0) - SIMILARITY_SHARE * similarity
    return scores


def _refined(
    support: SupportSet, kept: BoolArray, values: dict[str, float]
) -> tuple[Float32Array, FloatArray, IntArray]:
    """Keys (N, Q), their weights (N,) in float64 and the channels (Q,) from the kept shots."""
    features, labels, texts = support.features[kept], support.labels[kept], np.asarray(support.zero_shot_weights)
    known = ~without_text(texts)
    means = unit_means(features, labels, support.n_classes)[np.unique(labels)]
    scores = channel_scores(texts[known], means.astype(np.float32))
    channels = np.sort(np.argsort(-scores, kind="stable")[: int(values["channels"])])
    keys = unit_channels(features, channels)
    cosines = keys.astype(np.float64) @ unit_channels(texts[known], channels).T
    # KL(onehot ‖ p) = -log p of the true class; a class without text gets the mean of the others.
    divergence = log_sum_exp(cosines)
    with_text = known[labels]
    columns = np.cumsum(known) - 1
    divergence[with_text] -= cosines[with_text, columns[labels[with_text]]]
    divergence[~with_text] = divergence[with_text].mean() if with_text.any() else 0.0
    exponents = values["gamma"] * divergence
    if exponents.max() > MAX_EXPONENT:
        largest = MAX_EXPONENT / float(divergence.max())
        raise InputError(f"Expected gamma up to {largest:.3g} with these classes, got {values['gamma']:g}: lower it")
    return keys, np.exp(exponents), channels


def _fit(
    support: SupportSet, values: dict[str, float], *, scaled: bool
) -> Callable[[BoolArray], Callable[[Float32Array], FloatArray]]:
    """Mean over every class's kept shots of weighted affinities; with `scaled` in the paper's units of key weights."""

    def fit(kept: BoolArray) -> Callable[[Float32Array], FloatArray]:
        keys, weights, channels = _refined(support, kept, values)
        cache = Cache.build(keys, support.labels[kept], support.n_classes)
        sorted_weights = weights[cache.order]
        if not scaled:
            sorted_weights = (sorted_weights / weights.mean()).astype(np.float32)

        def logits(queries: Float32Array) -> FloatArray:
            values_per_key = affinity(unit_channels(queries, channels), cache.keys, values["beta"]) * sorted_weights
            return class_mass(values_per_key, cache) * (len(cache.classes) / len(cache.keys))

        return logits

    return fit
