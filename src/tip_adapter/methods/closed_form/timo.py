"""TIMO: class means of the shots weight the prompts, and the prompts join the shots of a Gaussian model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from tip_adapter.errors import FeatureError, InputError
from tip_adapter.methods.base import FewShotMethod
from tip_adapter.methods.closed_form.gda import RIDGES
from tip_adapter.methods.closed_form.prototype import unit_means
from tip_adapter.methods.few_shot_term import FewShotTerm, combined_head, scaled
from tip_adapter.methods.heads import Head, zero_shot_logits
from tip_adapter.methods.heads.base import unit
from tip_adapter.methods.heads.gaussian import Moments, spanned
from tip_adapter.methods.inputs import as_names, as_numpy, given_or_auto
from tip_adapter.methods.selection.evidence import Evidence
from tip_adapter.methods.selection.weight import choose
from tip_adapter.methods.support_set import SupportSet
from tip_adapter.typing import BoolArray, Float32Array, FloatArray, IntArray


class TIMO(FewShotMethod):
    """TIMO, ``t·s·f·W′ᵀ + α·(f·Pμ′ᵀ + b)``, without training: texts and shots guide each other.

    ``W′_c`` is the mean of a class's prompts weighed by ``softmax(γ·m̂_c)``, where ``m_cp`` is the cosine between prompt
    p and the mean of the class's shots, and ``m̂_c`` has unit length. The Gaussian model is that of `GDA`, on the shots
    and the prompts together, each prompt as long as its ``m_cp``.

    Parameters
    ----------
    zero_shot_weights : array-like of shape (C, D)
        W, class text features; a row of NaN for a class without text. Required.
    class_names : sequence of str, optional
        Names of the rows of `zero_shot_weights`.
    prompt_features : array-like of shape (C, P, D), optional
        Features of every prompt, as `tip_adapter.features.prompts.prompt_features` gives them, padded with NaN.
        By default the zero-shot weights are each class's only prompt.
    gamma : float, default=50.0
        γ, how much prompts near the shots count more than others; 50 is the official code's for most data sets.
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
        What was chosen; α in units that do not depend on the number of shots.
    search_ : Choice or None
        The evidence for it; None where it was given.

    Notes
    -----
    Hyper-parameters are chosen on left-out shots with prompts weighed by the other shots alone. With unequal shots the
    prompts of a class count as much beside its shots as those of any other; a class without shots keeps the plain mean
    of its prompts, and its Gaussian logits are the mean of the others'.

    References
    ----------
    Li et al., "Text and Image Are Mutually Beneficial: Enhancing Training-Free Few-Shot Classification with CLIP", AAAI
    2025.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.closed_form.timo import TIMO
    >>> texts = np.array([[1, 0, 0], [0, 1, 0]], dtype=np.float32)
    >>> shots = np.array([[0.6, 0, 0.8], [0.8, 0, 0.6], [0, 0.6, 0.8], [0, 0.8, 0.6]], dtype=np.float32)
    >>> method = TIMO(texts, class_names=["hat", "cap"]).fit(shots, ["hat", "hat", "cap", "cap"])
    >>> method.predict([[0.6, 0, 0.8]]).tolist()
    ['hat']
    """

    needs_text = True
    takes_prompts = True

    prompt_features: Any = None
    gamma: float = 50.0
    alpha: float | Literal["auto"] = "auto"
    ridge: float | Literal["auto"] = "auto"
    text_weight: float | Literal["auto"] = "auto"

    def _fit_head(self, support: SupportSet) -> Head:
        alpha, ridge = given_or_auto("alpha", self.alpha), given_or_auto("ridge", self.ridge, positive=True)
        text_weight = given_or_auto("text_weight", self.text_weight)
        if given_or_auto("gamma", self.gamma) is None:
            raise InputError("Expected gamma to be a number that is at least 0, got 'auto'")
        guide = _Guide(support, self._prompts(support), float(self.gamma), {})
        ridges = (ridge,) if ridge else RIDGES if alpha is None and support.validation is None else RIDGES[:1]
        self.search_ = None
        if alpha is None or len(ridges) > 1:
            fits = {one: guide.fit(one) for one in ridges}
            self.search_, _ = choose(
                guide.evidence,
                lambda values: fits[values["ridge"]],
                {"ridge": ridges},
                growth=1.0,
                alpha=alpha,
                text_weight=text_weight,
            )
            alpha, text_weight = self.search_.alpha, self.search_.text_weight
            ridges = (self.search_.parameters["ridge"],)
        self.alpha_, self.ridge_ = alpha, ridges[0]
        self.text_weight_ = 1.0 if text_weight is None else text_weight
        guided = replace(support, zero_shot_weights=guide.weights(guide.everything), text_weight=self.text_weight_)
        weights, bias = guide.classifier(guide.everything, self.ridge_)
        fit, seen = scaled(alpha, guide.fit(self.ridge_)), np.zeros((0, support.n_classes))
        term = FewShotTerm({"alpha": alpha}, seen, fit, alpha * bias, alpha * weights)
        return combined_head(guided, [term])

    def _prompts(self, support: SupportSet) -> Float32Array:
        """Unit rows (C, P, D) in the order of the classes; NaN where there is none."""
        if support.zero_shot_weights is None:
            raise InputError("TIMO needs the classes' texts: give zero_shot_weights of shape (C, D)")
        if self.prompt_features is None:
            return support.zero_shot_weights[:, None]
        prompts = np.asarray(as_numpy(self.prompt_features), dtype=np.float32)
        expected = support.zero_shot_weights.shape
        if prompts.ndim != 3 or (len(prompts), prompts.shape[2]) != expected or not prompts.shape[1]:
            raise FeatureError(
                f"Expected prompt_features of shape (C, P, D) with C and D as in {expected}, got {prompts.shape}"
            )
        lengths = np.linalg.norm(prompts, axis=2, keepdims=True)
        if (lengths == 0).any() or np.isinf(lengths).any():
            raise FeatureError("Expected finite prompt_features other than zero, got zeros or infinity")
        names = as_names(self.class_names)
        if names is not None and not np.issubdtype(self.classes_.dtype, np.integer):
            prompts, lengths = (rows[[names.index(name) for name in self.classes_]] for rows in (prompts, lengths))
        unit: Float32Array = prompts / lengths
        return unit


@dataclass(frozen=True)
class _Guide:
    """Shots and prompts that guide each other, for all shots or for some of them.

    Attributes
    ----------
    support : SupportSet
    prompts : ndarray of shape (C, P, D), float32
    gamma : float
    sums : dict
        Moments by the shots that are in them: every ridge asks for the same ones.
    """

    support: SupportSet
    prompts: Float32Array
    gamma: float
    sums: dict[bytes, Moments]

    @property
    def everything(self) -> BoolArray:
        """The mask of all shots."""
        return np.ones(len(self.support.labels), dtype=np.bool_)

    @cached_property
    def known(self) -> BoolArray:
        """Which prompts there are, (C, P)."""
        return ~np.isnan(self.prompts[:, :, 0])

    @cached_property
    def evidence(self) -> Evidence:
        """What hyper-parameters are chosen on: zero-shot logits are by prompts that the image has not weighed."""
        evidence = self.support.evidence
        if evidence.folds is None or evidence.support_folds is None:
            return replace(evidence, text=self._text(evidence.features, self.everything))
        text = np.zeros(evidence.text.shape, dtype=np.float32)
        for fold in range(evidence.n_folds):
            out = evidence.folds == fold
            text[out] = self._text(evidence.features[out], evidence.support_folds != fold)
        return replace(evidence, text=text)

    def matches(self, kept: BoolArray) -> tuple[FloatArray, IntArray]:
        """Cosines (C, P) of prompts with their class's mean, and shots (C,) of every class; 0 where there is none."""
        labels, n_classes = self.support.labels[kept], self.support.n_classes
        means = unit_means(self.support.features[kept], labels, n_classes)
        cosines = np.einsum("cpd,cd->cp", np.nan_to_num(self.prompts), means, dtype=np.float64)
        return cosines, np.bincount(labels, minlength=n_classes)

    def weights(self, kept: BoolArray) -> Float32Array:
        """Zero-shot weights (C, D) from prompts weighed by the kept shots."""
        cosines, _ = self.matches(kept)
        matched = unit(cosines)
        shares = np.where(self.known, np.exp(self.gamma * (matched - matched.max(axis=1, keepdims=True))), 0.0)
        sums = np.einsum("cp,cpd->cd", shares, np.nan_to_num(self.prompts), dtype=np.float64)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        sums[lengths[:, 0] == 0] = np.nan
        unit_sums: Float32Array = (sums / lengths).astype(np.float32)
        return unit_sums

    def classifier(self, kept: BoolArray, ridge: float) -> tuple[FloatArray, FloatArray]:
        """Weights (C, D) and bias (C,) of the Gaussian model of the kept shots and their classes' prompts."""
        key = kept.tobytes()
        if key not in self.sums:
            self.sums[key] = self._moments(kept)
        weights, bias = self.sums[key].classifier(ridge)
        return weights if self._basis is None else weights @ self._basis.T, bias

    def fit(self, ridge: float) -> Callable[[BoolArray], Callable[[Float32Array], FloatArray]]:
        """Give a `tip_adapter.methods.selection.evidence.Fit`."""

        def fitted(kept: BoolArray) -> Callable[[Float32Array], FloatArray]:
            weights, bias = self.classifier(kept, ridge)
            return lambda queries: queries @ weights.T + bias

        return fitted

    def _text(self, features: Float32Array, kept: BoolArray) -> Float32Array:
        support = self.support
        return zero_shot_logits(features, self.weights(kept), support.text_scale, support.n_classes)

    @cached_property
    def _spanned(self) -> tuple[FloatArray, FloatArray | None]:
        return spanned(np.concatenate([self.support.features, self.prompts[self.known]]))

    @property
    def _basis(self) -> FloatArray | None:
        return self._spanned[1]

    def _moments(self, kept: BoolArray) -> Moments:
        """Sums over the kept shots, and over prompts in proportion to the shots of their class."""
        labels, n_classes = self.support.labels, self.support.n_classes
        coordinates = self._spanned[0]
        shots = Moments.of(coordinates[: len(labels)][kept], labels[kept], n_classes)
        cosines, counts = self.matches(kept)
        owners = np.nonzero(self.known)[0]
        rows = coordinates[len(labels) :] * np.maximum(cosines[self.known], 0.0)[:, None]
        share = counts / counts[counts > 0].mean()
        sums = np.zeros_like(shots.sums)
        np.add.at(sums, owners, rows * share[owners][:, None])
        square = (rows * share[owners][:, None]).T @ rows
        return Moments(shots.square + square, shots.sums + sums, shots.counts + share * self.known.sum(axis=1))
