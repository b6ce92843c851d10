"""Find the processors that this process may use, and how its threads share them."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def usable_processors() -> int:
    """Count the processors that this process may use; containers and clusters often allow fewer than there are.

    Ray, Spark and torchrun say in ``OMP_NUM_THREADS`` how many each of their workers was given.

    Examples
    --------
    >>> from tip_adapter.processors import usable_processors
    >>> usable_processors() >= 1
    True
    """
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(there, _quota(_CGROUPS), _granted())))


@contextlib.contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Keep BLAS to one thread: in small products its threads would wait for each other longer than they work."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield


def let_waiting_threads_sleep() -> None:
    """Have threads of torch and scikit-learn sleep while they wait, which has to be said before they are imported.

    They would spin otherwise, and where other work takes their processors, that costs fifty times the work itself.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _granted() -> float:
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) else math.inf


def _quota(folder: Path) -> float:
    """Processors' worth of time that a container may use: a limit that the number of processors does not show."""
    try:
        quota, period = (folder / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:  # the older form
            quota, period = ((folder / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        except OSError:
            return math.inf
    try:
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    except (ValueError, ZeroDivisionError):  # "max"
        return math.inf
