"""Rows of an array with room behind them, so that more of them need no copy of all."""

from __future__ import annotations

from threading import Lock
from typing import Self

import numpy as np

from tip_adapter.typing import Float32Array, IntArray

SPARE = 8
"""Room is left for an eighth more, so that while rows come one by one each is copied eight times on the whole."""


class GrowingRows:
    """Rows whose beginnings are handed out and never change: only what nobody was given is written.

    Parameters
    ----------
    rows : ndarray of shape (N, ...), float32
        Copied when others come behind them.
    chosen : ndarray of shape (M,), optional
        Those to hold, in a copy that has room.
    more : int, default=0
        Rows that are sure to come.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.features.growing_rows import GrowingRows
    >>> grown = GrowingRows(np.zeros((2, 1), dtype=np.float32)).extended(2, np.ones((1, 1), dtype=np.float32))
    >>> grown.rows(2).tolist(), grown.rows(3).tolist()
    ([[0.0], [0.0]], [[0.0], [0.0], [1.0]])
    """

    def __init__(self, rows: Float32Array, chosen: IntArray | None = None, more: int = 0) -> None:
        self._buffer, self._used, self._lock = rows, len(rows), Lock()
        if chosen is not None:
            self._used = len(chosen)
            self._buffer = _with_room(self._used, rows.shape[1:], more)
            np.take(rows, chosen, axis=0, out=self._buffer[: self._used], mode="clip")

    @classmethod
    def empty(cls, count: int, shape: tuple[int, ...]) -> Self:
        """Make rows of zeros, to be filled before others are given them."""
        made = cls(_with_room(count, shape))
        made._used = count
        return made

    def rows(self, count: int) -> Float32Array:
        """Give the first rows."""
        return self._buffer[:count]

    def extended(self, held: int, more: Float32Array) -> GrowingRows:
        """Put more rows behind the first `held`: here where there is room that nobody has taken, else in a copy."""
        with self._lock:
            if self._used == held and held + len(more) <= len(self._buffer):
                self._buffer[held : held + len(more)] = more
                self._used += len(more)
                return self
        return GrowingRows(self._buffer, np.arange(held), len(more)).extended(held, more)


def _with_room(count: int, shape: tuple[int, ...], more: int = 0) -> Float32Array:
    # Zeros: memory that nobody wrote to may hold the features of a photo that was forgotten.
    return np.zeros((count + count // SPARE + more, *shape), dtype=np.float32)
