"""Auto is as good as the best of its methods, never worse than text, and says why."""

from types import SimpleNamespace

import numpy as np
import pytest

from tip_adapter.methods import GDA, Auto, ProKeR, TipAdapter, ZeroShot
from tip_adapter.methods import auto as module

TEXT_MARGIN, BEST_MARGIN = 0.003, 0.005


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def problem(shots, seed=0, n_classes=6, dim=16, noise=0.8):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(n_classes, dim))
    labels = np.repeat(np.arange(n_classes), shots)
    texts = unit(centres + rng.normal(size=centres.shape))
    return texts, unit(centres[labels] + noise * rng.normal(size=(len(labels), dim))), labels


def test_it_scores_every_method():
    texts, shots, labels = problem(shots=8)
    method = Auto(texts, logit_scale=20.0).fit(shots, labels)
    assert set(method.scores_) == {"zero-shot", "tip-adapter", "gda", "proker", "gda + proker"}
    assert method.search_.summary.startswith(f"{method.method_} by 8-fold cross-validation on the shots: ")
    for name in method.scores_:
        assert name in method.search_.summary


def candidate(name, leads, harmful=False):
    """Answers that lead the other class by so much, each for an image of class 0."""
    answers = np.stack([leads, np.zeros(len(leads))], axis=1)
    return module._Candidate(name, None, answers, np.zeros(len(leads), dtype=int), {}, harmful)


def test_both_together_answer_unless_another_is_clearly_likelier():
    """A paired test at two standard errors, against one written out."""
    evidence = SimpleNamespace(few=False, rule="cross-validation")
    rng = np.random.default_rng(0)
    taken = set()
    for gain in np.linspace(-0.2, 0.4, 25):
        together = rng.normal(1.0, 0.5, 30)
        rival = together + gain + rng.normal(0, 0.5, 30)
        losses = [np.log1p(np.exp(-leads)) for leads in (together, rival)]
        better = losses[0] - losses[1]
        clearly = better.mean() > 2 * better.std() / np.sqrt(30)
        chosen = module._pick(evidence, [candidate("gda", rival), candidate("gda + proker", together)]).name
        assert chosen == ("gda" if clearly else "gda + proker")
        taken.add(chosen)
    assert len(taken) == 2
    # Where the two together do harm, the likeliest of the others answers.
    harmful = candidate("gda + proker", together, harmful=True)
    rivals = [candidate("zero-shot", together), candidate("gda", together + 0.1), harmful]
    assert module._pick(evidence, rivals).name == "gda"


def test_the_scores_are_those_of_the_methods_on_their_own():
    texts, shots, labels = problem(shots=5)
    scores = Auto(texts, logit_scale=20.0).fit(shots, labels).scores_
    for name, cls in (("gda", GDA), ("tip-adapter", TipAdapter)):
        search = cls(texts, logit_scale=20.0).fit(shots, labels).search_
        assert scores[name] == pytest.approx((search.nll, search.accuracy), rel=1e-4)
    zero_shot = ZeroShot(texts, logit_scale=20.0).fit(shots, labels)
    assert scores["zero-shot"][1] == zero_shot.score(shots, labels)


@pytest.mark.parametrize("shots", [1, 2])
def test_few_shots_are_answered_by_the_mean_of_gda_and_proker(shots):
    texts, features, labels = problem(shots)
    method = Auto(texts, logit_scale=20.0).fit(features, labels)
    assert method.method_ == "gda + proker"
    pair = [cls(texts, logit_scale=20.0) for cls in (GDA, ProKeR)]
    pair[1].set_params(beta=1.0)
    both = [each.fit(features, labels).logits(features) for each in pair]
    np.testing.assert_allclose(method.logits(features), (both[0] + both[1]) / 2, rtol=1e-3, atol=1e-3)
    assert "rule for" in method.search_.summary


def test_with_very_many_shots_proker_takes_no_part(monkeypatch):
    monkeypatch.setattr(module, "MAX_KERNEL_SHOTS", 10)
    texts, shots, labels = problem(shots=4)
    assert set(Auto(texts, logit_scale=20.0).fit(shots, labels).scores_) == {"zero-shot", "tip-adapter", "gda"}


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
@pytest.mark.parametrize("shots", [1, 2, 4, 8])
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
