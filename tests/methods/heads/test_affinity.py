"""The formula against loops written from the paper, in float64."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny_features import random_units
from tip_adapter.methods.heads import affinity as cache_model
from tip_adapter.methods.heads.affinity import Cache, affinity, cache_logits, mass_from_cosines, tip_logits


def naive_cache_logits(queries, keys, labels, n_classes, beta, balanced):
    """Σ over keys of exp(-β(1 - cosine)), a class at a time."""
    counts = [sum(1 for label in labels if label == c) for c in range(n_classes)]
    mean = len(labels) / sum(1 for count in counts if count)
    result = np.zeros((len(queries), n_classes))
    for b, query in enumerate(queries.astype(np.float64)):
        for key, label in zip(keys.astype(np.float64), labels, strict=True):
            weight = mean / counts[label] if balanced else 1.0
            result[b, label] += weight * math.exp(-beta * (1 - float(query @ key)))
    return result


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n_keys=st.integers(1, 30),
    n_classes=st.integers(1, 6),
    beta=st.floats(0.01, 40),
    balanced=st.booleans(),
)
def test_matches_the_paper(seed, n_keys, n_classes, beta, balanced):
    rng = np.random.default_rng(seed)
    queries, keys = random_units(rng, 5, 8), random_units(rng, n_keys, 8)
    labels = rng.integers(0, n_classes, n_keys)
    cache = Cache.build(keys, labels, n_classes, balanced=balanced)
    expected = naive_cache_logits(queries, keys, labels, n_classes, beta, balanced)
    np.testing.assert_allclose(cache_logits(queries, cache, beta), expected, rtol=2e-4, atol=1e-7)
    np.testing.assert_allclose(mass_from_cosines(queries @ cache.keys.T, cache, beta), expected, rtol=2e-4, atol=1e-7)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_order_of_shots_does_not_matter_and_classes_permute_columns(seed):
    rng = np.random.default_rng(seed)
    queries, keys, labels = random_units(rng, 4, 6), random_units(rng, 20, 6), rng.integers(0, 5, 20)
    whole = cache_logits(queries, Cache.build(keys, labels, 5), 3.0)
    order, columns = rng.permutation(20), rng.permutation(5)
    np.testing.assert_allclose(cache_logits(queries, Cache.build(keys[order], labels[order], 5), 3.0), whole, rtol=1e-5)
    renamed = cache_logits(queries, Cache.build(keys, columns[labels], 5), 3.0)
    np.testing.assert_allclose(renamed[:, columns], whole, rtol=1e-5)


@pytest.mark.parametrize("limits", [{"QUERIES": 3}, {"QUERIES": 8, "BLOCK": 7}, {"QUERIES": 64, "BLOCK": 1}])
def test_chunks_and_batches_change_nothing(monkeypatch, limits):
    rng = np.random.default_rng(0)
    queries, cache = random_units(rng, 50, 16), Cache.build(random_units(rng, 40, 16), rng.integers(0, 7, 40), 7)
    whole = cache_logits(queries, cache, 5.5)
    for name, value in {"CHUNK_ELEMENTS": 130, **limits}.items():
        monkeypatch.setattr(cache_model, name, value)
    np.testing.assert_allclose(cache_logits(queries, cache, 5.5), whole, rtol=1e-6)
    np.testing.assert_allclose(np.concatenate([cache_logits(q[None], cache, 5.5) for q in queries]), whole, rtol=1e-5)


@pytest.mark.parametrize("balanced", [True, False])
def test_keys_that_are_nearly_sorted_stay_where_they_are(balanced):
    rng = np.random.default_rng(0)
    queries, keys = random_units(rng, 5, 16), random_units(rng, 400, 16)
    labels = np.sort(rng.integers(0, 4, 400))
    labels[[7, 399]] = 3, 0
    cache = Cache.build(keys, labels, 5, balanced=balanced, with_text=np.ones(5, dtype=bool))
    assert cache.keys is keys
    np.testing.assert_array_equal(cache.labels, labels)
    order = np.argsort(labels)
    whole = Cache.build(keys[order], labels[order], 5, balanced=balanced, with_text=np.ones(5, dtype=bool))
    np.testing.assert_allclose(cache.key_weights[order], whole.key_weights)
    np.testing.assert_allclose(cache_logits(queries, cache, 5.5), cache_logits(queries, whole, 5.5), rtol=1e-5)


def test_many_keys_in_a_class_keep_five_digits():
    rng = np.random.default_rng(1)
    keys, labels, queries = random_units(rng, 60_000, 4), np.zeros(60_000, dtype=int), random_units(rng, 3, 4)
    labels[:10] = 1
    expected = np.exp(5.0 * (queries.astype(np.float64) @ keys.astype(np.float64).T - 1))
    got = cache_logits(queries, Cache.build(keys, labels, 2, balanced=False), 5.0)
    np.testing.assert_allclose(got[:, 0], expected[:, 10:].sum(axis=1), rtol=1e-5)


def test_unequal_shots_do_not_decide():
    keys = np.array([[1, 0]] + [[0, 1]] * 9, dtype=np.float32)
    labels = np.array([0] + [1] * 9)
    query = np.array([[0.8, 0.6]], dtype=np.float32)
    assert cache_logits(query, Cache.build(keys, labels, 2), 1.0).argmax() == 0
    assert cache_logits(query, Cache.build(keys, labels, 2, balanced=False), 1.0).argmax() == 1


@pytest.mark.parametrize("present", [[1], [3, 1], [0, 4, 5, 1]])
def test_a_class_with_text_alone_is_lent_the_logit_of_the_runner_up(present):
    rng = np.random.default_rng(2)
    queries, keys, labels = random_units(rng, 6, 8), random_units(rng, 12, 8), np.resize(present, 12)
    with_text = np.array([True, True, True, True, False, False, False])
    plain = cache_logits(queries, Cache.build(keys, labels, 7), 4.0)
    lent = cache_logits(queries, Cache.build(keys, labels, 7, with_text=with_text), 4.0)
    np.testing.assert_array_equal(lent[:, present], plain[:, present])
    for row, before in zip(lent, plain, strict=True):
        expected = sorted(before[present])[-2 if len(present) > 1 else -1]
        assert all(row[c] == (expected if with_text[c] else 0) for c in range(7) if c not in present)


def test_sharp_affinities_do_not_overflow():
    rows = np.eye(2, dtype=np.float32)
    np.testing.assert_allclose(affinity(rows, rows, 500.0), np.eye(2), atol=1e-6)


def test_alpha_zero_is_zero_shot():
    text = np.array([[1.0, 2.0]], dtype=np.float32)
    cache = Cache.build(np.eye(2, dtype=np.float32), np.array([0, 1]), 2)
    np.testing.assert_array_equal(tip_logits(text, np.eye(2, dtype=np.float32)[:1], cache, alpha=0, beta=1), text)


@pytest.mark.parametrize("n_keys", [0, 3])
def test_no_queries(n_keys):
    cache = Cache.build(np.zeros((n_keys, 4), dtype=np.float32), np.zeros(n_keys, dtype=int), 2)
    assert cache_logits(np.zeros((0, 4), dtype=np.float32), cache, 1.0).shape == (0, 2)


def test_keys_that_are_left_out_say_nothing_whatever_beta_is():
    cache = Cache.build(np.eye(2, dtype=np.float32), np.array([0, 1]), 2)
    cosines = np.array([[0.5, -np.inf]], dtype=np.float32)
    for beta in (0, 1e-300):
        np.testing.assert_array_equal(mass_from_cosines(cosines, cache, beta), [[1, 0]])
