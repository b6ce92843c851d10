"""Protocols of other services, so that their clients work here; each is one module, enabled by name."""

from __future__ import annotations

import base64
import binascii
import importlib
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import numpy as np
from fastapi import Depends, FastAPI, Request
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.concurrency import run_in_threadpool

from tip_adapter.data.decoding import NamedBytes
from tip_adapter.errors import InputError
from tip_adapter.serve.encoding import Encoded
from tip_adapter.serve.models import ServedModel
from tip_adapter.serve.problems import Problem
from tip_adapter.serve.routes.predicting import encode
from tip_adapter.storage.strict_json import parse_json
from tip_adapter.typing import Float32Array

PROTOCOLS = {
    "huggingface": "tip_adapter.serve.protocols.huggingface",
    "label-studio": "tip_adapter.serve.protocols.label_studio",
    "open-inference": "tip_adapter.serve.protocols.open_inference",
    "openai": "tip_adapter.serve.protocols.openai",
}
"""A module has a `router`, found under the protocol's name, and `error`: what its clients expect of an error."""

Shape = Callable[[int, str], dict[str, Any]]


class Sent(BaseModel):
    """JSON of a client; fields that nobody asks for here are passed over, since clients send many."""

    model_config = ConfigDict(extra="ignore", strict=True, protected_namespaces=())


S = TypeVar("S", bound=Sent)


def speak(app: FastAPI, name: str) -> Shape:
    """Add a protocol to an application; returns the shape of its errors."""
    if name not in PROTOCOLS:
        raise InputError(f"There is no protocol {name!r}: there are {', '.join(PROTOCOLS)}")
    module = importlib.import_module(PROTOCOLS[name])
    app.include_router(module.router, prefix=f"/{name}", include_in_schema=False)
    shape: Shape = module.error
    return shape


def named_model(request: Request) -> ServedModel:
    """Find the model that the path names; the only one where it names none."""
    served: ServedModel = request.app.state.models[request.path_params.get("model")]
    return served


Named = Annotated[ServedModel, Depends(named_model)]


async def read_json(request: Request, kind: type[S]) -> S:
    """Read the body, however odd, as JSON of a kind."""
    body = await request.body()
    return await run_in_threadpool(parsed, body, kind)


def parsed(body: bytes, kind: type[S]) -> S:
    """Parse JSON of a kind."""
    try:
        return kind.model_validate(parse_json(body))
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in found["loc"])
        raise Problem(422, f"{place or 'the request'}: {found['msg']}") from None
    except ValueError as error:
        raise Problem(422, f"Expected the request as JSON, got {error}") from None


def photo_of(text: str, name: str) -> NamedBytes:
    """Decode base64, with or without what makes it a data: address."""
    if text[:5].lower() == "data:":
        head, comma, text = text.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise Problem(422, f"{name}: expected data:image/…;base64,…, got {head[:40]!r}")
    elif "://" in text[:12]:
        raise Problem(422, f"{name}: addresses are not fetched here: send the photo itself, in base64")
    try:
        return NamedBytes(base64.b64decode(text, validate=True), name)
    except (binascii.Error, ValueError) as error:
        raise Problem(422, f"{name}: expected base64 ({error})") from None


def check_count(request: Request, count: int) -> None:
    """Refuse none, and more than one request may bring."""
    most = request.app.state.settings.max_files
    if not 1 <= count <= most:
        raise Problem(422, f"Expected 1 to {most} inputs, got {count}")


async def encode_all(request: Request, served: ServedModel, photos: list[NamedBytes]) -> list[Encoded]:
    """Encode photos of which every one has to be readable, as where answers have no room for errors."""
    encoded = await encode(request, served.queue, photos)
    for one in encoded:
        if one.feature is None:
            raise Problem(422, one.error)
    return encoded


def features_of(encoded: list[Encoded]) -> Float32Array:
    """Stack features into (N, D)."""
    return np.stack([one.feature for one in encoded if one.feature is not None])
