"""The demo on photos of its own and of others: shots and queries apart, and a picture."""

import numpy as np
import pytest
from PIL import Image

from tip_adapter.classifier import ImageClassifier
from tip_adapter.data import load_dataset
from tip_adapter.demo import DIGIT_TEXTS, TEST_DIGITS_PER_CLASS, run_demo, write_digits
from tip_adapter.errors import DatasetError


def run(photos, tmp_path, **options):
    lines = []
    classifier = ImageClassifier("fake", store=None)
    return run_demo(photos, classifier, picture=tmp_path / "e.png", tell=lines.append, **options), lines


def test_digits(tmp_path):
    write_digits(tmp_path / "digits")
    train, test = (load_dataset(tmp_path / "digits", split=split) for split in ("train", "test"))
    assert set(train.class_names) == set(test.class_names) == set(DIGIT_TEXTS)
    assert (len(train) + len(test), len(test)) == (1797, 10 * TEST_DIGITS_PER_CLASS)
    with Image.open(train.paths[0]) as picture:
        pixels = np.asarray(picture)
    assert (pixels[0, 0], pixels.min() < 60) == (255, True)  # dark ink on white paper
    result, _ = run(tmp_path / "digits", tmp_path, shots=4)
    assert (result.n_shots, result.evaluation.n, result.evaluation.n_shots_among) == (4, len(test), 0)
    assert result.evaluation.cache_accuracy > 0.5
    assert result.evaluation.accuracy > result.evaluation.zero_shot_accuracy + 0.2


@pytest.mark.parametrize(("shots", "expected"), [(2, 2), (16, 4)])
def test_photos_without_splits_are_divided(photos, tmp_path, shots, expected):
    result, lines = run(photos / "train", tmp_path, shots=shots)
    assert (result.n_shots, result.evaluation.n) == (expected, 15 - 3 * expected)
    assert result.evaluation.n_shots_among == 0
    assert result.evaluation.accuracy == 1.0
    assert f"{3 * expected} shots of 3 classes" in lines[0]
    with Image.open(result.picture) as picture:
        assert picture.width > picture.height / 3


def test_photos_with_splits_are_taken_as_they_are(photos, tmp_path):
    result, _ = run(photos, tmp_path)
    assert (result.n_shots, result.evaluation.n) == (5, 9)


def test_nothing_to_measure_on(photos, tmp_path):
    for path in sorted((photos / "train" / "red").iterdir())[1:]:
        path.unlink()
    with pytest.raises(DatasetError, match=r"at least 2 photos in every class.*red"):
        run(photos / "train", tmp_path)
