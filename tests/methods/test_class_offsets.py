"""A class does not win, or lose, by the number of its photos."""

import numpy as np
import pytest

from tiny_features import unit
from tip_adapter.methods import METHODS

CLASSES, MANY = 6, 16


def draw(seed, counts):
    """Shots, texts that know their class but poorly, and as many queries of every class."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=64)
    centres = common + 0.8 * rng.normal(size=(CLASSES, 64))
    texts = unit(centres + 1.2 * rng.normal(size=centres.shape))
    labels, truth = np.repeat(np.arange(CLASSES), counts), np.repeat(np.arange(CLASSES), 60)
    shots, queries = (unit(centres[known] + 1.3 * rng.normal(size=(len(known), 64))) for known in (labels, truth))
    return shots, labels, texts, queries, truth


@pytest.mark.parametrize("few", [0, 1, 4, 8])
@pytest.mark.parametrize("name", ["tip-adapter", "gda", "proker", "auto"])
def test_a_class_with_few_shots_is_named_about_as_often_as_it_occurs(name, few):
    named = []
    for seed in range(6):
        rare = seed % CLASSES
        counts = np.where(np.arange(CLASSES) == rare, few, MANY)
        shots, labels, texts, queries, truth = draw(seed, counts)
        predicted = METHODS[name](texts, logit_scale=20.0).fit(shots, labels).predict(queries)
        named.append(np.mean(predicted == rare) / np.mean(truth == rare))
    assert 0.45 < np.mean(named) < 1.6


@pytest.mark.parametrize("name", ["gda", "proker", "auto"])
def test_equal_shots_have_no_offsets(name):
    shots, labels, texts, queries, _ = draw(0, np.full(CLASSES, 5))
    method = METHODS[name](texts, logit_scale=20.0).fit(shots, labels)
    bias = method.head_.bias
    if name == "proker":
        assert bias is None
    again = METHODS[name](texts[::-1], class_names=None, logit_scale=20.0).fit(shots, CLASSES - 1 - labels)
    np.testing.assert_allclose(method.logits(queries), again.logits(queries)[:, ::-1], atol=2e-2)


@pytest.mark.parametrize("name", ["gda", "auto"])
@pytest.mark.parametrize("shots_per_class", [3, 20])
def test_a_class_without_shots_is_expected_where_its_text_says(name, shots_per_class):
    """Fewer and more shots than dimensions: the answers to its photos are better than chance would have it."""
    recalls = []
    for seed in range(4):
        counts = np.where(np.arange(CLASSES) == seed, 0, shots_per_class)
        shots, labels, texts, queries, truth = draw(seed, counts)
        method = METHODS[name](texts, logit_scale=20.0).fit(shots, labels)
        recalls.append(np.mean(method.predict(queries)[truth == seed] == seed))
    assert np.mean(recalls) > 0.5


@pytest.mark.parametrize("name", ["gda", "proker", "timo", "auto"])
def test_a_class_without_shots_beside_classes_of_a_single_burst(name):
    """Nothing can be left out of them, so nothing can be measured."""
    shots, labels, texts, queries, _ = draw(0, np.array([4, 4, 0, 0, 0, 0]))
    method = METHODS[name](texts, logit_scale=20.0, class_names=list(range(CLASSES)))
    assert np.isfinite(method.fit(shots, labels, groups=labels).logits(queries)).all()
