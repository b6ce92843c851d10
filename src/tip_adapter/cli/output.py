"""Print lines, JSON and tables, with names as data; tables fit the terminal and lose neither numbers nor ids."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from tip_adapter.progress import show_progress
from tip_adapter.storage.escaping import for_json, for_terminal

if TYPE_CHECKING:
    from rich.table import Table

    from tip_adapter.classifier import ImageClassifier

NARROWEST = 14
"""Characters that a column of text keeps, before columns move to a table below."""

GAP = 2
"""Blanks between columns."""


_only_errors = False


class ReaderLeft(Exception):  # noqa: N818
    """Whoever read stdout, such as `head`, has seen enough."""


@dataclass(frozen=True)
class Column:
    """A column of a table: one that folds goes on in the next line, a spare one is left out where there is no room."""

    title: str
    folds: bool
    right: bool = False
    spare: bool = False


def text(title: str) -> Column:
    """A column of names, which fold where the terminal is narrow."""
    return Column(title, folds=True)


def number(title: str) -> Column:
    """A column of numbers, never cut."""
    return Column(title, folds=False, right=True)


def whole(title: str) -> Column:
    """A column of what people copy or look at, such as ids: never cut."""
    return Column(title, folds=False)


def spare(title: str) -> Column:
    """A column of decoration, left out where anything would fold."""
    return Column(title, folds=False, spare=True)


def echo(line: str = "", *, err: bool = False) -> None:
    """Print one line; whatever a name in it holds, it stays one line."""
    if not err:
        _to_stdout(f"{for_terminal(line)}\n")
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
    with _reader():
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
def _reader() -> Iterator[None]:
    """Tell a reader that has left from every other broken pipe."""
    try:
        yield
    except BrokenPipeError as error:
        raise ReaderLeft from error
    except SystemExit as error:  # as rich leaves when it meets a broken pipe
        raise ReaderLeft from error


def _to_stdout(text: str) -> None:
    with _reader():
        _write(sys.stdout, text)


def _write(stream: TextIO | None, text: str) -> None:
    # typer.echo would write UTF-8 to a stream of another encoding.
    if stream is not None:
        stream.write(text)
        stream.flush()


def echo_json(value: Any) -> None:
    """Print one JSON object on stdout."""
    _to_stdout(for_json(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False)) + "\n")


def echo_json_line(value: Any) -> None:
    """Print one JSON object as one line of stdout, at once."""
    _to_stdout(for_json(json.dumps(value, ensure_ascii=False, allow_nan=False)) + "\n")


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


def echo_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, header: bool = True) -> None:
    """Print a table; on a terminal names fold, and columns without room follow below, beside the first once more."""
    from rich.console import Console

    # Names of files and classes are no markup: "hat[1].jpg" and ":hat:" are shown as they are.
    console = Console(markup=False, emoji=False, highlight=False)
    cells = [[for_terminal(cell) for cell in row] for row in rows]
    widths = [_width(column, index, cells, header=header) for index, column in enumerate(columns)]
    if not console.is_terminal:
        console.width = sum(widths) + GAP * len(widths)
    for number_of_block, block in enumerate(_blocks(columns, widths, console.width)):
        if number_of_block:
            console.print()
        rows_of_block = [[row[index] for index in block] for row in cells]
        table = _rich_table([columns[index] for index in block], rows_of_block, header)
        if console.is_terminal:
            with _reader():
                console.print(table)
        else:
            with console.capture() as written:
                console.print(table)
            _to_stdout(re.sub(r" +$", "", written.get(), flags=re.MULTILINE))


def _width(column: Column, index: int, cells: Sequence[Sequence[str]], *, header: bool) -> int:
    from rich.cells import cell_len

    return max([cell_len(column.title) * header, 1, *(cell_len(row[index]) for row in cells)])


def _blocks(columns: Sequence[Column], widths: Sequence[int], room: int) -> Iterator[list[int]]:
    """Share columns out over as many tables as the terminal's width asks for; each begins with the first column."""
    needed = [min(width, NARROWEST) if column.folds else width for column, width in zip(columns, widths, strict=True)]
    shown = list(range(len(columns)))
    if sum(widths) + GAP * (len(widths) - 1) > room:
        shown = [index for index in shown if not columns[index].spare]
    block, taken = [0], needed[0]
    for index in shown[1:]:
        if taken + GAP + needed[index] > room and len(block) > 1:
            yield block
            block, taken = [0], needed[0]
        block.append(index)
        taken += GAP + needed[index]
    yield block


def _rich_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], header: bool) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), show_header=header)
    for column in columns:
        table.add_column(
            column.title, justify="right" if column.right else "left", overflow="fold", no_wrap=not column.folds
        )
    for row in rows:
        table.add_row(*row)
    return table


def percent(value: float | None) -> str:
    """Write a share the way the documentation and the pages do; a dash where there is none."""
    return "–" if value is None else f"{100 * value:.1f} %"


def skipped_rows(skipped: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """List photos that were left out as JSON values."""
    return [{"path": name, "reason": reason} for name, reason in skipped]


def echo_skipped(skipped: Sequence[tuple[str, str]]) -> None:
    """List the photos that were left out, on stderr."""
    for name, reason in skipped:
        echo(f"skipped: {reason if name in reason else f'{name}: {reason}'}", err=True)


def warn_of_stale(classifier: ImageClassifier) -> None:
    """Say on stderr what was chosen before the last edits."""
    for note in classifier.model_.stale_notes:
        echo(f"note: {note}", err=True)
