"""TIMO against loops written from its formulas, and what it does with few prompts, few shots and bad input."""

import numpy as np
import pytest

from tiny_features import unit
from tip_adapter.classifier import ImageClassifier
from tip_adapter.errors import FeatureError, InputError
from tip_adapter.features.feature_data import FeatureData, Part
from tip_adapter.features.feature_files import save_feature_file
from tip_adapter.methods.closed_form.timo import TIMO

CLASSES, PROMPTS, DIM, SCALE = 3, 4, 6, 10.0


def problem(counts=(3, 3, 3)):
    """Prompts, shots, labels and queries of classes that lie apart."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(CLASSES, DIM))
    prompts = unit(centres[:, None] + rng.normal(size=(CLASSES, PROMPTS, DIM)))
    labels = np.repeat(np.arange(CLASSES), counts)
    shots, queries = (unit(centres[rows] + rng.normal(size=(len(rows), DIM))) for rows in (labels, labels))
    return prompts, shots, labels, queries


def weigh_prompts(prompts, shots, labels, gamma):
    """Zero-shot weights, and the prompts as long as they are near their class's shots."""
    weights, samples = [], []
    for c in range(CLASSES):
        mean = shots[labels == c].astype(float).mean(axis=0)
        cosines = prompts[c].astype(float) @ (mean / np.linalg.norm(mean))
        shares = np.exp(gamma * cosines / np.linalg.norm(cosines))
        weights.append((shares[:, None] * prompts[c]).sum(axis=0))
        samples.append(np.maximum(cosines, 0)[:, None] * prompts[c])
    return unit(np.array(weights)), np.array(samples)


def gaussian_logits(queries, features, labels):
    means = np.stack([features[labels == c].mean(axis=0) for c in range(CLASSES)])
    apart = features - means[labels]
    precision = DIM * np.linalg.inv(apart.T @ apart + np.trace(apart.T @ apart) / (len(features) - 1) * np.eye(DIM))
    bias = -0.5 * np.einsum("cd,de,ce->c", means, precision, means)
    return queries @ precision @ means.T + bias, (len(features) - 1) / DIM


@pytest.mark.parametrize("gamma", [0.0, 50.0])
def test_it_is_the_formula_of_the_paper(gamma):
    prompts, shots, labels, queries = problem()
    weights, samples = weigh_prompts(prompts, shots, labels, gamma)
    everything = np.concatenate([shots, samples.reshape(-1, DIM)])
    owners = np.concatenate([labels, np.repeat(np.arange(CLASSES), PROMPTS)])
    gaussian, unit_of_alpha = gaussian_logits(queries, everything, owners)
    expected = SCALE * queries @ weights.T + 0.7 * unit_of_alpha * gaussian
    plain = unit(prompts.mean(axis=1))
    method = TIMO(plain, prompt_features=prompts, gamma=gamma, alpha=0.7, ridge=1.0, logit_scale=SCALE)
    difference = method.fit(shots, labels).logits(queries) - expected
    assert np.ptp(difference, axis=1).max() < 1e-4  # a constant per image changes no probability


def test_without_prompts_the_weights_are_each_class_s_only_prompt():
    prompts, shots, labels, queries = problem()
    weights = unit(prompts.mean(axis=1))
    alone = TIMO(weights, logit_scale=SCALE).fit(shots, labels)
    given = TIMO(weights, prompt_features=weights[:, None], logit_scale=SCALE).fit(shots, labels)
    np.testing.assert_allclose(alone.logits(queries), given.logits(queries), rtol=1e-5)


def test_rows_of_nan_are_no_prompts_and_the_order_of_classes_does_not_matter():
    prompts, shots, labels, queries = problem((1, 4, 2))
    padded = np.concatenate([prompts, np.full((CLASSES, 2, DIM), np.nan, dtype=np.float32)], axis=1)
    padded[1, 2:] = np.nan
    weights, names = unit(np.nanmean(padded, axis=1)), ["c", "a", "b"]
    fit = {"logit_scale": SCALE, "alpha": 0.5, "ridge": 1.0}
    by_name = TIMO(weights, class_names=names, prompt_features=padded, **fit).fit(shots, [names[i] for i in labels])
    by_number = TIMO(weights, prompt_features=padded[:, :PROMPTS], **fit).fit(shots, labels)
    assert by_name.classes_.tolist() == ["a", "b", "c"]
    np.testing.assert_allclose(by_name.logits(queries), by_number.logits(queries)[:, [1, 2, 0]], rtol=1e-4, atol=1e-5)


def test_what_is_chosen_rests_on_prompts_that_the_left_out_shot_did_not_weigh():
    rng = np.random.default_rng(1)
    # Every shot is its class's only hint: prompts chosen with it would name it, those chosen without it say nothing.
    shots = unit(rng.normal(size=(40, 64)))
    labels = np.repeat(np.arange(20), 2)
    prompts = unit(0.7 * shots[:, None] + 0.7 * unit(rng.normal(size=(40, 1, 64)))).reshape(20, 2, 64)
    method = TIMO(unit(prompts.mean(axis=1)), prompt_features=prompts, gamma=1000.0).fit(shots, labels)
    assert method.search_.zero_shot_accuracy < 0.3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"prompt_features": np.ones((2, 4, DIM))}, "prompt_features of shape"),
        ({"prompt_features": np.zeros((3, 4, DIM))}, "other than zero"),
        ({"gamma": "auto"}, "gamma to be a number"),
        ({"ridge": 0}, "ridge to be above 0"),
    ],
)
def test_bad_input_is_said(given, message):
    prompts, shots, labels, _ = problem()
    with pytest.raises((InputError, FeatureError), match=message):
        TIMO(unit(prompts.mean(axis=1)), **given).fit(shots, labels)


def test_a_classifier_gives_it_every_prompt(tmp_path):
    rng = np.random.default_rng(0)
    photos = [
        np.clip(base + rng.integers(-60, 60, (24, 24, 3)), 0, 255).astype(np.uint8) for base in [60] * 4 + [180] * 4
    ]
    labels = ["night"] * 4 + ["day"] * 4
    by_prompts = ImageClassifier("fake", "timo", store=None).fit(photos, labels)
    model = by_prompts.model_
    means = TIMO(model.zero_shot_weights, logit_scale=model.encoder.logit_scale)
    means.fit(model.shots.features.unit, model.shots.labels)
    assert np.abs(by_prompts.model_.head.zero_shot_weights - means.head_.zero_shot_weights).max() > 1e-3
    by_prompts.save(tmp_path / "days.tip")
    again = ImageClassifier.load(tmp_path / "days.tip")
    assert again.predict(photos) == by_prompts.predict(photos)


def test_a_feature_file_without_templates_says_what_is_missing(tmp_path):
    rows = unit(np.random.default_rng(0).normal(size=(6, 64)))
    part = Part(rows[:4], np.array([0, 0, 1, 1]))
    save_feature_file(tmp_path / "pets.npz", FeatureData("pets", ("cat", "dog"), part, rows[4:], train=part))
    with pytest.raises(InputError, match="do not say their templates"):
        ImageClassifier("fake", "timo", store=None).fit(tmp_path / "pets.npz")
    ImageClassifier("fake", "timo", templates="photo", store=None).fit(tmp_path / "pets.npz")
