"""Bound what all threads together hold in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["MemoryBudget"]


class MemoryBudget:
    """Bytes that threads reserve before they allocate them, and wait for while others hold too many.

    Parameters
    ----------
    limit : int

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
        with self._first_come, self._changed:  # small requests must not overtake a large one for ever
            self._changed.wait_for(lambda: self.reserved_bytes + size <= self.limit)
            self.reserved_bytes += size
        try:
            yield
        finally:
            with self._changed:
                self.reserved_bytes -= size
                self._changed.notify_all()
