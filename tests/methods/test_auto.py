"""Auto is as good as the best of its methods, never worse than text, and says why."""

import numpy as np
import pytest

from tiny_features import unit
from tip_adapter.methods import GDA, Auto, ProKeR, TipAdapter, ZeroShot
from tip_adapter.methods import auto as module

TEXT_MARGIN, BEST_MARGIN = 0.003, 0.005


def problem(shots, seed=0, n_classes=6, dim=16, noise=0.8):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(n_classes, dim))
    labels = np.repeat(np.arange(n_classes), shots)
    texts = unit(centres + rng.normal(size=centres.shape))
    return texts, unit(centres[labels] + noise * rng.normal(size=(len(labels), dim))), labels


def test_it_scores_the_texts_each_method_and_both_together():
    texts, shots, labels = problem(shots=8)
    method = Auto(texts, logit_scale=20.0).fit(shots, labels)
    assert list(method.search_.scores) == ["zero-shot", "proker", "gda", "auto"]
    assert method.search_.summary.startswith("proker + gda by 8-fold cross-validation on the shots: ")
    assert "zero-shot" in method.search_.summary


def test_the_scores_are_those_of_the_methods_on_their_own():
    texts, shots, labels = problem(shots=5)
    scores = Auto(texts, logit_scale=20.0).fit(shots, labels).search_.scores
    for name, method in (("gda", GDA(texts, logit_scale=20.0)), ("proker", ProKeR(texts, beta=1.0, logit_scale=20.0))):
        search = method.fit(shots, labels).search_
        assert scores[name] == pytest.approx((search.nll, search.accuracy), rel=1e-4)


@pytest.mark.parametrize("texts_given", [True, False])
def test_one_shot_per_class_is_answered_by_proker(texts_given):
    texts, features, labels = problem(1)
    given = {"zero_shot_weights": texts} if texts_given else {"class_names": list(range(6))}
    method = Auto(**given, logit_scale=20.0).fit(features, labels)
    proker = ProKeR(**given, beta=1.0, logit_scale=20.0).fit(features, labels)
    offsets = method.logits(features) - proker.logits(features)
    np.testing.assert_allclose(offsets, np.broadcast_to(offsets[0], offsets.shape), rtol=1e-3, atol=1e-3)
    assert bool(np.abs(offsets).max() > 0.01) == texts_given
    assert "rule for" in method.search_.summary


@pytest.mark.parametrize("shots", [1, 2, 4])
def test_texts_of_other_classes_do_not_silence_the_shots(shots):
    """Shuffled texts cost at most a few points against no texts at all."""
    right, queries, truth = problem(20, seed=9)
    gains = []
    for seed in range(5):
        _, features, labels = problem(shots, seed=9)
        wrong = np.roll(right, 1 + seed % 5, axis=0)
        with_text = Auto(wrong, logit_scale=20.0).fit(features, labels).score(queries, truth)
        without = Auto(class_names=list(range(6)), logit_scale=20.0).fit(features, labels).score(queries, truth)
        gains.append(with_text - without)
    assert np.mean(gains) > -0.05


def test_with_very_many_shots_proker_takes_no_part(monkeypatch):
    monkeypatch.setattr(module, "MAX_KERNEL_SHOTS", 10)
    texts, shots, labels = problem(shots=4)
    assert list(Auto(texts, logit_scale=20.0).fit(shots, labels).search_.scores) == ["zero-shot", "gda", "auto"]


def test_shots_with_wrong_labels_do_not_beat_the_text():
    rng = np.random.default_rng(1)
    texts = unit(rng.normal(size=(6, 16)))
    labels = np.repeat(np.arange(6), 6)
    shots = unit(texts[labels] + 0.1 * rng.normal(size=(36, 16)))
    # The photos are those of a class, but not of one and the same: only the text knows.
    method = Auto(texts, logit_scale=20.0).fit(shots, labels)
    zero_shot = ZeroShot(texts, logit_scale=20.0).fit(shots, labels)
    assert method.score(shots, labels) >= zero_shot.score(shots, labels)


@pytest.mark.parametrize("name", ["stanford_cars", "caltech60"])
@pytest.mark.parametrize("shots", [1, 2, 4])
def test_on_real_features_it_keeps_up_with_the_best_and_with_text(shared_data, name, shots):
    data = np.load(shared_data / "clip-vit-b32" / f"{name}.npz")
    texts, queries, truth = data["zero_shot_weights"], data["test_features"].astype(np.float32), data["test_labels"]
    features, labels = data[f"support_{shots}_features"].astype(np.float32), data[f"support_{shots}_labels"]
    accuracy = {
        cls: cls(texts).fit(features, labels).score(queries, truth) for cls in (Auto, ZeroShot, GDA, TipAdapter)
    }
    assert accuracy[Auto] >= accuracy[ZeroShot] - TEXT_MARGIN
    if shots > 1:
        assert accuracy[Auto] >= max(accuracy.values()) - BEST_MARGIN
