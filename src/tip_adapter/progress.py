"""Show the progress of a long call: a bar on a terminal, otherwise a plain line now and then."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from tip_adapter.storage.escaping import for_terminal

if TYPE_CHECKING:
    from rich.progress import Progress as RichBar
    from rich.progress import TaskID

QUIET_SECONDS = 30.0
"""How long nothing is printed where stderr is no terminal."""


_shown = True


def show_progress(wanted: bool) -> None:
    """Whether `progress_bar` shows anything in this process."""
    global _shown
    _shown = wanted


class Progress(Protocol):
    """What `extract_features` calls whenever images are finished."""

    def __call__(self, done: int, total: int, cached: int) -> None:
        """Take note."""


class Display(Progress, Protocol):
    """A `Progress` that also shows what comes after the counting, and counts of other things."""

    def announce(self, words: str, unit: str = "") -> None:
        """Begin another part of the work, such as "Choosing hyper-parameters"."""

    def show(self, done: int, total: int, note: str) -> None:
        """Show how much of this part is done."""


def announce(progress: Progress | None, words: str, unit: str = "") -> None:
    """Say which part of the work begins, where the progress can show it; a bar that stands at 100 % says nothing."""
    tell = getattr(progress, "announce", None)
    if tell is not None:
        tell(words, unit)


def for_steps(progress: Progress | None) -> Callable[[int, int, float], None] | None:
    """Let a training count its steps on a bar that counts photos; its loss is not shown."""
    return None if progress is None else lambda done, total, loss: progress(done, total, 0)


@contextlib.contextmanager
def progress_bar(description: str, *, unit: str = "images", seconds: float = QUIET_SECONDS) -> Iterator[Display]:
    """Show the progress of what happens inside.

    Examples
    --------
    >>> from tip_adapter.progress import progress_bar
    >>> with progress_bar("Encoding") as progress:
    ...     for done in range(3):
    ...         progress(done + 1, 3, 0)
    """
    if not _shown:
        yield _LineDisplay(_Part(description, unit))
        return
    if sys.stderr is not None and sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        words, state = (TextColumn(f"{{task.{name}}}", markup=False) for name in ("description", "fields[state]"))
        columns = (words, BarColumn(), state, TimeElapsedColumn())
        with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
            yield _BarDisplay(_Part(description, unit), bar, bar.add_task(description, total=None, state=""))
        return
    display, over = _LineDisplay(_Part(description, unit)), threading.Event()
    speaker = threading.Thread(target=_speak, args=(display, over, seconds), daemon=True)
    speaker.start()
    try:
        yield display
    finally:
        over.set()
        speaker.join()


@dataclass
class _Part:
    """One part of the work, and how much of it is done."""

    words: str
    unit: str
    done: int = 0
    total: int | None = None
    note: str = ""
    began: float = field(default_factory=time.monotonic)

    @property
    def state(self) -> str:
        """Counts, speed and time left, as far as they are known."""
        if self.total is None:
            return ""
        seconds = time.monotonic() - self.began
        parts = [f"{self.done} of {self.total} {self.unit}".rstrip()]
        if 0 < self.done < self.total and seconds > 1:
            left = seconds / self.done * (self.total - self.done)
            parts.append(f"about {_duration(left)} left")
        return ", ".join([*parts, self.note] if self.note else parts)


class _LineDisplay:
    """Remember what is going on, for a line now and then."""

    def __init__(self, part: _Part) -> None:
        self.part = part

    def __call__(self, done: int, total: int, cached: int) -> None:
        self.show(done, total, f"{cached} known" if cached else "")

    def announce(self, words: str, unit: str = "") -> None:
        self.part = _Part(words, unit)

    def show(self, done: int, total: int, note: str) -> None:
        self.part.done, self.part.total, self.part.note = done, total, for_terminal(note)


class _BarDisplay(_LineDisplay):
    """Draw every change."""

    def __init__(self, part: _Part, bar: RichBar, task: TaskID) -> None:
        super().__init__(part)
        self._bar, self._task = bar, task

    def announce(self, words: str, unit: str = "") -> None:
        super().announce(words, unit)
        self._bar.refresh()  # what was reached is seen, however soon the next part begins
        self._bar.reset(self._task, description=words, total=None, state="")
        self._bar.refresh()

    def show(self, done: int, total: int, note: str) -> None:
        super().show(done, total, note)
        self._bar.update(self._task, completed=done, total=total, state=self.part.state)


def _speak(display: _LineDisplay, over: threading.Event, seconds: float) -> None:
    begin = time.monotonic()
    while not over.wait(seconds):
        part = display.part
        line = f"{part.words}: {part.state or 'at work'}, {_duration(time.monotonic() - begin)} so far"
        with contextlib.suppress(OSError, ValueError, AttributeError):  # nobody reads stderr
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
