"""The studio: a page that teaches, and what it needs beyond the other routes."""

from __future__ import annotations

from importlib.resources import files
from pathlib import PurePosixPath
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response

from tip_adapter.model.description import described
from tip_adapter.serve.guard import TOKEN_COOKIE
from tip_adapter.serve.problems import Problem
from tip_adapter.serve.routes.editing import state_of
from tip_adapter.serve.routes.predicting import Served
from tip_adapter.serve.uploads import labelled_form

router = APIRouter(tags=["studio"])

SHARED = ("palette.css", "style.css")
"""Styles that the reports have, too."""

KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}


@router.get("/", include_in_schema=False)
def page(token: Annotated[str | None, Query()] = None) -> Response:
    """Show the studio; a token in the address becomes a cookie that no script can read."""
    if token is None:
        return asset("studio.html")
    answer = RedirectResponse("/", 303)
    answer.set_cookie(TOKEN_COOKIE, token, httponly=True, samesite="strict")
    return answer


@router.get("/studio/{name}", include_in_schema=False)
def asset(name: str) -> Response:
    """Give a part of the page."""
    package, folder = ("report", "templates") if name in SHARED else ("serve", "static")
    found = {part.name: part for part in files(f"tip_adapter.{package}").joinpath(folder).iterdir()}
    if name not in found:
        raise Problem(404, f"There is no {name!r} here")
    kind = KINDS[PurePosixPath(name).suffix]
    return Response(found[name].read_bytes(), media_type=f"{kind}; charset=utf-8")


@router.post("/v1/fit", include_in_schema=False)
async def fit(request: Request, served: Served) -> dict[str, Any]:
    """Teach a classifier from its first photos: `files`, and `classes` and `groups` as JSON lists of as many names."""
    images, classes, groups = await labelled_form(request)
    return {"name": served.name, **described(await served.fit(images, classes, groups))}


@router.post("/v1/settle", include_in_schema=False)
async def settle(served: Served) -> dict[str, Any]:
    """Choose again what the last edits made stale, as part of the last of them."""
    return state_of(await served.settle())


@router.post("/v1/open", include_in_schema=False)
async def open_archive(request: Request, served: Served) -> dict[str, Any]:
    """Go on with a saved classifier that comes as a ZIP file, where nothing was taught yet."""
    return {"name": served.name, **described(await served.open(await request.body()))}
