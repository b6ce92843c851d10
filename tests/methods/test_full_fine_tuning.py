"""Full fine-tuning of a tiny CLIP with random weights: its formulas, and what it owes its users."""

import json
import math

import numpy as np
import pytest
from PIL import Image

from image_files import NAMES, colored
from tip_adapter import ImageClassifier
from tip_adapter.encoders import load_encoder
from tip_adapter.errors import EncoderError, ImageError, InputError, TrainingError, TrainingWarning
from tip_adapter.features.prompts import zero_shot_weights
from tip_adapter.methods import FullFineTuning
from tip_adapter.methods.on_encoder import contrastive_tuning, photo_views
from tip_adapter.methods.on_encoder.photo_views import cut_views
from tip_adapter.methods.on_encoder.rate_choice import choose_rate, held_out_shots

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from tip_adapter.encoders.trainable import load_trainable_encoder  # noqa: E402
from tip_adapter.methods.on_encoder.contrastive_tuning import contrastive_loss  # noqa: E402


@pytest.fixture(scope="module")
def encoder(tiny_clip):
    return load_trainable_encoder(f"huggingface:{tiny_clip}")


def tuned(encoder, photos, labels, **settings):
    settings = {"class_names": NAMES, "epochs": 3, "learning_rate": 1e-3, "templates": "photo", "views": 2, **settings}
    call = {name: settings.pop(name) for name in ("class_texts", "checkpoint", "progress") if name in settings}
    return FullFineTuning(**settings).fit(photos, labels, encoder=encoder, **call)


@pytest.fixture(scope="module")
def fitted(encoder):
    return tuned(encoder, *colored(4), epochs=15, learning_rate=3e-3, batch_size=6)


def test_the_loss_is_the_mean_of_both_directions():
    rng = np.random.default_rng(0)
    images, texts = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in rng.normal(size=(2, 5, 7)))
    texts, captions, scale = texts[:3], [2, 0, 2, 1, 0], 9.0
    similarity = [[scale * float(f @ texts[c]) for c in captions] for f in images]
    total = 0.0
    for i in range(5):
        row = math.log(math.fsum(math.exp(similarity[i][j]) for j in range(5)))
        column = math.log(math.fsum(math.exp(similarity[j][i]) for j in range(5)))
        total += row + column - 2 * similarity[i][i]
    found = contrastive_loss(torch.from_numpy(images), torch.from_numpy(texts), torch.tensor(captions), scale)
    assert found.item() == pytest.approx(total / 10, rel=1e-12)


def test_it_learns_what_the_encoder_did_not_know(fitted, encoder):
    photos, labels = colored(6, seed=1)
    assert fitted.at_wise_weight(0).score(photos, labels) < 0.7
    assert fitted.at_wise_weight(1).score(photos, labels) > 0.9
    assert fitted.training_.losses[-1] < fitted.training_.losses[0]
    expected = sum(p.numel() for p in encoder.tunable_copy().trainable_parameters())
    assert fitted.trainable_parameters_ == expected
    probabilities = fitted.predict_proba(photos)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert (fitted.predict(photos) == probabilities.argmax(axis=1)).all()


def test_wise_ft_averages_the_weights(fitted, encoder):
    end = fitted.at_wise_weight(1)._towers.encoder.image_tower.state_dict()
    mixed = fitted.at_wise_weight(0.3)._towers.encoder.image_tower.state_dict()
    for name, start in encoder.image_tower.state_dict().items():
        if start.is_floating_point():
            expected = 0.7 * start.double() + 0.3 * end[name].double()
            torch.testing.assert_close(mixed[name].double(), expected, rtol=1e-5, atol=1e-6)
    photos, _ = colored(2)
    weights = zero_shot_weights(load_encoder(encoder.name), [[name] for name in NAMES], "photo")
    features = load_encoder(encoder.name).encode_images(photos)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    expected = encoder.logit_scale * features @ weights.T
    np.testing.assert_allclose(fitted.at_wise_weight(0).logits(photos), expected, rtol=1e-4, atol=1e-4)


def test_what_was_tuned_is_a_copy(encoder):
    before = [parameter.clone() for parameter in encoder.image_tower.parameters()]
    tuned(encoder, *colored(1))
    for parameter, value in zip(encoder.image_tower.parameters(), before, strict=True):
        torch.testing.assert_close(parameter, value, rtol=0, atol=0)


def test_the_exported_encoder_predicts_the_same_without_torch(fitted, tmp_path, monkeypatch):
    monkeypatch.setenv("TIP_ADAPTER_CACHE", str(tmp_path / "cache"))
    photos, labels = colored(2, seed=2)
    folder = fitted.export_encoder(tmp_path / "tuned")
    assert "name" not in json.loads((folder / "tip_adapter.json").read_text())
    clf = ImageClassifier(folder, "zero-shot", templates="photo", store=None)
    clf.fit(photos, [NAMES[label] for label in labels])
    order = [sorted(NAMES).index(name) for name in NAMES]
    np.testing.assert_allclose(clf.predict_proba(photos)[:, order], fitted.predict_proba(photos), atol=1e-4)
    clf.save(tmp_path / "m.tip")
    assert ImageClassifier.load(tmp_path / "m.tip").predict(photos) == clf.predict(photos)
    with pytest.raises(EncoderError, match="not to exist yet"):
        fitted.export_encoder(folder)


def test_names_in_any_order_give_the_same_classifier(encoder):
    photos, labels = colored(2)
    y = np.array(NAMES)[labels]
    one = tuned(encoder, photos, y, class_names=sorted(NAMES))
    other = tuned(encoder, photos, y, class_texts=NAMES)
    assert one.classes_.tolist() == other.classes_.tolist() == sorted(NAMES)
    np.testing.assert_allclose(one.logits(photos), other.logits(photos), atol=1e-4)
    assert set(one.predict(photos)) <= set(NAMES)


def test_the_rate_is_chosen_on_held_out_shots(encoder):
    method = tuned(encoder, *colored(4), learning_rate="auto", rates=(1e-9, 3e-3), epochs=10)
    assert method.learning_rate_ == 3e-3
    assert set(method.search_.scores) == {1e-9, 3e-3}
    assert "3 held-out shots" in method.search_.summary


def test_with_one_shot_per_class_there_is_a_default(encoder):
    method = tuned(encoder, *colored(1), learning_rate="auto")
    assert (method.learning_rate_, method.search_.scores) == (1e-5, {})
    assert "the default with one shot per class" in method.search_.summary


def test_validation_photos_choose_the_rate_by_accuracy(encoder):
    rates = {"learning_rate": "auto", "rates": (1e-9, 3e-3), "epochs": 20, "class_names": NAMES, "views": 2}
    method = FullFineTuning(**rates).fit(*colored(1), encoder=encoder, validation=colored(4, seed=3))
    assert method.learning_rate_ == 3e-3
    assert "12 validation photos" in method.search_.summary
    with pytest.raises(InputError, match="Expected a known class for each of 1 validation photos, got 7"):
        FullFineTuning(**rates).fit(*colored(1), encoder=encoder, validation=(colored(1)[0][:1], [7]))


def test_rates_are_tried_downwards_until_it_gets_worse():
    losses = {1.0: 9.0, 0.1: 3.0, 0.01: 5.0, 0.001: 1.0}
    choice = choose_rate(list(losses), losses.__getitem__, evidence="these")
    assert (choice.rate, choice.scores) == (0.1, {1.0: 9.0, 0.1: 3.0, 0.01: 5.0})


def test_rates_that_diverge_are_passed_over():
    def loss_of(rate):
        if rate > 0.01:
            raise TrainingError("diverged")
        return rate

    assert choose_rate([1.0, 0.1, 0.01, 0.001], loss_of, evidence="these").rate == 0.001
    with pytest.raises(TrainingError, match="with all learning rates"):
        choose_rate([1.0, 0.1], loss_of, evidence="these")


@pytest.mark.parametrize("counts", [(1, 1), (2, 3), (4, 16), (1, 9)])
def test_a_quarter_of_every_class_is_held_out(counts):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(2), counts))
    kept, out = held_out_shots(labels, seed=0)
    assert sorted([*kept, *out]) == list(range(sum(counts)))
    expected = [0 if count == 1 else max(1, count // 4) for count in counts]
    assert np.bincount(labels[out], minlength=2).tolist() == expected


def interrupt_at(step):
    def progress(done, total, loss):
        if done == step:
            raise KeyboardInterrupt

    return progress


def interrupt_second(step):
    """Interrupt when a step comes for the second time: that of the training after the choice of the rate."""
    seen = []

    def progress(done, total, loss):
        seen.append(done)
        if seen.count(step) == 2:
            raise KeyboardInterrupt

    return progress


def test_an_interrupted_training_goes_on_to_the_same_result(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(contrastive_tuning, "CHECKPOINT_EVERY_S", 0)
    settings = {"learning_rate": "auto", "rates": (1e-4, 1e-3), "epochs": 4, "batch_size": 6}
    photos, labels = colored(4)
    whole = tuned(encoder, photos, labels, **settings)
    path = tmp_path / "run.safetensors"
    # 2 rates, 2 epochs, 2 steps; the first finishes.
    with pytest.raises(KeyboardInterrupt):
        tuned(encoder, photos, labels, checkpoint=path, progress=interrupt_at(6), **settings)
    assert len(json.loads((tmp_path / "run.safetensors.rates.json").read_text())["losses"]) == 1
    with pytest.warns(TrainingWarning, match="1 of 4 epochs"):
        early = tuned(encoder, photos, labels, checkpoint=path, progress=interrupt_second(3), **settings)
    assert early.training_.interrupted
    assert np.isfinite(early.logits(photos)).all()
    resumed = tuned(encoder, photos, labels, checkpoint=path, **settings)
    np.testing.assert_array_equal(resumed.logits(photos), whole.logits(photos))
    with pytest.raises(TrainingError, match="checkpoint of this training"):
        tuned(encoder, photos, labels[::-1], checkpoint=path, **settings)
    (tmp_path / "run.safetensors.rates.json").unlink()
    with pytest.raises(TrainingError, match="checkpoint of this training"):
        tuned(encoder, photos[::-1], labels, checkpoint=path, **settings)


def test_divergence_is_an_error(encoder):
    with pytest.raises(TrainingError, match="diverged"):
        tuned(encoder, *colored(2), learning_rate=1e30)


def test_photos_that_need_much_memory_are_kept_in_a_file(monkeypatch, tiny_clip):
    preprocessing = load_encoder(f"huggingface:{tiny_clip}").preprocessing
    photos, _ = colored(2)
    expected = cut_views(photos, preprocessing, 3, random_state=5)
    monkeypatch.setattr(photo_views, "MEMORY_LIMIT", 0)
    found = cut_views(photos, preprocessing, 3, random_state=5)
    assert isinstance(found.views, np.memmap)
    np.testing.assert_array_equal(found.views, expected.views)
    np.testing.assert_array_equal(found.centers, expected.centers)
    assert len(np.unique(expected.views.reshape(18, -1), axis=0)) == 18
    other = cut_views(photos, preprocessing, 3, random_state=6)
    assert (other.views != expected.views).any()
    np.testing.assert_array_equal(other.centers, expected.centers)


def test_features_are_refused(encoder):
    features = np.eye(3, 16, dtype=np.float32)
    with pytest.raises(InputError, match=r"takes photos .*, got features of shape \(3, 16\)"):
        tuned(encoder, features, [0, 1, 2])
    method = tuned(encoder, *colored(1))
    with pytest.raises(InputError, match="takes photos"):
        method.predict(features)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"encoder": None}, "tunes an encoder: give fit one"),
        ({"wise_weight": 1.5}, "wise_weight from 0 to 1, got 1.5"),
        ({"views": 0}, "views to be at least 1"),
        ({"rates": (), "learning_rate": "auto"}, "Expected learning rates above 0"),
        ({"learning_rate": "fast"}, "learning_rate"),
        ({"epochs": "many"}, "a number or 'auto'"),
        ({"class_texts": ["a"]}, "each of the 3 classes, got 1"),
        ({"templates": "no place"}, "Expected a template with"),
    ],
)
def test_bad_settings_are_told(encoder, settings, message):
    with pytest.raises(InputError, match=message):
        tuned(**{"encoder": encoder, **settings}, photos=colored(1)[0], labels=[0, 1, 2])


def test_bad_photos_and_labels_are_told(encoder, tmp_path):
    photos, labels = colored(1)
    with pytest.raises(InputError, match="a label for each of the 3 photos"):
        tuned(encoder, photos, labels[:2])
    with pytest.raises(InputError, match="check the path"):
        tuned(encoder, "photo.jpg", [0])
    with pytest.raises(InputError, match="not among the class names"):
        tuned(encoder, photos, ["red", "green", "pink"])
    with pytest.raises(InputError, match="at least two classes"):
        tuned(encoder, photos, ["a", "a", "a"], class_names=None)
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"broken\.jpg"):
        tuned(encoder, [*photos[:2], tmp_path / "broken.jpg"], labels)


def test_files_do_as_well_as_arrays(encoder, tmp_path):
    photos, labels = colored(1)
    paths = [tmp_path / f"{index}.png" for index in range(3)]
    for path, photo in zip(paths, photos, strict=True):
        Image.fromarray(photo).save(path)
    from_files, from_arrays = tuned(encoder, paths, labels), tuned(encoder, photos, labels)
    np.testing.assert_array_equal(from_files.logits(paths), from_arrays.logits(photos))


def test_a_classifier_says_what_to_do_instead(tiny_clip):
    photos, labels = colored(1)
    clf = ImageClassifier(f"huggingface:{tiny_clip}", "full-fine-tuning", store=None)
    with pytest.raises(InputError, match=r"FullFineTuning on the photos and call its export_encoder"):
        clf.fit(photos, [NAMES[label] for label in labels])
