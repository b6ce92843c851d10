"""Bound what all threads together hold in memory."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

T = TypeVar("T")


class MemoryBudget:
    """Bytes that threads reserve before they allocate them, and wait for while others hold too many.

    Examples
    --------
    >>> from tip_adapter.data.memory_budget import MemoryBudget
    >>> budget = MemoryBudget(1_000_000)
    >>> with budget.reserved(600_000):
    ...     budget.reserved_bytes
    600000
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.reserved_bytes = limit, 0
        self._first_come = threading.Lock()
        self._changed = threading.Condition()

    @contextmanager
    def reserved(self, size: int) -> Iterator[None]:
        """Hold a number of bytes, at most `limit`. A thread that holds some must not ask for more."""
        with self.made(lambda: size, lambda size: size):
            yield

    @contextmanager
    def made(self, make: Callable[[], T], size_of: Callable[[T], int]) -> Iterator[T]:
        """Make something, one thread at a time, and hold the bytes it says it needs."""
        with self._first_come:  # small requests must not overtake a large one for ever
            thing = make()
            size = size_of(thing)
            with self._changed:
                self._changed.wait_for(lambda: self.reserved_bytes + size <= self.limit)
                self.reserved_bytes += size
        try:
            yield thing
        finally:
            with self._changed:
                self.reserved_bytes -= size
                self._changed.notify_all()


def return_free_memory() -> None:
    """Give the system what the C library keeps of freed memory: with several threads, hundreds of megabytes."""
    with suppress(AttributeError, OSError, TypeError):  # other libraries than GNU's have no such function
        ctypes.CDLL(None).malloc_trim(0)
