"""The command watch: classify photos that arrive in a folder, and sort them into folders or tag them on request."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from tip_adapter.cli import options
from tip_adapter.cli.output import echo, echo_json_line, echo_skipped
from tip_adapter.cli.streams import BATCH, answered
from tip_adapter.errors import InputError
from tip_adapter.trust.figures import percent

if TYPE_CHECKING:
    from tip_adapter.classifier import ImageClassifier
    from tip_adapter.data.arrivals import Arrivals, State

RECORD = Path(".tip-adapter", "watch.jsonl")
"""In the watched folder: what has been dealt with, one JSON object a line."""

NONE_OF_THESE = "none of these"

FolderArgument = Annotated[Path, typer.Argument(help="The folder to watch, with those below it.")]
MoveOption = Annotated[
    Path | None, typer.Option("--move-to", help="Move each photo into the folder of its class, in this folder.")
]
CopyOption = Annotated[
    Path | None, typer.Option("--copy-to", help="Copy each photo into the folder of its class, in this folder.")
]
TagOption = Annotated[bool, typer.Option("--tag", help="Write the prediction beside each photo, as JSON.")]
NoneOption = Annotated[
    float | None,
    typer.Option(
        "--none-of-these",
        help="Keep photos of no known class apart; the share of the others that may be by mistake, such as 0.05.",
    ),
]
LinesOption = Annotated[bool, typer.Option("--json", help="Print one JSON object a line, one for each photo.")]
OnceOption = Annotated[bool, typer.Option("--once", help="End when the photos that are there have been dealt with.")]
SettleOption = Annotated[
    float, typer.Option("--settle", min=0, help="Seconds that a file has to stay the same before it is read.")
]
PollOption = Annotated[
    bool, typer.Option("--poll", help="Look again and again: for network folders, which tell of no changes.")
]


def watch(
    model: options.Model,
    folder: FolderArgument,
    move_to: MoveOption = None,
    copy_to: CopyOption = None,
    tag: TagOption = False,
    none_of_these: NoneOption = None,
    once: OnceOption = False,
    settle: SettleOption = 2.0,
    poll: PollOption = False,
    encoder: options.Where = None,
    allow_truncated: options.Truncated = False,
    as_json: LinesOption = False,
) -> None:
    """Classify the photos that arrive in a folder; sort them into folders of classes, or tag them, if asked for."""
    from tip_adapter.classifier import ImageClassifier
    from tip_adapter.classifier.predicting import familiarity_threshold
    from tip_adapter.data.arrivals import Arrivals, known_photos
    from tip_adapter.libraries import require_extra

    if not folder.is_dir():
        raise InputError(f"Expected a folder to watch, got {folder}: make it, or check the path")
    if move_to is not None and copy_to is not None:
        raise InputError("Expected --move-to or --copy-to, got both: choose one")
    target = move_to or copy_to
    if target is not None and folder.resolve().is_relative_to(target.resolve()):
        raise InputError(f"Expected a folder to sort into that does not hold {folder} itself, got {target}")
    if not once:
        require_extra("watchfiles", "watch")
    classifier = ImageClassifier.load(model, encoder=encoder, allow_truncated=allow_truncated)
    sorter = _Sorter(classifier, target, move_to is None, tag, none_of_these, as_json)
    familiarity_threshold(classifier.model_, none_of_these)  # raises now, not at the first photo
    with _record(folder / RECORD) as (rows, file):
        arrivals = Arrivals(
            folder.resolve(), settle, (target.resolve(),) if target else (), known_photos(rows, sorter.wanted)
        )
        for _ in _looks(arrivals, once=once, poll=poll):
            _deal_with(arrivals, sorter, folder, file)


def _looks(arrivals: Arrivals, *, once: bool, poll: bool) -> Iterator[None]:
    """Yield whenever a photo may be complete: at first, and after every change in the folder."""
    if once:
        arrivals.notice([arrivals.folder], time.monotonic())
        _say_what_is_there(arrivals)
        while arrivals.waiting:
            time.sleep(arrivals.settle_s)
            yield
        return
    from watchfiles import watch as changes_in

    wait_ms = max(50, int(500 * min(arrivals.settle_s, 2)))
    seen = False
    for changes in changes_in(
        arrivals.folder, watch_filter=None, rust_timeout=wait_ms, yield_on_timeout=True, force_polling=poll or None
    ):
        # Look for what is there only once changes are reported, so that nothing is missed in between.
        arrivals.notice([Path(path) for _, path in changes] if seen else [arrivals.folder], time.monotonic())
        if not seen:
            _say_what_is_there(arrivals)
            echo("waiting for more; Ctrl-C ends", err=True)
        seen = True
        yield


def _say_what_is_there(arrivals: Arrivals) -> None:
    before = f"; {len(arrivals.known)} dealt with before are in {RECORD}" if arrivals.known else ""
    echo(f"{arrivals.waiting} new photos in {arrivals.folder}{before}", err=True)


@dataclass(frozen=True)
class _Sorter:
    """What is done with each photo."""

    classifier: ImageClassifier
    target: Path | None
    keep: bool
    tag: bool
    none_of_these: float | None
    as_json: bool

    @property
    def wanted(self) -> list[str]:
        """Keys of what is done."""
        moved = [] if self.target is None else ["copied_to" if self.keep else "moved_to"]
        return moved + ["tag"] * self.tag

    def answer(self, paths: list[Path]) -> tuple[Sequence[dict[str, Any]], Sequence[tuple[str, str]]]:
        """Classify photos."""
        found = self.classifier.predict_top(paths, none_of_these=self.none_of_these, skip_bad=True)
        return [prediction.to_dict() for prediction in found], found.skipped

    def act(self, path: Path, row: dict[str, Any]) -> dict[str, Any]:
        """Move, copy and tag a photo."""
        from tip_adapter.storage.atomic import write_file
        from tip_adapter.storage.filing import file_into

        done = dict(row)
        if self.target is not None:
            path = file_into(path, self.target / self._folder_of(row["class"]), keep=self.keep)
            done["copied_to" if self.keep else "moved_to"] = str(path)
        if self.tag:
            facts = {name: row[name] for name in ("class", "probability", "top")}
            sidecar = path.with_name(f"{path.name}.class.json")
            write_file(sidecar, f"{json.dumps(facts, ensure_ascii=False)}\n".encode())
            done["tag"] = str(sidecar)
        return done

    def show(self, row: dict[str, Any]) -> None:
        """Say what has been done."""
        if self.as_json:
            echo_json_line(row)
            return
        name = row["class"] or f"{NONE_OF_THESE} ({row['top'][0]['class']}?)"
        place = row.get("moved_to") or row.get("copied_to")
        echo(f"{row['path']}: {name} {percent(row['probability'])}{f' → {place}' if place else ''}")

    def _folder_of(self, class_name: str | None) -> str:
        from tip_adapter.data.class_names import folded
        from tip_adapter.data.folders import is_ignored
        from tip_adapter.storage.escaping import for_path

        if class_name is None:
            return NONE_OF_THESE
        return for_path(class_name, taken=folded(class_name) == NONE_OF_THESE or is_ignored(class_name))


def _deal_with(arrivals: Arrivals, sorter: _Sorter, folder: Path, record: IO[str]) -> None:
    """Classify the photos that are whole; those that cannot be read are listed, and again when they have changed."""
    whole = list(arrivals.whole(time.monotonic()).items())
    for start in range(0, len(whole), BATCH):
        states = {folder / arrivals.name_of(path): state for path, state in whole[start : start + BATCH]}
        rows, unread = answered(list(states), sorter.answer)
        skipped = list(unread)
        for row in rows:
            path = Path(row["path"])
            with _listing(path, skipped):
                if _is_as_read(path, states[path]):
                    done = sorter.act(path, row)
                    _note(arrivals, record, folder, (path, states[path]), done)
                    sorter.show(done)
        for name, reason in skipped:
            path = Path(name)
            _note(arrivals, record, folder, (path, states[path]), {"path": name, "error": reason})
            if sorter.as_json:
                echo_json_line({"path": name, "error": reason})
        echo_skipped(skipped)


def _is_as_read(path: Path, state: State) -> bool:
    from tip_adapter.data.arrivals import state_of

    return state_of(path) == state


@contextlib.contextmanager
def _listing(path: Path, skipped: list[tuple[str, str]]) -> Iterator[None]:
    """List a photo that is gone, or that may not be moved; every other failure ends the watch."""
    try:
        yield
    except (FileNotFoundError, PermissionError) as error:
        skipped.append((str(path), f"{error.filename or path}: {error.strerror}"))


def _note(arrivals: Arrivals, record: IO[str], folder: Path, photo: tuple[Path, State], row: dict[str, Any]) -> None:
    """Record that the present version of a photo has been dealt with."""
    path, (size, time_ns) = photo
    name = path.relative_to(folder).as_posix()
    arrivals.known[name] = photo[1]
    record.write(json.dumps({"name": name, "size": size, "mtime_ns": time_ns} | row) + "\n")
    record.flush()


@contextlib.contextmanager
def _record(path: Path) -> Iterator[tuple[list[dict[str, Any]], IO[str]]]:
    """Read what has been dealt with, and go on writing; one watch at a time."""
    from tip_adapter.storage.locking import locked

    path.parent.mkdir(exist_ok=True)
    with locked(path.parent, wait_s=0), path.open("a+", encoding="utf-8", errors="replace") as file:
        file.seek(0)
        rows = []
        line = "\n"
        for line in file:
            with contextlib.suppress(ValueError, RecursionError):
                row = json.loads(line)
                rows += [row] if isinstance(row, dict) else []
        if not line.endswith("\n"):  # a run that was killed
            file.write("\n")
        yield rows, file
