"""How α, the weight of the photos beside the texts, and β, how near a photo has to be, do on left-out shots."""

from __future__ import annotations

from typing import Any

import numpy as np

from tip_adapter.classifier import ImageClassifier
from tip_adapter.heads import CacheHead, zero_shot_logits
from tip_adapter.methods.selection.cache_search import Landscape, SearchResult, landscape, search
from tip_adapter.model.few_shot_model import FewShotModel
from tip_adapter.serve.problems import Problem
from tip_adapter.typing import Float32Array, FloatArray

METHOD = "tip-adapter"
NAMES = ("alpha", "beta", "text_weight")
ALPHA_OCTAVES, BETA_OCTAVES = 4, 3
"""The landscape goes so far from the chosen pair, in halves of powers of two."""


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


def weights_of(classifier: ImageClassifier) -> dict[str, Any]:
    """Give the present pair, the one that the shots choose, and how others do on left-out shots.

    `accuracy` and `nll` (A, B) of `alphas` (A,) and `betas` (B,), both ascending, hold both pairs, and α = 0, the texts
    alone; they are None where nothing can be left out.
    """
    model, head = classifier.model_, weighing(classifier.model_)
    text = zero_shot_logits(head.keys, head.zero_shot_weights, model.encoder.logit_scale, head.n_classes)
    automatic, centre = _choices(model, head, text)
    count = float(model.method.held["text_weight"])
    # Answers depend on what photos count against texts, so that is what stays the same beside texts that count else.
    alike = automatic.alpha * (count / automatic.text_weight if count and automatic.text_weight else 1.0)
    alphas = _axis(centre[0], ALPHA_OCTAVES, 0.0, head.alpha, alike)
    betas = _axis(centre[1], BETA_OCTAVES, head.beta, automatic.beta)
    found = _landscape(model, head, np.float32(count) * text, alphas, betas)
    return {
        "alpha": head.alpha,
        "beta": head.beta,
        "text_weight": count,
        "held": any(model.method.parameters[name] != "auto" for name in NAMES[:2]),
        "automatic": {"alpha": alike, "beta": automatic.beta},
        "alphas": alphas.tolist(),
        "betas": betas.tolist(),
        "accuracy": None if found is None else found.accuracy.tolist(),
        "nll": None if found is None else found.nll.tolist(),
    }


def _choices(model: FewShotModel, head: CacheHead, text: Float32Array) -> tuple[SearchResult, tuple[float, float]]:
    """What the shots choose, and what to draw the landscape around: that, or where it is no cache, what is expected."""
    shots, balanced, groups = (head.keys, head.labels, text), head.balanced, model.shots.group_numbers
    automatic = search(*shots, balanced=balanced, groups=groups)
    if automatic.alpha > 0 and automatic.beta > 0:
        return automatic, (automatic.alpha, automatic.beta)
    # Classes of one group each leave nothing to choose from.
    expected = search(*shots, balanced=balanced, groups=head.labels)
    return automatic, (expected.alpha, expected.beta)


def _axis(centre: float, octaves: int, *others: float) -> FloatArray:
    steps = centre * 2.0 ** (np.arange(-2 * octaves, 2 * octaves + 1) / 2)
    return np.unique(np.append(steps, others))


def _landscape(
    model: FewShotModel, head: CacheHead, text: Float32Array, alphas: FloatArray, betas: FloatArray
) -> Landscape | None:
    return landscape(
        head.keys,
        head.labels,
        text,
        alphas=alphas,
        betas=betas,
        balanced=head.balanced,
        groups=model.shots.group_numbers,
    )
