"""Measure the peak memory of a piece of work, beyond what the process held before."""

from __future__ import annotations

import sys
from pathlib import Path

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """Measures from its making on, in a process that does nothing else.

    It counts resident memory, so that what NumPy, torch and ONNX Runtime allocate counts, too, which Python's own
    tracing would not see.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.bench.memory import PeakMemory
    >>> memory = PeakMemory()
    >>> _ = np.ones(4_000_000)
    >>> memory.megabytes is None or memory.megabytes > 20
    True
    """

    def __init__(self) -> None:
        if STATUS.exists():
            try:
                RESET.write_text("5")  # forget the peak so far
            except OSError:
                self.before: float | None = None
                return
            self.before = _status("VmRSS")
        else:
            self.before = _usage()

    @property
    def megabytes(self) -> float | None:
        """The peak so far, in MB above the beginning."""
        now = _status("VmHWM") if STATUS.exists() else _usage()
        return None if self.before is None or now is None else max(0.0, now - self.before)


def _status(key: str) -> float | None:
    for line in STATUS.read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) / 1024
    return None


def _usage() -> float | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 2**20 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
