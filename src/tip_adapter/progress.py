"""Counts of finished images go in; a bar with images per second and remaining time comes out on a terminal's stderr."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Protocol

__all__ = ["Progress", "progress_bar"]


class Progress(Protocol):
    """What `extract_features` calls whenever images are finished."""

    def __call__(self, done: int, total: int, cached: int) -> None:
        """Take note.

        Parameters
        ----------
        done : int
            Images finished so far, those that were skipped or taken from the store among them.
        total : int
        cached : int
            How many of those done needed no encoding: they were in the store, or the same as an earlier one.
        """


@contextlib.contextmanager
def progress_bar(description: str, *, unit: str = "images") -> Iterator[Progress | None]:
    """Show a bar while images are encoded; nothing where stderr is no terminal.

    Parameters
    ----------
    description : str
        What is going on, such as ``"Encoding"``.
    unit : str, default="images"
        What is counted.

    Yields
    ------
    Progress or None
        To be passed on as ``progress``.

    Examples
    --------
    >>> from tip_adapter.progress import progress_bar
    >>> with progress_bar("Encoding") as progress:
    ...     for done in range(3):
    ...         if progress:
    ...             progress(done + 1, 3, 0)
    """
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=None, rate="")

        def advance(done: int, total: int, cached: int) -> None:
            speed = bar.tasks[0].speed
            rate = f"{speed:.1f} {unit}/s" if speed else ""
            bar.update(task, completed=done, total=total, rate=f"{rate} ({cached} known)" if cached else rate)

        yield advance
