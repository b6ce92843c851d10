"""Evaluate a model on labelled features, beside the texts alone and the shots alone."""

from __future__ import annotations

import numpy as np

from tip_adapter.errors import InputError
from tip_adapter.features.extraction import Extraction
from tip_adapter.heads import CacheHead, Head, zero_shot_logits
from tip_adapter.heads.affinity import cache_logits
from tip_adapter.model.few_shot_model import FewShotModel
from tip_adapter.trust.agreement import FALSE_ALARMS
from tip_adapter.trust.calibration import Calibration
from tip_adapter.trust.evaluation import Evaluation, evaluate_probabilities
from tip_adapter.typing import BoolArray, Float32Array, FloatArray, IntArray


def evaluate_features(model: FewShotModel, extraction: Extraction, labels: IntArray) -> Evaluation:
    """Measure a model on features whose classes are known."""
    features, known = extraction.features.unit, set(model.shots.features.digests)
    probabilities = model.probabilities(model.logits(features))
    stated = model.calibration if model.calibration and model.calibration.source == "shots" else None
    return evaluate_probabilities(
        probabilities,
        labels,
        model.class_names,
        zero_shot=_texts_alone(model, features),
        cache=_shots_alone(model.head, features),
        n_shots_among=sum(digest in known for digest in extraction.features.digests),
        skipped=extraction.skipped,
        stated=None if stated is None else stated.scores,
        turned_away=None if stated is None else _turned_away(model, stated, probabilities, features),
    )


def _turned_away(
    model: FewShotModel, stated: Calibration, probabilities: FloatArray, features: Float32Array
) -> BoolArray | None:
    """Photos that are turned away at `FALSE_ALARMS`; None where the shots are too few to say."""
    try:
        threshold = stated.familiarity.threshold(FALSE_ALARMS)
    except InputError:
        return None
    return model.unfamiliar(probabilities, features, threshold)


def _texts_alone(model: FewShotModel, features: Float32Array) -> FloatArray | None:
    """Logits of the texts; None where no class has one."""
    weights = model.zero_shot_weights
    if np.isnan(weights[:, 0]).all():
        return None
    return zero_shot_logits(features, weights, model.encoder.logit_scale, len(weights))


def _shots_alone(head: Head, features: Float32Array) -> FloatArray | None:
    """Logits of a head without its text; None where the shots say nothing."""
    if isinstance(head, CacheHead):
        return cache_logits(features, head.cache, head.beta)  # also where α = 0
    logits: FloatArray = head.logits(features)
    weights = getattr(head, "zero_shot_weights", None)
    if weights is not None:
        logits = logits - zero_shot_logits(features, weights, getattr(head, "logit_scale", 1.0), logits.shape[1])
    return logits if np.ptp(logits) > 0 else None
