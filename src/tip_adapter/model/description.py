"""Describe a classifier in JSON values: what it is made of, its shots, and its edits."""

from __future__ import annotations

from typing import Any

import numpy as np

from tip_adapter.model.edits import class_column
from tip_adapter.model.few_shot_model import FewShotModel
from tip_adapter.trust.metrics import wilson_interval


def described(model: FewShotModel) -> dict[str, Any]:
    """Describe encoder, method, what was chosen, and the classes."""
    return {
        "encoder": vars(model.encoder),
        "method": model.method.name,
        "trains": model.method.trains,
        "fitted": model.journal[0].when if model.journal else None,
        "chosen": dict(model.method.chosen),
        "stale": list(model.stale),
        "edits": len(model.journal) - 1,
        "templates": list(model.templates),
        "views": model.views,
        "seed": model.random_state,
        "shots": len(model.shots),
        "groups": model.shots.n_groups,
        "left_out": stated_accuracy(model),
        "classes": [
            {"class": name, "shots": int(count), "texts": list(texts)}
            for name, count, texts in zip(model.class_names, model.counts, model.class_texts, strict=True)
        ],
    }


def stated_accuracy(model: FewShotModel) -> dict[str, float] | None:
    """How often left-out shots, one of every group, are right, with the 95 % interval; None where that is not known."""
    known = model.calibration
    if known is None or known.source != "shots" or not known.n or "calibration" in model.stale:
        return None
    right = int((known.scores.ahead == 0).sum())
    low, high = wilson_interval(right, known.n)
    return {"accuracy": right / known.n, "low": low, "high": high, "n": known.n}


def listed_shots(model: FewShotModel, class_name: str | None = None) -> list[dict[str, str]]:
    """List the id, class and name of every shot, or of those of one class."""
    wanted = None if class_name is None else class_column(model, class_name)
    shots = model.shots
    return [
        {"id": shots.ids[row], "class": model.class_names[shots.labels[row]], "name": shots.features.names[row]}
        for row in np.argsort(shots.labels, kind="stable")
        if wanted is None or shots.labels[row] == wanted
    ]
