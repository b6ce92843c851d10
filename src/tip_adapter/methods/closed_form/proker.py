"""ProKeR: kernel ridge regression on the shots corrects the zero-shot predictor, in closed form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from tip_adapter.errors import InputError
from tip_adapter.methods.base import FewShotMethod
from tip_adapter.methods.few_shot_term import FewShotTerm, combined_head, scaled
from tip_adapter.methods.heads import Head
from tip_adapter.methods.heads.base import symmetric_inverse
from tip_adapter.methods.heads.gaussian import class_frequency
from tip_adapter.methods.heads.linear import kernel_residuals
from tip_adapter.methods.inputs import given_or_auto
from tip_adapter.methods.selection.evidence import Evidence
from tip_adapter.methods.selection.weight import Choice, choose
from tip_adapter.methods.support_set import SupportSet
from tip_adapter.typing import BoolArray, Float32Array, FloatArray, IntArray

BETAS = (1.0, 0.5, 2.0)
RIDGES = (0.1, 0.02, 0.5)
"""What "auto" tries, what is taken without evidence first. The likelihood is flat around its best."""

MAX_SHOTS = 10_000
"""The matrix of all pairs of shots would take more than 800 MB, and solving its systems more than minutes."""


@dataclass(frozen=True)
class KernelRidge:
    """Kernel ridge regression of what the texts leave unexplained, for any β and ridge.

    Attributes
    ----------
    features : ndarray of shape (N, D), float32
        Unit rows.
    residuals : ndarray of shape (N, C), float64
        Y - F·Wᵀ.
    folds : ndarray of shape (N,), or None
        Fold of every shot.
    class_frequency : ndarray of shape (N,), float64
        See `tip_adapter.methods.heads.gaussian.class_frequency`.
    labels : ndarray of shape (N,), integers, optional
        With them, classes whose shots are all left out are treated as classes without shots.
    """

    features: Float32Array
    residuals: FloatArray
    folds: IntArray | None
    class_frequency: FloatArray
    labels: IntArray | None = None

    @classmethod
    def of(cls, support: SupportSet) -> KernelRidge:
        """Prepare a support set."""
        if len(support.labels) > MAX_SHOTS:
            raise InputError(
                f"ProKeR solves a system of all shots, at most {MAX_SHOTS:,}, got {len(support.labels):,}: give fewer "
                "(shots=, --shots), or use auto or gda, whose systems do not grow with them"
            )
        # Texts that say little leave much unexplained; those that say much explain no more than the paper has it.
        text = min(1.0, support.text_weight) / support.text_weight * support.text_logits
        residuals = kernel_residuals(support.labels, text, support.logit_scale)
        # `left_out` answers for keys: of shots that are asked about by single views, folds are fitted one by one.
        folds = support.evidence.support_folds if support.queries is None else None
        return cls(support.features, residuals, folds, class_frequency(support.labels), support.labels)

    @cached_property
    def _cosines(self) -> FloatArray:
        rows = self.features.astype(np.float64)
        cosines: FloatArray = rows @ rows.T
        return cosines

    def _system(self, beta: float, ridge: float, kept: BoolArray | None = None) -> FloatArray:
        cosines = self._cosines if kept is None else self._cosines[np.ix_(kept, kept)]
        # In place: with thousands of shots each matrix takes 200 MB, and as long to allocate as to compute.
        system = cosines - 1.0
        system *= beta
        np.exp(system, out=system)
        system /= ridge
        system[np.diag_indices_from(system)] += self.class_frequency if kept is None else self.class_frequency[kept]
        return system.T  # it is symmetric, and columns are what LAPACK takes without a copy

    def coefficients(self, beta: float, ridge: float, kept: BoolArray | None = None) -> FloatArray:
        """``(K/λ + diag(class_frequency))⁻¹(Y - F·Wᵀ)``, (N, C), of all shots or the kept ones."""
        from scipy.linalg import cho_factor, cho_solve

        residuals = self.residuals if kept is None else self.residuals[kept]
        if kept is not None and self.labels is not None:
            gone = np.setdiff1d(self.labels, self.labels[kept])
            if len(gone):
                residuals = residuals.copy()
                residuals[:, gone] = np.delete(residuals, gone, axis=1).mean(axis=1, keepdims=True)
        factor = cho_factor(self._system(beta, ridge, kept), lower=True, overwrite_a=True, check_finite=False)
        return np.asarray(cho_solve(factor, residuals, check_finite=False), dtype=np.float64)

    def fit(self, beta: float, ridge: float) -> Callable[[BoolArray], Callable[[Float32Array], FloatArray]]:
        """Give a `tip_adapter.methods.selection.evidence.Fit`."""

        def fit(kept: BoolArray) -> Callable[[Float32Array], FloatArray]:
            keys, solved = self.features[kept].astype(np.float64), self.coefficients(beta, ridge, kept)
            return lambda queries: np.exp(beta * (queries @ keys.T - 1.0)) @ solved

        return fit

    def left_out(self, beta: float, ridge: float) -> FloatArray:
        """Regression of every shot by the shots of the other folds, (N, C), from one factorisation.

        With ``M = (K/λ + diag(class_frequency))⁻¹`` and ``A = M·R``, the shots I of a fold are missed by ``M_II⁻¹A_I``.
        """
        from scipy.linalg import cho_factor, cho_solve

        inverse = symmetric_inverse(self._system(beta, ridge))
        solved, result = inverse @ self.residuals, np.zeros(self.residuals.shape)
        folds = self.folds if self.folds is not None else np.zeros(len(result), dtype=np.intp)
        for fold in range(int(folds.max()) + 1):
            out = np.flatnonzero(folds == fold)
            missed = cho_solve(cho_factor(inverse[np.ix_(out, out)], lower=True), solved[out])
            result[out] = ridge * (self.residuals[out] - missed)
        return result


def choose_kernel(
    regression: KernelRidge,
    evidence: Evidence,
    *,
    betas: Sequence[float] = BETAS,
    ridges: Sequence[float] = RIDGES,
    alpha: float | None = None,
    text_weight: float | None = None,
) -> tuple[Choice, FloatArray]:
    """Choose β, ridge and α; the regression's logits (B, C) of images it has not seen are beside the choice.

    Parameters
    ----------
    regression : KernelRidge
    evidence : Evidence
    betas, ridges : sequence of float
        What to try.
    alpha, text_weight : float, optional
        Weights that are given and not to be chosen.

    Returns
    -------
    Choice, ndarray of shape (B, C)

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.selection.evidence import evidence_from_support
    >>> from tip_adapter.methods.closed_form.proker import KernelRidge, choose_kernel
    >>> features, labels = np.eye(2, dtype=np.float32)[[0, 0, 0, 1, 1, 1]], np.repeat([0, 1], 3)
    >>> evidence = evidence_from_support(features, labels, np.zeros((6, 2)))
    >>> choose_kernel(KernelRidge(features, np.eye(2)[labels], evidence.folds, np.ones(6)), evidence)[0].accuracy
    1.0
    """
    # Every fold's fit comes from one factorisation of all shots.
    at_once = evidence.n_folds > 1 and regression.folds is not None
    left_out = (lambda pair: regression.left_out(**pair)) if at_once else None
    axes = {"ridge": ridges, "beta": betas}
    return choose(
        evidence, lambda pair: regression.fit(**pair), axes, alpha=alpha, text_weight=text_weight, left_out=left_out
    )


def kernel_term(
    support: SupportSet,
    alpha: float | None = None,
    text_weight: float | None = None,
    betas: Sequence[float] = BETAS,
    ridges: Sequence[float] = RIDGES,
) -> FewShotTerm:
    """Fit the regression, and choose α and t, where they are not given, and among the β and ridges."""
    choice, beta, ridge, weight = None, betas[0], ridges[0], 1.0 if text_weight is None else text_weight
    seen: FloatArray = np.zeros((0, support.n_classes))
    if alpha is None or len(betas) > 1 or len(ridges) > 1:
        evidence, alone = support.evidence, text_weight
        if alone is None:
            plain = alpha is not None or support.validation is not None
            alone = 1.0 if plain else evidence.text_weight
        regression = KernelRidge.of(support.weigh_text(alone))
        choice, unseen = choose_kernel(
            regression, evidence, betas=betas, ridges=ridges, alpha=alpha, text_weight=text_weight
        )
        alpha, weight = choice.alpha, choice.text_weight
        beta, ridge = choice.parameters["beta"], choice.parameters["ridge"]
        seen = choice.alpha_seen * unseen[evidence.scored]
    support = support.weigh_text(weight)
    regression = KernelRidge.of(support)
    values = {"alpha": alpha, "beta": beta, "ridge": ridge, "text weight": weight}
    coefficients = alpha * regression.coefficients(beta, ridge)
    fit, none = scaled(alpha, regression.fit(beta, ridge)), np.zeros(support.n_classes)
    return FewShotTerm(values, seen, fit, none, coefficients=coefficients, search=choice)


class ProKeR(FewShotMethod):
    """Proximal kernel ridge regression, ``t·s·f·Wᵀ + α·k(f, F)·A`` with ``A = (K/λ + I)⁻¹(Y - min(t, 1)·F·Wᵀ)``.

    ``k(f, F) = exp(-β(1 - f·Fᵀ))``, and K is k between the shots: the regression on what the texts leave unexplained.

    Parameters
    ----------
    zero_shot_weights : array-like of shape (C, D), optional
        W, class text features; a row of NaN for a class without text. Without them the regression is used alone.
    class_names : sequence of str, optional
        Names of the rows of `zero_shot_weights`.
    alpha : float or "auto", default="auto"
        α, gain of the regression. "auto" chooses it from the shots alone; the paper's is `logit_scale`.
    beta : float or "auto", default="auto"
        β, sharpness of the kernel.
    ridge : float or "auto", default="auto"
        λ > 0, on the scale of the kernel, which is 1 for equal features; the smaller, the closer it follows the shots.
    text_weight : float or "auto", default="auto"
        t, weight of the zero-shot logits. Chosen as for `TipAdapter`.
    logit_scale : float, default=100.0
        s, the inverse temperature the encoder was trained with.

    Attributes
    ----------
    alpha_, beta_, ridge_, text_weight_ : float
        What was chosen.
    search_ : Choice or None
        The evidence for it; None where all were given.

    Notes
    -----
    Here a small λ follows the shots closely: it divides K, as in the paper. Gain and ridge are two separate numbers.
    A shot with several augmented views is their mean; in the official code every view is a shot of its own.

    Where classes have unequal numbers of shots, every class counts alike: the squared error of a shot is divided by the
    shots of its class over the mean, so the identity becomes a diagonal of these. With equal shots it is the paper's.

    References
    ----------
    Bendou et al., "ProKeR: A Kernel Perspective on Few-Shot Adaptation of Large Vision-Language Models", CVPR 2025.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.closed_form.proker import ProKeR
    >>> texts = np.array([[1, 0, 0], [0, 1, 0]], dtype=np.float32)
    >>> shots = np.array([[0.6, 0, 0.8], [0.8, 0, 0.6], [0, 0.6, 0.8], [0, 0.8, 0.6]], dtype=np.float32)
    >>> method = ProKeR(texts, class_names=["hat", "cap"]).fit(shots, ["hat", "hat", "cap", "cap"])
    >>> method.predict([[0.6, 0, 0.8]]).tolist()
    ['hat']
    """

    alpha: float | Literal["auto"] = "auto"
    beta: float | Literal["auto"] = "auto"
    ridge: float | Literal["auto"] = "auto"
    text_weight: float | Literal["auto"] = "auto"

    def _fit_head(self, support: SupportSet) -> Head:
        alpha, beta = given_or_auto("alpha", self.alpha), given_or_auto("beta", self.beta)
        ridge = given_or_auto("ridge", self.ridge, positive=True)
        term = kernel_term(
            support,
            alpha,
            given_or_auto("text_weight", self.text_weight),
            BETAS if beta is None else (beta,),
            RIDGES if ridge is None else (ridge,),
        )
        self.search_ = term.search
        self.alpha_, self.beta_, self.ridge_ = (term.values[name] for name in ("alpha", "beta", "ridge"))
        self.text_weight_ = term.values["text weight"]
        return combined_head(support.weigh_text(self.text_weight_), [term])
