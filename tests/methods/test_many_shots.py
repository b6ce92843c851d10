"""Of very many shots a part of every class decides, and cosines come in blocks."""

import numpy as np
import pytest

from tip_adapter.errors import InputError
from tip_adapter.methods import METHODS, auto, support_set
from tip_adapter.methods.closed_form import proker
from tip_adapter.methods.closed_form.gda import GDA
from tip_adapter.methods.left_out import left_out_logits
from tip_adapter.methods.selection import cache_logits, cache_search, evidence
from tip_adapter.methods.selection.evidence import evidence_from_support
from tip_adapter.methods.selection.folds import asked_shots, support_folds


def some_shots(n_classes=4, shots=40, dim=8):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(n_classes), shots)
    features = (3 * np.eye(dim)[labels] + rng.normal(size=(len(labels), dim))).astype(np.float32)
    return features / np.linalg.norm(features, axis=1, keepdims=True), labels


def test_every_class_and_every_fold_keeps_its_part_whatever_the_order():
    features, labels = some_shots()
    asked = asked_shots(features, labels, limit=64)
    assert np.bincount(labels[asked]).tolist() == [16] * 4
    assert set(support_folds(features, labels)[asked]) == set(range(8))
    order = np.random.default_rng(1).permutation(len(labels))
    np.testing.assert_array_equal(asked_shots(features[order], labels[order], limit=64), asked[order])


def test_one_of_a_group_is_asked_about():
    features, labels = some_shots()
    groups = np.arange(len(labels)) // 4
    asked = asked_shots(features, labels, groups, limit=20)
    assert asked.sum() == 20
    assert len(set(groups[asked])) == 20


def test_few_shots_are_all_asked_about():
    features, labels = some_shots()
    assert asked_shots(features, labels).all()


@pytest.mark.parametrize("groups", [None, np.arange(160) // 2])
def test_blocks_of_cosines_change_nothing(monkeypatch, groups):
    features, labels = some_shots()
    text = 5 * features[:, :4]
    whole = cache_search.search(features, labels, text, groups=groups)
    # Blocks of a few images; the cache logits of all β, and then of one, are too many to be kept.
    for most in (14 * 160 * 4, 1000, 160):
        monkeypatch.setattr(cache_logits, "MAX_COSINES", most)
        found = cache_search.search(features, labels, text, groups=groups)
        assert found.n_scored == whole.n_scored
        assert (found.beta, found.text_weight) == pytest.approx((whole.beta, whole.text_weight), rel=1e-3)
        assert (found.alpha, found.nll) == pytest.approx((whole.alpha, whole.nll), rel=1e-3)


def test_a_part_of_the_shots_says_nearly_the_same(monkeypatch):
    features, labels = some_shots(shots=200)
    text = 5 * features[:, :4]
    whole = cache_search.search(features, labels, text)
    with monkeypatch.context() as patch:
        patch.setattr(cache_search, "affordable_images", lambda n_keys: 200)
        part = cache_search.search(features, labels, text)
    assert (part.n_scored, whole.n_scored) == (200, 800)
    chosen = {"alpha": part.alpha, "beta": part.beta, "text_weight": part.text_weight}
    # Three numbers chosen on 200 shots are expected to lose 3 / 400 nats.
    assert cache_search.search(features, labels, text, **chosen).nll < whole.nll + 0.03


def test_what_is_not_asked_about_is_not_answered(monkeypatch):
    features, labels = some_shots()
    method = GDA(np.eye(4, 8, dtype=np.float32)).fit(features, labels)
    every = left_out_logits(method, features, labels, every=True)
    for module in ("left_out", "selection.evidence"):
        monkeypatch.setattr(f"tip_adapter.methods.{module}.asked_shots", lambda *given: asked_shots(*given, limit=30))
    part = left_out_logits(method, features, labels)
    assert len(part.rows) == 30
    np.testing.assert_array_equal(part.labels, labels[part.rows])
    np.testing.assert_allclose(part.logits, every.logits[part.rows], rtol=1e-5, atol=1e-5)
    assert evidence_from_support(features, labels, features[:, :4]).scored.sum() == 30


def test_proker_says_what_to_use_for_more_shots_than_it_takes(monkeypatch):
    features, labels = some_shots()
    monkeypatch.setattr(proker, "MAX_SHOTS", 159)
    with pytest.raises(InputError, match="at most 159, got 160: give fewer"):
        proker.ProKeR().fit(features, labels)
    monkeypatch.setattr(auto, "MAX_KERNEL_SHOTS", 159)
    for method in (auto.Auto(), GDA()):
        assert method.fit(features, labels).score(features, labels) > 0.9


@pytest.mark.parametrize(
    "method", ["tip-adapter", "tip-adapter-topk", "gda", "ape", "tip-x", "knn", "prototype", "linear-probe"]
)
def test_only_shots_that_decide_are_looked_at(monkeypatch, method):
    features, labels = some_shots(shots=12)
    monkeypatch.setattr(evidence, "asked_shots", lambda *given: asked_shots(*given, limit=24))

    def logits():
        estimator = METHODS[method](np.eye(4, 8, dtype=np.float32), logit_scale=10.0)
        return estimator.fit(features, labels).decision_function(features)

    whole = logits()
    for module in (evidence, support_set):
        monkeypatch.setattr(module, "VERY_MANY", 10)
    np.testing.assert_allclose(logits(), whole, rtol=1e-4, atol=1e-4)
    support = support_set.SupportSet(features, labels, 4, np.eye(4, 8, dtype=np.float32), 10.0)
    assert support.evidence.text.shape == (24, 4)
    assert "text_logits" not in vars(support)
