"""Evaluate a model on labelled features, beside the texts alone and the shots alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np

from tip_adapter.errors import InputError
from tip_adapter.features.extraction import Extraction
from tip_adapter.methods.heads import CacheHead, Head, zero_shot_logits
from tip_adapter.methods.heads.affinity import cache_logits
from tip_adapter.methods.heads.base import without_text
from tip_adapter.model.few_shot_model import FewShotModel
from tip_adapter.trust.agreement import FALSE_ALARMS
from tip_adapter.trust.calibration import Calibration
from tip_adapter.trust.evaluation import Evaluation, evaluate_probabilities
from tip_adapter.typing import BoolArray, Float32Array, FloatArray, IntArray

BLOCK = 8192
"""Photos that are answered together: features may be more than the memory holds."""


def evaluate_features(model: FewShotModel, extraction: Extraction, labels: IntArray) -> Evaluation:
    """Measure a model on features whose classes are known."""
    features = extraction.features
    return evaluate_rows(model, features.unit, labels, features.digests, extraction.skipped)


def evaluate_rows(
    model: FewShotModel,
    features: Float32Array,
    labels: IntArray,
    digests: Iterable[str],
    skipped: Sequence[tuple[str, str]] = (),
) -> Evaluation:
    """Measure a model on unit features (N, D), read a part at a time where they lie on the disk."""
    known, textless = set(model.shots.features.digests), bool(without_text(model.zero_shot_weights).all())
    probabilities = _in_blocks(lambda rows: model.probabilities(model.logits(rows)), features)
    alone = _in_blocks(partial(_shots_alone, model.head), features)
    among = sum(digest in known for digest in digests)
    # What left-out shots promise holds for photos that were not learned from.
    stated = model.calibration if model.calibration and model.calibration.source == "shots" and not among else None
    return evaluate_probabilities(
        probabilities,
        labels,
        model.class_names,
        zero_shot=None if textless else _in_blocks(partial(_texts_alone, model), features),
        cache=alone if isinstance(model.head, CacheHead) or np.ptp(alone) > 0 else None,
        n_shots_among=among,
        skipped=skipped,
        stated=None if stated is None else stated.scores,
        turned_away=None if stated is None else _turned_away(model, stated, probabilities, features),
    )


def _in_blocks(answer: Callable[[Float32Array], FloatArray], features: Float32Array) -> FloatArray:
    return np.concatenate([answer(features[start : start + BLOCK]) for start in range(0, max(1, len(features)), BLOCK)])


def _turned_away(
    model: FewShotModel, stated: Calibration, probabilities: FloatArray, features: Float32Array
) -> BoolArray | None:
    """Photos that are turned away at `FALSE_ALARMS`; None where the shots are too few to say."""
    try:
        threshold = stated.familiarity.threshold(FALSE_ALARMS)
    except InputError:
        return None
    starts = range(0, max(1, len(features)), BLOCK)
    blocks = [slice(start, start + BLOCK) for start in starts]
    return np.concatenate([model.unfamiliar(probabilities[rows], features[rows], threshold) for rows in blocks])


def _texts_alone(model: FewShotModel, features: Float32Array) -> FloatArray:
    """Logits of the texts."""
    weights = model.zero_shot_weights
    return zero_shot_logits(features, weights, model.encoder.logit_scale, len(weights))


def _shots_alone(head: Head, features: Float32Array) -> FloatArray:
    """Logits of a head without its text; all alike where the shots say nothing."""
    if isinstance(head, CacheHead):
        return cache_logits(features, head.cache, head.beta)  # also where α = 0
    logits: FloatArray = head.logits(features)
    weights = getattr(head, "zero_shot_weights", None)
    if weights is not None:
        logits = logits - zero_shot_logits(features, weights, getattr(head, "logit_scale", 1.0), logits.shape[1])
    return logits
