"""Routes of the queue of unlabelled photos: which to label next, and what each is."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from tip_adapter.classifier import ImageClassifier
from tip_adapter.classifier.adding import AddedShots
from tip_adapter.serve.problems import RESPONSES, Problem
from tip_adapter.serve.routes.editing import Refit, added_rows, check_class, edit
from tip_adapter.serve.routes.predicting import Served, encode
from tip_adapter.serve.uploads import FILES_SCHEMA, read_uploads

router = APIRouter(prefix="/v1/unlabelled", tags=["label next"], responses=RESPONSES)


@router.get("")
def next_photos(
    served: Served,
    limit: Annotated[int, Query(ge=1, le=100, description="How many to choose.")] = 10,
    top_k: Annotated[int, Query(ge=1, le=100, description="Classes for each photo.")] = 2,
) -> dict[str, Any]:
    """Choose which photos to label next: those that many uncertain photos are like, no near-copies, no shots."""
    unlabelled = served.unlabelled
    total, chosen = unlabelled.next(served.model, limit, top_k)
    photos = [
        {
            "id": digest,
            "name": found.path,
            "top": [{"class": name, "probability": value} for name, value in found.top],
        }
        for digest, found in chosen
    ]
    return {"total": total, "unread": unlabelled.unread, "unreadable": unlabelled.unreadable, "photos": photos}


@router.get("/{photo_id}/picture", response_class=Response)
def picture(served: Served, photo_id: str) -> Response:
    """Give a JPEG picture of a photo, up to 480 pixels wide and high."""
    found = served.unlabelled.picture(photo_id)
    # A photo's id names its bytes, which never change.
    return Response(found, media_type="image/jpeg", headers={"cache-control": "private, max-age=3600"})


@router.post("", openapi_extra=FILES_SCHEMA)
async def send(request: Request, served: Served) -> dict[str, Any]:
    """Take photos to be labelled, until the service ends; those that wait already are named."""
    _may_edit(request)
    uploads = await read_uploads(request)
    encoded = await encode(request, served.queue, uploads)
    ids: list[str] = []
    known, bad = [], []
    for upload, one in zip(uploads, encoded, strict=True):
        if one.feature is None:
            bad.append({"name": upload.filename, "error": one.error})
            continue
        new = await run_in_threadpool(served.unlabelled.send, upload, one.digest, one.feature)
        if new:
            ids.append(one.digest)
        else:
            known.append({"name": upload.filename, "id": one.digest})
    return {"ids": ids, "already_there": known, "errors": bad}


@router.post("/{photo_id}/label")
async def label(
    served: Served,
    photo_id: str,
    class_name: Annotated[str, Query(alias="class", description="What the photo is.")],
    refit: Refit = False,
) -> dict[str, Any]:
    """Make a photo a shot of a class; undo lets it wait again."""
    await run_in_threadpool(check_class, served, class_name)
    photo = await run_in_threadpool(served.unlabelled.bytes_of, photo_id)

    def change(classifier: ImageClassifier) -> AddedShots:
        return classifier.add_shots([photo], [class_name], refit=refit)

    added, state = await edit(served, change)
    return {**added_rows(added), **state}


@router.delete("/{photo_id}")
def skip(request: Request, served: Served, photo_id: str) -> dict[str, Any]:
    """Pass a photo over: it waits no longer, until it is brought back or the service starts again."""
    _may_edit(request)
    served.unlabelled.skip(photo_id)
    return {"id": photo_id}


@router.post("/{photo_id}/restore")
def bring_back(request: Request, served: Served, photo_id: str) -> dict[str, Any]:
    """Let a photo wait again that was among the last hundred to be skipped."""
    _may_edit(request)
    served.unlabelled.bring_back(photo_id)
    return {"id": photo_id}


def _may_edit(request: Request) -> None:
    if not request.app.state.settings.editing:
        raise Problem(403, "This service was started with --read-only")
