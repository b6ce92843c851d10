"""Turn features into the response a client asked for: classes, sets, "none of these", evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tip_adapter.classifier.predicting import calibration_of
from tip_adapter.model.predictions import named_sets, top_predictions
from tip_adapter.serve.encoding import Encoded
from tip_adapter.serve.models import ServedModel
from tip_adapter.serve.uploads import shown
from tip_adapter.trust.conformal import prediction_sets


@dataclass(frozen=True)
class Question:
    """What a client wants to know of every photo."""

    top_k: int = 1
    coverage: float | None = None
    """Of prediction sets."""
    none_of_these: float | None = None
    """Share of known photos that may be turned away by mistake."""
    evidence: int = 0
    """Deciding shots to list; 0 for no explanation."""


def check_question(served: ServedModel, question: Question) -> None:
    """Refuse what cannot be answered, before photos are encoded for it."""
    model = served.model
    if question.coverage is not None:
        calibration_of(model).scores.threshold(question.coverage)
    if question.none_of_these is not None:
        calibration_of(model).familiarity.threshold(question.none_of_these)


def answers(
    served: ServedModel, given: Sequence[str], encoded: list[Encoded], question: Question
) -> list[dict[str, Any]]:
    """Answer for every photo, in order, under the names given; a photo that cannot be read has an "error"."""
    read = [place for place, one in enumerate(encoded) if one.feature is not None]
    rows: list[dict[str, Any]] = [{"name": name, "error": one.error} for name, one in zip(given, encoded, strict=True)]
    if not read:
        return rows
    model, names = served.model, [given[place] for place in read]
    features = np.stack([one.feature for one in encoded if one.feature is not None])
    probabilities = model.probabilities(model.logits(features))
    threshold = None
    if question.none_of_these is not None:
        threshold = calibration_of(model).familiarity.threshold(question.none_of_these)
    none = model.unfamiliar(probabilities, features, threshold)
    top = top_predictions(probabilities, model.class_names, names, question.top_k, none=none)
    sets, reasons = None, None
    if question.coverage is not None:
        inside = prediction_sets(probabilities, calibration_of(model).scores.threshold(question.coverage))
        sets = named_sets(probabilities, inside, model.class_names, names)
    if question.evidence:
        reasons = served.explainer.explain(features, names, shots=question.evidence)
    for row, place in enumerate(read):
        found = top[row].to_dict()
        rows[place] = {"name": found.pop("path"), **found}
        if question.none_of_these is not None:
            rows[place]["none_of_these"] = top[row].none
        if sets is not None:
            rows[place]["set"] = [{"class": name, "probability": value} for name, value in sets[row].classes]
        if reasons is not None:
            explanation = reasons[row].to_dict()
            explanation.pop("path")
            explanation["deciding"] = [{**shot, "name": shown(shot["name"])} for shot in explanation["deciding"]]
            rows[place]["evidence"] = explanation
    return rows
