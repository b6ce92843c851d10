"""Methods and encoders that other packages add, with a tiny package laid into a folder of the path."""

import os
import subprocess
import sys

import pytest

from tip_adapter import methods

METHOD = """
from tip_adapter.methods.heads import LinearHead
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


# Shown, as outside of tests; here the package that cannot be imported would end every command.
pytestmark = pytest.mark.filterwarnings("always::tip_adapter.errors.PluginWarning")


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install the package `tiny`, and one that cannot be imported, for this process and those that it starts."""
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
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    methods._others.cache_clear()
    yield
    methods._others.cache_clear()


def test_a_method_of_another_package_is_fitted_saved_explained_exported_and_compared(installed, run, photos, tmp_path):
    saved, photo = tmp_path / "c.tip", photos / "test" / "red" / "photo 0é.png"
    options = ("--methods", "mean,prototype", "--shots", "1", "--seeds", "1")
    for words in (
        ("fit", photos / "train", "-e", "tiny", "-m", "mean", "-o", saved),
        ("predict", saved, photo),
        ("explain", saved, photo),
        ("export", saved, "-o", tmp_path / "exported", "--head-only"),
        ("bench", photos, "-e", "fake", *options, "-o", tmp_path / "b"),
    ):
        code, out, err = run(*words)
        assert code == 0, (words, out, err)
        if words[0] == "predict":
            assert "red" in out
    table = (tmp_path / "b" / "table.md").read_text()
    assert "| mean |" in table
    assert "| prototype |" in table


def test_a_package_that_cannot_be_imported_is_named_and_the_others_go_on(installed, run, photos, tmp_path):
    code, out, err = run("info")
    assert code == 0
    assert "The class means as the weights" in out
    assert "package broken cannot be imported" in err
    code, _, err = run("fit", photos / "train", "-e", "fake", "-m", "broken", "-o", tmp_path / "c.tip")
    assert code != 0
    assert len(err.strip().splitlines()) == 1
    assert "'broken' of the package broken cannot be imported" in err


def test_name_of_a_class(installed):
    assert {methods.method_name(each) for each in methods.METHODS.values()} == set(methods.METHODS)

    class Own(methods.Prototype):
        pass

    assert methods.method_name(Own) == "Own"


def test_fitting_imports_no_other_method():
    code = """
import sys
import numpy as np
from tip_adapter.model.fitting import fit_method, make_estimator

eye, labels = np.eye(2, dtype=np.float32), np.array([0, 0, 1, 1])
_, record = fit_method(make_estimator("auto", {}), eye[labels], labels, eye, 10.0)
loaded = [name for name in sys.modules if name.startswith("tip_adapter.methods.")]
print(record.name, [name for name in loaded if ".on_encoder" in name or ".transductive" in name or ".knn" in name])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "auto []\n"
