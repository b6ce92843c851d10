"""Read the files of a request, raw or as parts of a form; nothing is stored."""

from __future__ import annotations

import json
from email.message import Message
from typing import Any

import numpy as np
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from tip_adapter.data.decoding import NamedBytes
from tip_adapter.serve.problems import Problem
from tip_adapter.serve.settings import Settings
from tip_adapter.typing import Float32Array

FIELDS = 16
NAME_CHARACTERS = 200

FILES_SCHEMA: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files"],
                    "properties": {"files": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            },
            "image/*": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}

FEATURES_SCHEMA: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "Features one after the other, each `dim` numbers of 32 bits, least significant byte first.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}

UNIT_TOLERANCE = 1e-3
"""How far a feature's length may be off 1, through rounding."""

MOST_FEATURES = 10_000
"""Of one request, as many as one may hold shots."""


async def read_uploads(request: Request) -> list[NamedBytes]:
    """Read the photos of a request: the parts called `files` of a form, or the whole body."""
    settings: Settings = request.app.state.settings
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        if not kind.startswith("image/") and kind != "application/octet-stream":
            raise Problem(
                415, f"Expected multipart/form-data with files=…, or one photo as image/*, got {kind or 'none'}"
            )
        found = [NamedBytes(await request.body(), _name_of(request))]
    else:
        try:
            async with request.form(max_files=settings.max_files, max_fields=FIELDS) as form:
                found = await _files(form)
        except Problem:
            raise
        except HTTPException as error:
            raise Problem(error.status_code, f"{str(error.detail).rstrip('.')}: send fewer files at a time") from error
    if not found:
        raise Problem(422, "Expected at least one photo, in fields called files, got none")
    return found


async def _files(form: FormData) -> list[NamedBytes]:
    return [
        NamedBytes(await part.read(), shown(part.filename or f"photo {number}"))
        for number, part in enumerate(form.getlist("files"), start=1)
        if isinstance(part, UploadFile)
    ]


async def labelled_form(request: Request) -> tuple[list[NamedBytes], list[str], list[str] | None]:
    """Read photos, their classes and perhaps their groups, which come as JSON lists of as many names."""
    settings: Settings = request.app.state.settings
    async with request.form(max_files=20 * settings.max_files, max_fields=FIELDS, max_part_size=2**22) as form:
        images = await _files(form)
        classes, groups = (_names(form.get(field), field, len(images)) for field in ("classes", "groups"))
    if classes is None:
        raise Problem(422, "Expected the field classes, with the class of every photo")
    return images, classes, groups


def _names(value: Any, field: str, count: int) -> list[str] | None:
    if value is None:
        return None
    try:
        found = json.loads(value)
    except (TypeError, ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or len(found) != count or not all(isinstance(name, str) for name in found):
        raise Problem(422, f"Expected {field} as a JSON list of {count} names")
    return found


def read_features(body: bytes, dim: int) -> Float32Array:
    """Read unit features, (B, D), which a client got from this service."""
    if not body or len(body) % (4 * dim) or len(body) > 4 * dim * MOST_FEATURES:
        raise Problem(
            422, f"Expected 1 to {MOST_FEATURES} features of {dim} float32 numbers each, got {len(body)} bytes"
        )
    features = np.frombuffer(body, dtype="<f4").astype(np.float32).reshape(-1, dim)
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(features, axis=1)
    if not (abs(lengths - 1) < UNIT_TOLERANCE).all():
        raise Problem(422, "Expected features of length 1, as /v1/embed gives them, got others")
    return features


def _name_of(request: Request) -> str:
    header = Message()
    header["content-disposition"] = request.headers.get("content-disposition", "")
    return shown(header.get_filename() or "photo")


def shown(name: str) -> str:
    """Keep the last part of a name: a client's never becomes a path, and the server's folders are nobody's business."""
    return name.replace("\\", "/").rpartition("/")[2][:NAME_CHARACTERS] or "photo"
