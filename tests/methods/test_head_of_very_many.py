"""Of very many shots a head is chosen on some that are left out, and fitted to the others a part at a time."""

import numpy as np
import pytest

from tip_adapter.methods import many_shots, softmax_regression
from tip_adapter.methods.heads.gaussian import Moments
from tip_adapter.methods.many_shots import choose_head
from tip_adapter.methods.selection.weight import nll_and_accuracy


def drawn(centres, spread, n=600, seed=0):
    """Photos around centres (C, M, D), M for each class."""
    rng = np.random.default_rng(seed)
    n_classes, several, dim = centres.shape
    labels = np.arange(n) % n_classes
    rows = centres[labels, rng.integers(0, several, n)] + rng.normal(size=(n, dim)) * spread
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), labels


CENTRES = np.eye(3, 8)[:, None]
UNEQUAL = np.array([0.1, 0.1, 0.1, 1, 1, 1, 1, 1])
SEVERAL = np.concatenate([CENTRES, -CENTRES], axis=1)


def test_the_simplest_head_is_taken_where_no_other_is_better():
    features, labels = drawn(CENTRES, 0.2)
    choice = choose_head(features, labels, None, 10.0, 3)
    assert choice.name == "prototype"
    assert "prototype of 480 photos" in choice.summary
    assert all(name in choice.summary for name in ("gda", "linear-probe", "tip-adapter-topk"))
    assert (choice.head.logits(features).argmax(axis=1) == labels).mean() > 0.95


def test_where_directions_vary_unequally_they_are_weighed():
    features, labels = drawn(CENTRES / 5, UNEQUAL, n=3000)
    assert choose_head(features, labels, None, 10.0, 3).name in ("gda", "linear-probe")


def test_classes_of_several_clusters_want_a_cache_of_all(monkeypatch):
    features, labels = drawn(SEVERAL, 0.1)
    choice = choose_head(features, labels, None, 10.0, 3)
    assert (choice.name, choice.head) == ("tip-adapter-topk", None)
    monkeypatch.setattr(many_shots, "MAX_CACHE_BYTES", 0)
    choice = choose_head(features, labels, None, 10.0, 3)
    assert choice.head is not None
    assert "tip-adapter-topk is better, but keeps" in choice.summary


def test_texts_alone_are_taken_where_shots_add_nothing():
    features, labels = drawn(CENTRES, 0.2)
    choice = choose_head(features, labels, np.eye(3, 8, dtype=np.float32), 10.0, 3)
    assert choice.name == "zero-shot"
    assert (choice.head.logits(features).argmax(axis=1) == labels).mean() > 0.95


@pytest.mark.parametrize("block", [50, 4096])
def test_reading_in_parts_changes_nothing(monkeypatch, block):
    features, labels = drawn(CENTRES, UNEQUAL)
    whole = choose_head(features, labels, None, 10.0, 3)
    monkeypatch.setattr(many_shots, "BLOCK", block)
    parts = choose_head(features, labels, None, 10.0, 3)
    learned = parts.shots.learned
    expected = Moments.of(features[learned], labels[learned], 3)
    np.testing.assert_allclose(parts.shots.moments.square, expected.square, rtol=1e-6)
    assert parts.name == whole.name
    np.testing.assert_allclose(parts.logits, whole.logits, atol=0.02)


@pytest.mark.parametrize("n_groups", [100, 10])
def test_groups_are_on_one_side(n_groups):
    features, labels = drawn(CENTRES, 0.2)
    groups = np.arange(600) * n_groups // 600
    shots = choose_head(features, labels, None, 10.0, 3, groups=groups).shots
    assert shots.asked.any()
    assert not np.intersect1d(groups[shots.asked], groups[shots.learned]).size
    assert shots.learned.mean() >= 0.8


def test_a_class_in_one_group_is_learned_and_a_single_group_leaves_nothing_out():
    features, labels = drawn(CENTRES, 0.2)
    shots = choose_head(features, labels, None, 10.0, 3, groups=np.where(labels == 2, 0, np.arange(600) // 6)).shots
    assert (shots.learned[labels == 2]).all()
    assert choose_head(features, labels, None, 10.0, 3, groups=labels) is None


def test_classes_of_a_photo_are_learned_from():
    features, labels = drawn(CENTRES, 0.2)
    kept = (labels != 2) | (np.arange(600) == 2)
    shots = choose_head(features[kept], labels[kept], None, 10.0, 3).shots
    assert shots.asked[labels[kept] == 2].sum() == 0
    assert shots.learned[labels[kept] == 2].sum() == 1


def test_some_classes_of_two_photos_leave_one_out(monkeypatch):
    features, labels = drawn(np.eye(30, 32)[:, None], 0.2, n=60)
    shots = choose_head(features, labels, None, 10.0, 30).shots
    assert 3 < shots.asked.sum() < 30
    assert set(labels[shots.learned]) == set(range(30))
    monkeypatch.setattr(many_shots, "MAX_LOGITS", 90)
    assert choose_head(features, labels, None, 10.0, 30).shots.asked.sum() == 3


@pytest.mark.parametrize(("work", "slack"), [(24 * 1200, 0.02), (10**12, 0.0)])
def test_a_probe_is_likelier_than_where_it_began_and_hardly_less_so_when_trained_on_half(monkeypatch, work, slack):
    monkeypatch.setattr(softmax_regression, "WORK", work)
    features, labels = drawn(CENTRES / 5, UNEQUAL, n=3000)
    shots = choose_head(features, labels, None, 10.0, 3).shots
    start = many_shots._gaussians(shots).head

    def loss(head):
        return nll_and_accuracy(head.logits(features[shots.learned]).astype(float), labels[shots.learned])[0]

    assert loss(list(softmax_regression.softmax_regressions(shots, start))[-1]) < loss(start) + slack
