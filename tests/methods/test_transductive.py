"""Methods that see the photos asked about together, against loops written from their formulas."""

import math

import numpy as np
import pytest

from tiny_features import unit
from tip_adapter.classifier import ImageClassifier
from tip_adapter.errors import InputError
from tip_adapter.methods import METHODS, TDA, TransCLIP

CLASSES, DIM, SCALE = 3, 6, 10.0
NAMES = [name for name, cls in METHODS.items() if cls.transductive]


@pytest.fixture
def data():
    """Texts, shots, labels and queries of classes that overlap."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(CLASSES, DIM))
    labels, asked = np.repeat(np.arange(CLASSES), [2, 3, 2]), np.repeat(np.arange(CLASSES), 6)
    shots, queries = (unit(centres[rows] + rng.normal(size=(len(rows), DIM))) for rows in (labels, asked))
    return unit(centres + rng.normal(size=(CLASSES, DIM))), shots, labels, queries


def softmax(rows):
    powers = np.exp(rows - rows.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def neighbours(i, rows, queries):
    """The three queries nearest to a row, itself left out."""
    cosines = [(float(rows[i] @ q), j) for j, q in enumerate(queries) if i != j or len(rows) == i]
    return sorted(cosines, reverse=True)[:3]


@pytest.mark.parametrize("gamma", ["auto", 0.02])
def test_transclip_is_the_formula_of_the_paper(data, gamma):
    texts, shots, labels, queries = (array.astype(float) if array.dtype.kind == "f" else array for array in data)
    count = len(shots) / len(queries) if gamma == "auto" else 50 * gamma
    everyone = np.concatenate([queries, shots])
    said = np.concatenate([np.zeros((len(queries), CLASSES)), np.eye(CLASSES)[labels]])
    text = SCALE * queries @ texts.T
    z = softmax(text)
    means = unit(np.stack([shots[labels == c].sum(axis=0) for c in range(CLASSES)])).astype(float)
    variances = np.full(DIM, 1 / DIM)
    for iteration in range(11):
        likelihoods = np.array([[-0.5 * np.sum((f - m) ** 2 / variances) for m in means] for f in queries])
        for _ in range(5):
            votes = np.zeros((len(queries), CLASSES))
            said[: len(queries)] = z
            for i in range(len(everyone)):
                for cosine, j in neighbours(i, everyone, queries):
                    votes[j] += cosine * said[i]
                    if i < len(queries):
                        votes[i] += cosine * said[j]
            logits = 0.5 * text + likelihoods / 50 + votes / 6
            z = softmax(logits)
        if iteration < 10:
            sums = z.T @ queries / len(queries) + count / len(shots) * (np.eye(CLASSES)[labels].T @ shots)
            means = sums / np.linalg.norm(sums, axis=1, keepdims=True)
            apart = sum(z[i, c] * (f - means[c]) ** 2 for i, f in enumerate(queries) for c in range(CLASSES))
            own = np.mean((shots - means[labels]) ** 2, axis=0)
            variances = (apart / len(queries) + count * own) / (1 + count)
    method = TransCLIP(data[0], gamma=gamma, logit_scale=SCALE).fit(data[1], labels)
    np.testing.assert_allclose(method.predict_proba(data[3]), z, atol=1e-4)


def test_tda_is_the_formula_of_the_paper(data):
    texts, shots, labels, queries = data
    positive, negative, expected = {}, {}, []

    def offer(cache, c, item, room):
        kept = cache.setdefault(c, [])
        if len(kept) < room:
            kept.append(item)
        elif item[0] < max(kept)[0]:
            kept.remove(max(kept))
            kept.append(item)

    for number, f in enumerate(queries):
        text = [SCALE * float(f.astype(float) @ w) for w in texts]
        p = softmax(np.array([text]))[0]
        entropy = -math.fsum(x * math.log(x) for x in p)
        named = int(np.argmax(p))
        offer(positive, named, (entropy, number), 1)
        if 0.2 < entropy / math.log2(CLASSES) < 0.5:
            offer(negative, named, (entropy, number, tuple(p)), 2)
        row = list(text)
        for c, kept in positive.items():
            row[c] += math.fsum(1.5 * math.exp(-4.0 * (1 - float(f @ queries[i]))) for _, i in kept)
        for _, i, other in (item for kept in negative.values() for item in kept):
            for c in range(CLASSES):
                row[c] -= 0.117 * math.exp(float(f @ queries[i]) - 1) * (other[c] > 0.03)
        expected.append(row)
    assert negative, "both caches are looked at"
    method = TDA(texts, alpha=1.5, beta=4.0, capacity=1, logit_scale=SCALE, random_state=None).fit(shots, labels)
    np.testing.assert_allclose(method.logits(queries), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_answers_depend_on_the_others_of_the_same_call_and_on_no_other_call(name, data):
    texts, shots, labels, queries = data
    method = METHODS[name](texts, logit_scale=SCALE).fit(shots, labels)
    together = method.logits(queries)
    assert together.shape == (len(queries), CLASSES)
    np.testing.assert_array_equal(method.logits(queries), together)
    assert np.abs(method.logits(queries[:1]) - together[0]).max() > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_classes_without_shots_or_text_and_one_photo_alone_are_answered(name, data):
    texts, shots, labels, queries = data
    texts[1] = np.nan
    method = METHODS[name](texts, class_names=["a", "b", "c"], logit_scale=SCALE).fit(
        shots[labels < 2], labels[labels < 2]
    )
    assert np.isfinite(method.logits(queries)).all()
    assert np.isfinite(method.logits(queries[:1])).all()


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("transclip", {"gamma": -1}, "gamma to be at least 0"),
        ("transclip", {"text_power": "auto"}, "text_power as a number"),
        ("tda", {"capacity": 0}, "capacity as a whole number"),
        ("tda", {"alpha": "auto"}, "alpha and beta as numbers"),
    ],
)
def test_bad_parameters_are_said(name, given, message, data):
    texts, shots, labels, _ = data
    with pytest.raises(InputError, match=message):
        METHODS[name](texts, **given).fit(shots, labels)


@pytest.mark.parametrize("name", NAMES)
def test_a_classifier_refuses_them(name):
    photos = [np.full((24, 24, 3), shade, dtype=np.uint8) for shade in (30, 220)]
    with pytest.raises(InputError, match="answers many photos together"):
        ImageClassifier("fake", name, store=None).fit(photos, ["night", "day"])
