"""A classifier in JSON values, for people and programs: what it is made of, its shots, what was done to it."""

from __future__ import annotations

from typing import Any

from tip_adapter.model.edits import class_column
from tip_adapter.model.few_shot_model import FewShotModel


def described(model: FewShotModel) -> dict[str, Any]:
    """Describe encoder, method, what was chosen, and the classes."""
    return {
        "encoder": vars(model.encoder),
        "method": model.method.name,
        "chosen": dict(model.method.chosen),
        "stale": list(model.stale),
        "edits": len(model.journal) - 1,
        "templates": list(model.templates),
        "views": model.views,
        "seed": model.random_state,
        "shots": len(model.shots),
        "groups": model.shots.n_groups,
        "classes": [
            {"class": name, "shots": int(count), "texts": list(texts)}
            for name, count, texts in zip(model.class_names, model.counts, model.class_texts, strict=True)
        ],
    }


def listed_shots(model: FewShotModel, class_name: str | None = None) -> list[dict[str, str]]:
    """List the id, class and name of every shot, or of those of one class."""
    wanted = None if class_name is None else class_column(model, class_name)
    shots = model.shots
    return [
        {"id": one, "class": model.class_names[label], "name": name}
        for one, label, name in zip(shots.ids, shots.labels, shots.features.names, strict=True)
        if wanted is None or label == wanted
    ]
