"""Photos to label next: like many uncertain ones, unlike what is labelled, and each other."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tiny_features import unit
from tip_adapter import ImageClassifier
from tip_adapter.cli.app import app
from tip_adapter.errors import InputError
from tip_adapter.trust.unlabelled import next_to_label


def test_the_choice_is_the_greedy_one_of_the_formula():
    rng = np.random.default_rng(0)
    photos, shots = unit(rng.normal(size=(30, 5))), unit(rng.normal(size=(3, 5)))
    probabilities = rng.dirichlet(np.ones(4), size=30)
    ordered = np.sort(probabilities, axis=1)
    uncertain = 1 - (ordered[:, -1] - ordered[:, -2])
    labelled, expected = list(shots), []
    for _ in range(6):
        best = [max(float(photo @ one) for one in labelled) for photo in photos]
        gains = [
            sum(u * max(0.0, float(other @ photo) - b) for u, other, b in zip(uncertain, photos, best, strict=True))
            if row not in expected
            else -1.0
            for row, photo in enumerate(photos)
        ]
        expected.append(int(np.argmax(gains)))
        labelled.append(photos[expected[-1]])
    assert next_to_label(photos, probabilities, shots, 6).tolist() == expected


def test_near_copies_and_outliers_wait():
    crowd = unit(np.array([[1, 0.1 * k, 0] for k in range(5)]))
    outlier = np.array([[0, 0, 1]], dtype=np.float32)
    photos = np.concatenate([crowd, crowd[:1], outlier])
    chosen = next_to_label(photos, np.full((7, 2), 0.5), unit(np.array([[0.0, -1.0, 0.0]])), 7, same=0.9999)
    assert chosen[0] < 5
    assert len(chosen) == 6  # of the two copies one
    assert {0, 5} & set(chosen.tolist()) != {0, 5}


@pytest.mark.parametrize("count", [1, 3, 50])
def test_any_number_is_chosen_once_each(count):
    rng = np.random.default_rng(1)
    chosen = next_to_label(unit(rng.normal(size=(20, 4))), np.ones((20, 1)), np.zeros((0, 4), np.float32), count)
    assert len(set(chosen.tolist())) == len(chosen) == min(count, 20)


def test_odd_calls():
    assert next_to_label(np.zeros((0, 4), np.float32), np.zeros((0, 2)), np.zeros((0, 4), np.float32), 3).size == 0
    with pytest.raises(InputError, match="count to be at least 1"):
        next_to_label(np.eye(2, dtype=np.float32), np.eye(2), np.eye(2, dtype=np.float32), 0)


def test_many_photos_are_represented_by_some():
    rng = np.random.default_rng(2)
    photos = unit(rng.normal(size=(5000, 8)))
    chosen = next_to_label(photos, rng.dirichlet(np.ones(3), size=5000), photos[:2], 10)
    assert len(set(chosen.tolist())) == 10
    assert not {0, 1} & set(chosen.tolist())  # they are labelled


@pytest.fixture
def folder(tmp_path):
    for number, level in enumerate((20, 40, 120, 121, 200, 230)):
        Image.fromarray(np.full((24, 24, 3), level, np.uint8)).save(tmp_path / f"{number}.png")
    paths = [tmp_path / "0.png", tmp_path / "5.png"]
    ImageClassifier("fake", "tip-adapter", store=None).fit(paths, ["night", "day"]).save(tmp_path / "c.tip")
    return tmp_path


def test_the_command_leaves_shots_out_and_names_bad_photos(folder):
    (folder / "bad.png").write_bytes(b"no picture")
    words = ["next", str(folder / "c.tip"), str(folder), "--count", "3", "--skip-bad"]
    found = CliRunner().invoke(app, [*words, "--json"])
    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout)
    names = [row["path"].rsplit("/", 1)[-1] for row in told["photos"]]
    assert len(names) == 3
    assert not {"0.png", "5.png", "bad.png"} & set(names)
    assert [row["path"].rsplit("/", 1)[-1] for row in told["skipped"]] == ["bad.png"]
    assert names[0] in CliRunner().invoke(app, words).stdout


def test_where_all_are_shots_the_command_says_so(folder):
    found = CliRunner().invoke(app, ["next", str(folder / "c.tip"), str(folder / "0.png")])
    assert "are shots of the classifier" in found.stdout
