"""Measure a model on features whose classes are known, with text alone and the shots alone beside it."""

from __future__ import annotations

import numpy as np

from tip_adapter.features.extraction import Extraction
from tip_adapter.heads import CacheHead, Head, zero_shot_logits
from tip_adapter.heads.affinity import cache_logits
from tip_adapter.model.few_shot_model import FewShotModel
from tip_adapter.trust.evaluation import Evaluation, evaluate_probabilities
from tip_adapter.typing import Float32Array, FloatArray, IntArray


def evaluate_features(model: FewShotModel, extraction: Extraction, labels: IntArray) -> Evaluation:
    """Measure a model on features whose classes are known."""
    features, known = extraction.features.unit, set(model.shots.features.digests)
    return evaluate_probabilities(
        model.probabilities(model.logits(features)),
        labels,
        model.class_names,
        zero_shot=zero_shot_logits(
            features, model.zero_shot_weights, model.encoder.logit_scale, len(model.class_names)
        ),
        cache=_shots_alone(model.head, features),
        n_shots_among=sum(digest in known for digest in extraction.features.digests),
        skipped=extraction.skipped,
        stated=model.calibration.scores if model.calibration and model.calibration.source == "shots" else None,
    )


def _shots_alone(head: Head, features: Float32Array) -> FloatArray | None:
    """Logits of a head without its text; None where the shots say nothing."""
    if isinstance(head, CacheHead):
        return cache_logits(features, head.cache, head.beta)  # also where α = 0
    logits: FloatArray = head.logits(features)
    weights = getattr(head, "zero_shot_weights", None)
    if weights is not None:
        logits = logits - zero_shot_logits(features, weights, getattr(head, "logit_scale", 1.0), logits.shape[1])
    return logits if np.ptp(logits) > 0 else None
