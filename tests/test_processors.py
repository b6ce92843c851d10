"""Containers allow fewer processors than there are, in one of two ways."""

import math

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
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert processors._quota(tmp_path) == expected
    monkeypatch.setattr(processors, "_CGROUPS", tmp_path)
    monkeypatch.setattr(processors.os, "sched_getaffinity", lambda _: range(64), raising=False)
    assert processors.usable_processors() == math.ceil(min(64, expected))
