"""Figures against plain counting, and as JSON."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from tip_adapter.trust.evaluation import evaluate_probabilities


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 40), n_classes=st.integers(2, 7))
def test_against_counting(seed, n, n_classes):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(n_classes), n)
    labels = rng.integers(0, n_classes, n)
    names = [f"class {index}" for index in range(n_classes)]
    text, cache = rng.standard_normal((2, n, n_classes))
    evaluation = evaluate_probabilities(probabilities, labels, names, zero_shot=text, cache=cache)
    answers = [int(np.argmax(row)) for row in probabilities]
    assert evaluation.n == n
    assert evaluation.accuracy == pytest.approx(sum(a == b for a, b in zip(answers, labels, strict=True)) / n)
    right = sum(a == b for a, b in zip(answers, labels, strict=True))
    interval = binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert evaluation.accuracy_interval == pytest.approx((interval.low, interval.high), abs=1e-6)
    assert evaluation.zero_shot_accuracy == pytest.approx(np.mean(text.argmax(axis=1) == labels))
    assert evaluation.cache_accuracy == pytest.approx(np.mean(cache.argmax(axis=1) == labels))
    assert list(evaluation.top_k_accuracy) == [k for k in (1, 3, 5) if k <= n_classes]
    assert evaluation.nll == pytest.approx(-np.mean(np.log(probabilities[np.arange(n), labels])))
    facts = json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))
    for index, row in enumerate(facts["per_class"]):
        right = sum(a == index == b for a, b in zip(answers, labels, strict=True))
        of_class, answered = int(np.sum(labels == index)), answers.count(index)
        assert row["n"] == of_class
        assert row["recall"] == (pytest.approx(right / of_class) if of_class else None)
        assert row["precision"] == (pytest.approx(right / answered) if answered else None)
        assert facts["confusion"][index][index] == right


def test_parts_that_are_not_there():
    evaluation = evaluate_probabilities(np.array([[0.9, 0.1]]), np.array([0]), ["a", "b"], n_shots_among=1)
    facts = evaluation.to_dict()
    assert (facts["zero_shot_accuracy"], facts["cache_accuracy"], facts["n_shots_among"]) == (None, None, 1)
