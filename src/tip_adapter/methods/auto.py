"""Auto: the training-free methods compete on left-out shots; two together answer unless one is clearly likelier."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from tip_adapter.heads import CacheHead, Head, KernelHead, LinearHead
from tip_adapter.heads.affinity import Cache, cache_logits
from tip_adapter.heads.gaussian import gaussian_classifier
from tip_adapter.methods.base import ABSENT_LOGIT, FewShotMethod
from tip_adapter.methods.closed_form.gda import PRIOR, gaussian_fit, gaussian_offsets
from tip_adapter.methods.closed_form.proker import KernelRidge, choose_kernel, kernel_offsets
from tip_adapter.methods.selection.cache_search import search
from tip_adapter.methods.selection.evidence import Evidence, Rule
from tip_adapter.methods.selection.line_search import surprises
from tip_adapter.methods.selection.weight import choose, harms, likely_weights, nll_and_accuracy
from tip_adapter.methods.support_set import SupportSet
from tip_adapter.typing import BoolArray, Float32Array, FloatArray, IntArray

MAX_KERNEL_SHOTS = 6000
"""With more shots ProKeR, whose cost grows with their cube, takes no part."""

TOGETHER = "gda + proker"

BETA = 1.0
"""Of ProKeR's kernel, whose likelihood is flat in β."""

EXPECTED = (1.0, 0.5, 0.5)
"""Weights of text, ProKeR and GDA together before evidence: the mean of the two methods."""

WIDTHS = (0.1, 0.25, 0.25)
"""How far from that they may well be, as fractions: text logits come calibrated from the encoder's training, experts
are less well known, and shots (means of many views) look more alike than the photos that will come."""

CLEARLY = 2.0
"""Standard errors by which another method's loss must be the smaller one to be taken: few shots tell little, and the
two methods together are never far from the best."""


@dataclass(frozen=True)
class AutoResult:
    """Which method was chosen, and why.

    Attributes
    ----------
    method : str
        Name of the chosen method, or "gda + proker".
    rule : {"cross-validation", "cross-validation and prior", "prior", "validation"}
        What decided.
    scores : dict of str to (float, float)
        Negative log-likelihood (nats per image) and accuracy of every method on images it had not seen; empty with one
        shot per class.
    n_folds, n_scored : int
        Folds of the cross-validation (0 without), and images that were scored.
    weights : tuple of float
        What text, ProKeR and GDA count together, as fractions of what each would count alone; empty where another
        method answers.
    parameters : dict of str to float
        The chosen hyper-parameters.
    """

    method: str
    rule: Rule
    scores: dict[str, tuple[float, float]]
    n_folds: int
    n_scored: int
    weights: tuple[float, ...]
    parameters: dict[str, float]

    @property
    def summary(self) -> str:
        """One sentence for people."""
        if not self.scores:
            return f"{self.method} by the rule for one shot per class (nothing can be left out)"
        nll, accuracy = self.scores[self.method]
        source = f"{self.n_folds}-fold cross-validation on the shots" if self.n_folds else "the validation set"
        if self.rule == "cross-validation and prior":
            source = f"the rule for few shots, checked by {source}"
        others = ", ".join(
            f"{name} {100 * scores[1]:.1f} % ({scores[0]:.3f})"
            for name, scores in sorted(self.scores.items(), key=lambda item: item[1][0])
            if name != self.method
        )
        return f"{self.method} by {source}: {100 * accuracy:.1f} % (likelihood loss {nll:.3f}) against {others}"


@dataclass(frozen=True)
class _Candidate:
    """A fitted method and its answers, logits (B, C), to images it had not seen, whose classes are `labels` (B,)."""

    name: str
    head: Head
    answers: FloatArray
    labels: IntArray
    parameters: dict[str, float]
    harmful: bool = False
    weights: tuple[float, ...] = ()

    @cached_property
    def score(self) -> tuple[float, float]:
        return nll_and_accuracy(self.answers, self.labels)

    def clearly_beats(self, other: _Candidate) -> bool:
        """Whether its loss is smaller by more than chance explains, image by image."""
        gain = surprises(other.answers, self.labels) - surprises(self.answers, self.labels)
        return bool(gain.mean() > CLEARLY * gain.std() / np.sqrt(len(gain)))


class Auto(FewShotMethod):
    """Choose among zero-shot, Tip-Adapter, GDA, ProKeR, and GDA with ProKeR, from the shots alone.

    Every method answers for shots left out of it, one of every class at a time. GDA and ProKeR together,
    ``w₀·zs + w₁·ProKeR + w₂·GDA`` with the likeliest weights near the mean of the two methods, are taken unless another
    method is likelier by more than two standard errors: the least loss alone is mostly luck where shots are few. One or
    two shots per class are too few to compare methods at all: then that mean answers (at one shot with the α stated
    beforehand for each). What loses more accuracy on left-out shots than chance explains is never taken.

    Parameters
    ----------
    zero_shot_weights : array-like of shape (C, D), optional
        W, class text features; a row of NaN for a class without text. Without them the shots answer alone.
    class_names : sequence of str, optional
        Names of the rows of `zero_shot_weights`.
    logit_scale : float, default=100.0
        s, the inverse temperature the encoder was trained with.
    held : mapping, optional
        What an earlier fit chose, from `held_parameters`: nothing is chosen again.

    Attributes
    ----------
    method_ : str
        What was chosen.
    scores_ : dict of str to (float, float)
        Negative log-likelihood and accuracy of every method on shots it had not seen; empty with one shot per class.
    search_ : AutoResult
        The choice and its evidence; `summary` says it in one sentence.
    classes_ : ndarray of shape (C,)
        Sorted class names, or the integers that index `class_names`.

    Notes
    -----
    With more than 6,000 shots ProKeR takes no part. With validation images, accuracy on them decides.

    References
    ----------
    Wang et al., "A Hard-to-Beat Baseline for Training-free CLIP-based Adaptation", ICLR 2024.
    Bendou et al., "ProKeR: A Kernel Perspective on Few-Shot Adaptation of Large Vision-Language Models", CVPR 2025.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.auto import Auto
    >>> texts = np.array([[1, 0, 0], [0, 1, 0]], dtype=np.float32)
    >>> shots = np.array([[0.6, 0, 0.8], [0, 0.6, 0.8]], dtype=np.float32)
    >>> method = Auto(texts, class_names=["hat", "cap"]).fit(shots, ["hat", "cap"])
    >>> method.search_.summary
    'gda + proker by the rule for one shot per class (nothing can be left out)'
    """

    def __init__(
        self,
        zero_shot_weights: Any = None,
        *,
        class_names: Sequence[str] | None = None,
        logit_scale: float = 100.0,
        held: Mapping[str, Any] | None = None,
    ) -> None:
        self.zero_shot_weights = zero_shot_weights
        self.class_names = class_names
        self.logit_scale = logit_scale
        self.held = held

    def held_parameters(self) -> dict[str, Any]:
        """The chosen method, weights and hyper-parameters, as the parameter `held`.

        Returns
        -------
        dict
        """
        found = self.search_
        return {"held": {"method": found.method, "weights": list(found.weights), "parameters": found.parameters}}

    def _fit_head(self, support: SupportSet) -> Head:
        if self.held is not None:
            return self._held_head(support, **self.held)
        from threadpoolctl import threadpool_limits

        evidence = support.evidence
        scored = int(evidence.scored.sum())
        # Many small systems: threads of the linear algebra would wait for each other longer than they work.
        with threadpool_limits(1, user_api="blas"):
            candidates = _candidates(support)
        chosen = _pick(evidence, candidates)
        self.method_ = chosen.name
        self.scores_ = {candidate.name: candidate.score for candidate in candidates} if scored else {}
        self.search_ = AutoResult(
            chosen.name,
            evidence.rule,
            self.scores_,
            evidence.n_folds if scored else 0,
            scored,
            chosen.weights,
            chosen.parameters,
        )
        return chosen.head

    def _held_head(
        self, support: SupportSet, method: str, weights: Sequence[float], parameters: Mapping[str, float]
    ) -> Head:
        self.method_, self.scores_ = method, {}
        self.search_ = AutoResult(method, "prior", {}, 0, 0, tuple(weights), dict(parameters))
        return self._refit_head(support)

    def _refit_head(self, support: SupportSet) -> Head:
        values = self.search_.parameters
        if self.method_ == "zero-shot":
            return LinearHead(support.n_classes, support.zero_shot_weights, support.logit_scale)
        if self.method_ == "tip-adapter":
            # The cache logits are sums over shots, so α makes up for those that are left out.
            return _tip_head(support, values["alpha"] * self._growth(support), values["beta"])
        experts = []
        if "proker alpha" in values:
            experts.append(_kernels(support, KernelRidge.of(support), values["proker alpha"], values["proker ridge"]))
        if "gda alpha" in values:
            linear = _gaussians(support, gaussian_offsets(support, values["gda alpha"]))
            experts.append(_Expert("gda", values["gda alpha"], {}, np.zeros(0), linear=linear))
        return _head(support, experts, self.search_.weights)


def _pick(evidence: Evidence, candidates: list[_Candidate]) -> _Candidate:
    harmless = [candidate for candidate in candidates if not candidate.harmful]
    if evidence.few:
        return harmless[-1]
    if evidence.rule == "validation":
        return min(harmless, key=lambda candidate: (-candidate.score[1], candidate.score[0]))
    likeliest, trusted = min(harmless, key=lambda candidate: candidate.score), harmless[-1]
    if trusted.name != TOGETHER or likeliest.clearly_beats(trusted):
        return likeliest
    return trusted


def _candidates(support: SupportSet) -> list[_Candidate]:
    """Every method, the one to trust most with few shots last."""
    evidence = support.evidence
    labels, text = evidence.labels[evidence.scored], evidence.text[evidence.scored].astype(np.float64)
    zero_shot = LinearHead(support.n_classes, support.zero_shot_weights, support.logit_scale)
    found = [_Candidate("zero-shot", zero_shot, text, labels, {}), _tip(support, text, labels)]

    def add(name: str, experts: list[_Expert], weights: tuple[float, ...]) -> None:
        answers = weights[0] * text + sum(w * expert.answers for w, expert in zip(weights[1:], experts, strict=True))
        found.append(
            _Candidate(
                name,
                _head(support, experts, weights),
                answers,
                labels,
                {f"{expert.name} {key}": value for expert in experts for key, value in expert.values.items()},
                harms(text, answers, labels),
                weights,
            )
        )

    experts = [_gda(support)]
    if len(support.labels) <= MAX_KERNEL_SHOTS:
        experts.insert(0, _proker(support))
    for expert in experts:
        add(expert.name, [expert], (1.0, 1.0))
    if len(experts) > 1 and all(expert.alpha > 0 for expert in experts):
        weights = EXPECTED
        if not evidence.few:
            logits = np.stack([text, *(expert.answers for expert in experts)])
            weights = tuple(likely_weights(logits, labels, EXPECTED, WIDTHS).tolist())
        add(TOGETHER, experts, weights)
    return found


@dataclass(frozen=True)
class _Expert:
    """What GDA or ProKeR adds to the text: its weighed answers to unseen images, and its formula from all shots."""

    name: str
    alpha: float
    values: dict[str, float]
    answers: FloatArray
    linear: tuple[FloatArray, FloatArray] | None = None
    coefficients: FloatArray | None = None
    offsets: FloatArray | float = 0.0


def _gda(support: SupportSet) -> _Expert:
    evidence, fit = support.evidence, gaussian_fit(support.features, support.labels, support.n_classes)
    choice = choose(evidence, lambda _: fit, prior=PRIOR)
    offsets = gaussian_offsets(support, choice.alpha)
    answers = choice.alpha_seen * (evidence.logits(fit)[evidence.scored] + offsets)
    return _Expert("gda", choice.alpha, {"alpha": choice.alpha}, answers, linear=_gaussians(support, offsets))


def _gaussians(support: SupportSet, offsets: FloatArray) -> tuple[FloatArray, FloatArray]:
    weights, bias = gaussian_classifier(support.features, support.labels, support.n_classes)
    bias = bias + offsets
    if support.zero_shot_weights is None:
        bias[support.counts == 0] = ABSENT_LOGIT
    return weights, bias


def _proker(support: SupportSet) -> _Expert:
    evidence, regression = support.evidence, KernelRidge.of(support)
    choice = choose_kernel(regression, evidence, betas=(BETA,))
    unseen = regression.left_out if evidence.n_folds > 1 else lambda **pair: evidence.logits(regression.fit(**pair))
    answers = choice.alpha_seen * unseen(**choice.parameters)[evidence.scored]
    fitted = _kernels(support, regression, choice.alpha, choice.parameters["ridge"])
    return replace(
        fitted,
        values={"alpha": choice.alpha, **choice.parameters},
        answers=answers + choice.alpha_seen * fitted.offsets,
    )


def _kernels(support: SupportSet, regression: KernelRidge, alpha: float, ridge: float) -> _Expert:
    """ProKeR's formula from all shots, nothing said of unseen images."""
    coefficients = regression.coefficients(BETA, ridge)
    offsets = kernel_offsets(support, regression, alpha, BETA, ridge)
    return _Expert("proker", alpha, {}, np.zeros(0), coefficients=coefficients, offsets=offsets)


def _tip(support: SupportSet, text: FloatArray, labels: IntArray) -> _Candidate:
    found = search(support.features, support.labels, support.text_logits, validation=support.validation_set)
    evidence = support.evidence

    def fit(kept: BoolArray) -> Callable[[Float32Array], FloatArray]:
        # Cache logits are sums over shots: α makes up for those that are left out.
        alpha = found.alpha * _shots(support.labels) / _shots(support.labels[kept])
        cache = Cache.build(support.features[kept], support.labels[kept], support.n_classes)
        return lambda queries: alpha * cache_logits(queries, cache, found.beta).astype(np.float64)

    answers = text + evidence.logits(fit)[evidence.scored]
    head = _tip_head(support, found.alpha, found.beta)
    return _Candidate("tip-adapter", head, answers, labels, {"alpha": found.alpha, "beta": found.beta})


def _shots(labels: IntArray) -> float:
    """Mean shots of the classes that have any."""
    return len(labels) / len(np.unique(labels))


def _tip_head(support: SupportSet, alpha: float, beta: float) -> CacheHead:
    return CacheHead(
        support.n_classes,
        support.zero_shot_weights,
        support.logit_scale,
        keys=support.features,
        labels=support.labels,
        alpha=alpha,
        beta=beta,
    )


def _head(support: SupportSet, experts: list[_Expert], weights: tuple[float, ...]) -> Head:
    """One formula for the weighed sum of text and experts."""
    scale = support.logit_scale * weights[0]
    linear: dict[str, Float32Array] = {}
    coefficients: Float32Array | None = None
    for weight, expert in zip(weights[1:], experts, strict=True):
        if expert.linear is not None:
            names = ("weights", "bias")
            linear |= {
                name: (weight * expert.alpha * part).astype(np.float32) + linear.get(name, np.float32(0))
                for name, part in zip(names, expert.linear, strict=True)
            }
        if expert.coefficients is not None:
            coefficients = (weight * expert.alpha * expert.coefficients).astype(np.float32)
        if np.any(expert.offsets):
            made_up = np.float32(weight * expert.alpha) * np.asarray(expert.offsets, dtype=np.float32)
            linear["bias"] = linear.get("bias", np.float32(0)) + made_up
    if coefficients is None:
        return LinearHead(support.n_classes, support.zero_shot_weights, scale, **linear)
    return KernelHead(
        support.n_classes,
        support.zero_shot_weights,
        scale,
        keys=support.features,
        coefficients=coefficients,
        beta=BETA,
        **linear,
    )
