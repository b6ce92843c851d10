"""The examples that sort photos run as they are, on photos that are sound, damaged and of no class."""

import csv

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def bad_photo(photos):
    (photos / "test" / "bad.jpg").write_bytes(b"cut")


def test_a_folder_is_sorted(example, photos):
    out = example("sort_photos.py", "train", "test", "sorted", "--sure", 0.5, "--encoder", "fake")
    assert out.endswith("9 photos sorted into sorted\n")
    assert "left out: test/bad.jpg" in out
    assert {path.name: len(list(path.iterdir())) for path in (photos / "sorted").iterdir()} == {
        "red": 3,
        "green": 3,
        "sky blue": 3,
    }


def test_a_camera_trap(example, photos):
    noise = np.random.default_rng(0).integers(0, 255, (48, 40, 3)).astype(np.uint8)
    Image.fromarray(noise).save(photos / "test" / "noise.png")
    out = example(
        "camera_trap.py", "train", "test", "triage.csv", "--miss", 0.1, "--coverage", 0.8, "--encoder", "fake"
    )
    with open(photos / "triage.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 11
    heaps = {row["photo"]: row["heap"] for row in rows}
    assert heaps["test/bad.jpg"] == "1 unreadable"
    assert heaps["test/noise.png"] in ("1 none of these", "2 look")
    known = [row for row in rows if row["heap"] == "3 known"]
    assert all(row["class"] in row["photo"] for row in known)
    assert f"known: {len(known)} photos" in out
