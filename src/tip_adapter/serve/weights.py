"""How α, the weight of the photos beside the texts, and β, how near a photo has to be, do on left-out shots."""

from __future__ import annotations

from typing import Any

import numpy as np

from tip_adapter.classifier import ImageClassifier
from tip_adapter.classifier.encoding import PhotoEncoder
from tip_adapter.methods.heads import CacheHead, zero_shot_logits
from tip_adapter.methods.selection.cache_search import landscape, search
from tip_adapter.model.few_shot_model import FewShotModel
from tip_adapter.serve.problems import Problem
from tip_adapter.typing import FloatArray, StrPath

METHOD = "tip-adapter"
NAMES = ("alpha", "beta", "text_weight")
ALPHA_OCTAVES, BETA_OCTAVES = 4, 3
"""The landscape goes so far from the chosen pair, in halves of powers of two."""

ROUNDING = 1e-4
"""Features that were saved and read again, or normalised again, choose what differs by less."""


def weighing(model: FewShotModel) -> CacheHead:
    """Give the head that has these weights; those of other methods have none."""
    if model.method.name != METHOD or not isinstance(model.head, CacheHead):
        raise Problem(409, f"α and β are those of {METHOD}, and this classifier's method is {model.method.name}")
    return model.head


def held(classifier: ImageClassifier, alpha: float, beta: float) -> None:
    """Hold α and β from now on, beside texts that count what they count now."""
    weighing(classifier.model_)
    weight = classifier.model_.method.held["text_weight"]
    classifier.refit({"alpha": alpha, "beta": beta, "text_weight": weight})


def chosen(classifier: ImageClassifier) -> None:
    """Let α, β and what the texts count be chosen from the shots again."""
    weighing(classifier.model_)
    classifier.refit(dict.fromkeys(NAMES, "auto"))


def weights_of(classifier: ImageClassifier, store: StrPath | None) -> dict[str, Any]:
    """Give the present pair, the one that the shots choose, and how others do on left-out shots.

    `accuracy` and `nll` (A, B) of `alphas` (A,) and `betas` (B,), both ascending, hold both pairs, and α = 0, the texts
    alone; they are None where nothing can be left out. Shots that are means of views are asked about as their single
    views in the store, as where the shots choose.
    """
    model, head = classifier.model_, weighing(classifier.model_)
    queries = PhotoEncoder(classifier.encoder, store=store).stored_middle_views(model)
    asked = head.keys if queries is None else queries
    text = zero_shot_logits(asked, head.zero_shot_weights, model.encoder.logit_scale, head.n_classes)
    shots: dict[str, Any] = {
        "features": head.keys,
        "labels": head.labels,
        "balanced": head.balanced,
        "groups": model.shots.group_numbers,
        "queries": queries,
    }
    automatic = search(**shots, text=text)
    centre = automatic
    if not (automatic.alpha > 0 and automatic.beta > 0):
        # The texts alone are no middle of a landscape; what is expected of one group of each class is.
        centre = search(**shots | {"groups": head.labels}, text=text)
    count = float(model.method.held["text_weight"])
    # Answers depend on what photos count against texts, so that is what stays the same beside texts that count else.
    alike = automatic.alpha * (count / automatic.text_weight if count and automatic.text_weight else 1.0)
    alpha, beta = _same(head.alpha, alike), _same(head.beta, automatic.beta)
    alphas = _axis(centre.alpha, ALPHA_OCTAVES, 0.0, head.alpha, alpha)
    betas = _axis(centre.beta, BETA_OCTAVES, head.beta, beta)
    found = landscape(**shots, text=np.float32(count) * text, alphas=alphas, betas=betas)
    return {
        "alpha": head.alpha,
        "beta": head.beta,
        "text_weight": count,
        "held": any(model.method.parameters[name] != "auto" for name in NAMES[:2]),
        "automatic": {"alpha": alpha, "beta": beta},
        "alphas": alphas.tolist(),
        "betas": betas.tolist(),
        "accuracy": None if found is None else found.accuracy.tolist(),
        "nll": None if found is None else found.nll.tolist(),
    }


def _same(now: float, again: float) -> float:
    """Give what was chosen again, or what it is now where they differ by rounding alone."""
    return now if np.isclose(now, again, rtol=ROUNDING, atol=0) else again


def _axis(centre: float, octaves: int, *others: float) -> FloatArray:
    steps = centre * 2.0 ** (np.arange(-2 * octaves, 2 * octaves + 1) / 2)
    steps = steps[~np.isclose(steps[:, None], others, rtol=ROUNDING, atol=0).any(axis=1)]
    return np.unique(np.append(steps, others))
