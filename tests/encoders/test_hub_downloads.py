"""Encoders from a Hub that really answers: whole processes, a server on this machine."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the extra export is not installed")

import onnx

from hub_server import COMMIT, Hub, serving
from tiny_onnx import write_encoder

LOAD = "from tip_adapter import load_encoder; print(load_encoder({name!r}).image_id)"
LARGE = "onnx/vision_model.onnx"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An encoder whose image tower is larger than what is read of a connection at once."""
    folder = write_encoder(tmp_path_factory.mktemp("hub") / "tiny")
    graph = onnx.load(folder / LARGE)
    graph.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(6 * 2**20, dtype=np.float32), "unused"))
    onnx.save(graph, folder / LARGE)
    (folder / "onnx" / "vision_model_quantized.onnx").write_bytes(b"not wanted")
    return folder


@pytest.fixture
def hub(folder):
    made = Hub()
    made.add("me/tiny", folder)
    with serving(made):
        yield made


class Machine:
    """Runs Python in processes of its own, with caches of its own."""

    def __init__(self, home: Path, hub: Hub) -> None:
        self.home, self.hub = home, hub

    def start(self, code: str, **variables: str) -> subprocess.Popen:
        kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "SYSTEMROOT") if name in os.environ}
        own = {"HF_HOME": str(self.home / "hf"), "TIP_ADAPTER_CACHE": str(self.home / "cache"), "HOME": str(self.home)}
        environment = kept | own | {"HF_ENDPOINT": self.hub.address, "NO_PROXY": "127.0.0.1"} | variables
        words = [sys.executable, "-c", code]
        return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def load(self, name: str = "hub:me/tiny", *, before: str = "", **variables: str) -> tuple[str, str]:
        """What a process that loads an encoder writes to stdout, and to stderr."""
        out, err = self.start(before + LOAD.format(name=name), **variables).communicate(timeout=120)
        return out.strip(), err


@pytest.fixture
def machine(tmp_path, hub):
    return Machine(tmp_path, hub)


def test_the_first_use_fetches_what_is_needed_and_shows_it_the_second_asks_for_nothing(machine, hub):
    found, err = machine.load()
    assert len(found) == 64, err
    assert "100%" in err  # the bar of the download
    assert sorted(hub.sent()) == sorted(set(hub.sent()))
    assert LARGE in hub.sent()
    assert "onnx/vision_model_quantized.onnx" not in hub.sent()
    hub.asked.clear()
    assert machine.load() == (found, "")
    assert machine.load(HF_HUB_OFFLINE="1") == (found, "")
    assert hub.asked == []


def test_offline_without_a_cache_the_error_names_the_alternatives(machine, hub):
    _, err = machine.load(HF_HUB_OFFLINE="1")
    assert "me/tiny is not on this machine and cannot be downloaded" in err
    assert "choose the encoder lite" in err
    assert hub.asked == []


def test_a_cut_connection_is_taken_up_where_it_broke_off(machine, hub):
    hub.cut[LARGE] = 20 * 2**20
    found, err = machine.load()
    assert len(found) == 64, err
    ranges = [taken for method, path, taken in hub.asked if method == "GET" and path.endswith(LARGE)]
    assert ranges == [None, f"bytes={20 * 2**20}-"]


def test_a_download_that_was_killed_is_completed_by_the_next(machine, hub):
    exits = "import huggingface_hub.file_download as d, os; d.http_get = lambda *a, **k: os._exit(9); "
    machine.load(before=exits)
    found, err = machine.load()
    assert len(found) == 64, err


@pytest.mark.parametrize("name", ["hub:me/private", "huggingface:me/private"])
def test_missing_and_private_repositories_are_said_so(machine, name):
    if name.startswith("huggingface"):
        pytest.importorskip("torch", reason="the extra torch is not installed")
    _, err = machine.load(name)
    assert "Found no repository me/private on the Hugging Face Hub: check the name, or log in if it is private" in err


def test_terms_that_nobody_accepted_are_said_so(machine, hub):
    hub.gated.add("me/tiny")
    _, err = machine.load()
    assert "me/tiny is gated" in err


def test_a_revision_is_pinned(machine, hub, folder):
    hub.revisions = {"v1": COMMIT, "main": "d" * 40}
    found, err = machine.load("hub:me/tiny@v1")
    assert len(found) == 64, err
    assert all("/main" not in path for _, path, _ in hub.asked)
    _, err = machine.load("hub:me/tiny@v2")
    assert "Found no revision v2 of me/tiny" in err


def test_a_folder_of_a_repository(machine, hub, folder):
    hub.add("me/several", folder, "s0/")
    hub.add("me/several", folder, "s1/")
    found, err = machine.load("hub:me/several//s0")
    assert len(found) == 64, err
    assert all(name.startswith("s0/") for name in hub.sent())
    _, err = machine.load("hub:me/several")
    assert "to have ONNX towers in one of the layouts" in err
    assert "name a folder of it (hub:me/several//folder)" in err


@pytest.mark.parametrize("name", [LARGE, "config.json"])
def test_other_bytes_than_the_hub_has_are_refused_and_fetched_again(machine, hub, name):
    hub.damaged.add(name)
    _, err = machine.load()
    assert f"Expected {name} with the checksum" in err
    hub.damaged.clear()
    found, err = machine.load()
    assert len(found) == 64, err


@pytest.mark.skipif(sys.platform == "win32", reason="limits of processes are of POSIX")
def test_a_full_disk_is_said_so_and_loses_nothing(machine):
    full = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2**22, 2**22)); "
    _, err = machine.load(before=full)
    assert "Could not save me/tiny in" in err
    assert "make room, or set HF_HOME" in err
    found, err = machine.load()
    assert len(found) == 64, err


def test_two_processes_at_once_fetch_each_file_once(machine, hub):
    code = LOAD.format(name="hub:me/tiny")
    both = [machine.start(code) for _ in range(2)]
    outcomes = [process.communicate(timeout=120) for process in both]
    assert len({out for out, _ in outcomes}) == 1, outcomes
    assert len(outcomes[0][0].strip()) == 64, outcomes[0][1]
    assert sorted(hub.sent()) == sorted(set(hub.sent()))
