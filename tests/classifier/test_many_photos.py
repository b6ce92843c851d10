"""Features of very many photos become a head of all of them; the classifier keeps some to show."""

import json

import numpy as np
import pytest

from tip_adapter import ImageClassifier
from tip_adapter.encoders import load_encoder
from tip_adapter.errors import DatasetError, EncoderError, InputError
from tip_adapter.features.feature_files import load_feature_file, load_training_features
from tip_adapter.features.shards import ShardFolder
from tip_adapter.methods import many_shots
from tip_adapter.model import evaluation

pytest.importorskip("pyarrow")

N = 400


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    encoder, rng = load_encoder("fake"), np.random.default_rng(0)
    labels = np.arange(N) % 4
    job = {"kind": "features", "encoder": "fake", "encoder_ids": [encoder.image_id, encoder.text_id]}
    folder = ShardFolder(str(tmp_path_factory.mktemp("many")), job | {"precision": "fp32", "logit_scale": 20.0})
    folder.open()
    for start in range(0, N, 100):
        rows = range(start, start + 100)
        folder.write(
            {
                "id": [f"{row}.jpg" for row in rows],
                "label": [f"class {labels[row]}" for row in rows],
                "group": [f"burst {row // 8}" for row in rows],
                "digest": [f"{row:064x}"[::-1] for row in rows],
                "features": np.eye(4, 64)[labels[rows]] + rng.normal(0, 0.2, (100, 64)),
                "error": [None] * 100,
            }
        )
    return folder.path


@pytest.fixture
def very_many(monkeypatch):
    monkeypatch.setattr(many_shots, "MANY", N - 1)
    monkeypatch.setattr(many_shots, "KEPT", 40)


def test_a_classifier_of_very_many_is_small_and_says_what_it_is(shards, tmp_path, very_many):
    classifier = ImageClassifier(store=None).fit(shards)
    model = classifier.model_
    assert np.bincount(model.shots.labels).tolist() == [10] * 4
    assert "with up to 399 photos auto is gda" in model.method.chosen["summary"]
    assert model.method.chosen["fitted_to"] > 300
    assert (model.calibration.source, model.calibration.n) == ("photos", 40)
    part = load_training_features(shards).part
    assert (model.head.logits(part.features).argmax(axis=1) == part.labels).mean() > 0.95
    assert f"{model.method.fitted_to} photos (40 kept as shots) of 4 classes" == model.counted
    assert model.counted in repr(classifier)
    classifier.save(tmp_path / "c.tip")
    assert model.counted in (tmp_path / "c.tip" / "README.md").read_text(encoding="utf-8")
    loaded = ImageClassifier.load(tmp_path / "c.tip", store=None).model_
    np.testing.assert_array_equal(loaded.head.logits(part.features), model.head.logits(part.features))
    assert json.dumps(loaded.method.chosen) == json.dumps(model.method.chosen)


def test_what_cannot_be_corrected_says_so(shards, very_many):
    classifier = ImageClassifier(store=None).fit(shards)
    for refit in (False, True):
        with pytest.raises(InputError, match="of which it keeps 40"):
            classifier.remove_shots(list(classifier.model_.shots.ids[:1]), refit=refit)
    with pytest.raises(InputError, match="of which it keeps 40"):
        classifier.refit()
    with pytest.raises(InputError, match="measure it on labelled photos"):
        classifier.enough()
    assert classifier.doctor().enough is None


def test_shots_or_another_method_are_fitted_as_ever(shards, very_many):
    for shots in (4, np.int64(4)):
        few = ImageClassifier(store=None).fit(shards, shots=shots).model_
        assert (len(few.shots), "fitted_to" in few.method.chosen) == (16, False)
    assert len(ImageClassifier(method="gda", store=None).fit(shards).model_.shots) == N


def test_a_cache_keeps_all(shards, very_many, monkeypatch):
    chosen = many_shots.choose_head

    def wants_all(*given, **named):
        choice = chosen(*given, **named)
        return many_shots.HeadChoice(many_shots.TOP_K, None, "said", choice.logits, choice.shots)

    monkeypatch.setattr(many_shots, "choose_head", wants_all)
    model = ImageClassifier(store=None).fit(shards).model_
    assert (model.method.name, len(model.shots), model.method.chosen["summary"]) == ("tip-adapter-topk", N, "said")


def test_groups_come_with_the_features(shards):
    part = load_training_features(shards).part
    assert len(set(part.groups)) == N // 8
    by_name = dict(zip(part.names, part.groups, strict=True))
    assert by_name["17.jpg"] == "burst 2"


def test_a_classifier_is_measured_on_features(shards, monkeypatch):
    classifier = ImageClassifier(method="tip-adapter", store=None).fit(shards, shots=4)
    whole = classifier.evaluate(shards)
    assert (whole.n, whole.n_shots_among) == (N, 16)
    part = load_training_features(shards).part
    assert whole.accuracy == (classifier.model_.head.logits(part.features).argmax(axis=1) == part.labels).mean()
    monkeypatch.setattr(evaluation, "BLOCK", 32)
    parts = classifier.evaluate(shards)
    assert (parts.confusion == whole.confusion).all()
    assert parts.nll == pytest.approx(whole.nll, rel=1e-5)


def test_features_of_other_encoders_and_classes_are_refused(shards, tmp_path):
    classifier = ImageClassifier(method="tip-adapter", store=None).fit(shards, shots=4)
    other = ShardFolder(str(tmp_path / "other"), {"kind": "features", "encoder": "lite", "encoder_ids": ["x", "y"]})
    other.open()
    row = {"id": ["a"], "label": ["class 0"], "digest": ["0" * 64], "features": np.ones((1, 64)), "error": [None]}
    other.write(row)
    with pytest.raises(EncoderError, match="got those of lite: embed"):
        classifier.evaluate(other.path)
    same = ShardFolder(
        str(tmp_path / "same"), ShardFolder(shards, {}).description | {"kind": "features", "encoder": "fake"}
    )
    same.open()
    same.write(row | {"label": ["hat"]})
    with pytest.raises(DatasetError, match="does not know: hat"):
        classifier.evaluate(same.path)


def test_bench_halves_every_class_in_whole_groups(shards):
    data = load_feature_file(shards)
    assert not set(data.test.groups) & set(data.train.groups)
    assert sorted([*data.test.names, *data.train.names]) == sorted(f"{row}.jpg" for row in range(N))
    assert data.description["origin"].endswith("in whole groups")
