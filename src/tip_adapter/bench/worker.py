"""A process that runs jobs: one JSON line each on stdin, its status as one line on stdout.

Libraries and features are loaded once; every run then goes on in a fork of its own, so that its memory can be measured
and whatever it does to the process dies with it. Where there is no fork, runs share the process.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
import warnings
from typing import Any, TextIO

from tip_adapter.bench.execution import Job, execute, load_data
from tip_adapter.errors import TipAdapterError
from tip_adapter.features.feature_data import FeatureData


def main(jobs: TextIO, answers: TextIO) -> None:
    """Run jobs until there is no more."""
    loaded: dict[str, FeatureData] = {}
    for line in jobs:
        message: dict[str, Any] = json.loads(line)
        if "preload" in message:
            for module in message["preload"]:
                with contextlib.suppress(ImportError):  # the run that needs it says so
                    importlib.import_module(module)
            continue
        job = Job(**message)
        if job.data not in loaded:
            try:
                loaded = {job.data: load_data(job.data, job.base)}  # one at a time: jobs come by data set
            except TipAdapterError as error:
                _answer(answers, {"died": str(error)})
                continue
        _answer(answers, _run(job, loaded[job.data]))


def _answer(answers: TextIO, answer: dict[str, str]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def _run(job: Job, data: FeatureData) -> dict[str, str]:
    if not hasattr(os, "fork"):
        return {"status": execute(job, data)}
    with warnings.catch_warnings():
        # Python warns of forks beside threads. No thread has been started: the libraries are limited to one, or idle.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        code = 1
        try:
            # Nothing but answers may reach the parent.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            execute(job, data)
            code = 0
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return {"died": f"the process was ended by signal {signal.Signals(os.WTERMSIG(status)).name}"}
    if os.WEXITSTATUS(status) != 0:
        return {"died": "the process ended before it could write its result"}
    return {"status": "written"}


if __name__ == "__main__":
    main(sys.stdin, sys.stdout)
