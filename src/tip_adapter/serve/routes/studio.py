"""The studio: a page that teaches, and what it needs beyond the other routes."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response
from starlette.datastructures import UploadFile

from tip_adapter.data.decoding import NamedBytes
from tip_adapter.model.description import described
from tip_adapter.serve.guard import TOKEN_COOKIE
from tip_adapter.serve.problems import Problem
from tip_adapter.serve.routes.editing import state_of
from tip_adapter.serve.routes.predicting import Served
from tip_adapter.serve.uploads import FIELDS, shown

router = APIRouter(tags=["studio"])

ASSETS = {
    "studio.html": ("tip_adapter.serve", "static/studio.html", "text/html; charset=utf-8"),
    "studio.js": ("tip_adapter.serve", "static/studio.js", "text/javascript; charset=utf-8"),
    "columns.js": ("tip_adapter.serve", "static/columns.js", "text/javascript; charset=utf-8"),
    "service.js": ("tip_adapter.serve", "static/service.js", "text/javascript; charset=utf-8"),
    "selection.js": ("tip_adapter.serve", "static/selection.js", "text/javascript; charset=utf-8"),
    "trying.js": ("tip_adapter.serve", "static/trying.js", "text/javascript; charset=utf-8"),
    "webcam.js": ("tip_adapter.serve", "static/webcam.js", "text/javascript; charset=utf-8"),
    "studio.css": ("tip_adapter.serve", "static/studio.css", "text/css; charset=utf-8"),
    "style.css": ("tip_adapter.report", "templates/style.css", "text/css; charset=utf-8"),
}


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
    if name not in ASSETS:
        raise Problem(404, f"There is no {name!r} here")
    package, place, kind = ASSETS[name]
    return Response(files(package).joinpath(place).read_bytes(), media_type=kind)


@router.post("/v1/fit", include_in_schema=False)
async def fit(request: Request, served: Served) -> dict[str, Any]:
    """Teach a classifier from its first photos: `files`, and `classes` and `groups` as JSON lists of as many names."""
    settings = request.app.state.settings
    async with request.form(max_files=20 * settings.max_files, max_fields=FIELDS, max_part_size=2**22) as form:
        parts = [part for part in form.getlist("files") if isinstance(part, UploadFile)]
        images = [NamedBytes(await part.read(), shown(part.filename or "photo")) for part in parts]
        classes, groups = (_names(form.get(field), field, len(images)) for field in ("classes", "groups"))
    if classes is None:
        raise Problem(422, "Expected the field classes, with the class of every photo")
    return {"name": served.name, **described(await served.fit(images, classes, groups))}


@router.post("/v1/settle", include_in_schema=False)
async def settle(served: Served) -> dict[str, Any]:
    """Choose again what the last edits made stale, as part of the last of them."""
    return state_of(await served.settle())


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
