"""Nothing is lost when commands are killed, race each other, or are to forget: `benchmarks/durability.py`, in small."""

import os
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks on this system")

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def durability():
    spec = spec_from_file_location("durability", BENCHMARKS / "durability.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def scene(durability, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIP_ADAPTER_CACHE", "overwritten by the scene")
        yield durability.Scene(tmp_path_factory.mktemp("scene"))


@pytest.mark.parametrize("command", ["fit, new", "add", "export, again", "predict --output"])
def test_a_killed_command_leaves_the_state_before_or_after(durability, scene, command):
    done = durability.count_kills(scene, command)
    assert done["faults"] == []
    assert done["kills"] >= 3


@pytest.mark.parametrize("command", ["remove --forget", "purge"])
def test_a_killed_forgetting_is_repeated_and_complete(durability, scene, command):
    done = durability.count_traces(scene, command)
    assert (done["refused"], done["traces left"]) == (0, 0)
    assert done["kills"] >= 5


def test_no_acknowledged_edit_is_lost_when_editors_are_killed(durability, tmp_path, monkeypatch):
    monkeypatch.setenv("TIP_ADAPTER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "argv", ["durability.py"])
    done = durability.count_editors(tmp_path, 2, 2, 2, own_caches=True, kills=True)
    assert done["kept"] == done["acknowledged"] > 0
    assert (done["refused"], done["pictures"]) == (0, True)


def test_loads_beside_a_writer_do_not_fail(durability, tmp_path, monkeypatch):
    monkeypatch.setenv("TIP_ADAPTER_CACHE", str(tmp_path / "cache"))
    done = durability.count_reads(tmp_path, 1.5)
    assert done["first failures"] == []
    assert done["loads"] > 2
