"""The nearest keys alone: exactly those, and all of them the whole cache."""

import numpy as np
import pytest

from tiny_features import random_units
from tip_adapter.errors import InputError
from tip_adapter.methods import TipAdapterTopK
from tip_adapter.methods.heads import CacheHead, TopKCacheHead, top_k


@pytest.fixture
def parts():
    rng = np.random.default_rng(0)
    return (
        random_units(rng, 5, 16),
        random_units(rng, 40, 16),
        np.sort(rng.integers(0, 4, 40)),
        random_units(rng, 7, 16),
    )


def test_the_sum_is_over_the_nearest(parts):
    texts, keys, labels, queries = parts
    head = TopKCacheHead(4, texts[:4], 10.0, keys, labels, neighbours=6, alpha=2.0, beta=3.0, balanced=False)
    expected = 10.0 * queries @ texts[:4].T
    for row, query in enumerate(queries):
        for key in np.argsort(-(keys @ query))[:6]:
            expected[row, labels[key]] += 2.0 * np.exp(-3.0 * (1 - keys[key] @ query))
    np.testing.assert_allclose(head.logits(queries), expected, rtol=1e-5)


@pytest.mark.parametrize("block", [9, 16])
def test_blocks_of_keys_change_nothing(monkeypatch, parts, block):
    _, keys, _, queries = parts
    cosines, rows = top_k.ExactKeys(keys).nearest(queries, 12)
    monkeypatch.setattr(top_k, "BLOCK", block)
    again, places = top_k.ExactKeys(keys).nearest(queries, 12)
    np.testing.assert_array_equal(np.sort(places), np.sort(rows))
    np.testing.assert_allclose(np.sort(again), np.sort(cosines), rtol=1e-6)


@pytest.mark.parametrize("neighbours", [40, 1000])
def test_all_keys_are_the_whole_cache(parts, neighbours):
    texts, keys, labels, queries = parts
    given = {"keys": keys, "labels": labels, "alpha": 2.0, "beta": 3.0}
    whole = CacheHead(5, texts, 10.0, **given).logits(queries)
    np.testing.assert_allclose(
        TopKCacheHead(5, texts, 10.0, **given, neighbours=neighbours).logits(queries), whole, rtol=1e-5
    )


def test_an_index_finds_most_and_says_how_many():
    pytest.importorskip("faiss", reason="the extra index is not installed")
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(30, 16))
    labels = np.repeat(np.arange(30), 100)
    keys = random_units(rng, 3000, 16) * 0.5 + (centres / np.linalg.norm(centres, axis=1, keepdims=True))[labels]
    keys = (keys / np.linalg.norm(keys, axis=1, keepdims=True)).astype(np.float32)
    given = {"neighbours": 10, "alpha": 1.0, "beta": 5.5}
    few = TipAdapterTopK(**given, index="faiss", probes=1).fit(keys, labels)
    method = TipAdapterTopK(**given, index="faiss").fit(keys, labels)
    assert few.recall_ < 0.95 <= method.recall_ <= 1
    assert few.probes_ < method.probes_ == method.head_.probes
    index = top_k.CellKeys(keys, method.probes_)
    assert method.recall_ == top_k.measured_recall(index, keys, np.arange(0, 3000, 12), 10)
    exact = TipAdapterTopK(**given).fit(keys, labels)
    assert exact.recall_ == 1
    assert (method.predict(keys) == exact.predict(keys)).mean() > 0.99


def test_k_and_beta_are_chosen_and_held(parts):
    texts, keys, labels, queries = parts
    method = TipAdapterTopK(texts[:4], logit_scale=10.0).fit(keys, labels)
    assert method.neighbours_ in (16, 64, 256)
    assert method.search_.n_scored > 0
    held = TipAdapterTopK(
        texts[:4],
        neighbours=method.neighbours_,
        alpha=method.alpha_,
        beta=method.beta_,
        text_weight=method.text_weight_,
        logit_scale=10.0,
    ).fit(keys, labels)
    np.testing.assert_allclose(held.logits(queries), method.logits(queries), rtol=1e-6)


@pytest.mark.parametrize("wrong", [{"neighbours": 0}, {"neighbours": 1.5}, {"index": "annoy"}])
def test_what_is_refused(parts, wrong):
    with pytest.raises(InputError, match="Expected"):
        TipAdapterTopK(parts[0][:4], **wrong).fit(parts[1], parts[2])
