"""Hugging Face's image classification, as its Inference Endpoints answer it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Request
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from tip_adapter.data.decoding import NamedBytes
from tip_adapter.serve.models import ServedModel
from tip_adapter.serve.protocols import Named, Sent, encode_all, features_of, photo_of, read_json
from tip_adapter.typing import Float32Array

router = APIRouter()


class Parameters(Sent):
    """How many classes, and what their scores are: probabilities, unless something else is asked."""

    top_k: Annotated[int, Field(ge=1, le=100_000)] | None = None
    function_to_apply: Literal["softmax", "sigmoid", "none"] | None = None


class Asked(Sent):
    """A photo in base64."""

    inputs: str
    parameters: Parameters | None = None


def error(status: int, detail: str) -> dict[str, Any]:
    """As `pipeline` servers report errors."""
    return {"error": detail}


@router.post("")
@router.post("/models/{model}")
async def classify(request: Request, served: Named) -> list[dict[str, Any]]:
    """Classify one photo."""
    parameters = Parameters()
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json":
        asked = await read_json(request, Asked)
        parameters, photo = asked.parameters or parameters, photo_of(asked.inputs, "inputs")
    else:
        photo = NamedBytes(await request.body(), "the photo")
    features = features_of(await encode_all(request, served, [photo]))
    return await run_in_threadpool(_scores, served, features, parameters)


def _scores(served: ServedModel, features: Float32Array, parameters: Parameters) -> list[dict[str, Any]]:
    model = served.model
    logits = model.logits(features)
    if parameters.function_to_apply == "none":
        scores = logits[0]
    elif parameters.function_to_apply == "sigmoid":
        scores = 0.5 * (1 + np.tanh(logits[0] / 2))
    else:
        scores = model.probabilities(logits)[0]
    best = np.argsort(-scores, kind="stable")[: parameters.top_k or 5]
    return [{"label": model.class_names[column], "score": float(scores[column])} for column in best]
