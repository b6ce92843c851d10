"""Errors as a status and one sentence (problem+json, RFC 9457)."""

from __future__ import annotations

import errno
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.types import Scope

from tip_adapter.errors import EncoderError, InputError, ModelFileError, TipAdapterError

MEDIA_TYPE = "application/problem+json"
STATUSES: tuple[tuple[type[Exception], int], ...] = (
    (InputError, 422),
    (EncoderError, 503),
    (ModelFileError, 503),
    (TipAdapterError, 409),
    (TimeoutError, 504),
    (MemoryError, 503),
)
"""The first class that fits; a `TipAdapterError` of no other kind is about somebody else who edits the classifier."""


class Problem(HTTPException):
    """What a client is told, with a status of HTTP; ``Retry_After="1"`` becomes a header."""

    def __init__(self, status: int, detail: str, **headers: str) -> None:
        super().__init__(status, detail, {name.replace("_", "-"): value for name, value in headers.items()})


class ProblemDetails(BaseModel):
    """An error: `detail` says in a sentence what was expected, what came, and what to do."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str


RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "An error",
        "content": {MEDIA_TYPE: {"schema": ProblemDetails.model_json_schema()}},
    }
}
"""Of every route: without it FastAPI declares errors in a form of its own, which no route gives."""


def problem(scope: Scope, status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Answer with an error, in the shape of the protocol whose path was asked."""
    shape = scope["app"].state.shapes.get(scope["path"].split("/")[1])
    if shape:
        return JSONResponse(shape(status, detail), status, headers=headers)
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return JSONResponse(body, status, headers=headers, media_type=MEDIA_TYPE)


def status_of(error: Exception) -> int:
    """Give the status of an error of this package."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return 507
    return next((status for kind, status in STATUSES if isinstance(error, kind)), 500)


async def _known(request: Request, error: Exception) -> JSONResponse:
    return problem(request.scope, status_of(error), " ".join(str(error).split()) or type(error).__name__)


async def _of_http(request: Request, error: Exception) -> JSONResponse:
    status, detail = getattr(error, "status_code", 500), str(getattr(error, "detail", error))
    if not isinstance(error, Problem) and status in (404, 405):
        detail = f"There is no {request.method} {request.url.path}: /docs lists what there is"
    return problem(request.scope, status, detail, getattr(error, "headers", None))


async def _of_arguments(request: Request, error: Exception) -> JSONResponse:
    found: Any = error.errors()[0] if isinstance(error, RequestValidationError) else {}
    place = "" if found.get("type") == "json_invalid" else ".".join(str(part) for part in found.get("loc", ())[1:])
    return problem(request.scope, 422, f"{place or 'the request'}: {found.get('msg', 'is not as expected')}")


async def _disk(request: Request, error: Exception) -> JSONResponse:
    detail = getattr(error, "strerror", None) or type(error).__name__
    return problem(request.scope, status_of(error), f"the server cannot write: {detail}")


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    return problem(request.scope, 500, "The service failed: its own output says why")


def add_problems(app: FastAPI) -> None:
    """Let every error be answered in one line."""
    for kind in (TipAdapterError, TimeoutError, MemoryError):
        app.add_exception_handler(kind, _known)
    app.add_exception_handler(OSError, _disk)
    app.add_exception_handler(Exception, _unexpected)
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(RequestValidationError, _of_arguments)
