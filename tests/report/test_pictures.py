"""Pictures that can be opened again, with every name that people give."""

import sys

import numpy as np
import pytest
from PIL import Image

from tip_adapter.errors import InputError, MissingExtraError
from tip_adapter.report.pictures import save_confusion_matrix


def size_of(path):
    with Image.open(path) as picture:
        return picture.size


@pytest.mark.parametrize("name", ["größe 帽子 \U0001f3a9", "[bold]", ""])
def test_any_name(tmp_path, name):
    save_confusion_matrix(tmp_path / "c.png", np.eye(2, dtype=int), [name, "$x_{$"])
    assert size_of(tmp_path / "c.png")[0] > 100


@pytest.mark.parametrize(("name", "start"), [("c.png", b"\x89PNG"), ("c.SVG", b"<?xml"), ("c.pdf", b"%PDF")])
def test_confusion_matrix(tmp_path, name, start):
    counts = np.array([[3, 0, 1], [0, 0, 0], [2, 2, 2]])
    save_confusion_matrix(tmp_path / name, counts, ["a", "b", "c"])
    assert (tmp_path / name).read_bytes().startswith(start)


def test_confusion_matrix_of_many_classes(tmp_path):
    save_confusion_matrix(tmp_path / "c.png", np.eye(60, dtype=int), [f"class {index}" for index in range(60)])
    assert max(size_of(tmp_path / "c.png")) < 6000


def test_confusion_matrix_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"\.png, \.svg or \.pdf"):
        save_confusion_matrix(tmp_path / "c.jpeg", np.eye(2, dtype=int), ["a", "b"])
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"\.\[plot\]"):
        save_confusion_matrix(tmp_path / "c.png", np.eye(2, dtype=int), ["a", "b"])


def test_long_names_leave_room_for_the_matrix(tmp_path):
    names = [f"Tomato___a_disease_with_a_very_long_name_number_{number}" for number in range(3)]
    save_confusion_matrix(tmp_path / "c.png", np.eye(3, dtype=int), names)
    with Image.open(tmp_path / "c.png") as picture:
        red, _, blue = np.asarray(picture.convert("RGB"), dtype=int).transpose(2, 0, 1)
    # A third of the cells are full, and dark blue.
    assert ((red < 40) & (blue > 80)).mean() > 0.06
