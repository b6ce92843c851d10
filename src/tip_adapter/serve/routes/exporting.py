"""Routes that download a classifier as one file: itself, its pictures, ONNX, a report."""

from __future__ import annotations

import asyncio
import csv
import io
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool

from tip_adapter.classifier import ImageClassifier
from tip_adapter.data.class_names import folded
from tip_adapter.model.few_shot_model import FewShotModel
from tip_adapter.serve.models import ServedModel
from tip_adapter.serve.problems import RESPONSES, Problem
from tip_adapter.serve.routes.predicting import Served
from tip_adapter.serve.uploads import labelled_form, shown
from tip_adapter.storage.bundle_archives import pack_bundle
from tip_adapter.storage.escaping import for_csv, for_path

router = APIRouter(prefix="/v1/export", tags=["export"], responses=RESPONSES)

ORT_WEB = Path("node_modules/onnxruntime-web")
"""Where `npm install onnxruntime-web` puts what the web page of an export runs on."""

TABLE = "shots.csv"

_one_at_a_time = asyncio.Semaphore(1)


async def _download(name: str, write: Callable[[Path], object]) -> FileResponse:
    """Let a function write a file, send it, and forget it."""
    if _one_at_a_time.locked():
        raise Problem(503, "Another export is being made: try again later", Retry_After="5")
    folder = tempfile.TemporaryDirectory(prefix="tip-adapter-export-")
    file = Path(folder.name) / "export"
    try:
        async with _one_at_a_time:
            await run_in_threadpool(write, file)
    except BaseException:
        folder.cleanup()
        raise
    return FileResponse(file, filename=name, background=BackgroundTask(folder.cleanup))


def _called(served: ServedModel, ending: str) -> str:
    return f"{for_path(served.name)}{ending}"


@router.get("/classifier.zip", response_class=FileResponse)
async def classifier(served: Served) -> FileResponse:
    """Give the saved classifier, which the studio and every command go on with."""
    _ = await run_in_threadpool(lambda: served.model)

    def write(file: Path) -> None:
        with file.open("wb") as out:
            pack_bundle(served.folder, out)

    return await _download(_called(served, ".tip.zip"), write)


@router.get("/photos.zip", response_class=FileResponse)
async def photos(served: Served) -> FileResponse:
    """Give the small pictures of the shots in class folders, and a table of their names and classes."""
    model = await run_in_threadpool(lambda: served.model)
    return await _download(_called(served, "-photos.zip"), lambda file: write_photos(model, file))


@router.get("/onnx.zip", response_class=FileResponse)
async def onnx(served: Served) -> FileResponse:
    """Give what `tip-adapter export` writes: ONNX files and a script; a web page where onnxruntime-web is installed."""
    _ = await run_in_threadpool(lambda: served.model)
    return await _download(_called(served, "-onnx.zip"), lambda file: _write_onnx(served, file))


@router.post("/report.html", response_class=FileResponse)
async def report(request: Request, served: Served) -> FileResponse:
    """Measure the classifier on photos, and give the report: `files`, and `classes` as a JSON list of as many names."""
    _ = await run_in_threadpool(lambda: served.model)
    images, classes, _groups = await labelled_form(request)

    def write(file: Path) -> None:
        loaded = ImageClassifier.load(served.folder, encoder=served.encoder, store=None)
        loaded.report(file, images, classes, title=f"How good is {served.name}?", skip_bad=True)

    return await _download(_called(served, "-report.html"), write)


def write_photos(model: FewShotModel, file: Path) -> None:
    """Write the pictures of a model's shots as a ZIP file of class folders."""
    # Names of classes differ in more than case, and so do their folders.
    folders = [for_path(name, taken=folded(name) == TABLE) for name in model.class_names]
    table, shots = io.StringIO(), model.shots
    rows = csv.writer(table)
    rows.writerow(["file", "class", "name"])
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for one, label, name in zip(shots.ids, shots.labels, shots.features.names, strict=True):
            path = f"{folders[label]}/{for_path(one)}.jpg" if one in shots.thumbnails else ""
            if path:
                archive.writestr(path, shots.thumbnails[one])
            rows.writerow([path, for_csv(model.class_names[label]), for_csv(shown(name))])
        archive.writestr(TABLE, table.getvalue())


def _write_onnx(served: ServedModel, file: Path) -> None:
    from tip_adapter.export import export_classifier

    loaded: Any = ImageClassifier.load(served.folder, encoder=served.encoder, store=None)
    with tempfile.TemporaryDirectory(prefix="tip-adapter-export-") as place:
        folder = Path(place) / for_path(served.name)
        export_classifier(loaded, folder, ort_web=ORT_WEB if ORT_WEB.is_dir() else None)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for path in sorted(folder.rglob("*")):
                if path.is_file():
                    archive.write(path, f"{folder.name}/{path.relative_to(folder).as_posix()}")
