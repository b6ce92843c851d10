"""Formulas from arrays to logits: where texts are missing, and taken apart and put together again."""

import dataclasses

import numpy as np
import pytest

from tip_adapter.errors import InputError
from tip_adapter.methods.heads import (
    HEADS,
    CacheHead,
    ChannelCacheHead,
    KernelHead,
    LinearHead,
    NeighbourHead,
    TipXHead,
    TopKCacheHead,
    head_from_state,
    head_state,
    softmax,
    zero_shot_logits,
)
from tip_adapter.methods.heads.base import row_chunks

RNG = np.random.default_rng(0)


def unit(n, dim=8):
    rows = RNG.normal(size=(n, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


TEXTS, KEYS, QUERIES, LABELS = unit(3), unit(7), unit(5), np.array([2, 0, 1, 1, 0, 2, 2])
COEFFICIENTS = RNG.normal(size=(7, 3)).astype(np.float32)
LINEAR, BIAS = RNG.normal(size=(3, 8)).astype(np.float32), RNG.normal(size=3).astype(np.float32)
CHANNELS = np.array([0, 2, 3, 7])

EXAMPLES = [
    LinearHead(3, TEXTS, 10.0, LINEAR, BIAS),
    CacheHead(3, TEXTS, 10.0, keys=KEYS, labels=LABELS, alpha=1.5, beta=3.0),
    KernelHead(3, TEXTS, 10.0, keys=KEYS, coefficients=COEFFICIENTS, beta=2.0, weights=LINEAR, bias=BIAS),
    TopKCacheHead(3, TEXTS, 10.0, KEYS, LABELS, neighbours=2, alpha=1.0, beta=2.0),
    TipXHead(3, TEXTS, 10.0, KEYS, LABELS, alpha=1.0, beta=2.0, gamma=0.5, slope=0.3, offset=0.8),
    ChannelCacheHead(
        3,
        TEXTS,
        10.0,
        keys=unit(7, 4),
        labels=LABELS,
        key_weights=np.abs(COEFFICIENTS[:, 0]),
        channels=CHANNELS,
        alpha=1.0,
        beta=2.0,
    ),
    NeighbourHead(3, KEYS, LABELS, 3),
]


def test_every_kind_has_an_example():
    kinds = {
        kind
        for kind, cls in HEADS.items()
        if cls.__module__
        in {"tip_adapter.methods.heads.linear", "tip_adapter.methods.heads.cache", "tip_adapter.methods.heads.top_k"}
    }
    assert {head_state(head)[0] for head in EXAMPLES} == kinds


@pytest.mark.parametrize("head", EXAMPLES, ids=lambda head: type(head).__name__)
def test_taken_apart_and_put_together_it_answers_the_same(head):
    kind, arrays, parameters = head_state(head)
    assert {field.name for field in dataclasses.fields(head)} == set(arrays) | set(parameters)
    again = head_from_state(kind, arrays, parameters)
    np.testing.assert_array_equal(again.logits(QUERIES), head.logits(QUERIES))


@pytest.mark.parametrize("head", EXAMPLES, ids=lambda head: type(head).__name__)
def test_chunks_do_not_change_answers(head, monkeypatch):
    whole = head.logits(QUERIES)
    assert whole.dtype == np.float32
    monkeypatch.setattr("tip_adapter.methods.heads.base.CHUNK_ELEMENTS", 15)
    np.testing.assert_allclose(head.logits(QUERIES), whole, rtol=1e-5, atol=1e-6)


def test_chunks_cover_all_rows_once():
    assert np.concatenate([np.arange(10)[rows] for rows in row_chunks(10, 3_000_000)]).tolist() == list(range(10))


def test_a_kernel_head_is_the_formula_with_float64_sums():
    head = EXAMPLES[2]
    exact = 10.0 * QUERIES.astype(float) @ TEXTS.T.astype(float) + QUERIES.astype(float) @ LINEAR.T + BIAS
    exact += np.exp(-2.0 * (1 - QUERIES.astype(float) @ KEYS.T.astype(float))) @ COEFFICIENTS
    np.testing.assert_allclose(head.logits(QUERIES), exact, rtol=1e-5, atol=1e-5)


def test_a_class_without_text_has_the_mean_probability_of_the_others():
    texts = TEXTS.copy()
    texts[1] = np.nan
    probabilities = softmax(zero_shot_logits(QUERIES, texts, 10.0, 3))
    np.testing.assert_allclose(probabilities[:, 1], probabilities[:, [0, 2]].mean(axis=1), rtol=1e-5)


def test_without_text_all_classes_are_alike():
    np.testing.assert_array_equal(zero_shot_logits(QUERIES, None, 10.0, 3), np.zeros((5, 3)))


def test_what_cannot_be_saved_or_read_is_explained():
    with pytest.raises(InputError, match="one of the kinds linear"):
        head_state(object())
    with pytest.raises(InputError, match="Unknown kind of head 'cubic': this version knows linear"):
        head_from_state("cubic", {}, {})
    with pytest.raises(InputError, match="has not the fields"):
        head_from_state("linear", {}, {"n_classes": 3})
