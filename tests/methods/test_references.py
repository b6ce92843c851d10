"""Every training-free method against loops over float64 numbers, written from its formula."""

import math

import numpy as np
import pytest

from tiny_features import unit
from tip_adapter.errors import InputError
from tip_adapter.methods import APE, KNN, LinearProbe, ProKeR, Prototype, TipX
from tip_adapter.methods.closed_form.ape import channel_scores
from tip_adapter.methods.closed_form.proker import KernelRidge
from tip_adapter.methods.heads.gaussian import class_frequency
from tip_adapter.methods.selection.evidence import evidence_from_support

CLASSES, DIM, SCALE = 3, 6, 10.0


@pytest.fixture(params=[(3, 3, 3), (1, 4, 2)], ids=["equal", "unequal"])
def data(request):
    """Texts, shots, labels and queries; float32, as methods take them."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(CLASSES), request.param)
    texts, shots, queries = (unit(rng.normal(size=(n, DIM))) for n in (CLASSES, len(labels), 5))
    return texts, shots, labels, queries


def cosine(a, b):
    return math.fsum(float(x) * float(y) for x, y in zip(a, b, strict=True))


def softmax(values):
    powers = [math.exp(value) for value in values]
    return [power / math.fsum(powers) for power in powers]


def value_of_a_key(labels, c):
    """Classes count equally: mean shots per class over shots of this class."""
    return len(labels) / len(set(labels.tolist())) / int(np.sum(labels == c))


def test_tip_x(data):
    texts, shots, labels, queries = data
    alpha, beta, gamma = 1.3, 4.0, 0.7

    def view(f):
        return softmax([cosine(f, w) / 0.5 for w in texts])

    def divergence(f, key):
        return math.fsum(p * math.log(p / q) for p, q in zip(view(f), view(key), strict=True))

    pairs = [(i, j) for i in range(len(shots)) for j in range(len(shots)) if i != j]
    affinities = [math.exp(-beta * (1 - cosine(shots[i], shots[j]))) for i, j in pairs]
    negatives = [-divergence(shots[i], shots[j]) for i, j in pairs]

    def psi(x):
        share = (x - min(negatives)) / (max(negatives) - min(negatives))
        return min(affinities) + share * (max(affinities) - min(affinities))

    expected = np.array([[SCALE * cosine(f, w) for w in texts] for f in queries])
    for row, f in enumerate(queries):
        for key, c in zip(shots, labels, strict=True):
            value = alpha * math.exp(-beta * (1 - cosine(f, key))) + gamma * psi(-divergence(f, key))
            expected[row, c] += value_of_a_key(labels, c) * value
    logits = TipX(texts, alpha=alpha, beta=beta, gamma=gamma, logit_scale=SCALE).fit(shots, labels).logits(queries)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


def test_ape(data):
    texts, shots, labels, queries = data
    alpha, beta, gamma, kept = 1.3, 4.0, 0.6, 4
    means = np.stack([shots[labels == c].astype(float).mean(axis=0) for c in range(CLASSES)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    scores = []
    for d in range(DIM):
        score = 0.0
        for rows in (texts.astype(float), means):
            products = [rows[i, d] * rows[j, d] for i in range(CLASSES) for j in range(CLASSES) if i != j]
            average = math.fsum(rows[:, d]) / CLASSES
            variance = math.fsum((value - average) ** 2 for value in rows[:, d]) / CLASSES
            score += 0.3 * variance - 0.7 * math.fsum(products) / len(products)
        scores.append(score)
    np.testing.assert_allclose(channel_scores(texts, means.astype(np.float32)), scores, rtol=1e-5, atol=1e-7)
    channels = sorted(range(DIM), key=lambda d: -scores[d])[:kept]

    def refined(rows):
        part = rows[:, channels].astype(float)
        return part / np.linalg.norm(part, axis=1, keepdims=True)

    expected = np.array([[SCALE * cosine(f, w) for w in texts] for f in queries])
    for row, f in enumerate(refined(queries)):
        for key, c in zip(refined(shots), labels, strict=True):
            surprise = -math.log(softmax([cosine(key, w) for w in refined(texts)])[c])
            value = math.exp(gamma * surprise) * math.exp(-beta * (1 - cosine(f, key)))
            expected[row, c] += alpha * value_of_a_key(labels, c) * value
    method = APE(texts, alpha=alpha, beta=beta, gamma=gamma, channels=kept, logit_scale=SCALE).fit(shots, labels)
    np.testing.assert_allclose(method.logits(queries), expected, rtol=1e-4, atol=1e-4)


def test_ape_weighs_keys_beyond_the_range_of_float32():
    rng, n = np.random.default_rng(0), 150
    texts = unit(rng.normal(size=(n, 16)))
    labels, queries = np.repeat(np.arange(n), 2), unit(rng.normal(size=(4, 16)))
    shots = unit(0.5 * texts[labels] + 0.3 * rng.normal(size=(len(labels), 16)))
    cosines = shots.astype(float) @ texts.T.astype(float)
    surprise = np.log(np.exp(cosines).sum(axis=1)) - cosines[np.arange(len(labels)), labels]
    logs = 23.0 * surprise
    assert logs.min() > 88  # of which float32 knows no exponential
    alpha = float(np.exp(-logs.max()))
    kernel = np.exp(-2.0 * (1 - queries.astype(float) @ shots.T.astype(float)))
    mass = (kernel * np.exp(logs + np.log(alpha))).reshape(4, n, 2).sum(axis=2)
    method = APE(texts, alpha=alpha, beta=2.0, gamma=23.0, channels=16, logit_scale=SCALE).fit(shots, labels)
    expected = SCALE * queries.astype(float) @ texts.T.astype(float) + mass
    np.testing.assert_allclose(method.logits(queries), expected, rtol=1e-4, atol=1e-4)

    chosen = APE(texts, logit_scale=SCALE).fit(shots, labels)
    assert np.isfinite([nll for _, nll in chosen.search_.tried]).all()
    again = APE(texts, logit_scale=SCALE, **chosen.held_parameters()).fit(shots, labels)
    np.testing.assert_allclose(again.logits(queries), chosen.logits(queries), rtol=1e-5, atol=1e-5)
    with pytest.raises(InputError, match=r"Expected gamma up to .* with these classes, got 1000: lower it"):
        APE(texts, alpha=1.0, beta=2.0, gamma=1000.0, channels=16).fit(shots, labels)


def test_proker(data):
    texts, shots, labels, queries = data
    alpha, beta, ridge = 1.7, 2.0, 0.3
    n = len(shots)
    kernel = np.array([[math.exp(-beta * (1 - cosine(a, b))) for b in shots] for a in shots])
    residuals = np.array(
        [[float(labels[i] == c) - cosine(shots[i], texts[c]) for c in range(CLASSES)] for i in range(n)]
    )
    weight = [list(labels).count(label) / (n / CLASSES) for label in labels]  # 1 with equal shots
    solved = np.linalg.inv(kernel / ridge + np.diag(weight)) @ residuals
    expected = np.array(
        [
            [
                SCALE * cosine(f, texts[c])
                + alpha * math.fsum(math.exp(-beta * (1 - cosine(f, shots[i]))) * solved[i, c] for i in range(n))
                for c in range(CLASSES)
            ]
            for f in queries
        ]
    )
    method = ProKeR(texts, alpha=alpha, beta=beta, ridge=ridge, logit_scale=SCALE).fit(shots, labels)
    offsets = method.head_.bias  # of classes with few shots among others with many; see test_class_offsets.py
    assert offsets is None or len(set(weight)) > 1
    expected = expected + (0 if offsets is None else offsets)
    np.testing.assert_allclose(method.logits(queries), expected, rtol=1e-4, atol=1e-4)


def test_proker_counts_every_class_alike():
    """Copies of the shots of a rare class change nothing but the mean number of shots, which scales all weights."""
    rng = np.random.default_rng(2)
    texts, shots, queries = (unit(rng.normal(size=(n, DIM))) for n in (2, 10, 20))
    labels = np.repeat([0, 1], [2, 8])
    copied = np.concatenate([np.tile([0, 1], 4), np.arange(2, 10)])
    grown = 8 / 5
    few = ProKeR(texts, alpha=2.0, beta=1.0, ridge=0.3, logit_scale=SCALE).fit(shots, labels)
    many = ProKeR(texts, alpha=2.0 / grown, beta=1.0, ridge=0.3 * grown, logit_scale=SCALE)
    many.fit(shots[copied], labels[copied])
    np.testing.assert_allclose(few.logits(queries), many.logits(queries), rtol=1e-4, atol=1e-5)


def test_proker_leaves_folds_out_in_closed_form():
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(4), [6, 9, 2, 7])
    shots, texts = unit(rng.normal(size=(24, DIM))), unit(rng.normal(size=(4, DIM)))
    evidence = evidence_from_support(shots, labels, shots @ texts.T)
    residuals = np.eye(4)[labels] - shots.astype(float) @ texts.T.astype(float)
    regression = KernelRidge(shots, residuals, evidence.folds, class_frequency(labels))
    fold_by_fold = evidence.logits(regression.fit(1.5, 0.2))
    np.testing.assert_allclose(regression.left_out(1.5, 0.2), fold_by_fold, rtol=1e-8, atol=1e-10)


def test_prototype(data):
    _, shots, labels, queries = data
    expected = []
    for f in queries:
        row = []
        for c in range(CLASSES):
            total = [math.fsum(float(shot[d]) for shot in shots[labels == c]) for d in range(DIM)]
            row.append(5.0 * cosine(f, total) / math.sqrt(cosine(total, total)))
        expected.append(row)
    np.testing.assert_allclose(Prototype(scale=5.0).fit(shots, labels).logits(queries), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("neighbours", [1, 2, 5])
def test_knn(data, neighbours):
    _, shots, labels, queries = data
    logits = KNN(neighbours=neighbours).fit(shots, labels).logits(queries)
    for row, f in enumerate(queries):
        nearest = sorted(range(len(shots)), key=lambda i: -cosine(f, shots[i]))[:neighbours]
        for c in range(CLASSES):
            votes = math.fsum(1 + 1e-3 * cosine(f, shots[i]) for i in nearest if labels[i] == c)
            assert logits[row, c] == pytest.approx(math.log((votes + 1 / CLASSES) / (neighbours + 1)), rel=1e-5)


@pytest.mark.parametrize("elements", [1, 40, 10_000])
def test_knn_chooses_as_if_every_number_of_neighbours_were_tried_alone(elements, monkeypatch):
    monkeypatch.setattr("tip_adapter.methods.heads.base.CHUNK_ELEMENTS", elements)
    rng = np.random.default_rng(4)
    labels = np.repeat(np.arange(CLASSES), [6, 4, 5])
    shots = unit(rng.normal(size=(CLASSES, DIM))[labels] + rng.normal(size=(len(labels), DIM)))
    method = KNN().fit(shots, labels)
    folds = evidence_from_support(shots, labels, np.zeros((len(labels), CLASSES))).folds
    assert list(method.scores_) == [1, 2, 3, 5, 8, 12]
    for k, (nll, accuracy) in method.scores_.items():
        losses, right = [], []
        for i, shot in enumerate(shots):
            others = sorted(np.flatnonzero(folds != folds[i]), key=lambda j, f=shot: -cosine(f, shots[j]))[:k]
            votes = [
                math.fsum(1 + 1e-3 * cosine(shot, shots[j]) for j in others if labels[j] == c) for c in range(CLASSES)
            ]
            logits = [math.log((v + 1 / CLASSES) / (k + 1)) for v in votes]
            losses.append(-math.log(softmax(logits)[labels[i]]))
            right.append(int(np.argmax(logits)) == labels[i])
        assert nll == pytest.approx(np.mean(losses), rel=1e-5)
        assert accuracy == pytest.approx(np.mean(right))


def test_linear_probe_is_at_the_minimum_of_its_loss(data):
    _, shots, labels, _ = data
    head = LinearProbe(strength=3.0).fit(shots, labels).head_
    # Gradient of ‖V‖²/2 + 3 Σ cross-entropy, by loops.
    gradient = head.weights.astype(float)
    for f, y in zip(shots, labels, strict=True):
        probabilities = softmax([cosine(f, head.weights[c]) + float(head.bias[c]) for c in range(CLASSES)])
        for c in range(CLASSES):
            gradient[c] += 3.0 * (probabilities[c] - float(c == y)) * f.astype(float)
    assert np.abs(gradient).max() < 5e-3
    assert np.abs(head.weights).max() > 0.3


def test_linear_probe_with_two_classes_has_the_odds_of_scikit_learn():
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(2)
    shots, labels = unit(rng.normal(size=(10, DIM))), np.repeat([0, 1], 5)
    probabilities = LogisticRegression(C=3.0, max_iter=2000).fit(shots, labels).predict_proba(shots)
    np.testing.assert_allclose(
        LinearProbe(strength=3.0).fit(shots, labels).predict_proba(shots), probabilities, rtol=1e-4
    )
