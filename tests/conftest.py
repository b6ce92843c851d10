"""Fixtures that several test files use."""

import os
import sys
import tempfile
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from PIL import Image

from tip_adapter.cli import main
from tip_adapter.libraries import NO_TELEMETRY
from tip_adapter.processors import let_waiting_threads_sleep

os.environ.update(NO_TELEMETRY)  # tests import ONNX Runtime themselves, too

from tiny_models import write_clip

let_waiting_threads_sleep()

if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
    # Every process that a test starts would compile what it imports, for seconds: it is kept aside instead.
    COMPILED = tempfile.TemporaryDirectory(prefix="compiled-", ignore_cleanup_errors=True)
    os.environ["PYTHONPYCACHEPREFIX"] = COMPILED.name

hypothesis.settings.register_profile("no clock", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("no clock")

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real photos and real CLIP features, which only developers have."""
    if not SHARED_DATA.is_dir():
        pytest.skip("real photos and CLIP features (shared/data) are not on this machine")
    return SHARED_DATA


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory) -> Path:
    """Folder of a CLIP with random weights, as `save_pretrained` writes it."""
    pytest.importorskip("torch", reason="the extra torch is not installed")
    folder = tmp_path_factory.mktemp("models") / "tiny clip"
    folder.mkdir()
    return write_clip(folder)


def write_photos(folder: Path, per_class: int, seed: int) -> None:
    """Write small photos of three classes that differ in colour."""
    rng = np.random.default_rng(seed)
    for name, color in (("red", (200, 40, 40)), ("green", (40, 200, 40)), ("sky blue", (40, 40, 200))):
        (folder / name).mkdir(parents=True)
        for index in range(per_class):
            pixels = np.clip(np.array(color) + rng.integers(-40, 40, (48, 40, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"photo {index}é.png")


@pytest.fixture
def photos(tmp_path, monkeypatch) -> Path:
    """A folder with train/ and test/, three classes each, in an empty cache of its own."""
    monkeypatch.setenv("TIP_ADAPTER_CACHE", str(tmp_path / "cache"))
    write_photos(tmp_path / "photos" / "train", 5, seed=0)
    write_photos(tmp_path / "photos" / "test", 3, seed=1)
    return tmp_path / "photos"


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the program; returns exit code, stdout, stderr without what was noticed about the data (`run.data`)."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["tip-adapter", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        lines = captured.err.splitlines(keepends=True)
        call.data = [line.removeprefix("data: ").rstrip() for line in lines if line.startswith("data: ")]
        return code, captured.out, "".join(line for line in lines if not line.startswith("data: "))

    return call
