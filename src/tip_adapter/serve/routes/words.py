"""Preview other class texts before they are saved: how many shots they classify correctly by themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from tip_adapter.features.prompts import zero_shot_weights
from tip_adapter.model.edits import class_column
from tip_adapter.model.few_shot_model import FewShotModel
from tip_adapter.serve.problems import Problem
from tip_adapter.serve.routes.editing import Texts
from tip_adapter.serve.routes.predicting import Served
from tip_adapter.typing import Float32Array

router = APIRouter(tags=["studio"])


class Words(BaseModel):
    """Words to try for a class; without any only its photos tell."""

    model_config = ConfigDict(extra="forbid")
    class_name: str = Field(alias="class")
    texts: Texts


@router.post("/v1/words", include_in_schema=False)
def try_words(served: Served, wanted: Words) -> dict[str, Any]:
    """Measure the class texts on the shots, none of which they have seen, as they are and with other words."""
    model = served.model
    column = class_column(model, wanted.class_name)
    if served.encoder.text_id != model.encoder.text_id:
        raise Problem(503, f"The texts of this classifier are of another encoder than {served.encoder.name}")
    weights = model.zero_shot_weights.copy()
    if wanted.texts:
        row = zero_shot_weights(served.encoder, [wanted.texts], model.templates, class_names=[wanted.class_name])
    else:
        row = np.full((1, weights.shape[1]), np.nan, dtype=np.float32)
    weights[column] = row[0]
    before, after = (_named_by(one, model, column) for one in (model.zero_shot_weights, weights))
    return {"texts": list(model.class_texts[column]), "before": before, "after": after}


def _named_by(weights: Float32Array, model: FewShotModel, column: int) -> dict[str, Any]:
    """How many shots texts alone name rightly: of all, and of one class."""
    labels = model.shots.labels
    logits = np.nan_to_num(model.shots.features.unit @ weights.T, nan=-np.inf)
    right = logits.argmax(axis=1) == labels
    return {
        "accuracy": float(right.mean()),
        "class_right": int(right[labels == column].sum()),
        "class_shots": int((labels == column).sum()),
    }
