"""Methods and encoders that other packages add, with a tiny package laid into a folder of the path."""

import os
import subprocess
import sys

import pytest

METHOD = """
from tip_adapter.heads import LinearHead
from tip_adapter.methods import FewShotMethod


class Mean(FewShotMethod):
    \"\"\"The class means as the weights of a linear head.\"\"\"

    def __init__(self, zero_shot_weights=None, class_names=None, logit_scale=100.0):
        self.zero_shot_weights = zero_shot_weights
        self.class_names = class_names
        self.logit_scale = logit_scale

    def _fit_head(self, support):
        means = [support.features[support.labels == column].mean(axis=0) for column in range(support.n_classes)]
        import numpy as np

        return LinearHead(support.n_classes, None, 1.0, np.float32(10) * np.stack(means))
"""

ENCODER = """
from tip_adapter.encoders.fake import FakeEncoder


def load(name, precision, logit_scale):
    return FakeEncoder()
"""


@pytest.fixture
def package(tmp_path):
    """A folder that holds the installed package `tiny`, and one that cannot be imported."""
    (tmp_path / "tiny.py").write_text(METHOD + ENCODER)
    (tmp_path / "broken.py").write_text("import no_such_module\n")
    for name, points in (
        ("tiny", "[tip_adapter.methods]\nmean = tiny:Mean\n[tip_adapter.encoders]\ntiny = tiny:load\n"),
        ("broken", "[tip_adapter.methods]\nbroken = broken:Broken\n"),
    ):
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(points)
    return tmp_path


def run(package, *words):
    """Run the command line where the packages are installed."""
    paths = os.pathsep.join([str(package), *sys.path])
    command = [sys.executable, "-m", "tip_adapter", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": paths})


def test_a_method_of_another_package_is_fitted_saved_explained_exported_and_compared(package, photos, tmp_path):
    saved, photo = tmp_path / "c.tip", photos / "test" / "red" / "photo 0é.png"
    options = ("--methods", "mean,prototype", "--shots", "1", "--seeds", "1")
    for words in (
        ("fit", photos / "train", "-e", "tiny", "-m", "mean", "-o", saved),
        ("predict", saved, photo),
        ("explain", saved, photo),
        ("export", saved, "-o", tmp_path / "exported", "--head-only"),
        ("bench", photos, "-e", "fake", *options, "-o", tmp_path / "b"),
    ):
        found = run(package, *words)
        assert found.returncode == 0, (words, found.stderr, found.stdout)
        if words[0] == "predict":
            assert "red" in found.stdout
    table = (tmp_path / "b" / "table.md").read_text()
    assert "| mean |" in table
    assert "| prototype |" in table


def test_a_package_that_cannot_be_imported_is_named_and_the_others_go_on(package, photos, tmp_path):
    listed = run(package, "info")
    assert listed.returncode == 0
    assert "The class means as the weights" in listed.stdout
    assert "package broken cannot be imported" in listed.stderr
    asked = run(package, "fit", photos / "train", "-e", "fake", "-m", "broken", "-o", tmp_path / "c.tip")
    assert asked.returncode != 0
    assert len(asked.stderr.strip().splitlines()) == 1
    assert "'broken' of the package broken cannot be imported" in asked.stderr
