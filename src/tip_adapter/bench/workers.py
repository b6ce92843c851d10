"""Run jobs in several processes side by side, and yield each status as it arrives."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import asdict
from pathlib import Path

from tip_adapter.bench.execution import Job

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def run_jobs(jobs: Sequence[Job], n_processes: int, threads: int) -> Generator[tuple[Job, str | None]]:
    """Run jobs in processes of their own, each with a fixed number of threads.

    Leaving the iteration early, on an error or Ctrl-C, ends the processes at once; results are written whole or not at
    all, so none is half there.
    """
    waiting, finished = deque(jobs), queue.Queue[tuple[Job, str | None]]()
    preload = ["tip_adapter.methods", *(["torch"] if any(_trains(job) for job in jobs) else [])]
    crews = [_Crew(waiting, finished, threads, preload) for _ in range(min(n_processes, len(jobs)))]
    try:
        for crew in crews:
            crew.start()
        for _ in range(len(jobs)):
            yield finished.get()
    finally:
        waiting.clear()
        for crew in crews:
            crew.end()


def _trains(job: Job) -> bool:
    from tip_adapter.methods import METHODS

    return METHODS[job.method].needs_torch


class _Crew(threading.Thread):
    """A thread that feeds one process, and a new one should it die."""

    def __init__(
        self, waiting: deque[Job], finished: queue.Queue[tuple[Job, str | None]], threads: int, preload: list[str]
    ) -> None:
        super().__init__(daemon=True)
        self.waiting, self.finished, self.threads, self.preload = waiting, finished, threads, preload
        self.process: subprocess.Popen[str] | None = None
        self.ended = False
        self.guard = threading.Lock()

    def run(self) -> None:
        while not self.ended:
            try:
                job = self.waiting.popleft()
            except IndexError:
                break
            died = self._ask(job)
            if not self.ended:
                self.finished.put((job, died))

    def _ask(self, job: Job) -> str | None:
        try:
            process = self._running()
            assert process.stdin is not None  # noqa: S101  both are pipes
            assert process.stdout is not None  # noqa: S101
            process.stdin.write(json.dumps(asdict(job)) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except (OSError, ValueError) as error:  # the pipe broke: the process is gone
            self._discard()
            return f"the worker process broke down ({error})"
        if not answer:
            return f"the worker process ended with code {self._discard()}"
        died: str | None = json.loads(answer).get("died")
        return died

    def _running(self) -> subprocess.Popen[str]:
        with self.guard:
            if self.ended:
                raise OSError("the benchmark was stopped")
            if self.process is None:
                self.process = _start(self.threads)
                assert self.process.stdin is not None  # noqa: S101
                self.process.stdin.write(json.dumps({"preload": self.preload}) + "\n")
            return self.process

    def _discard(self) -> int | None:
        """Stop the process with all that it started, and give its code."""
        with self.guard:
            process, self.process = self.process, None
        if process is None:
            return None
        if not _ended(process):
            _kill(process)
        code = process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        return code

    def end(self) -> None:
        """Stop, in the middle of a job if need be."""
        self.ended = True
        with self.guard:
            process = self.process
        if process is not None:
            _kill(process)
        if self.ident is not None:
            self.join()  # the thread reads the end of the pipe
        self._discard()


def _kill(process: subprocess.Popen[str]) -> None:
    """End a process that still runs, with the run it forked."""
    if process.poll() is not None:
        return
    if hasattr(os, "killpg"):
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


def _ended(process: subprocess.Popen[str]) -> bool:
    """Give a process whose pipe has closed a moment to end by itself, so that its code says why."""
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        return False
    return True


def _start(threads: int) -> subprocess.Popen[str]:
    import tip_adapter

    root = str(Path(tip_adapter.__file__).parents[1])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | dict.fromkeys(THREAD_VARIABLES, str(threads)) | {"PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.Popen(
        # -P: a file of the user's, such as numpy.py, must not stand in for a library.
        [sys.executable, "-P", "-m", "tip_adapter.bench.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=environment,
        # Ctrl-C in the terminal is for the benchmark, which then ends its workers.
        start_new_session=True,
    )
