"""embed --output writes one file that fit learns from and bench measures on, as they do with the photos themselves."""

import json
from pathlib import Path

import numpy as np
import pytest

from tip_adapter import ImageClassifier
from tip_adapter.encoders.fake import FakeEncoder

pytestmark = pytest.mark.usefixtures("here")


def logits(path, photos):
    classifier = ImageClassifier.load(path)
    features = classifier._photos.extract([*photos.rglob("*.png")]).features.unit
    return classifier.model_.head.logits(features)


@pytest.mark.parametrize("method", ["tip-adapter", "auto"])
def test_fit_learns_the_same_as_from_photos(run, photos, method):
    assert run("embed", "photos", "-o", "f.npz")[0] == 0
    assert run("fit", "photos", "-m", method, "-k", 4, "-o", "p.tip")[0] == 0
    code, out, _ = run("fit", "f.npz", "-m", method, "-k", 4, "-o", "f.tip")
    assert code == 0
    assert out.startswith("12 shots of 3 classes")
    np.testing.assert_allclose(logits("f.tip", photos), logits("p.tip", photos), rtol=1e-5, atol=1e-5)
    ids = [[row["id"] for row in json.loads(run("shots", name, "--json")[1])["shots"]] for name in ("p.tip", "f.tip")]
    assert ids[0] == ids[1]
    assert run("predict", "f.tip", "photos/test")[0] == 0
    assert run("evaluate", "f.tip", "photos/test", "--html", "r.html")[0] == 0
    assert run("remove", "f.tip", ids[0][0])[0] == 0


def test_bench_measures_the_same_as_on_photos(run):
    assert run("embed", "photos", "-o", "f.npz")[0] == 0
    common = ("-m", "zero-shot,tip-adapter", "-k", 2, "--seeds", 2, "--json")
    figures = {}
    for row in json.loads(run("bench", "photos", "f.npz", "-o", "out", *common)[1])["rows"]:
        found = row["method"], row["shots"], row["accuracy"], row["nll"]
        figures.setdefault(row["setting"]["dataset"], []).append(found)
    assert [len(rows) for rows in figures.values()] == [2, 2]
    for one, other in zip(*map(sorted, figures.values()), strict=True):
        assert one == pytest.approx(other, rel=1e-6) if isinstance(one, float) else one[:3] == other[:3]
        assert one[3] == pytest.approx(other[3], rel=1e-5)


def test_without_splits_fit_takes_all_and_bench_halves(run):
    assert run("embed", "photos/train", "-o", "f.npz")[0] == 0
    assert run("fit", "f.npz", "-o", "f.tip")[1].startswith("15 shots")
    assert run("bench", "f.npz", "-m", "zero-shot", "-k", 1, "-o", "out")[0] == 0


def test_texts_of_the_file_and_other_texts(run, monkeypatch):
    names = Path("names.json")
    names.write_text(json.dumps({"red": ["crimson", "scarlet"]}))
    assert run("embed", "photos/train", "--class-texts", names, "-t", "a {}.", "-o", "f.npz")[0] == 0
    with monkeypatch.context() as patch:
        patch.setattr(FakeEncoder, "encode_texts", lambda *_: pytest.fail("texts are in the file"))
        assert run("fit", "f.npz", "-o", "f.tip")[0] == 0
    facts = json.loads(run("info", "f.tip", "--json")[1])
    assert (facts["templates"], facts["classes"][1]["texts"]) == (["a {}."], ["crimson", "scarlet"])
    names.write_text(json.dumps({"red": "ruby"}))
    assert run("fit", "f.npz", "--class-texts", names, "-o", "f.tip")[0] == 0
    assert json.loads(run("info", "f.tip", "--json")[1])["classes"][1]["texts"] == ["ruby"]


def test_views_are_kept(run):
    assert run("embed", "photos/train", "--views", 3, "-o", "f.npz")[0] == 0
    with np.load("f.npz") as arrays:
        assert arrays["train_views"].shape == (15, 3, 64)
    assert run("fit", "f.npz", "-m", "tip-adapter-f:epochs=1", "-o", "f.tip")[0] == 0
    assert json.loads(run("info", "f.tip", "--json")[1])["views"] == 3


def test_features_of_others(run, fails):
    rng = np.random.default_rng(0)
    arrays = {"class_names": np.array(["ant", "bee"]), "train_labels": np.array([0, 0, 1, 1])}
    np.savez("own.npz", **arrays, train_features=rng.normal(size=(4, 64)).astype(np.float32))
    fails(3, ["own.npz does not say which encoder", "--encoder"], "fit", "own.npz", "-o", "o.tip")
    assert run("fit", "own.npz", "-e", "fake", "-m", "prototype", "-o", "o.tip")[0] == 0
    assert "own.npz row 3" in run("shots", "o.tip")[1]
    np.savez("odd.npz", **arrays, train_features=rng.normal(size=(4, 7)).astype(np.float32))
    fails(5, "of 7 dimensions, got the encoder fake", "fit", "odd.npz", "-e", "fake", "-o", "o.tip")


def test_what_does_not_go_together(run, fails, monkeypatch):
    assert run("embed", "photos/train", "-o", "f.npz")[0] == 0
    fails(3, "no --split with the features", "fit", "f.npz", "--split", "test", "-o", "o.tip")
    fails(3, "Expected photos with classes for g.npz", "embed", "photos/test/red", "-o", "g.npz")
    fails(3, "ending in .npz", "embed", "photos/train", "-o", "g.safetensors")
    monkeypatch.setattr(FakeEncoder, "image_id", "f" * 64)
    fails(5, "f.npz are by fake, got the encoder fake", "fit", "f.npz", "-e", "fake", "-o", "o.tip")
