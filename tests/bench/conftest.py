"""A small data set of saved features, and methods that another package might add."""

from types import SimpleNamespace

import numpy as np
import pytest

from tiny_features import unit
from tip_adapter.bench import FeatureData, Part, save_feature_file

CLASSES = ("ant", "bee", "cow")


def part_of(per_class, seed):
    """Features around the axis of each class."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(CLASSES)), per_class)
    return Part(unit(np.eye(len(CLASSES), 8)[labels] + 0.4 * rng.normal(size=(len(labels), 8))), labels)


@pytest.fixture
def tiny():
    """Three classes of six photos to learn from, five to test on, four to validate on."""
    rng = np.random.default_rng(9)
    weights = unit(np.eye(3, 8) + 0.3 * rng.normal(size=(3, 8)))
    return FeatureData("tiny", CLASSES, part_of(5, 1), weights, 20.0, part_of(4, 2), {}, part_of(6, 0))


@pytest.fixture
def tiny_file(tiny, tmp_path):
    path = tmp_path / "tiny.npz"
    save_feature_file(path, tiny)
    return path


@pytest.fixture
def add_method(monkeypatch):
    """Add a method under a name, as another package does."""

    def add(name, cls):
        plugin = SimpleNamespace(load=lambda: cls, works=lambda: True, package="another")
        monkeypatch.setattr("tip_adapter.methods._others", lambda: {name: plugin})

    return add
