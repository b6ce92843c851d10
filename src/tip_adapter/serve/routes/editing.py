"""Routes that edit shots and classes; each responds once the change is on the disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from tip_adapter.classifier import ImageClassifier
from tip_adapter.classifier.adding import AddedShots
from tip_adapter.model.description import listed_shots, stated_accuracy
from tip_adapter.model.few_shot_model import FewShotModel
from tip_adapter.serve.models import ServedModel
from tip_adapter.serve.problems import RESPONSES, Problem
from tip_adapter.serve.routes.predicting import Served
from tip_adapter.serve.uploads import FILES_SCHEMA, read_uploads, shown

router = APIRouter(prefix="/v1", tags=["edit"], responses=RESPONSES)
T = TypeVar("T")
Ids = Annotated[list[str], Field(min_length=1, max_length=10_000)]
Texts = Annotated[list[str], Field(max_length=1000)]
Refit = Annotated[bool, Query(description="Choose hyper-parameters and calibration again with the edit.")]


class Relabelling(BaseModel):
    """Shots that get another class."""

    model_config = ConfigDict(extra="forbid")
    ids: Ids
    class_name: str = Field(alias="class")


class NewClass(BaseModel):
    """A class, and words for it; its name where there are none."""

    model_config = ConfigDict(extra="forbid")
    name: str
    texts: Texts | None = None


class Renaming(BaseModel):
    """A class that gets another name, other words, or both."""

    model_config = ConfigDict(extra="forbid")
    class_name: str = Field(alias="class")
    name: str | None = None
    texts: Texts | None = None


def state_of(model: FewShotModel) -> dict[str, Any]:
    """Say how a model is after an edit."""
    return {
        "shots": len(model.shots),
        "groups": model.shots.n_groups,
        "classes": dict(zip(model.class_names, model.counts.tolist(), strict=True)),
        "left_out": stated_accuracy(model),
        "stale": list(model.stale),
        "edits": len(model.journal) - 1,
    }


async def edit(served: ServedModel, change: Callable[[ImageClassifier], T]) -> tuple[T, dict[str, Any]]:
    """Run an edit beside the other requests; it goes on when the client leaves."""
    result, model = await served.edit(change)
    return result, state_of(model)


def check_class(served: ServedModel, class_name: str) -> None:
    """Refuse a class that is not there, before photos are read for it."""
    if class_name not in served.model.class_names:
        raise Problem(422, f"There is no class {class_name!r}: add it first, or with its photos by new_class=true")


def added_rows(added: AddedShots) -> dict[str, Any]:
    """Say which shots were added, which were there, and which photos could not be read."""
    known = [{"name": name, "id": shot, "class": label} for name, shot, label in added.known]
    bad = [{"name": name, "error": reason} for name, reason in added.skipped]
    return {"ids": list(added.ids), "already_there": known, "errors": bad}


@router.get("/shots")
def list_shots(
    served: Served,
    class_name: Annotated[str | None, Query(alias="class", description="Only shots of this class.")] = None,
    offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
    limit: Annotated[int, Query(ge=1, le=100_000)] = 1000,
) -> dict[str, Any]:
    """List shots: id, class, name."""
    rows = [{**shot, "name": shown(shot["name"])} for shot in listed_shots(served.model, class_name)]
    return {"total": len(rows), "shots": rows[offset : offset + limit]}


@router.get("/shots/{shot_id}/thumbnail", response_class=Response)
def thumbnail(served: Served, shot_id: str) -> Response:
    """Give a small JPEG picture of a shot."""
    shots = served.model.shots
    if shot_id not in shots.rows:
        raise Problem(404, f"There is no shot {shot_id!r}")
    try:
        picture = shots.thumbnails[shot_id]
    except KeyError:
        raise Problem(404, f"There is no picture of the shot {shot_id!r}") from None
    # A shot's id names its bytes, which never change.
    return Response(picture, media_type="image/jpeg", headers={"cache-control": "private, max-age=86400"})


@router.post("/shots", openapi_extra=FILES_SCHEMA)
async def add_shots(
    request: Request,
    served: Served,
    class_name: Annotated[str, Query(alias="class", description="The class of all these photos.")],
    new_class: Annotated[bool, Query(description="Add the class where there is none of that name.")] = False,
    group: Annotated[
        str | None,
        Query(max_length=200, description="What these photos belong to, such as a burst."),
    ] = None,
    wordless: Annotated[bool, Query(description="Add a new class without text, such as a background.")] = False,
    refit: Refit = False,
) -> dict[str, Any]:
    """Add photos of one class as shots; photos that are shots already are named, and stay as they are."""
    if not new_class:
        await run_in_threadpool(check_class, served, class_name)
    uploads = await read_uploads(request)

    def change(classifier: ImageClassifier) -> AddedShots:
        labels = [class_name] * len(uploads)
        groups = None if group is None else [group] * len(uploads)
        skip_bad = len(uploads) > 1
        if wordless and new_class and class_name not in classifier.class_names:
            return classifier.add_class(class_name, (), images=uploads, refit=refit, skip_bad=skip_bad)
        return classifier.add_shots(
            uploads, labels, new_classes=new_class, groups=groups, refit=refit, skip_bad=skip_bad
        )

    added, state = await edit(served, change)
    return {**added_rows(added), **state}


@router.patch("/shots")
async def relabel(served: Served, wanted: Relabelling, refit: Refit = False) -> dict[str, Any]:
    """Give shots another class."""
    ids, state = await edit(served, lambda classifier: classifier.relabel(wanted.ids, wanted.class_name, refit=refit))
    return {"ids": list(ids), **state}


@router.delete("/shots")
async def remove_shots(
    served: Served,
    ids: Annotated[list[str], Query(alias="id", min_length=1, description="Ids of shots.")],
    forget: Annotated[
        bool, Query(description="For good: nothing of the photos stays, and undo brings none back.")
    ] = False,
    refit: Refit = False,
) -> dict[str, Any]:
    """Take shots out."""
    shots = (await run_in_threadpool(lambda: served.model)).shots
    digests = [shots.features.digests[shots.rows[one]] for one in ids if one in shots.rows]
    gone, state = await edit(served, lambda classifier: classifier.remove_shots(ids, forget=forget, refit=refit))
    if forget:
        served.unlabelled.pass_over(digests)
    return {"ids": list(gone), **state}


@router.post("/classes")
async def add_class(served: Served, wanted: NewClass) -> dict[str, Any]:
    """Add a class, without shots at first."""
    _, state = await edit(served, lambda classifier: classifier.add_class(wanted.name, wanted.texts))
    return state


@router.patch("/classes")
async def rename_class(served: Served, wanted: Renaming, refit: Refit = False) -> dict[str, Any]:
    """Give a class another name, or other words."""
    name = wanted.class_name if wanted.name is None else wanted.name
    _, state = await edit(
        served, lambda classifier: classifier.rename_class(wanted.class_name, name, wanted.texts, refit=refit)
    )
    return state


@router.delete("/classes")
async def remove_class(served: Served, class_name: Annotated[str, Query(alias="class")]) -> dict[str, Any]:
    """Take a class out, with its shots."""
    ids, state = await edit(served, lambda classifier: classifier.remove_class(class_name))
    return {"ids": list(ids), **state}


@router.post("/undo")
async def undo(served: Served) -> dict[str, Any]:
    """Take the last edit back."""
    entry, state = await edit(served, lambda classifier: classifier.undo())
    return {"undone": entry.to_dict(), **state}


@router.post("/refit")
async def refit(served: Served) -> dict[str, Any]:
    """Choose hyper-parameters and calibration again, for the shots as they are now."""
    _, state = await edit(served, lambda classifier: classifier.refit())
    return state


@router.get("/journal")
def journal(served: Served) -> dict[str, Any]:
    """List what was done to the classifier."""
    return {"journal": [entry.to_dict() for entry in served.model.journal]}
