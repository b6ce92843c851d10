"""A service as an ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

import tip_adapter
from tip_adapter.serve.guard import Guard
from tip_adapter.serve.metrics import Counting, Metrics
from tip_adapter.serve.models import Models
from tip_adapter.serve.problems import add_problems
from tip_adapter.serve.protocols import speak
from tip_adapter.serve.routes import editing, exporting, predicting, status, studio, unlabelled, weights, words
from tip_adapter.serve.settings import Settings
from tip_adapter.typing import StrPath


def create_app(
    models: Mapping[str, StrPath], settings: Settings | None = None, *, encoder: StrPath | None = None
) -> FastAPI:
    """Make the application that serves saved classifiers.

    `models` are folders by the names that clients call them; `encoder` is where their encoder is now, if not where it
    was when they were fitted. Encoders are loaded when the application starts.

    Examples
    --------
    >>> import numpy as np, pathlib, tempfile
    >>> from fastapi.testclient import TestClient
    >>> from tip_adapter import ImageClassifier
    >>> from tip_adapter.serve import create_app
    >>> dark, light = (np.full((32, 32, 3), value, dtype=np.uint8) for value in (30, 220))
    >>> folder = pathlib.Path(tempfile.mkdtemp()) / "light.tip"
    >>> ImageClassifier("fake", store=None).fit([dark, light], ["night", "day"]).save(folder)
    >>> with TestClient(create_app({"light": folder}), base_url="http://localhost") as client:
    ...     client.get("/v1/models").json()
    {'models': [{'name': 'light', 'classes': 2, 'shots': 2}]}
    """
    settings = settings or Settings()
    served, metrics = Models(models, encoder, settings), Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        served.start(settings, metrics)
        app.state.ready = True
        yield
        app.state.ready = False
        await run_in_threadpool(served.close)

    app = FastAPI(
        title="Tip-Adapter",
        version=tip_adapter.__version__,
        description="Photos to classes, with evidence; shots that come and go.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.models, app.state.settings, app.state.metrics, app.state.ready = served, settings, metrics, False
    for room in (status, predicting, editing, weights):
        app.include_router(room.router)
    if settings.labelling:
        app.include_router(unlabelled.router)
    if settings.teaching:
        for room in (studio, exporting, words):
            app.include_router(room.router)
    app.state.shapes = {name: speak(app, name) for name in settings.protocols}
    add_problems(app)
    app.add_middleware(Guard, settings=settings)
    app.add_middleware(Counting, metrics=metrics)
    return app
