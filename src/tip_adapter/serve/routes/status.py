"""How the service is, what it serves, and what it counts."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, PlainTextResponse
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from tip_adapter.model.description import described
from tip_adapter.serve.problems import RESPONSES, Problem
from tip_adapter.serve.routes.predicting import Served

router = APIRouter(tags=["status"], responses=RESPONSES)


@router.get("/healthz")
def alive() -> dict[str, str]:
    """Tell that the service runs."""
    return {"status": "ok"}


@router.get("/readyz")
def ready(request: Request) -> dict[str, str]:
    """Tell that encoders are loaded and photos are taken."""
    if not request.app.state.ready:
        raise Problem(503, "The service is starting or shutting down")
    return {"status": "ready"}


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(request: Request) -> PlainTextResponse:
    """Give figures for Prometheus."""
    return PlainTextResponse(request.app.state.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/v1/models")
def models(request: Request) -> dict[str, Any]:
    """List the models."""
    rows = [
        {"name": served.name, "classes": len(served.model.class_names), "shots": len(served.model.shots)}
        if served.taught
        else {"name": served.name, "classes": 0, "shots": 0}
        for served in request.app.state.models
    ]
    return {"models": rows}


@router.get("/v1/model")
def model(served: Served) -> dict[str, Any]:
    """Describe a model: encoder, method, what was chosen, classes."""
    return {"name": served.name, **described(served.model)}


@router.get("/v1/model/enough")
async def enough(served: Served) -> dict[str, Any]:
    """Tell whether there are enough photos, in all and of each class, and which shots somebody should look at.

    Whole groups are left out; measured once for every state, which takes as long as the method takes on the shots.
    """
    return await served.measured("enough", lambda classifier: classifier.enough().to_dict())


@router.get("/docs", response_class=HTMLResponse, include_in_schema=False)
def documentation(request: Request) -> HTMLResponse:
    """Show what the service answers to, without anything from elsewhere."""
    environment = Environment(
        loader=PackageLoader("tip_adapter.serve"), undefined=StrictUndefined, autoescape=select_autoescape()
    )
    page = environment.get_template("api.html").render(api=request.app.openapi())
    return HTMLResponse(page, headers={"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"})
