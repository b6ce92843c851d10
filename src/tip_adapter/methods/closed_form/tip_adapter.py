"""Tip-Adapter: support features become a cache, whose logits are added to the zero-shot logits."""

from __future__ import annotations

from typing import Literal

from tip_adapter.methods.base import FewShotMethod
from tip_adapter.methods.heads import CacheHead
from tip_adapter.methods.inputs import given_or_auto
from tip_adapter.methods.selection.cache_search import search
from tip_adapter.methods.support_set import SupportSet


class TipAdapter(FewShotMethod):
    """Tip-Adapter, ``t·s·f·Wᵀ + α·exp(-β(1 - f·Fᵀ))·Y``, without training.

    Parameters
    ----------
    zero_shot_weights : array-like of shape (C, D), optional
        W, class text features; a row of NaN for a class without text. Without them the cache is used alone.
    class_names : sequence of str, optional
        Names of the rows of `zero_shot_weights`.
    alpha : float or "auto", default="auto"
        α, weight of the cache against the text. "auto" chooses it from the shots alone. The paper's default is 1.
    beta : float or "auto", default="auto"
        β, sharpness of the affinity. "auto" chooses it from the shots alone. The paper's default is 5.5.
    text_weight : float or "auto", default="auto"
        t, weight of the zero-shot logits. "auto" chooses it from the shots, together with α, and is the paper's 1
        where α is given or there are validation images.
    logit_scale : float, default=100.0
        s, the inverse temperature the encoder was trained with.
    balanced : bool, default=True
        Let classes count equally whatever their number of shots. False is the raw sum of the paper; with equal shots
        both are the same.

    Attributes
    ----------
    alpha_, beta_, text_weight_ : float
        What was chosen.
    search_ : SearchResult or None
        The evidence for it; None where both were given.

    References
    ----------
    Zhang et al., "Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification", ECCV 2022, equation 5.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods import TipAdapter
    >>> texts = np.array([[1, 0, 0], [0, 1, 0]], dtype=np.float32)
    >>> shots = np.array([[0.6, 0, 0.8], [0, 0.6, 0.8]], dtype=np.float32)
    >>> method = TipAdapter(texts, class_names=["hat", "cap"], alpha=1.0, beta=5.5, logit_scale=1.0)
    >>> method.fit(shots, ["hat", "cap"]).predict([[0.6, 0, 0.8]]).tolist()
    ['hat']
    """

    _weights_of_sums = ("alpha",)

    alpha: float | Literal["auto"] = "auto"
    beta: float | Literal["auto"] = "auto"
    text_weight: float | Literal["auto"] = "auto"
    balanced: bool = True

    def _fit_head(self, support: SupportSet) -> CacheHead:
        alpha, beta = given_or_auto("alpha", self.alpha), given_or_auto("beta", self.beta)
        text_weight = given_or_auto("text_weight", self.text_weight)
        self.search_ = None
        if alpha is None or beta is None:
            self.search_ = search(
                support.features,
                support.labels,
                support.text_of,
                alpha=alpha,
                beta=beta,
                text_weight=text_weight,
                balanced=self.balanced,
                validation=support.validation_set,
                groups=support.groups,
                queries=support.queries,
            )
            alpha, beta, text_weight = self.search_.alpha, self.search_.beta, self.search_.text_weight
        self.alpha_, self.beta_, self.text_weight_ = alpha, beta, 1.0 if text_weight is None else text_weight
        return CacheHead(
            support.n_classes,
            support.zero_shot_weights,
            support.logit_scale * self.text_weight_,
            keys=support.features,
            labels=support.labels,
            alpha=alpha,
            beta=beta,
            balanced=self.balanced,
        )
