"""Label Studio's machine learning backend: predictions for tasks, annotations as edits."""

from __future__ import annotations

import re
from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool

from tip_adapter.serve.answers import Question, answers
from tip_adapter.serve.models import ServedModel
from tip_adapter.serve.problems import Problem
from tip_adapter.serve.protocols import Named, Sent, check_count, read_json
from tip_adapter.serve.protocols.label_studio_edits import annotate, strike, withdraw
from tip_adapter.serve.protocols.label_studio_photos import photo_at
from tip_adapter.serve.routes.predicting import encode

router = APIRouter()
TAGS = {tag: re.compile(rf"<{tag}\s[^<>]*>") for tag in ("Choices", "Image")}
ATTRIBUTE = re.compile(r"""(\w+)=["']([^"']*)["']""")


class Task(Sent):
    """What is to be labelled."""

    id: int | None = None
    data: dict[str, Any]


class Tasks(Sent):
    """Tasks that are to be answered."""

    tasks: list[Task]
    label_config: str


class Project(Sent):
    """Where annotations come from."""

    label_config: str = ""


class Annotation(Sent):
    """What somebody chose; of one that is withdrawn only the id."""

    id: int
    result: list[dict[str, Any]] = []  # noqa: RUF012 - pydantic copies it


class Event(Sent):
    """What Label Studio tells of annotations."""

    action: str
    annotation: Annotation | None = None
    annotations: list[Annotation] | None = None
    task: Task | None = None
    project: Project | None = None


def error(status: int, detail: str) -> dict[str, Any]:
    """As its backends report errors."""
    return {"error": detail}


@router.get("/health")
@router.get("/models/{model}/health")
def health(served: Named) -> dict[str, str]:
    """Tell that the service runs."""
    return {"status": "UP", "model_class": served.name}


@router.post("/setup")
@router.post("/models/{model}/setup")
async def setup(request: Request, served: Named) -> dict[str, str]:
    """Take a project up; what it says of hosts and tokens is not believed."""
    await read_json(request, Sent)
    return {"model_version": _version(served)}


@router.post("/predict")
@router.post("/models/{model}/predict")
async def predict(request: Request, served: Named) -> dict[str, Any]:
    """Choose a class for every task, with its probability as the score that sampling goes by."""
    asked = await read_json(request, Tasks)
    check_count(request, len(asked.tasks))
    settings = request.app.state.settings
    choices, image, field = _names(asked.label_config)
    photos = await run_in_threadpool(lambda: [photo_at(task.data.get(field), settings) for task in asked.tasks])
    encoded = await encode(request, served.queue, photos)
    rows = await run_in_threadpool(answers, served, [one.filename for one in photos], encoded, Question())
    version, results = _version(served), []
    for row in rows:
        if "error" in row:
            results.append({"result": [], "score": 0.0, "model_version": version})
            continue
        found = {"from_name": choices, "to_name": image, "type": "choices", "value": {"choices": [row["class"]]}}
        score = row["probability"]
        results.append({"result": [{**found, "score": score}], "score": score, "model_version": version})
    return {"results": results, "model_version": version}


@router.post("/webhook")
@router.post("/models/{model}/webhook")
async def webhook(request: Request, served: Named) -> dict[str, Any]:
    """Make an edit of an annotation, and take it back with it."""
    event = await read_json(request, Event)
    given = event.annotations if event.annotations is not None else [event.annotation] if event.annotation else []
    if event.action in ("ANNOTATION_DELETED", "ANNOTATIONS_DELETED"):
        for one in given:
            await _withdraw(served, one)
    elif event.action in ("ANNOTATION_CREATED", "ANNOTATION_UPDATED"):
        if event.annotation is None or event.task is None or event.project is None:
            raise Problem(422, "Expected annotation, task and project: let the webhook send its payload")
        await _annotate(request, served, event.annotation, event.task, event.project)
    return {"status": "ok", "model_version": _version(served)}


async def _annotate(
    request: Request, served: ServedModel, annotation: Annotation, task: Task, project: Project
) -> None:
    choices, _, field = _names(project.label_config)
    chosen = [one.get("value", {}) for one in annotation.result if one.get("from_name") == choices]
    names = chosen[0].get("choices") if chosen and isinstance(chosen[0], dict) else None
    if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str):
        # Skipped, or emptied: nothing is known of the photo.
        await _withdraw(served, annotation)
        return
    photo = await run_in_threadpool(photo_at, task.data.get(field), request.app.state.settings)
    await served.edit(lambda classifier: annotate(served.folder, classifier, annotation.id, photo, names[0]))


async def _withdraw(served: ServedModel, annotation: Annotation) -> None:
    await served.edit(lambda classifier: withdraw(served.folder, classifier, annotation.id))
    await served.edit(lambda _: strike(served.folder, annotation.id))


def _version(served: ServedModel) -> str:
    return f"{served.name} after {len(served.model.journal) - 1} edits"


def _names(label_config: str) -> tuple[str, str, str]:
    """Find the names of the choices and of the image, and the field of the tasks that has it."""
    choices, image = TAGS["Choices"].search(label_config), TAGS["Image"].search(label_config)
    found = dict(ATTRIBUTE.findall(choices[0])) if choices else {}
    shown = dict(ATTRIBUTE.findall(image[0])) if image else {}
    if "name" not in found or not shown.get("value", "").startswith("$") or found.get("toName") != shown.get("name"):
        raise Problem(422, 'Expected <Image name="…" value="$…"/> and <Choices name="…" toName="…"> in label_config')
    return found["name"], found["toName"], shown["value"][1:]
