"""Routes that classify photos, or turn them into features."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Depends, Query, Request
from starlette.concurrency import run_in_threadpool

from tip_adapter.data.decoding import NamedBytes
from tip_adapter.serve.answers import Question, answers, check_question
from tip_adapter.serve.encoding import Encoded, EncodingQueue
from tip_adapter.serve.models import ServedModel
from tip_adapter.serve.problems import RESPONSES, Problem
from tip_adapter.serve.uploads import FEATURES_SCHEMA, FILES_SCHEMA, read_features, read_uploads

router = APIRouter(prefix="/v1", tags=["predict"], responses=RESPONSES)


async def chosen_model(
    request: Request,
    model: Annotated[str | None, Query(description="Name of the model, where there are several.")] = None,
) -> ServedModel:
    """Find the model that a request is about."""
    served: ServedModel = request.app.state.models[model]
    return served


Served = Annotated[ServedModel, Depends(chosen_model)]


async def encode(request: Request, queue: EncodingQueue, uploads: list[NamedBytes]) -> list[Encoded]:
    """Wait for the features of photos, but not for ever."""
    limit = request.app.state.settings.answer_s
    futures = queue.submit(uploads)
    try:
        async with asyncio.timeout(limit):
            encoded = await asyncio.gather(*map(asyncio.wrap_future, futures))
    except TimeoutError:
        raise Problem(504, f"The photos were not encoded within {limit:g} seconds: send fewer at a time") from None
    photos = request.app.state.metrics.photos
    for one in encoded:
        photos.labels("bad" if one.feature is None else "classified").inc()
    if all(one.feature is None for one in encoded):
        raise Problem(422, encoded[0].error)
    return encoded


async def asked(
    served: Served,
    top_k: Annotated[int, Query(ge=1, le=1000, description="Classes for each photo.")] = 1,
    coverage: Annotated[
        float | None, Query(gt=0, lt=1, description="Also a set of classes that holds the true one this often.")
    ] = None,
    none_of_these: Annotated[
        float | None,
        Query(gt=0, lt=1, description="Class null for photos of none; this share of the others may be turned away."),
    ] = None,
    evidence: Annotated[
        int, Query(ge=0, le=50, description="Also why: so many deciding shots, with what each adds.")
    ] = 0,
) -> Question:
    """Read what a client wants to know of every photo, and refuse what cannot be answered."""
    question = Question(top_k, coverage, none_of_these, evidence)
    if coverage is not None or none_of_these is not None:
        await run_in_threadpool(check_question, served, question)
    return question


Asked = Annotated[Question, Depends(asked)]


@router.post("/predict", openapi_extra=FILES_SCHEMA)
async def predict(request: Request, served: Served, question: Asked, afterwards: BackgroundTasks) -> dict[str, Any]:
    """Name the class of every photo."""
    uploads = await read_uploads(request)
    encoded = await encode(request, served.queue, uploads)
    names = [upload.filename for upload in uploads]
    rows = await run_in_threadpool(answers, served, names, encoded, question)
    if served.unlabelled.kept is not None:
        afterwards.add_task(_keep, request, served, uploads, encoded)
    return {"model": served.name, "predictions": rows}


def _keep(request: Request, served: ServedModel, uploads: list[NamedBytes], encoded: list[Encoded]) -> None:
    for reason in served.unlabelled.consider(served.model, uploads, encoded):
        request.app.state.metrics.kept.labels(reason).inc()


@router.post("/predict/features", openapi_extra=FEATURES_SCHEMA)
async def predict_features(request: Request, served: Served, question: Asked) -> dict[str, Any]:
    """Name the class of photos whose features `/v1/embed` gave: again after an edit, without encoding them again."""
    features = read_features(await request.body(), served.encoder.dim)
    names = [f"photo {number}" for number in range(1, len(features) + 1)]
    rows = await run_in_threadpool(answers, served, names, [Encoded(row) for row in features], question)
    return {"model": served.name, "predictions": rows}


@router.post("/embed", openapi_extra=FILES_SCHEMA)
async def embed(request: Request, served: Served) -> dict[str, Any]:
    """Give the unit feature of every photo."""
    uploads = await read_uploads(request)
    encoded = await encode(request, served.queue, uploads)
    rows = [
        {"name": upload.filename, "error": one.error}
        if one.feature is None
        else {"name": upload.filename, "sha256": one.digest, "feature": one.feature.tolist()}
        for upload, one in zip(uploads, encoded, strict=True)
    ]
    return {"encoder": served.encoder.name, "dim": served.encoder.dim, "photos": rows}
