"""The studio: a page that teaches, and what it needs beyond the other routes."""

from __future__ import annotations

from importlib.resources import files
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

ASSETS = {
    "studio.html": ("tip_adapter.serve", "static/studio.html", "text/html; charset=utf-8"),
    "studio.js": ("tip_adapter.serve", "static/studio.js", "text/javascript; charset=utf-8"),
    "columns.js": ("tip_adapter.serve", "static/columns.js", "text/javascript; charset=utf-8"),
    "enough.js": ("tip_adapter.serve", "static/enough.js", "text/javascript; charset=utf-8"),
    "exporting.js": ("tip_adapter.serve", "static/exporting.js", "text/javascript; charset=utf-8"),
    "next.js": ("tip_adapter.serve", "static/next.js", "text/javascript; charset=utf-8"),
    "pinned.js": ("tip_adapter.serve", "static/pinned.js", "text/javascript; charset=utf-8"),
    "service.js": ("tip_adapter.serve", "static/service.js", "text/javascript; charset=utf-8"),
    "selection.js": ("tip_adapter.serve", "static/selection.js", "text/javascript; charset=utf-8"),
    "trying.js": ("tip_adapter.serve", "static/trying.js", "text/javascript; charset=utf-8"),
    "weights.js": ("tip_adapter.serve", "static/weights.js", "text/javascript; charset=utf-8"),
    "words.js": ("tip_adapter.serve", "static/words.js", "text/javascript; charset=utf-8"),
    "webcam.js": ("tip_adapter.serve", "static/webcam.js", "text/javascript; charset=utf-8"),
    "zip.js": ("tip_adapter.serve", "static/zip.js", "text/javascript; charset=utf-8"),
    "studio.css": ("tip_adapter.serve", "static/studio.css", "text/css; charset=utf-8"),
    "palette.css": ("tip_adapter.report", "templates/palette.css", "text/css; charset=utf-8"),
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
