"""Auto: class texts, a Gaussian model and a kernel regression, each weighted on held-out shots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tip_adapter.methods.base import FewShotMethod
from tip_adapter.methods.closed_form.gda import gaussian_term
from tip_adapter.methods.closed_form.proker import kernel_term
from tip_adapter.methods.few_shot_term import FewShotTerm, combined_head
from tip_adapter.methods.heads import Head
from tip_adapter.methods.selection.evidence import Rule
from tip_adapter.methods.selection.text_offsets import text_offsets
from tip_adapter.methods.selection.weight import is_worse, likely_weights, nll_and_accuracy
from tip_adapter.methods.support_set import SupportSet

MAX_KERNEL_SHOTS = 6000
"""With more shots ProKeR, whose cost grows with their cube, takes no part."""

BETA = 1.0
"""Of ProKeR's kernel, whose likelihood is flat in β."""

TEXT_WIDTH, TERM_WIDTH = 0.1, 0.25
"""How far from the mean of the two methods weights may well be, as fractions: each was fitted to the shots by itself,
and shots (means of many views) look more alike than the photos that will come."""


@dataclass(frozen=True)
class AutoResult:
    """What was chosen, and from what evidence.

    Attributes
    ----------
    rule : {"cross-validation", "cross-validation and prior", "prior", "validation"}
        What decided.
    scores : dict of str to (float, float)
        Negative log-likelihood (nats per image) and accuracy, on images that no fit had seen, of the texts, each of the
        two methods, and both together ("auto"); empty with one shot per class.
    n_folds, n_scored : int
        Folds of the cross-validation (0 without), and images that were scored.
    weights : tuple of float
        What the texts and each method count together, as fractions of what each would count alone.
    parameters : dict of str to float
        The chosen hyper-parameters, such as "gda alpha", and "text weight".
    """

    rule: Rule
    scores: dict[str, tuple[float, float]]
    n_folds: int
    n_scored: int
    weights: tuple[float, ...]
    parameters: dict[str, float]

    @property
    def summary(self) -> str:
        """One sentence for people."""
        named = [name.removesuffix(" alpha") for name in self.parameters if name.endswith(" alpha")]
        counting = [name for name, weight in zip(named, self.weights[1:], strict=True) if weight > 0]
        methods = " + ".join(counting) or "texts"
        if not self.scores:
            return f"{methods} by the rule for one shot, or group of them, per class (nothing can be left out)"
        nll, accuracy = self.scores["auto"]
        source = f"{self.n_folds}-fold cross-validation on the shots" if self.n_folds else "the validation set"
        if self.rule == "cross-validation and prior":
            source = f"the rule for few shots, checked by {source}"
        others = ", ".join(
            f"{name} {100 * scores[1]:.1f} % ({scores[0]:.3f})"
            for name, scores in self.scores.items()
            if name != "auto"
        )
        return f"{methods} by {source}: {100 * accuracy:.1f} % (likelihood loss {nll:.3f}) against {others}"


class Auto(FewShotMethod):
    """GDA and ProKeR together, every weight chosen from the shots alone: ``w₀·t·zs + b + w₁·ProKeR + w₂·GDA``.

    The weights of the texts (t) and of the two methods are chosen on held-out shots: one shot of every class at a time
    is left out of the fits. Both methods are then combined with the most likely weights near their mean (with one shot
    per class, ProKeR alone). Where that loses more accuracy on held-out shots than chance explains, the texts are used
    alone; otherwise offsets (b, see `tip_adapter.methods.selection.text_offsets`) correct texts that are predicted too
    often or too seldom.

    Parameters
    ----------
    zero_shot_weights : array-like of shape (C, D), optional
        W, class text features; a row of NaN for a class without text. Without them only the shots are used.
    class_names : sequence of str, optional
        Names of the rows of `zero_shot_weights`.
    logit_scale : float, default=100.0
        s, the inverse temperature the encoder was trained with.
    held : mapping, optional
        What an earlier fit chose, from `held_parameters`: nothing is chosen again.

    Attributes
    ----------
    search_ : AutoResult
        The choice and its evidence; `summary` says it in one sentence.

    Notes
    -----
    With more than 6,000 shots ProKeR is left out.

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
    'proker by the rule for one shot, or group of them, per class (nothing can be left out)'
    """

    held: Mapping[str, Any] | None = None

    def held_parameters(self) -> dict[str, Any]:
        """The chosen weights and hyper-parameters, as the parameter `held`.

        Returns
        -------
        dict
        """
        return {"held": {"weights": list(self.search_.weights), "parameters": self.search_.parameters}}

    def _fit_head(self, support: SupportSet) -> Head:
        from threadpoolctl import threadpool_limits

        # Many small systems: threads of the linear algebra would wait for each other longer than they work.
        with threadpool_limits(1, user_api="blas"):
            if self.held is None:
                self.search_ = _searched(support)
            else:
                held = tuple(self.held["weights"]), dict(self.held["parameters"])
                self.search_ = AutoResult("prior", {}, 0, 0, *held)
            return self._refit_head(support)

    def _refit_head(self, support: SupportSet) -> Head:
        held, weights = self.search_.parameters, self.search_.weights
        text, terms = held["text weight"], []
        if "proker alpha" in held:
            terms.append(
                kernel_term(support, held["proker alpha"], text, (held["proker beta"],), (held["proker ridge"],))
            )
        terms.append(gaussian_term(support, held["gda alpha"], text, (held["gda ridge"],)))
        weighed = support.weigh_text(weights[0] * text)
        offsets = text_offsets(weighed) if any(weights[1:]) else 0.0
        return combined_head(weighed, terms, weights[1:], offsets)


def _searched(support: SupportSet) -> AutoResult:
    terms = _terms(support)
    text_weight = float(np.mean([term.values["text weight"] for term in terms.values()]))
    weights, scores = _weigh(support, terms, text_weight)
    evidence, scored = support.evidence, int(support.evidence.scored.sum())
    parameters = {f"{name} {key}": value for name, one in terms.items() for key, value in one.values.items()}
    parameters = {key: value for key, value in parameters.items() if not key.endswith("text weight")}
    parameters["text weight"] = text_weight
    return AutoResult(evidence.rule, scores, evidence.n_folds if scored else 0, scored, weights, parameters)


def _terms(support: SupportSet) -> dict[str, FewShotTerm]:
    terms = {"gda": gaussian_term(support)}
    if len(support.labels) > MAX_KERNEL_SHOTS:
        return terms
    return {"proker": kernel_term(support, betas=(BETA,))} | terms


def _weigh(
    support: SupportSet, terms: Mapping[str, FewShotTerm], text_weight: float
) -> tuple[tuple[float, ...], dict[str, tuple[float, float]]]:
    """Weights of the texts and the terms, and how well they do on images that no fit had seen."""
    evidence, share = support.evidence, 1 / len(terms)
    if not evidence.scored.any():
        # Without a covariance GDA is the nearest mean, while ProKeR sees in what the shots differ from each other.
        return (1.0, 1.0, *[0.0] * (len(terms) - 1)), {}
    expected = (1.0, *[share] * len(terms))
    text, labels = evidence.text[evidence.scored].astype(np.float64), evidence.labels[evidence.scored]
    logits = np.stack([text_weight * text, *(term.seen for term in terms.values())])
    weights = likely_weights(logits, labels, expected, (TEXT_WIDTH, *[TERM_WIDTH] * len(terms)))
    if text.any() and is_worse(text, np.tensordot(weights, logits, axes=1), labels):
        weights = np.eye(1, len(weights))[0] / text_weight
    answers = {"zero-shot": text} if text.any() else {}
    answers |= {name: term.values["text weight"] * text + term.seen for name, term in terms.items()}
    answers["auto"] = np.tensordot(weights, logits, axes=1)
    scores = {name: nll_and_accuracy(one, labels) for name, one in answers.items()}
    return tuple(weights.tolist()), scores
