"""Saved and loaded models are the same to the last bit, whatever the method; damage is said."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiny_features import random_units
from tip_adapter.errors import ModelFileError, TipAdapterError
from tip_adapter.features.feature_set import FeatureSet
from tip_adapter.methods import METHODS
from tip_adapter.model.few_shot_model import EncoderRecord, FewShotModel
from tip_adapter.model.fitting import MethodRecord
from tip_adapter.model.picture_archive import Thumbnails
from tip_adapter.model.shots import Shots, features_from_state, shot_ids
from tip_adapter.storage.bundles import load_bundle, save_bundle
from tip_adapter.trust.calibration import Calibration

NAMES = ("größe", "a | b", "帽子")


def make_model(method="tip-adapter", texts=(("size",), ("a", "b"), ("hat",))):
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 4)
    weights = random_units(rng, 3, 16)
    raw = (3 * (random_units(rng, 12, 16) + weights[labels]))[:, None]
    digests = tuple(f"{index:064x}"[::-1] for index in range(12))
    features = FeatureSet(raw, "encoder-id", digests, tuple(f"{index} é.jpg" for index in range(12)))
    estimator = METHODS[method](weights, logit_scale=20.0).fit(features.unit, labels)
    ids = shot_ids(digests)
    return FewShotModel(
        encoder=EncoderRecord("fake", "image-id", "text-id", 16, 20.0),
        class_names=NAMES,
        class_texts=texts,
        templates=("a {}.",),
        zero_shot_weights=weights,
        shots=Shots(features, labels, ids, Thumbnails({name: name.encode() for name in ids})),
        head=estimator.head_,
        method=MethodRecord(method, {"alpha": "auto"}, {"summary": "α = 1"}),
        views=3,
        random_state=7,
    )


@pytest.mark.parametrize(
    "method", [name for name, cls in METHODS.items() if not (cls.needs_encoder or cls.transductive)]
)
def test_save_and_load_give_the_same_bits(tmp_path, method):
    model = make_model(method)
    model.save(tmp_path / "m.tip")
    again = FewShotModel.load(tmp_path / "m.tip")
    queries = random_units(np.random.default_rng(1), 9, 16)
    np.testing.assert_array_equal(again.head.logits(queries), model.head.logits(queries))
    np.testing.assert_array_equal(again.zero_shot_weights, model.zero_shot_weights)
    np.testing.assert_array_equal(again.shots.features.raw, model.shots.features.raw)
    np.testing.assert_array_equal(again.shots.labels, model.shots.labels)
    assert dict(again.shots.thumbnails) == dict(model.shots.thumbnails)
    same = ("encoder", "class_names", "class_texts", "templates", "method", "views", "random_state")
    assert [getattr(again, name) for name in same] == [getattr(model, name) for name in same]
    assert (again.shots.ids, again.shots.features.names) == (model.shots.ids, model.shots.features.names)


def test_the_first_addition_to_a_loaded_model_copies_no_features():
    arrays = {"shots.features": np.ones((16, 3), dtype=np.float32)}
    loaded = features_from_state(arrays, "shots.", "encoder", ["d"] * 16, ["a.jpg"] * 16)
    grown = loaded.extended(loaded.subset([0]))
    assert np.shares_memory(loaded.raw, grown.raw)
    assert np.shares_memory(loaded.unit, grown.unit)


def test_a_class_without_text_survives(tmp_path):
    model = make_model(texts=((), ("a",), ("b",)))
    weights = model.zero_shot_weights.copy()
    weights[0] = np.nan
    dataclasses.replace(model, zero_shot_weights=weights).save(tmp_path / "m.tip")
    again = FewShotModel.load(tmp_path / "m.tip")
    np.testing.assert_array_equal(again.zero_shot_weights, weights)
    assert again.class_texts[0] == ()


def test_a_failing_disk_leaves_the_former_model(tmp_path, monkeypatch):
    make_model().save(tmp_path / "m.tip")
    before = (tmp_path / "m.tip" / "config.json").read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tip_adapter.storage.atomic.os.fsync", full)
    with pytest.raises(TipAdapterError, match=r"m\.tip cannot be written: No space left on device"):
        make_model("gda").save(tmp_path / "m.tip")
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["m.tip"]
    assert (tmp_path / "m.tip" / "config.json").read_bytes() == before
    assert FewShotModel.load(tmp_path / "m.tip").method.name == "tip-adapter"


def test_a_changed_thumbnail_is_found_when_it_is_looked_at(tmp_path):
    make_model().save(tmp_path / "m.tip")
    (archive,) = (tmp_path / "m.tip").glob("thumbnails-*.zip")
    archive.write_bytes(archive.read_bytes().replace(b"000000000000", b"another pict", 1))
    model = FewShotModel.load(tmp_path / "m.tip")
    with pytest.raises(ModelFileError, match="thumbnails"):
        model.shots.thumbnails[model.shots.ids[0]]


def test_calibration_is_kept_and_divides_the_logits(tmp_path):
    eye, labels = np.eye(3, dtype=np.float32), np.arange(3)
    calibration = dataclasses.replace(Calibration.of(4 * eye, labels, (eye, eye, labels)), temperature=2.0)
    model = dataclasses.replace(make_model(), calibration=calibration)
    model.save(tmp_path / "m.tip")
    again = FewShotModel.load(tmp_path / "m.tip")
    assert again.calibration.scores.true.tolist() == calibration.scores.true.tolist()
    assert again.calibration.origin == "3 photos apart from the shots"
    logits = np.array([[2.0, 0.0, -4.0]], dtype=np.float32)
    expected = np.exp([1.0, 0.0, -2.0]) / np.exp([1.0, 0.0, -2.0]).sum()
    np.testing.assert_allclose(again.probabilities(logits)[0], expected, rtol=1e-12)
    assert make_model().temperature == 1.0


@pytest.mark.parametrize("missing", ["encoder", "head", "class_names", "shots", "views"])
def test_a_bundle_that_is_no_model(tmp_path, missing):
    make_model().save(tmp_path / "m.tip")
    bundle = load_bundle(tmp_path / "m.tip")
    config = {key: value for key, value in bundle.config.items() if key != missing}
    save_bundle(tmp_path / "other.tip", bundle.arrays, config)
    with pytest.raises(ModelFileError, match=rf"other\.tip.*{missing}"):
        FewShotModel.load(tmp_path / "other.tip")


def test_arrays_that_do_not_fit_the_classes(tmp_path):
    make_model().save(tmp_path / "m.tip")
    bundle = load_bundle(tmp_path / "m.tip")
    save_bundle(tmp_path / "m.tip", bundle.arrays, bundle.config | {"class_names": ["a", "b"]})
    with pytest.raises(ModelFileError, match="class_names and class_texts should be of the same length, got 2, 3"):
        FewShotModel.load(tmp_path / "m.tip")


def test_the_card_and_the_config_can_be_read_by_people(tmp_path):
    make_model().save(tmp_path / "m.tip")
    card = (tmp_path / "m.tip" / "README.md").read_text(encoding="utf-8")
    for words in (*NAMES[::2], "tip-adapter", "fake", "views per shot: 3, seed 7", "α = 1"):
        assert words in card
    assert json.loads((tmp_path / "m.tip" / "config.json").read_text())["class_names"] == list(NAMES)


@given(st.lists(st.sampled_from(["a" * 64, "b" * 64, "a" * 12 + "c" * 52]), max_size=8))
def test_ids_of_shots_are_unique(digests):
    ids = shot_ids(tuple(digests))
    assert len(set(ids)) == len(ids) == len(digests)
    assert all(name.startswith(digest[:12]) for name, digest in zip(ids, digests, strict=True))
