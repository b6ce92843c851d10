"""In: the operating system; out: how many processors this process may use."""

from __future__ import annotations

import os

__all__ = ["usable_processors"]


def usable_processors() -> int:
    """Count the processors that this process may use; containers often allow fewer than there are.

    Returns
    -------
    int
        At least 1.

    Examples
    --------
    >>> from tip_adapter.processors import usable_processors
    >>> usable_processors() >= 1
    True
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
