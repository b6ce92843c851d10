"""Gaussian discriminant analysis: class means and one shared covariance of the shots become a linear classifier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from tip_adapter.heads import Head, LinearHead
from tip_adapter.heads.gaussian import Moments, gaussian_classifier, spanned
from tip_adapter.methods.base import ABSENT_LOGIT, FewShotMethod
from tip_adapter.methods.inputs import given_or_auto
from tip_adapter.methods.selection.class_offsets import class_offsets
from tip_adapter.methods.selection.prior import SpreadPrior
from tip_adapter.methods.selection.weight import choose
from tip_adapter.methods.support_set import SupportSet
from tip_adapter.typing import BoolArray, Float32Array, FloatArray, IntArray

PRIOR = SpreadPrior({1: 0.15, 2: 0.4, 4: 1.0, 8: 1.4, 16: 2.0})
"""Measured on four sets of CLIP ViT-B/32 features."""


def gaussian_fit(
    features: Float32Array, labels: IntArray, n_classes: int
) -> Callable[[BoolArray], Callable[[Float32Array], FloatArray]]:
    """Give a `tip_adapter.methods.selection.evidence.Fit` that pays for what is left out, not for what is kept.

    Parameters
    ----------
    features : ndarray of shape (N, D), float32
        Unit rows.
    labels : ndarray of shape (N,), integers in [0, C)
    n_classes : int

    Returns
    -------
    callable

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.closed_form.gda import gaussian_fit
    >>> features = np.eye(2, dtype=np.float32)[[0, 0, 1]]
    >>> fit = gaussian_fit(features, np.array([0, 0, 1]), 2)
    >>> fit(np.array([True, False, True]))(features[1:2])
    array([[ 0.5, -0.5]])
    """
    coordinates, basis = spanned(features)
    total = Moments.of(coordinates, labels, n_classes)

    def fit(kept: BoolArray) -> Callable[[Float32Array], FloatArray]:
        part = total if kept.all() else total.without(Moments.of(coordinates[~kept], labels[~kept], n_classes))
        weights, bias = part.classifier()
        if basis is not None:
            weights = weights @ basis.T
        return lambda queries: queries @ weights.T + bias

    return fit


def gaussian_offsets(support: SupportSet, alpha: float) -> FloatArray:
    """Make up for what classes with few shots lose, (C,)."""
    return class_offsets(support, gaussian_fit(support.features, support.labels, support.n_classes), alpha)


class GDA(FewShotMethod):
    """Gaussian discriminant analysis beside the text, ``s·f·Wᵀ + α·(f·Pμᵀ + b)``, without training.

    ``μ_c`` is the mean of a class's shots, ``b_c = -½ μ_cᵀPμ_c``, and ``P = D·((N-1)·Σ + tr(Σ)·I)⁻¹`` with Σ the
    covariance of the shots around the means of their classes. With one shot per class there is no Σ; then P is a
    multiple of the identity, and GDA is the nearest class mean.

    Parameters
    ----------
    zero_shot_weights : array-like of shape (C, D), optional
        W, class text features; a row of NaN for a class without text. Without them the Gaussians answer alone.
    class_names : sequence of str, optional
        Names of the rows of `zero_shot_weights`.
    alpha : float or "auto", default="auto"
        α, weight of the Gaussians against the text. "auto" chooses it from the shots alone.
    logit_scale : float, default=100.0
        s, the inverse temperature the encoder was trained with.

    Attributes
    ----------
    alpha_ : float
        What was chosen.
    search_ : Choice or None
        From what evidence; None where it was given. Its `alpha` counts in units of (N-1)/D, which does not depend on
        the number of shots.
    classes_ : ndarray of shape (C,)
        Sorted class names, or the integers that index `class_names`.

    Notes
    -----
    Classes count equally whatever their shots (the paper's π_c, with equal shots, is a constant), and b_c is corrected
    for the length that noise gives to means of few shots (see `tip_adapter.heads.gaussian.Moments.classifier`). A
    class without shots gets the mean of the others' Gaussian logits, so that its zero-shot score decides.

    References
    ----------
    Wang et al., "A Hard-to-Beat Baseline for Training-free CLIP-based Adaptation", ICLR 2024, equations 5 to 8.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.closed_form.gda import GDA
    >>> texts = np.array([[1, 0, 0], [0, 1, 0]], dtype=np.float32)
    >>> shots = np.array([[0.6, 0, 0.8], [0.8, 0, 0.6], [0, 0.6, 0.8], [0, 0.8, 0.6]], dtype=np.float32)
    >>> method = GDA(texts, class_names=["hat", "cap"]).fit(shots, ["hat", "hat", "cap", "cap"])
    >>> method.predict([[0.6, 0, 0.8]]).tolist()
    ['hat']
    """

    def __init__(
        self,
        zero_shot_weights: Any = None,
        *,
        class_names: Sequence[str] | None = None,
        alpha: float | Literal["auto"] = "auto",
        logit_scale: float = 100.0,
    ) -> None:
        self.zero_shot_weights = zero_shot_weights
        self.class_names = class_names
        self.alpha = alpha
        self.logit_scale = logit_scale

    def _fit_head(self, support: SupportSet) -> LinearHead:
        # The paper's P is the precision times this, so its α is divided by it.
        unit = support.features.shape[1] / max(len(support.features) - 1, 1)
        alpha = given_or_auto("alpha", self.alpha)
        self.search_ = None
        if alpha is None:
            fit = gaussian_fit(support.features, support.labels, support.n_classes)
            self.search_ = choose(support.evidence, lambda _: fit, prior=PRIOR)
            alpha = self.search_.alpha / unit
        self.alpha_ = alpha
        weights, bias = gaussian_classifier(support.features, support.labels, support.n_classes)
        bias = alpha * unit * (bias + gaussian_offsets(support, alpha * unit))
        if support.zero_shot_weights is None:
            bias[support.counts == 0] = ABSENT_LOGIT
        return LinearHead(
            support.n_classes,
            support.zero_shot_weights,
            support.logit_scale,
            weights=(alpha * unit * weights).astype(np.float32),
            bias=bias.astype(np.float32),
        )

    def _refit_head(self, support: SupportSet) -> Head:
        # The paper's P shrinks by (N-1)/D; what α counts without that is held.
        unit = (len(support.labels) - 1) / max(self._n_shots - 1, 1)
        return self._refitted(support, alpha=self.alpha_ * unit)
