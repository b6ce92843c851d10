"""Run one function on many items in threads, with a limit of time for each."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from tip_adapter.errors import ImageError
from tip_adapter.processors import usable_processors

READERS = 8
"""Threads at least, however few processors there are: with remote storage they mostly wait."""

Item = TypeVar("Item")
Value = TypeVar("Value")


class _Task(Generic[Item, Value]):
    """One item on its way: done when `finished` is set."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self.started: float | None = None
        self.finished = threading.Event()
        self.value: Value | None = None
        self.error: Exception | None = None


class TimedThreads(Generic[Item, Value]):
    """Threads that are left behind when an item takes too long: Python cannot end them, but nobody waits for them.

    Examples
    --------
    >>> from tip_adapter.features.timed_threads import TimedThreads
    >>> [value for value, error in TimedThreads(abs, seconds=10).map([-1, 2])]
    [1, 2]
    """

    def __init__(self, function: Callable[[Item], Value], *, seconds: float, ahead: int = 64) -> None:
        self.function, self.seconds, self.ahead = function, seconds, ahead
        self._tasks: queue.SimpleQueue[_Task[Item, Value] | None] = queue.SimpleQueue()

    def map(self, items: Iterable[Item]) -> Iterator[tuple[Value | None, Exception | None]]:
        """Return value or error for every item, in order."""
        window: deque[_Task[Item, Value]] = deque()
        n_threads = max(READERS, usable_processors())
        for _ in range(n_threads):
            self._start()
        try:
            for item in items:
                window.append(_Task(item))
                self._tasks.put(window[-1])
                if len(window) > self.ahead:
                    yield self._result(window.popleft())
            while window:
                yield self._result(window.popleft())
        finally:
            for _ in range(n_threads):
                self._tasks.put(None)

    def _start(self) -> None:
        threading.Thread(target=self._work, daemon=True, name="decode").start()

    def _work(self) -> None:
        while task := self._tasks.get():
            task.started = time.monotonic()
            try:
                task.value = self.function(task.item)
            except Exception as error:
                task.error = error
            task.finished.set()
            if time.monotonic() - task.started > self.seconds:
                return  # another thread was started in its place

    def _result(self, task: _Task[Item, Value]) -> tuple[Value | None, Exception | None]:
        while not task.finished.wait(self.seconds if task.started is None else self._left(task.started)):
            if task.started is not None and self._left(task.started) <= 0:
                self._start()
                return None, ImageError(f"took longer than {self.seconds:g} s to read and decode")
        return task.value, task.error

    def _left(self, started: float) -> float:
        return max(0.0, started + self.seconds - time.monotonic())
