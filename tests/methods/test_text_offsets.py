"""Texts that are named too often or too seldom are made up for, as the shots show."""

import numpy as np
import pytest

from tiny_features import unit
from tip_adapter.methods import Auto
from tip_adapter.methods.selection.text_offsets import text_offsets
from tip_adapter.methods.support_set import SupportSet


def problem(shots, hub, dim=64, classes=6):
    """Texts of which the first is near to every photo, by as much as `hub`; shots of every class."""
    rng = np.random.default_rng(0)
    centres, common = rng.normal(size=(classes, dim)) / dim**0.5, rng.normal(size=dim) / dim**0.5
    labels = np.repeat(np.arange(classes), shots)
    features = unit(common + centres[labels] + 1.5 * rng.normal(size=(len(labels), dim)) / dim**0.5)
    texts = centres + 0.5 * rng.normal(size=centres.shape) / dim**0.5
    texts[0] += hub * common
    return unit(texts), features, labels


@pytest.mark.parametrize("shots", [1, 2, 16])
def test_a_text_near_to_every_photo_is_held_back_and_answers_are_better(shots):
    texts, features, labels = problem(shots, hub=1.0)
    offsets = text_offsets(SupportSet(features, labels, 6, texts, 20.0))
    assert offsets.argmin() == 0
    assert offsets.sum() == pytest.approx(0, abs=1e-3)
    _, queries, truth = problem(100, hub=1.0)
    logits = 20.0 * queries @ texts.T
    assert ((logits + offsets).argmax(axis=1) == truth).mean() > (logits.argmax(axis=1) == truth).mean()


def test_a_burst_tells_no_more_than_one_of_its_frames():
    texts, features, labels = problem(16, hub=1.0)
    burst = SupportSet(features, labels, 6, texts, 20.0, groups=labels)
    frames = np.lexsort((*features.T[:3][::-1], labels))[::16]
    np.testing.assert_allclose(text_offsets(burst), text_offsets(burst.subset(frames)), atol=1e-3)


@pytest.mark.parametrize("case", ["no text", "equal texts", "texts count nothing", "one class with text"])
def test_texts_that_say_nothing_are_not_off(case):
    texts, features, labels = problem(2, hub=1.0)
    weight = 0.0 if case == "texts count nothing" else 1.0
    if case == "no text":
        texts = None
    elif case == "equal texts":
        texts = np.repeat(texts[:1], 6, axis=0)
    elif case == "one class with text":
        texts[1:] = np.nan
    assert not text_offsets(SupportSet(features, labels, 6, texts, 20.0, text_weight=weight)).any()


def test_classes_without_text_or_shots_keep_their_logits():
    texts, features, labels = problem(2, hub=1.0)
    texts[3] = np.nan
    offsets = text_offsets(SupportSet(features[labels != 5], labels[labels != 5], 6, texts, 20.0))
    assert offsets[3] == offsets[5] == 0
    assert offsets[[0, 1, 2, 4]].all()


def test_classes_count_alike_however_many_shots_they_have():
    texts, features, labels = problem(16, hub=0.0)
    kept = (labels != 2) | (np.arange(len(labels)) % 16 < 4)
    even = text_offsets(SupportSet(features, labels, 6, texts, 20.0))
    scarce = text_offsets(SupportSet(features[kept], labels[kept], 6, texts, 20.0))
    assert np.abs(scarce - even).max() < 0.5


def test_the_order_of_shots_does_not_matter():
    texts, features, labels = problem(4, hub=1.0)
    order = np.random.default_rng(1).permutation(len(labels))
    here = Auto(texts, logit_scale=20.0).fit(features, labels)
    there = Auto(texts, logit_scale=20.0).fit(features[order], labels[order])
    np.testing.assert_allclose(here.logits(features), there.logits(features), atol=2e-3)
