"""CLIP-LoRA of a tiny CLIP with random weights, and of lite's text tower: its formula, and what it owes its users."""

import numpy as np
import pytest

from image_files import NAMES, colored
from tip_adapter import ImageClassifier
from tip_adapter.errors import EncoderError, InputError, TrainingError
from tip_adapter.methods import CLIPLoRA

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from tip_adapter.encoders.trainable import load_trainable_encoder  # noqa: E402
from tip_adapter.methods.on_encoder import low_rank  # noqa: E402
from tip_adapter.methods.on_encoder.low_rank import LowRankLinear, LowRankTowers  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads wait for each other longer than such small towers take."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def encoder(tiny_clip):
    return load_trainable_encoder(f"huggingface:{tiny_clip}")


def tuned(encoder, photos, labels, **settings):
    settings = {"class_names": NAMES, "iterations": 4, "learning_rate": 1e-2, "views": 2, **settings}
    call = {name: settings.pop(name) for name in ("checkpoint", "progress") if name in settings}
    return CLIPLoRA(**settings).fit(photos, labels, encoder=encoder, **call)


@pytest.fixture(scope="module")
def fitted(encoder):
    return tuned(encoder, *colored(4), iterations=30, learning_rate=0.03, rank=4)


def test_a_layer_is_the_linear_one_plus_a_product_of_low_rank_and_merges_into_one():
    generator = torch.Generator().manual_seed(0)
    linear, inputs = torch.nn.Linear(5, 3), torch.rand(7, 5, generator=generator)
    layer = LowRankLinear(linear, 2, 0.7, 0.5, generator)
    torch.testing.assert_close(layer(inputs), linear(inputs), rtol=0, atol=0)
    assert layer.down.abs().max() <= 1 / np.sqrt(5)
    with torch.no_grad():
        layer.up.uniform_(-1, 1, generator=generator)
    before = layer(inputs).detach()
    expected = inputs @ (linear.weight + 0.7 * layer.up @ layer.down).T + linear.bias
    torch.testing.assert_close(before, expected)
    layer.draws = generator
    assert (layer(inputs) - before).abs().max() > 1e-3, "half of the inputs are left out while training"
    layer.draws = None
    torch.testing.assert_close(layer.merged()(inputs), before)


def test_it_trains_queries_keys_and_values_alone(encoder):
    towers = LowRankTowers.of(encoder, 2, 1.0, 0.25, 0)
    layers = [*towers.image_layers, *towers.text_layers]
    attention = [
        module
        for tower in (encoder.image_tower, encoder.text_tower)
        for name, module in tower.named_modules()
        if name.endswith(("q_proj", "k_proj", "v_proj"))
    ]
    assert len(layers) == len(attention)
    assert layers[0].scaling == pytest.approx(1 / np.sqrt(2))
    expected = sum(2 * (layer.in_features + layer.out_features) for layer in attention)
    assert sum(parameter.numel() for parameter in towers.parameters) == expected
    trainable = [one for tower in (towers.encoder.image_tower, towers.encoder.text_tower) for one in tower.parameters()]
    assert {id(one) for one in trainable if one.requires_grad} == {id(one) for one in towers.parameters}


def test_it_learns_what_the_encoder_did_not_know(fitted, encoder):
    photos, labels = colored(6, seed=1)
    untrained = tuned(encoder, *colored(1), iterations=1, learning_rate=1e-9)
    assert untrained.score(photos, labels) < 0.7
    assert fitted.score(photos, labels) > 0.9
    assert fitted.training_.losses[-1] < fitted.training_.losses[0]
    assert fitted.trainable_parameters_ > 0
    # The encoder that was given stays as it is, and the one that comes out has plain layers.
    assert not any(isinstance(module, LowRankLinear) for module in encoder.image_tower.modules())
    assert not any(isinstance(module, LowRankLinear) for module in fitted.encoder_.image_tower.modules())
    assert fitted.encoder_.image_id != encoder.image_id


def test_the_exported_encoder_predicts_the_same_without_torch(fitted, tmp_path, monkeypatch):
    monkeypatch.setenv("TIP_ADAPTER_CACHE", str(tmp_path / "cache"))
    photos, labels = colored(2, seed=2)
    clf = ImageClassifier(fitted.export_encoder(tmp_path / "tuned"), "zero-shot", templates="photo", store=None)
    clf.fit(photos, [NAMES[label] for label in labels])
    order = [sorted(NAMES).index(name) for name in NAMES]
    np.testing.assert_allclose(clf.predict_proba(photos)[:, order], fitted.predict_proba(photos), atol=1e-4)


def test_the_same_seed_gives_the_same_classifier(encoder):
    photos, labels = colored(1)
    one, again, other = (tuned(encoder, photos, labels, random_state=seed).logits(photos) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 1e-3


def test_prompts_in_chunks_give_the_same_without_dropout(encoder, monkeypatch):
    photos, labels = colored(1)
    whole = tuned(encoder, photos, labels, dropout=0.0, views=1).logits(photos)
    monkeypatch.setattr(low_rank, "_TEXTS_PER_CHUNK", 2)
    chunked = tuned(encoder, photos, labels, dropout=0.0, views=1).logits(photos)
    np.testing.assert_allclose(whole, chunked, rtol=1e-3, atol=1e-3)


def test_the_schedule_is_500_steps_a_shot():
    schedule = CLIPLoRA()._schedule(48, 16)
    assert (schedule.epochs, schedule.steps(48)) == (4000, 8000)
    assert CLIPLoRA(iterations=3)._schedule(48, 16).steps(48) == 4


def test_a_finished_training_is_taken_from_its_checkpoint_and_no_other(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(low_rank, "CHECKPOINT_EVERY_S", 0.0)
    photos, labels = colored(1)
    path, steps = tmp_path / "training.safetensors", []
    whole = tuned(encoder, photos, labels, checkpoint=path).logits(photos)
    again = tuned(encoder, photos, labels, checkpoint=path, progress=lambda *step: steps.append(step))
    assert not steps
    np.testing.assert_allclose(again.logits(photos), whole, rtol=1e-5, atol=1e-5)
    with pytest.raises(TrainingError, match="other data or settings"):
        tuned(encoder, photos, labels, checkpoint=path, rank=3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rank": 0}, "rank as a whole number"),
        ({"dropout": 1.0}, "dropout from 0 to less than 1"),
        ({"iterations": 0}, "iterations as a whole number"),
        ({"batch_size": 0}, "batch_size to be at least 1"),
        ({"encoder": None}, "tunes an encoder"),
    ],
)
def test_bad_input_is_said(encoder, given, message):
    photos, labels = colored(1)
    with pytest.raises(InputError, match=message):
        tuned(**{"encoder": encoder} | given, photos=photos, labels=labels)
    with pytest.raises(InputError, match="CLIPLoRA takes photos"):
        CLIPLoRA().fit(np.eye(3, dtype=np.float32), labels, encoder=encoder)


def test_towers_without_attention_are_refused(encoder, monkeypatch):
    monkeypatch.setattr(low_rank, "ATTENTION", {"nothing"})
    with pytest.raises(EncoderError, match="have no attention with linear layers named nothing"):
        tuned(encoder, *colored(1))


def test_lite_s_image_tower_has_no_attention_and_stays():
    for module in ("transformers", "efficientnet_lite_pytorch"):
        pytest.importorskip(module, reason="the extra torch is not installed")
    lite = load_trainable_encoder("lite-fast")
    photos, labels = colored(1)
    method = tuned(lite, photos, labels, iterations=3, learning_rate=1e-3, views=1)
    assert method.encoder_.image_id == lite.image_id
    assert method.encoder_.text_id != lite.text_id
    assert method.trainable_parameters_ == 6 * 3 * 2 * (384 + 384)
