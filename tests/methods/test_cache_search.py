"""α and β from the shots: against brute force, and on real CLIP features."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from tip_adapter.errors import InputError
from tip_adapter.methods.heads import CacheHead, zero_shot_logits
from tip_adapter.methods.heads.affinity import Cache, cache_logits
from tip_adapter.methods.selection import cache_search as search_module
from tip_adapter.methods.selection.cache_search import search
from tip_adapter.methods.selection.folds import support_folds
from tip_adapter.methods.selection.line_search import best_accuracy_alpha, best_likelihood_alpha

SHOTS = (1, 2, 4, 8, 16)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 100_000), n=st.integers(1, 30), n_classes=st.integers(2, 5))
def test_exact_accuracy_line_beats_a_grid(seed, n, n_classes):
    rng = np.random.default_rng(seed)
    text, cache = rng.standard_normal((2, n, n_classes))
    labels = rng.integers(0, n_classes, n)
    alpha, accuracy = best_accuracy_alpha(text, cache, labels)
    assert accuracy == pytest.approx(np.mean((text + alpha * cache).argmax(axis=1) == labels))
    grid = [np.mean((text + a * cache).argmax(axis=1) == labels) for a in np.linspace(0, 20, 400)]
    assert accuracy >= max(grid) - 1e-12


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 100_000), scale=st.floats(0.01, 100))
def test_likelihood_alpha_is_the_minimum(seed, scale):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, 40)
    text, cache = rng.standard_normal((40, 4)) * 3, scale * (rng.standard_normal((40, 4)) + np.eye(4)[labels])

    def nll(alpha):
        logits = text + alpha * cache
        return np.mean(logsumexp(logits, axis=1) - logits[np.arange(40), labels])

    alpha, value = best_likelihood_alpha(text, cache, labels)
    best = minimize_scalar(nll, bounds=(0, 50 / scale), method="bounded", options={"xatol": 1e-6})
    assert nll(alpha) <= min(best.fun, nll(0.0)) + 1e-5
    assert value == pytest.approx(nll(alpha), abs=1e-4)


def test_folds_leave_out_one_shot_of_every_class_whatever_the_order():
    rng = np.random.default_rng(0)
    features, labels = rng.standard_normal((12, 5)), np.repeat([0, 1, 2], 4)
    folds = support_folds(features, labels)
    assert all(sorted(folds[labels == c]) == [0, 1, 2, 3] for c in range(3))
    order = rng.permutation(12)
    np.testing.assert_array_equal(support_folds(features[order], labels[order]), folds[order])


def test_left_out_logits_are_those_of_the_paper(monkeypatch):
    """The nll of a point equals that of naive refits without each fold, scaled for the lost keys."""
    rng = np.random.default_rng(3)
    features = rng.standard_normal((12, 6)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    labels, text = np.repeat([0, 1, 2], 4), rng.standard_normal((12, 3)).astype(np.float32)
    result = search(features, labels, text, alpha=2.0, beta=3.0)
    folds, losses = support_folds(features, labels), []
    for fold in range(4):
        out = folds == fold
        mass = cache_logits(features[out], Cache.build(features[~out], labels[~out], 3, balanced=False), 3.0) * 4 / 3
        logits = text[out] + 2.0 * mass
        losses.extend(logsumexp(logits, axis=1) - logits[np.arange(3), labels[out]])
    assert result.nll == pytest.approx(np.mean(losses), rel=1e-5)


@pytest.mark.parametrize("copies", [2, 8])
def test_where_all_shots_are_right_alpha_stays_near_what_is_expected(copies):
    """Likelihood alone has no best α there: of 1,000 times the spread of the text, it would prefer 2,000."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(5), copies)
    features = np.eye(8, dtype=np.float32)[labels] + 0.1 * rng.standard_normal((len(labels), 8)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    text = (2 * np.eye(5)[labels] + rng.standard_normal((len(labels), 5))).astype(np.float32)
    result = search(features, labels, text)
    assert result.accuracy == 1.0
    cache = Cache.build(features, labels, 5)
    ratio = result.alpha * cache_logits(features, cache, result.beta).std(axis=1).mean() / text.std(axis=1).mean()
    assert 0.05 < ratio < 5


def test_where_all_shots_are_right_beta_stays_near_the_papers():
    """A class with four photos beside two with one: all answers are right, and no β is better by more than a hair."""
    rng = np.random.default_rng(2)
    centres = rng.standard_normal(300) + 0.5 * rng.standard_normal((3, 300))
    labels = np.repeat([0, 1, 2], [4, 1, 1])
    shots = centres[labels] + 1.5 * rng.standard_normal((6, 300))
    features = (shots / np.linalg.norm(shots, axis=1, keepdims=True)).astype(np.float32)
    texts = (centres / np.linalg.norm(centres, axis=1, keepdims=True)).astype(np.float32)
    found = search(features, labels, zero_shot_logits(features, texts, 100.0, 3))
    assert 1.0 < found.beta < 25.0


def test_one_shot_that_is_right_by_chance_does_not_narrow_the_kernel(monkeypatch):
    """Under narrow kernels one more of 40 shots has a near one of its class: worth some nats, and no reason."""
    labels = np.repeat(np.arange(10), 4)

    class Masses:
        def __init__(self, images, cache, folds, scale):
            pass

        def prepare(self, betas):
            pass

        def of(self, beta):
            right = np.arange(40) < (25 if beta > 30 else 24)
            return np.eye(10)[np.where(right, labels, (labels + 1) % 10)]

    monkeypatch.setattr(search_module, "CacheLogits", Masses)
    rows = np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32)
    features = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    assert search(features, labels, np.zeros((40, 10))).beta == pytest.approx(search_module.PRIOR_BETA, rel=0.5)


def test_useless_cache_is_said_and_switched_off():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 8)
    features = rng.standard_normal((32, 64)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    result = search(features, labels, (8 * np.eye(4)[labels]).astype(np.float32))
    assert result.alpha == 0
    assert not result.cache_helps
    assert "does not help" in result.summary


def test_one_shot_follows_the_stated_rule():
    features = np.eye(3, dtype=np.float32)
    result = search(features, np.arange(3), 10 * np.eye(3, dtype=np.float32))
    assert (result.rule, result.beta, result.n_scored) == ("prior", search_module.PRIOR_BETA, 0)
    assert "one shot, or group of them, per class" in result.summary


def test_without_text_there_is_nothing_to_fall_back_on():
    """Shots whose neighbours are of other classes: worse than one class for all, which is no answer."""
    labels = np.array([0, 1] * 6)
    angles = np.repeat(np.arange(6), 2) + np.where(labels == 0, 0.0, 0.05)
    features = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    result = search(features, labels, np.zeros((12, 2), dtype=np.float32))
    assert result.cache_helps == (result.alpha > 0)
    assert "zero-shot" not in result.summary


def test_negative_alpha():
    with pytest.raises(InputError, match="alpha to be at least 0"):
        search(np.eye(2, dtype=np.float32), np.arange(2), np.zeros((2, 2), dtype=np.float32), alpha=-1.0)


def load(path):
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def accuracy(data, head):
    return 100 * np.mean(head.logits(data["test_features"].astype(np.float32)).argmax(axis=1) == data["test_labels"])


@pytest.mark.parametrize(
    ("name", "zero_shot", "fixed"),
    [
        ("stanford_cars", 58.96, (60.73, 60.80, 62.39, 64.40, 67.71)),
        ("caltech60", 95.25, (None, None, None, None, 96.91)),
    ],
)
def test_real_clip_features(shared_data, name, zero_shot, fixed):
    data = load(shared_data / "clip-vit-b32" / f"{name}.npz")
    weights = data["zero_shot_weights"]
    for shots, published in zip(SHOTS, fixed, strict=True):
        keys = data[f"support_{shots}_features"].astype(np.float32)
        labels = data[f"support_{shots}_labels"].astype(np.intp)

        def head(alpha, beta, keys=keys, labels=labels):
            return CacheHead(len(weights), weights, 100.0, keys=keys, labels=labels, alpha=alpha, beta=beta)

        assert accuracy(data, head(0.0, 1.0)) == pytest.approx(zero_shot, abs=0.01)
        default = accuracy(data, head(1.0, 5.5))
        if published is not None:
            assert default == pytest.approx(published, abs=0.07)
        found = search(keys, labels, zero_shot_logits(keys, weights, 100.0, len(weights)))
        chosen = accuracy(data, head(found.alpha, found.beta))
        assert chosen >= zero_shot - 0.3
        if shots == 1:
            assert chosen >= default - 0.3


def test_beta_may_be_0_where_it_is_given():
    labels = np.arange(6) % 2
    with np.errstate(all="raise"):
        found = search(np.eye(2, dtype=np.float32)[labels], labels, np.eye(2)[labels], beta=0.0)
    assert (found.beta, np.isfinite(found.nll)) == (0.0, True)
