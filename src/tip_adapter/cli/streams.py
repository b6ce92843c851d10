"""Read names of photos from standard input, and answer each as a JSON line when it arrives."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tip_adapter.cli.output import echo_json_line
from tip_adapter.errors import DatasetError, ImageError, InputError

STANDARD_INPUT = "-"
BATCH = 32
"""Photos answered together: as many as an encoder takes at once."""

READ_BYTES = 1 << 16


Answer = Callable[[list[Path]], tuple[Sequence[dict[str, Any]], Sequence[tuple[str, str]]]]
"""Paths to what is said about each, and the photos that cannot be read, with the reason."""


def is_stream(photos: Sequence[str]) -> bool:
    """Whether names of photos come from standard input."""
    return STANDARD_INPUT in photos


def with_names_read(photos: Sequence[str], *, null: bool) -> list[str]:
    """Put the names on standard input, all of them, in the place of `-`."""
    _check(photos, null)
    return [name for photo in photos for name in _names_of(photo, null)]


def answer_lines(
    photos: Sequence[str],
    answer: Answer,
    *,
    null: bool,
    skip_bad: bool,
) -> None:
    """Print one line of JSON for every photo as soon as its batch is answered.

    `answer` takes paths and returns objects, and the photos that it skipped; with `skip_bad` these are lines, too, else
    the first of them ends the stream, after the answers beside it.
    """
    _check(photos, null)
    n = 0
    for names in _batches(photos, null):
        paths, skipped = _found(names)
        for start in range(0, len(paths), BATCH):
            rows, bad = answered(paths[start : start + BATCH], answer)
            for row in rows:
                echo_json_line(row)
            skipped = [*skipped, *bad]
        for name, reason in skipped:
            if not skip_bad:
                raise ImageError(reason if name in reason else f"{name}: {reason}")
            echo_json_line({"path": name, "error": reason})
        n += len(names)
    if not n:
        raise DatasetError("Expected names of photos on standard input, got none")


def answered(paths: list[Path], answer: Answer) -> tuple[Sequence[dict[str, Any]], Sequence[tuple[str, str]]]:
    """Answer a batch; one of which nothing can be read, which is an error elsewhere, photo by photo."""
    try:
        return answer(paths)
    except ImageError as error:
        if len(paths) == 1:
            return [], [(str(paths[0]), str(error))]
    return [], [bad for path in paths for bad in answered([path], answer)[1]]


def _check(photos: Sequence[str], null: bool) -> None:
    if null and not is_stream(photos):
        raise InputError("Expected - among the photos with --null: it says how names on standard input end")
    if list(photos).count(STANDARD_INPUT) > 1:
        raise InputError("Expected - once, got it twice: standard input is read once")


def _batches(photos: Sequence[str], null: bool) -> Iterator[list[str]]:
    """Names by their batches; those on standard input as soon as they are there."""
    for photo in photos:
        for names in _read(null) if photo == STANDARD_INPUT else [[photo]]:
            for start in range(0, len(names), BATCH):
                yield names[start : start + BATCH]


def _names_of(photo: str, null: bool) -> list[str]:
    if photo != STANDARD_INPUT:
        return [photo]
    names = [name for part in _read(null) for name in part]
    if not names:
        raise DatasetError("Expected names of photos on standard input, got none")
    return names


def _read(null: bool) -> Iterator[list[str]]:
    """Names on standard input, as many at a time as are there."""
    end, rest = b"\0" if null else b"\n", b""
    # Not through Python's buffer, which waits for more than whoever writes has to say.
    while data := os.read(sys.stdin.fileno(), READ_BYTES):
        *lines, rest = (rest + data).split(end)
        if names := _decoded(lines, null):
            yield names
    if names := _decoded([rest], null):
        yield names


def _decoded(lines: Sequence[bytes], null: bool) -> list[str]:
    names = (os.fsdecode(line if null else line.removesuffix(b"\r")) for line in lines)
    return [name for name in names if name.strip()]


def _found(names: Sequence[str]) -> tuple[list[Path], list[tuple[str, str]]]:
    from tip_adapter.data import Findings, find_images

    findings = Findings(skip_bad=True)
    try:
        paths = find_images(names, findings=findings)
    except DatasetError:
        if not findings.skipped:
            raise
        paths = []
    return paths, findings.skipped
