"""Gaussian discriminant analysis: class means and one shared covariance of the shots become a linear classifier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from tip_adapter.methods.base import FewShotMethod
from tip_adapter.methods.few_shot_term import FewShotTerm, combined_head, scaled
from tip_adapter.methods.heads import Head
from tip_adapter.methods.heads.gaussian import Moments, spanned
from tip_adapter.methods.inputs import given_or_auto
from tip_adapter.methods.selection.evidence import Fit
from tip_adapter.methods.selection.weight import choose
from tip_adapter.methods.support_set import SupportSet
from tip_adapter.typing import BoolArray, Float32Array, FloatArray, IntArray

RIDGES = (1.0, 0.3, 0.1, 0.03, 3.0)
"""What "auto" tries, the paper's first."""


class Gaussians:
    """Class means and scatter of shots, summed once: fits to parts of them, with any ridge, pay for what is left out.

    Parameters
    ----------
    features : ndarray of shape (N, D), float32
        Unit rows.
    labels : ndarray of shape (N,), integers in [0, C)
    n_classes : int
    texts : ndarray of shape (C, D), float32, optional
        With them, classes with few shots, or none, get means that their texts have a share in.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.closed_form.gda import Gaussians
    >>> features = np.eye(2, dtype=np.float32)[[0, 0, 1]]
    >>> fit = Gaussians(features, np.array([0, 0, 1]), 2).fit()
    >>> fit(np.array([True, False, True]))(features[1:2])
    array([[ 0.5, -0.5]])
    """

    def __init__(
        self, features: Float32Array, labels: IntArray, n_classes: int, texts: Float32Array | None = None
    ) -> None:
        self.labels, self.n_classes = labels, n_classes
        rows, self._basis = spanned(features if texts is None else np.concatenate([features, np.nan_to_num(texts)]))
        self._coordinates = rows[: len(features)]
        self._texts = None if texts is None else np.where(np.isnan(texts[:, :1]), np.nan, rows[len(features) :])
        self._total = Moments.of(self._coordinates, labels, n_classes)

    def classifier(self, ridge: float = 1.0, kept: BoolArray | None = None) -> tuple[FloatArray, FloatArray]:
        """Weights (C, D) and bias (C,) of `heads.gaussian.Moments.classifier`, of all shots or of some."""
        part = self._total
        if kept is not None and not kept.all():
            part = part.without(Moments.of(self._coordinates[~kept], self.labels[~kept], self.n_classes))
        weights, bias = part.classifier(ridge, self._texts)
        return weights if self._basis is None else weights @ self._basis.T, bias

    def fit(self, ridge: float = 1.0) -> Fit:
        """Give a `tip_adapter.methods.selection.evidence.Fit`."""

        def fit(kept: BoolArray) -> Callable[[Float32Array], FloatArray]:
            weights, bias = self.classifier(ridge, kept)
            return lambda queries: queries @ weights.T + bias

        return fit


def gaussian_term(
    support: SupportSet,
    alpha: float | None = None,
    text_weight: float | None = None,
    ridges: Sequence[float] = RIDGES,
) -> FewShotTerm:
    """Fit the Gaussians, and choose what is not given: α in units that do not depend on the number of shots."""
    shots, texts = (support.features, support.labels, support.n_classes), None
    if 2 * support.counts.min() < support.counts.max():
        texts = support.zero_shot_weights
    choice, ridge, weight = None, ridges[0], 1.0 if text_weight is None else text_weight
    seen: FloatArray = np.zeros((0, support.n_classes))
    gaussians: Gaussians | None = None
    if alpha is None or len(ridges) > 1:
        evidence, asked = support.evidence, Gaussians(*shots)
        choice, unseen = choose(
            evidence,
            lambda values: asked.fit(values["ridge"]),
            {"ridge": ridges},
            growth=1.0,
            alpha=alpha,
            text_weight=text_weight,
        )
        alpha, ridge, weight = choice.alpha, choice.parameters["ridge"], choice.text_weight
        seen = choice.alpha_seen * unseen[evidence.scored]
        # What is chosen, is chosen on classes that have shots: others come after.
        gaussians = asked if texts is None else None
    gaussians = gaussians or Gaussians(*shots, texts)
    weights, bias = gaussians.classifier(ridge)
    values = {"alpha": alpha, "ridge": ridge, "text weight": weight}
    fit = scaled(alpha, gaussians.fit(ridge))
    return FewShotTerm(values, seen, fit, alpha * bias, weights=alpha * weights, search=choice)


class GDA(FewShotMethod):
    """Gaussian discriminant analysis beside the text, ``t·s·f·Wᵀ + α·(f·Pμᵀ + b)``, without training.

    ``μ_c`` is the mean of a class's shots, ``b_c = -½ μ_cᵀPμ_c``, and ``P = D·((N-1)·Σ + tr(Σ)·I)⁻¹`` with Σ the
    covariance of the shots around the means of their classes; `ridge` multiplies the trace. With one shot per class
    there is no Σ; then P is a multiple of the identity, and GDA is the nearest class mean.

    Parameters
    ----------
    zero_shot_weights : array-like of shape (C, D), optional
        W, class text features; a row of NaN for a class without text. Without them the Gaussian model is used alone.
    class_names : sequence of str, optional
        Names of the rows of `zero_shot_weights`.
    alpha : float or "auto", default="auto"
        α, weight of the Gaussians against the text. "auto" chooses it from the shots alone.
    ridge : float or "auto", default="auto"
        What is added to the covariance, in units of the paper's. "auto" chooses it by likelihood from .03 to 3, and is
        the paper's 1 where α is given or there are validation images.
    text_weight : float or "auto", default="auto"
        t, weight of the zero-shot logits. Chosen as for `TipAdapter`.
    logit_scale : float, default=100.0
        s, the inverse temperature the encoder was trained with.

    Attributes
    ----------
    alpha_, ridge_, text_weight_ : float
        What was chosen.
    search_ : Choice or None
        The evidence for it; None where it was given. Its `alpha` counts in units of (N-1)/D, which does not depend on
        the number of shots.

    Notes
    -----
    A shot with several augmented views is their mean; in the official code every view is a sample of its own. Classes
    count equally whatever their shots (the paper's π_c, with equal shots, is a constant), and b_c is corrected
    for the length that noise gives to means of few shots (see
    `tip_adapter.methods.heads.gaussian.Moments.classifier`). The
    text of a class with less than half of the shots of the largest has a share in its mean, and makes it alone where
    there are no shots (`tip_adapter.methods.heads.gaussian.TextMeans`); a class with neither is never predicted.

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

    alpha: float | Literal["auto"] = "auto"
    ridge: float | Literal["auto"] = "auto"
    text_weight: float | Literal["auto"] = "auto"

    def _fit_head(self, support: SupportSet) -> Head:
        # The paper's P is the precision times this, so its α is divided by it.
        unit = support.features.shape[1] / max(len(support.features) - 1, 1)
        alpha, ridge = given_or_auto("alpha", self.alpha), given_or_auto("ridge", self.ridge, positive=True)
        chosen = RIDGES if alpha is None and support.validation is None else RIDGES[:1]
        text_weight = given_or_auto("text_weight", self.text_weight)
        term = gaussian_term(
            support, None if alpha is None else alpha * unit, text_weight, chosen if ridge is None else (ridge,)
        )
        self.search_ = term.search
        self.alpha_, self.ridge_ = term.values["alpha"] / unit, term.values["ridge"]
        self.text_weight_ = term.values["text weight"]
        return combined_head(support.weigh_text(self.text_weight_), [term])

    def _refit_head(self, support: SupportSet) -> Head:
        # The paper's P shrinks by (N-1)/D; what α counts without that is held.
        unit = (len(support.labels) - 1) / max(self._n_shots - 1, 1)
        return self._refitted(support, **self.held_parameters() | {"alpha": self.alpha_ * unit})
