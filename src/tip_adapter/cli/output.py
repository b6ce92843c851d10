"""Print lines and JSON, with names as data, for whoever reads along."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from tip_adapter.progress import show_progress
from tip_adapter.storage.escaping import for_json, for_terminal

if TYPE_CHECKING:
    from tip_adapter.classifier import ImageClassifier
    from tip_adapter.data import Findings

_only_errors = False


class ReaderLeft(Exception):  # noqa: N818
    """Whoever read stdout, such as `head`, has seen enough."""


def echo(line: str = "", *, err: bool = False) -> None:
    """Print one line; whatever a name in it holds, it stays one line."""
    if not err:
        to_stdout(f"{for_terminal(line)}\n")
    elif not _only_errors:
        echo_error(line)


def print_only_errors(wanted: bool) -> None:
    """Leave out of stderr what is no error: notes, warnings, skipped photos and progress."""
    global _only_errors
    _only_errors = wanted
    show_progress(not wanted)


def echo_error(line: str) -> None:
    """Print one line on stderr, whatever was asked for."""
    try:
        _write(sys.stderr, f"{for_terminal(line)}\n")
    except BrokenPipeError:
        # Nobody reads the messages; the work goes on.
        drop(sys.stderr)


def flush() -> None:
    """Write what is left in the buffer of stdout."""
    with reader():
        if sys.stdout:
            sys.stdout.flush()


def drop(stream: TextIO) -> None:
    """Send what is still to be written to a stream nowhere."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        stream.flush()


@contextlib.contextmanager
def reader() -> Iterator[None]:
    """Tell a reader that has left from every other broken pipe."""
    try:
        yield
    except BrokenPipeError as error:
        raise ReaderLeft from error
    except SystemExit as error:  # as rich leaves when it meets a broken pipe
        raise ReaderLeft from error


def to_stdout(text: str) -> None:
    """Write as the stream is encoded, at once."""
    with reader():
        _write(sys.stdout, text)


def _write(stream: TextIO | None, text: str) -> None:
    # typer.echo would write UTF-8 to a stream of another encoding.
    if stream is not None:
        stream.write(text)
        stream.flush()


def echo_json(value: Any) -> None:
    """Print one JSON object on stdout."""
    to_stdout(for_json(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False)) + "\n")


def echo_json_line(value: Any) -> None:
    """Print one JSON object as one line of stdout, at once."""
    to_stdout(for_json(json.dumps(value, ensure_ascii=False, allow_nan=False)) + "\n")


def echo_next(*command: object, so_that: str) -> None:
    """Name the natural next command, where a person reads along."""
    if _is_terminal() and not _only_errors:
        words = shlex.join(map(str, command)) if command[0] == "python" else command_line(*command)
        echo(f"next: {words}  # {so_that}")


def command_line(*words: object) -> str:
    """Write a command of this program so that it can be typed where the program was started."""
    started = sys.argv[0]
    if shutil.which("tip-adapter") == os.path.abspath(started):
        program = ["tip-adapter"]
    elif Path(started).name.startswith("tip-adapter"):
        program = [started]
    else:
        program = ["python", "-m", "tip_adapter"]
    return shlex.join([*program, *map(str, words)])


def _is_terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty()


def left_out(skipped: Sequence[tuple[str, str]], findings: Findings | None = None) -> dict[str, Any]:
    """List photos that were left out, and what was noticed about the data, as JSON values."""
    rows = [{"path": name, "reason": reason} for name, reason in skipped]
    return {"skipped": rows} | ({} if findings is None else {"data": findings.to_dict()})


def echo_skipped(skipped: Sequence[tuple[str, str]]) -> None:
    """List the photos that were left out, on stderr."""
    for name, reason in skipped:
        echo(f"skipped: {reason if name in reason else f'{name}: {reason}'}", err=True)


def warn_of_stale(classifier: ImageClassifier) -> None:
    """Say on stderr what was chosen before the last edits."""
    for note in classifier.model_.stale_notes:
        echo(f"note: {note}", err=True)
