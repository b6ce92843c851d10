"""The command mcp: a saved classifier as tools for assistants that speak the Model Context Protocol."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

import typer

from tip_adapter.cli import options
from tip_adapter.cli.edits import state_of
from tip_adapter.cli.output import left_out
from tip_adapter.errors import InputError, TipAdapterError
from tip_adapter.storage.locking import WAIT_S

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

    from tip_adapter.classifier import ImageClassifier
    from tip_adapter.data import Findings

P = ParamSpec("P")
T = TypeVar("T")

MOST_ANSWERS = 100
"""Photos that one call may name the classes of: what assistants read is short."""

PhotosOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--photos", help="A folder whose photos may be looked at; may be repeated. Default: the current folder."
    ),
]


def mcp(
    model: options.Model,
    photos: PhotosOption = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Offer no edits.")] = False,
    encoder: options.Where = None,
    wait: options.Wait = WAIT_S,
) -> None:
    """Offer a classifier to assistants as tools, by the Model Context Protocol over standard input and output."""
    from tip_adapter.libraries import require_extra

    require_extra("mcp.server.mcpserver", "mcp")
    folders = [Path(os.path.realpath(folder)) for folder in photos or [Path()]]
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"Expected a folder of photos, got {folder}: check the path")
    make_server(PhotoTools(model, folders, encoder, wait), read_only=read_only).run()


class PhotoTools:
    """What assistants may ask of a saved classifier; photos are named by paths below some folders."""

    def __init__(self, model: str, folders: Sequence[Path], encoder: str | None, wait_s: float) -> None:
        from tip_adapter.classifier import ImageClassifier

        self._model, self._folders, self._wait_s = model, tuple(folders), wait_s
        self._lock = threading.Lock()
        self._classifier = ImageClassifier.load(model, encoder=encoder)
        self._encoder = self._classifier.encoder  # opened now, so that the first call need not wait
        self._seen = self._fingerprint()

    @property
    def instructions(self) -> str:
        """What an assistant should know before it calls."""
        classes = ", ".join(self._classifier.class_names)
        folders = ", ".join(map(str, self._folders))
        return f"An image classifier of the classes {classes}. Photos are named by paths in {folders}."

    def classify(self, photos: list[str], top_k: int = 3) -> dict[str, Any]:
        """Name the most probable classes of photos, with calibrated probabilities.

        photos: files, folders, or patterns such as "in/*.jpg"; at most 100 photos in all. top_k: classes per photo.
        Photos that cannot be read are listed in "skipped", with the reason.
        """
        paths, findings = self._found(photos)
        if len(paths) > MOST_ANSWERS:
            raise InputError(f"Expected at most {MOST_ANSWERS} photos in a call, got {len(paths)}: name some of them")
        found = self._present().predict_top(paths, top_k=top_k, skip_bad=True)
        predictions = [prediction.to_dict() for prediction in found]
        return {"predictions": predictions} | left_out((*findings.skipped, *found.skipped))

    def explain(self, photo: str, shots: int = 5) -> dict[str, Any]:
        """Say why a photo gets its class: what the class texts and the labelled photos (shots) add to its logit.

        The deciding shots come first, each with its id, what it adds to the margin over the runner-up, and the class
        that the photo would get without it. shots: how many to list.
        """
        return self._present().explain(self._one(photo), shots=shots).to_dict()

    def next(self, photos: list[str], count: int = 10) -> dict[str, Any]:
        """Choose which unlabelled photos a person should label next, to teach the classifier most.

        photos: files, folders or patterns. Each chosen photo comes with the two classes that it is held for.
        """
        paths, findings = self._found(photos)
        chosen = self._present().next_to_label(paths, count=count, skip_bad=True)
        return {"photos": [photo.to_dict() for photo in chosen]} | left_out((*findings.skipped, *chosen.skipped))

    def add_shot(self, photo: str, class_name: str, new_class: bool = False) -> dict[str, Any]:
        """Teach the classifier a photo whose class a person has confirmed; saved at once, undo takes it back.

        new_class: add the class if the classifier does not know it yet.
        """
        path = self._one(photo)

        def added(classifier: ImageClassifier) -> dict[str, Any]:
            return classifier.add_shots([path], [class_name], new_classes=new_class).to_dict()

        return self._edited(added)

    def undo(self) -> dict[str, Any]:
        """Take back the last edit of the classifier that was not taken back yet."""
        return self._edited(lambda classifier: {"undone": classifier.undo().to_dict()})

    def _edited(self, change: Callable[[ImageClassifier], dict[str, Any]]) -> dict[str, Any]:
        from tip_adapter.classifier import ImageClassifier

        with ImageClassifier.editing(self._model, encoder=self._encoder, wait_s=self._wait_s) as classifier:
            return change(classifier) | state_of(classifier.model_)

    def _present(self) -> ImageClassifier:
        """The classifier as it is on the disk now, whoever has edited it."""
        from tip_adapter.classifier import ImageClassifier

        with self._lock:
            now = self._fingerprint()
            if now != self._seen:
                self._classifier = ImageClassifier.load(self._model, encoder=self._encoder)
                self._seen = now
            return self._classifier

    def _fingerprint(self) -> str | None:
        from tip_adapter.storage.bundle_files import fingerprint

        return fingerprint(self._model)

    def _one(self, name: str) -> Path:
        paths, _ = self._found([name])
        if len(paths) != 1:
            raise InputError(f"Expected one photo, got the {len(paths)} of {name}: name one of them")
        return paths[0]

    def _found(self, names: Sequence[str]) -> tuple[list[Path], Findings]:
        """Find photos; nothing is looked at outside the folders, whatever names, links and tables in them say."""
        from tip_adapter.data import Findings, find_images
        from tip_adapter.data.files import path_below

        findings = Findings()
        paths = find_images([path_below(self._folders, name) for name in names], findings=findings)
        for path in paths:
            path_below(self._folders, str(path))
        return paths, findings


def make_server(tools: PhotoTools, *, read_only: bool) -> MCPServer[Any]:
    """Make the server of some tools."""
    from mcp.server.mcpserver import MCPServer
    from mcp.types import ToolAnnotations

    answers: list[Callable[..., Any]] = [tools.classify, tools.explain, tools.next]
    edits: list[Callable[..., Any]] = [] if read_only else [tools.add_shot, tools.undo]
    server: MCPServer[Any] = MCPServer(
        "tip-adapter", version=version("tip-adapter"), instructions=tools.instructions, log_level="WARNING"
    )
    for tool in answers + edits:
        hints = ToolAnnotations(read_only_hint=tool in answers, destructive_hint=False, open_world_hint=False)
        server.add_tool(_telling(tool), annotations=hints)
    return server


def _telling(tool: Callable[P, T]) -> Callable[P, T]:
    """Let an assistant read what was wrong."""
    from mcp.server.mcpserver.exceptions import ToolError

    @functools.wraps(tool)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return tool(*args, **kwargs)
        except TipAdapterError as error:
            raise ToolError(str(error)) from error
        except OSError as error:
            raise ToolError(f"{error.filename or 'input or output'}: {error.strerror or error}") from error

    return call
