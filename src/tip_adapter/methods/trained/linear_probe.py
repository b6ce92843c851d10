"""Linear probe: logistic regression on the features of the shots, without texts."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from tip_adapter.errors import InputError
from tip_adapter.methods.base import FewShotMethod
from tip_adapter.methods.few_shot_term import ABSENT_LOGIT
from tip_adapter.methods.heads import LinearHead
from tip_adapter.methods.inputs import given_or_auto
from tip_adapter.methods.selection.evidence import Evidence, evidence_from_support
from tip_adapter.methods.selection.weight import nll_and_accuracy
from tip_adapter.methods.support_set import SupportSet
from tip_adapter.processors import single_threaded_blas
from tip_adapter.typing import Float32Array, FloatArray, IntArray

STRENGTHS = (1.0, 10.0, 100.0, 1000.0)
"""What "auto" tries, from the most to the least regularised, each started from the one before."""

DEFAULT_STRENGTH = 100.0
"""Taken with one shot per class, where nothing can be left out."""

MAX_FOLDS = 3
"""Fewer than for closed forms: every fold trains."""

ITERATIONS = 60
"""Of L-BFGS, per strength, while strengths are compared."""


class LinearProbe(FewShotMethod):
    """Multinomial logistic regression on the features, ``f·Vᵀ + b``, with an L2 penalty, by L-BFGS.

    A baseline without text: class texts only align the classes, and a class without shots is never predicted.

    Parameters
    ----------
    zero_shot_weights : array-like of shape (C, D), optional
        Not used for predictions.
    class_names : sequence of str, optional
        Names of the classes.
    strength : float or "auto", default="auto"
        Inverse L2 strength, above 0, scikit-learn's ``C``: the loss is ``‖V‖²/2 + strength · Σ cross-entropy``.
        "auto" chooses it by the likelihood of left-out shots (with one shot per class: 100), or, where validation
        images are given, by their accuracy.
    logit_scale : float, default=100.0
        Not used; accepted because all methods take it.

    Attributes
    ----------
    strength_ : float
        What was chosen.
    scores_ : dict of float to (float, float)
        Negative log-likelihood and accuracy of every strength that was tried.

    References
    ----------
    Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021, section 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.trained.linear_probe import LinearProbe
    >>> shots = np.array([[0.6, 0, 0.8], [0, 0.6, 0.8]], dtype=np.float32)
    >>> LinearProbe(class_names=["hat", "cap"]).fit(shots, ["hat", "cap"]).predict([[0.8, 0, 0.6]]).tolist()
    ['hat']
    """

    trains = True
    uses_text = False

    strength: float | Literal["auto"] = "auto"

    def _fit_head(self, support: SupportSet) -> LinearHead:
        if len(np.unique(support.labels)) < 2:
            raise InputError("LinearProbe needs shots of at least two classes, got one class: add shots")
        strength = given_or_auto("strength", self.strength, positive=True)
        self.scores_: dict[float, tuple[float, float]] = {}
        self.strength_ = self._choose(support) if strength is None else strength
        *_, (weights, bias) = _path(support.features, support.labels, support.n_classes, (self.strength_,), 2000)
        self.trainable_parameters_ = weights.size + bias.size
        return LinearHead(support.n_classes, None, support.logit_scale, weights=weights, bias=bias)

    def _choose(self, support: SupportSet) -> float:
        evidence = support.evidence
        if evidence.folds is not None:
            evidence = evidence_from_support(
                support.features,
                support.labels,
                support.text_of,
                max_folds=MAX_FOLDS,
                groups=support.groups,
                queries=support.queries,
            )
        if not evidence.scored.any():
            return DEFAULT_STRENGTH
        logits = _unseen_logits(evidence, support)
        for strength, answers in zip(STRENGTHS, logits, strict=True):
            self.scores_[strength] = nll_and_accuracy(answers[evidence.scored], evidence.labels[evidence.scored])
        if evidence.rule == "validation":
            return max(self.scores_, key=lambda tried: self.scores_[tried][1])
        return min(self.scores_, key=lambda tried: self.scores_[tried][0])


def _unseen_logits(evidence: Evidence, support: SupportSet) -> FloatArray:
    """Logits (strengths, B, C) of images by probes that have not seen them."""
    result = np.zeros((len(STRENGTHS), *evidence.text.shape))
    folds, of_shots = evidence.folds, evidence.support_folds
    for fold in range(max(evidence.n_folds, 1)):
        # A validation set is asked about as a whole, of the probe of all shots.
        kept = np.ones(len(support.labels), dtype=bool) if of_shots is None else of_shots != fold
        rows = np.ones(len(evidence.labels), dtype=bool) if folds is None else folds == fold
        path = _path(support.features[kept], support.labels[kept], support.n_classes, STRENGTHS, ITERATIONS)
        for index, (weights, bias) in enumerate(path):
            result[index, rows] = evidence.features[rows] @ weights.T + bias
    return result


def _path(
    features: Float32Array, labels: IntArray, n_classes: int, strengths: Sequence[float], iterations: int
) -> Iterator[tuple[Float32Array, Float32Array]]:
    """Weights (C, D) and bias (C,) for one strength after another, each started from the one before."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    present = np.unique(labels)
    probe = LogisticRegression(max_iter=iterations, warm_start=True)
    for strength in strengths:
        weights = np.zeros((n_classes, features.shape[1]), dtype=np.float32)
        bias = np.full(n_classes, ABSENT_LOGIT, dtype=np.float32)
        if len(present) > 1:
            with warnings.catch_warnings(), single_threaded_blas():
                # Near the optimum is enough: the penalty bounds what is left.
                warnings.simplefilter("ignore", ConvergenceWarning)
                probe.set_params(C=strength).fit(features, labels)
            weights[present], bias[present] = _one_row_per_class(probe.coef_, probe.intercept_)
        yield weights, bias


def _one_row_per_class(weights: FloatArray, bias: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Split scikit-learn's single row for two classes."""
    if len(weights) > 1:
        return weights, bias
    return np.concatenate([-weights / 2, weights / 2]), np.concatenate([-bias / 2, bias / 2])
