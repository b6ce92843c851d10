"""OpenAI's embeddings, for photos (data: addresses) and texts in one space."""

from __future__ import annotations

import base64
from http import HTTPStatus
from typing import Any, Literal

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool

from tip_adapter.encoders import Encoder
from tip_adapter.methods.heads.base import unit
from tip_adapter.serve.problems import Problem
from tip_adapter.serve.protocols import Sent, check_count, encode_all, features_of, photo_of, read_json
from tip_adapter.typing import Float32Array

router = APIRouter(prefix="/v1")


class Asked(Sent):
    """Photos and texts, in any order."""

    input: str | list[str]
    model: str
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None


def error(status: int, detail: str) -> dict[str, Any]:
    """As OpenAI reports errors."""
    kind = "invalid_request_error" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "server_error"
    return {"error": {"message": detail, "type": kind, "param": None, "code": None}}


@router.get("/models")
def models(request: Request) -> dict[str, Any]:
    """List the models."""
    return {"object": "list", "data": [_listed(served.name) for served in request.app.state.models]}


@router.get("/models/{model}")
def model(request: Request, model: str) -> dict[str, Any]:
    """Tell that there is a model."""
    return _listed(request.app.state.models[model].name)


def _listed(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "tip-adapter"}


@router.post("/embeddings")
async def embeddings(request: Request) -> dict[str, Any]:
    """Give the unit feature of every photo and text."""
    asked = await read_json(request, Asked)
    served = request.app.state.models[asked.model]
    if asked.dimensions not in (None, served.encoder.dim):
        raise Problem(422, f"dimensions: features of {asked.model} have {served.encoder.dim}, and are not cut shorter")
    inputs = [asked.input] if isinstance(asked.input, str) else asked.input
    check_count(request, len(inputs))
    places = [place for place, given in enumerate(inputs) if given[:5].lower() == "data:"]
    features: dict[int, Float32Array] = {}
    texts = {place: given for place, given in enumerate(inputs) if place not in set(places)}
    _check_texts(texts, served.encoder)
    if places:
        photos = await run_in_threadpool(lambda: [photo_of(inputs[place], f"input {place}") for place in places])
        features |= zip(places, features_of(await encode_all(request, served, photos)), strict=True)
    if texts:
        rows = await run_in_threadpool(served.encoder.encode_texts, list(texts.values()))
        features |= zip(texts, unit(rows), strict=True)
    data = [
        {"object": "embedding", "index": place, "embedding": _written(features[place], asked.encoding_format)}
        for place in range(len(inputs))
    ]
    # Photos have no tokens, and what a text costs is nobody's bill here.
    usage = {"prompt_tokens": 0, "total_tokens": 0}
    return {"object": "list", "model": asked.model, "data": data, "usage": usage}


def _check_texts(texts: dict[int, str], encoder: Encoder) -> None:
    for place, text in texts.items():
        if not text.strip():
            raise Problem(422, f"input {place}: expected a text or a photo, got nothing")
        if text.lower().startswith(("http://", "https://", "file:")):
            raise Problem(422, f"input {place}: addresses are not fetched here: send data:image/…;base64,…")
    if texts and not encoder.has_text_tower:
        raise Problem(422, f"The encoder {encoder.name} reads photos alone: send data:image/…;base64,…")


def _written(feature: Float32Array, encoding_format: str) -> list[float] | str:
    if encoding_format == "base64":
        return base64.b64encode(feature.astype("<f4").tobytes()).decode()
    return [float(value) for value in feature]
