"""Containers allow fewer processors than there are, in one of two ways; other work may take those there are."""

import math
import os
import subprocess
import sys

import pytest

from tip_adapter import processors


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, math.inf),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2.0),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, math.inf),
        ({"cpu.max": "odd"}, math.inf),
        ({}, math.inf),
    ],
)
def test_quotas(tmp_path, monkeypatch, files, expected):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert processors._quota(tmp_path) == expected
    monkeypatch.setattr(processors, "_CGROUPS", tmp_path)
    monkeypatch.setattr(processors.os, "sched_getaffinity", lambda _: range(64), raising=False)
    assert processors.usable_processors() == math.ceil(min(64, expected))


@pytest.mark.parametrize(("given", "expected"), [("3", 3), (" 2,4", 2), ("0", 8), ("many", 8), ("", 8), ("99", 8)])
def test_a_worker_of_a_cluster_uses_the_processors_it_was_given(monkeypatch, given, expected):
    monkeypatch.setattr(processors, "_quota", lambda _: 8)
    monkeypatch.setattr(processors.os, "sched_getaffinity", lambda _: range(64), raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert processors.usable_processors() == expected


def test_threads_of_the_program_that_wait_sleep():
    code = (
        "import sys; from tip_adapter.cli import main; sys.argv = ['tip-adapter', '--version']\n"
        "try: main()\nexcept SystemExit: import sklearn"
    )
    unset = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    shown = unset | {"OMP_DISPLAY_ENV": "TRUE"}
    done = subprocess.run([sys.executable, "-c", code], env=shown, capture_output=True, text=True, check=True)
    if "OMP_WAIT_POLICY" not in done.stderr:
        pytest.skip("OpenMP of another kind, which does not say how its threads wait")
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in done.stderr
