"""Nearest class mean: the mean of a class's shots becomes its classifier, without texts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from tip_adapter.methods.base import FewShotMethod
from tip_adapter.methods.few_shot_term import ABSENT_LOGIT
from tip_adapter.methods.heads import LinearHead
from tip_adapter.methods.heads.base import unit
from tip_adapter.methods.inputs import given_or_auto
from tip_adapter.methods.selection.line_search import best_likelihood_alpha
from tip_adapter.methods.support_set import SupportSet
from tip_adapter.typing import BoolArray, Float32Array, FloatArray, IntArray


class Prototype(FewShotMethod):
    """Nearest class mean, ``scale · f·μ_cᵀ / ‖μ_c‖`` with ``μ_c`` the mean of the class's shots.

    A baseline without text: class texts only align the classes, and a class without shots is never predicted.

    Parameters
    ----------
    zero_shot_weights : array-like of shape (C, D), optional
        Not used for predictions.
    class_names : sequence of str, optional
        Names of the classes.
    scale : float or "auto", default="auto"
        Inverse temperature of the probabilities; it changes no prediction. "auto" chooses it by the likelihood of
        left-out shots (with one shot per class: `logit_scale`).
    logit_scale : float, default=100.0
        s, the inverse temperature the encoder was trained with.

    Attributes
    ----------
    scale_ : float
        What was chosen.

    References
    ----------
    Snell et al., "Prototypical Networks for Few-shot Learning", NeurIPS 2017, equation 1, with cosine similarity and no
    training.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.closed_form.prototype import Prototype
    >>> shots = np.array([[0.6, 0, 0.8], [0, 0.6, 0.8]], dtype=np.float32)
    >>> Prototype(class_names=["hat", "cap"]).fit(shots, ["hat", "cap"]).predict([[0.8, 0, 0.6]]).tolist()
    ['hat']
    """

    uses_text = False

    scale: float | Literal["auto"] = "auto"

    def _fit_head(self, support: SupportSet) -> LinearHead:
        scale, evidence = given_or_auto("scale", self.scale), support.evidence
        if scale is None:
            scale = support.logit_scale
            if evidence.scored.any():
                cosines = evidence.logits(_prototype_fit(support.features, support.labels, support.n_classes))
                rows = evidence.scored
                scale, _ = best_likelihood_alpha(np.zeros(cosines[rows].shape), cosines[rows], evidence.labels[rows])
        self.scale_ = scale
        prototypes = unit_means(support.features, support.labels, support.n_classes)
        return LinearHead(
            support.n_classes,
            None,
            support.logit_scale,
            weights=(scale * prototypes).astype(np.float32),
            bias=np.where(support.counts > 0, 0.0, ABSENT_LOGIT).astype(np.float32),
        )


def _prototype_fit(
    features: Float32Array, labels: IntArray, n_classes: int
) -> Callable[[BoolArray], Callable[[Float32Array], FloatArray]]:
    def fit(kept: BoolArray) -> Callable[[Float32Array], FloatArray]:
        prototypes = unit_means(features[kept], labels[kept], n_classes)
        return lambda queries: queries @ prototypes.T

    return fit


def unit_means(features: Float32Array, labels: IntArray, n_classes: int) -> FloatArray:
    """Mean of every class's features, normalised; zeros for a class without any.

    Shapes: `features` (N, D), `labels` (N,) → (C, D).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.closed_form.prototype import unit_means
    >>> unit_means(np.array([[1, 0], [0.6, 0.8]], dtype=np.float32), np.array([0, 0]), 2).round(3)
    array([[0.894, 0.447],
           [0.   , 0.   ]])
    """
    sums = np.zeros((n_classes, features.shape[1]))
    np.add.at(sums, labels, features)
    return unit(sums)
