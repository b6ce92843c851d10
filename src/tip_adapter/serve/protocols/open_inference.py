"""The Open Inference Protocol (KServe V2, Triton) and V1's :predict and :explain."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.concurrency import run_in_threadpool

import tip_adapter
from tip_adapter.data.decoding import NamedBytes
from tip_adapter.serve.answers import Question, answers
from tip_adapter.serve.models import ServedModel
from tip_adapter.serve.problems import Problem
from tip_adapter.serve.protocols import (
    Named,
    Sent,
    check_count,
    encode_all,
    features_of,
    parsed,
    read_json,
)
from tip_adapter.serve.protocols.tensors import Tensor, photos_of_elements, photos_of_tensor

router = APIRouter()
LENGTH_HEADER = "inference-header-content-length"
"""Bytes of JSON, behind which tensors follow as they are."""
EVIDENCE = 5


class Wanted(Sent):
    """A tensor that is to be answered."""

    name: str


class Inference(Sent):
    """A request of V2."""

    id: str | None = None
    inputs: Annotated[list[Tensor], Field(min_length=1, max_length=1)]
    outputs: list[Wanted] | None = None


class Instances(Sent):
    """A request of V1: photos as {"b64": …}, alone or under "image"."""

    instances: list[dict[str, Any]]


def error(status: int, detail: str) -> dict[str, Any]:
    """As both versions report errors."""
    return {"error": detail}


@router.get("/v2")
def server() -> dict[str, Any]:
    """Tell what this is."""
    return {"name": "tip-adapter", "version": tip_adapter.__version__, "extensions": ["binary_tensor_data"]}


@router.get("/v2/health/{state}")
def health(request: Request, state: str) -> dict[str, Any]:
    """Tell that the service lives, or is ready."""
    if state not in ("live", "ready"):
        raise Problem(404, f"There is no health {state!r}: there are live and ready")
    if state == "ready" and not request.app.state.ready:
        raise Problem(503, "The service is starting or shutting down")
    return {state: True}


@router.get("/v2/models/{model}")
def metadata(served: Named) -> dict[str, Any]:
    """Describe a model's tensors."""
    classes = len(served.model.class_names)
    return {
        "name": served.name,
        "versions": [],
        "platform": "tip-adapter",
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": [-1]},
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, classes]},
            {"name": "class_names", "datatype": "BYTES", "shape": [classes]},
        ],
    }


@router.get("/v2/models/{model}/ready")
@router.get("/v1/models/{model}")
def ready(served: Named) -> dict[str, Any]:
    """Tell that there is a model."""
    return {"name": served.name, "ready": served.taught}


@router.post("/v2/models/{model}/infer")
async def infer(request: Request, served: Named) -> dict[str, Any]:
    """Answer photos with labels and probabilities."""
    body, length = await request.body(), request.headers.get(LENGTH_HEADER)
    if length is not None and not (length.isascii() and length.isdecimal() and int(length[:20]) <= len(body)):
        raise Problem(400, f"{LENGTH_HEADER}: expected a number of bytes within the body, got {length[:40]!r}")
    end = len(body) if length is None else int(length)
    asked = await run_in_threadpool(parsed, body[:end], Inference)
    photos = await run_in_threadpool(photos_of_tensor, asked.inputs[0], body[end:])
    outputs = await _outputs(request, served, photos)
    wanted = [one.name for one in asked.outputs] if asked.outputs else list(outputs)
    if unknown := [name for name in wanted if name not in outputs]:
        raise Problem(422, f"outputs: there is no {unknown[0]!r}: there are {', '.join(outputs)}")
    return {"model_name": served.name, "id": asked.id or "", "outputs": [outputs[name] for name in wanted]}


async def _outputs(request: Request, served: ServedModel, photos: list[NamedBytes]) -> dict[str, dict[str, Any]]:
    check_count(request, len(photos))
    features = features_of(await encode_all(request, served, photos))

    def answered() -> dict[str, dict[str, Any]]:
        model = served.model
        names, found = list(model.class_names), model.probabilities(model.logits(features))
        labels = [names[column] for column in found.argmax(axis=1)]
        return {
            "label": {"name": "label", "datatype": "BYTES", "shape": [len(labels)], "data": labels},
            "probabilities": {
                "name": "probabilities",
                "datatype": "FP32",
                "shape": list(found.shape),
                "data": found.ravel().tolist(),
            },
            "class_names": {"name": "class_names", "datatype": "BYTES", "shape": [len(names)], "data": names},
        }

    return await run_in_threadpool(answered)


@router.post("/v1/models/{model}:predict")
async def predict(request: Request, served: Named) -> dict[str, Any]:
    """Answer photos of V1: every class with its probability, the best first."""
    return {"predictions": await _answers(request, served, Question(top_k=len(served.model.class_names)))}


@router.post("/v1/models/{model}:explain")
async def explain(request: Request, served: Named) -> dict[str, Any]:
    """Answer photos of V1 with what decided."""
    return {"explanations": await _answers(request, served, Question(evidence=EVIDENCE))}


async def _answers(request: Request, served: ServedModel, question: Question) -> list[dict[str, Any]]:
    asked = await read_json(request, Instances)
    photos = await run_in_threadpool(photos_of_elements, asked.instances)
    check_count(request, len(photos))
    encoded = await encode_all(request, served, photos)
    return await run_in_threadpool(answers, served, [one.filename for one in photos], encoded, question)
