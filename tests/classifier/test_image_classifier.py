"""Photos to a saved classifier and back, with a weight-free encoder and, where the photos are, with `lite`."""

import json

import numpy as np
import pytest

from tip_adapter.classifier import ImageClassifier
from tip_adapter.data import load_dataset
from tip_adapter.encoders.fake import FakeEncoder
from tip_adapter.errors import DatasetError, EncoderError, ImageError, InputError, ModelFileError, ShotsWarning
from tip_adapter.methods import TipAdapter, ZeroShot
from tip_adapter.methods.heads import softmax, zero_shot_logits


@pytest.fixture
def fitted(photos):
    return ImageClassifier("fake", "tip-adapter", views=2).fit(photos / "train", shots=4, random_state=1)


def test_save_and_load_give_the_same_bits(fitted, photos, tmp_path):
    queries = sorted((photos / "test").rglob("*.png"))
    fitted.save(tmp_path / "c.tip")
    loaded = ImageClassifier.load(tmp_path / "c.tip")
    np.testing.assert_array_equal(loaded.predict_proba(queries), fitted.predict_proba(queries))
    assert loaded.predict(queries) == fitted.predict(queries)
    assert loaded.class_names == ("green", "red", "sky blue")
    model, again = fitted.model_, loaded.model_
    assert (again.views, again.random_state, again.templates) == (2, 1, model.templates)
    assert again.method == model.method
    assert again.shots.ids == model.shots.ids
    np.testing.assert_array_equal(again.shots.features.raw, model.shots.features.raw)
    assert dict(again.shots.thumbnails) == dict(model.shots.thumbnails)
    assert "sky blue" in (tmp_path / "c.tip" / "README.md").read_text(encoding="utf-8")


def test_repr_says_what_is_learned(fitted):
    assert repr(ImageClassifier("fake", "gda")) == "<ImageClassifier: gda on fake, not fitted>"
    assert repr(fitted).endswith(f" on fake, {len(fitted.model_.shots)} shots of 3 classes>")


def test_logits_are_the_methods_on_the_encoders_features(fitted, photos):
    encoder, paths = FakeEncoder(), sorted((photos / "test").rglob("*.png"))
    features = encoder.encode_images(paths)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    model = fitted.model_
    method = TipAdapter(
        model.zero_shot_weights,
        alpha=model.method.chosen["alpha"],
        beta=model.method.chosen["beta"],
        text_weight=model.method.chosen["text_weight"],
        logit_scale=encoder.logit_scale,
    ).fit(model.shots.features.unit, model.shots.labels)
    expected = softmax(method.logits(features) / model.calibration.temperature)
    np.testing.assert_allclose(fitted.predict_proba(paths), expected, atol=1e-5)


def test_evaluation_shows_text_and_shots_apart(fitted, photos):
    evaluation = fitted.evaluate(photos / "test")
    assert evaluation.n == 9
    assert evaluation.accuracy == 1.0
    assert evaluation.cache_accuracy == 1.0
    assert evaluation.confusion.sum() == 9
    paths = sorted((photos / "test").rglob("*.png"))
    features = FakeEncoder().encode_images(paths)
    text = zero_shot_logits(features, fitted.model_.zero_shot_weights, 1.0, 3).argmax(axis=1)
    truth = [fitted.class_names.index(path.parent.name) for path in paths]
    assert evaluation.zero_shot_accuracy == pytest.approx(np.mean(text == truth))
    json.dumps(evaluation.to_dict(), allow_nan=False)


def test_test_photos_of_some_classes_only(fitted, photos):
    paths = sorted((photos / "test" / "sky blue").glob("*.png"))
    evaluation = fitted.evaluate(paths, ["sky blue"] * 3)
    assert (evaluation.n, evaluation.accuracy) == (3, 1.0)
    with pytest.raises(DatasetError, match="does not know: puce"):
        fitted.evaluate(paths, ["puce"] * 3)


def test_nothing_is_encoded_twice(photos, monkeypatch):
    ImageClassifier("fake").fit(photos / "train")
    monkeypatch.setattr(FakeEncoder, "encode_pixels", lambda *_: pytest.fail("encoded again"))
    ImageClassifier("fake").fit(photos / "train")
    ImageClassifier("fake").fit(photos / "train", shots=2, groups="folder")


def test_a_boolean_is_no_number(photos):
    classifier = ImageClassifier("fake", "tip-adapter", store=None).fit(photos / "train")
    with pytest.raises(InputError, match="Expected alpha of TipAdapter to be a number or 'auto', got True"):
        classifier.refit({"alpha": True})


def test_method_objects_and_parameters(photos):
    by_name = ImageClassifier("fake", "tip-adapter", method_parameters={"alpha": 2.0, "beta": 3.0}, store=None)
    by_object = ImageClassifier("fake", TipAdapter(alpha=2.0, beta=3.0), store=None)
    first, second = (clf.fit(photos / "train").model_ for clf in (by_name, by_object))
    assert first.method == second.method
    assert (first.head.alpha, first.head.beta) == (2.0, 3.0)
    assert ImageClassifier("fake", ZeroShot()).fit(photos / "train").model_.method.name == "zero-shot"


def test_a_class_without_shots_keeps_its_text_and_is_lent_the_runner_up(photos):
    weights = FakeEncoder().encode_texts(["red", "green", "blue", "grey"])
    method = TipAdapter(weights / np.linalg.norm(weights, axis=1, keepdims=True), alpha=1.0, beta=1.0, logit_scale=20.0)
    rows = np.eye(64, dtype=np.float32)[:3]
    logits = method.fit(rows, [0, 1, 2]).logits(rows)
    expected = zero_shot_logits(rows, method.head_.zero_shot_weights, 20.0, 4)
    runner_up = np.exp(-1.0)  # every shot is at a right angle to the others
    np.testing.assert_allclose(logits[:, 3], expected[:, 3] + runner_up, rtol=1e-5)


def test_another_encoder_is_refused(fitted, photos, tmp_path):
    fitted.save(tmp_path / "c.tip")

    class OtherEncoder(FakeEncoder):
        image_id = "0" * 64

    other = ImageClassifier.load(tmp_path / "c.tip", encoder=OtherEncoder())
    with pytest.raises(EncoderError, match="was fitted with the encoder fake"):
        other.predict([next(photos.rglob("*.png"))])


@pytest.mark.parametrize("name", ["arrays-*.safetensors", "config.json"])
@pytest.mark.parametrize("damage", ["truncated", "changed"])
def test_damaged_files_are_refused(fitted, tmp_path, name, damage):
    fitted.save(tmp_path / "c.tip")
    (path,) = (tmp_path / "c.tip").glob(name)
    data = bytearray(path.read_bytes())
    if damage == "truncated":
        data = data[: len(data) // 2]
    else:
        data[-20] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match=path.name):
        ImageClassifier.load(tmp_path / "c.tip")


def test_bad_photos(fitted, photos, tmp_path):
    good, bad = next(photos.rglob("*.png")), tmp_path / "bad.jpg"
    bad.write_bytes(b"")
    with pytest.raises(ImageError, match=r"bad\.jpg"):
        fitted.predict([good, bad])
    found = fitted.predict_top([bad, good], skip_bad=True)
    assert [prediction.path for prediction in found] == [str(good)]
    assert [name for name, _ in found.skipped] == [str(bad)]


def test_words(photos):
    with pytest.raises(InputError, match="rde"):
        ImageClassifier("fake", class_texts={"rde": "red"}).fit(photos / "train")
    model = ImageClassifier("fake", class_texts={"red": ["crimson", "scarlet"]}).fit(photos / "train").model_
    assert model.class_texts == (("green",), ("crimson", "scarlet"), ("sky blue",))


def test_not_fitted_and_wrong_labels(photos):
    with pytest.raises(InputError, match="not fitted"):
        ImageClassifier("fake").predict(["a.jpg"])
    with pytest.raises(InputError, match="label for each of the 2 images"):
        ImageClassifier("fake").fit(["a.jpg", "b.jpg"], ["x"])
    with pytest.raises(DatasetError, match="at least 2 classes"):
        ImageClassifier("fake").fit(["a.jpg", "b.jpg"], ["x", "x"])


def test_at_most_so_many_shots(photos):
    (photos / "train" / "green" / "photo 1é.png").unlink()
    with pytest.warns(ShotsWarning, match=r"in 1 of 3 classes.*: green \(4\)"):
        fitted = ImageClassifier("fake", "tip-adapter").fit(photos / "train", shots=5)
    assert fitted.model_.counts.tolist() == [4, 5, 5]


def test_lite_on_real_photos(shared_data, tmp_path):
    texts = json.loads((shared_data / "clothing" / "class_names.json").read_text())
    classifier = ImageClassifier("lite", "tip-adapter", class_texts=texts, store=tmp_path / "features.sqlite3")
    test = load_dataset(shared_data / "clothing" / "test")
    classifier.fit(shared_data / "clothing" / "train", shots=8)
    evaluation = classifier.evaluate(test.subset(range(0, len(test), 3)))
    assert evaluation.zero_shot_accuracy >= 0.60
    assert evaluation.accuracy >= 0.70
