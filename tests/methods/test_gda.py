"""GDA against loops written from the formula, its closed-form folds, and its bounds."""

import numpy as np
import pytest

from tiny_features import random_units
from tip_adapter.methods.closed_form.gda import GDA, Gaussians
from tip_adapter.methods.heads.gaussian import Moments


def length_of_noise(features, labels):
    """tr(P·S) of the paper's P and the covariance S within classes, corrected for the freedom that P takes."""
    n, dim, classes = len(features), features.shape[1], np.unique(labels)
    apart = np.concatenate([features[labels == c] - features[labels == c].astype(float).mean(axis=0) for c in classes])
    covariance = apart.T @ apart / (n - 1)
    precision = dim * np.linalg.inv((n - 1) * covariance + np.trace(covariance) * np.eye(dim))
    within = np.trace(precision @ covariance) * (n - 1) / dim
    return dim * within / (n - len(classes) - within)


def paper_logits(queries, features, labels, n_classes):
    """Loops over the paper's equations, with its pinv."""
    dim, n = features.shape[1], len(features)
    means = [features[labels == c].astype(float).mean(axis=0) for c in range(n_classes)]
    scatter = sum(np.outer(f - means[c], f - means[c]) for f, c in zip(features.astype(float), labels, strict=True))
    covariance = scatter / (n - 1)
    precision = dim * np.linalg.pinv((n - 1) * covariance + np.trace(covariance) * np.eye(dim))
    bias = [np.log(1 / n_classes) - 0.5 * mean @ precision @ mean for mean in means]
    return np.array([[q @ precision @ m + b for m, b in zip(means, bias, strict=True)] for q in queries.astype(float)])


@pytest.mark.parametrize("counts", [(4, 4, 4), (3, 5, 4)])
def test_it_is_the_formula_of_the_paper(counts):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), counts)
    shots, texts, queries = (random_units(rng, n, 6) for n in (len(labels), 3, 5))
    logits = GDA(texts, alpha=0.7, logit_scale=10.0).fit(shots, labels).logits(queries)
    expected = 10.0 * queries @ texts.T + 0.7 * paper_logits(queries, shots, labels, 3)
    if len(set(counts)) > 1:
        expected += 0.7 * length_of_noise(shots, labels) / (2 * np.array(counts))
    # A constant per image, such as log π, changes no probability.
    difference = logits - expected
    assert np.ptp(difference, axis=1).max() < 1e-4


def test_texts_have_a_share_in_the_means_of_classes_with_few_shots():
    """By loops: shots vary around their means as `within`, means around what texts let expect as `between`."""
    rng = np.random.default_rng(3)
    counts = np.array([8, 1, 7, 0, 8, 3])
    centres, labels = rng.normal(size=(6, 12)), np.repeat(np.arange(6), counts)
    shots = centres[labels] + 0.7 * rng.normal(size=(len(labels), 12))
    texts = centres + 0.5 * rng.normal(size=centres.shape)
    means = [shots[labels == c].mean(axis=0) if count else np.zeros(12) for c, count in enumerate(counts)]
    many = [0, 2, 4]
    within = sum(np.sum((shots[labels == c] - means[c]) ** 2) for c in set(labels)) / (len(labels) - 5)
    of_texts = Moments.of(shots, labels, 6).text_means(texts)
    off = sum(np.sum((means[c] - of_texts.expected[c]) ** 2) for c in many) / 2
    worth = within / (off - np.mean([within / counts[c] for c in many]))
    np.testing.assert_allclose(of_texts.shares, [0, worth / (worth + 1), 0, 1, 0, worth / (worth + 3)])
    joined = of_texts.joined(np.array(means))
    truth = [np.linalg.norm(joined[c] - centres[c]) for c in (1, 5)]
    assert truth[0] < np.linalg.norm(means[1] - centres[1])
    assert truth[1] < np.linalg.norm(means[5] - centres[5])


def test_shots_alone_make_the_means_where_nothing_tells_what_a_text_is_worth():
    rng = np.random.default_rng(4)
    shots, labels = rng.normal(size=(10, 5)), np.array([0] * 9 + [1])
    silent = np.array([[1.0, 0, 0, 0, 0], [np.nan] * 5])
    assert not Moments.of(shots, labels, 2).text_means(silent).shares.any()
    copies = np.repeat(np.eye(5)[:2], (9, 1), axis=0)  # no scatter: a text is worth nothing beside a shot
    assert not Moments.of(copies, labels, 2).text_means(np.eye(5)[:2]).shares.any()


def test_a_part_taken_from_the_sums_is_a_fit_without_it():
    rng = np.random.default_rng(1)
    shots, queries, labels = random_units(rng, 40, 8), random_units(rng, 5, 8), np.repeat(np.arange(4), 10)
    kept = rng.random(40) < 0.6
    weights, bias = Moments.of(shots[kept], labels[kept], 4).classifier()
    np.testing.assert_allclose(Gaussians(shots, labels, 4).fit()(kept)(queries), queries @ weights.T + bias, rtol=1e-9)


def test_one_shot_per_class_is_the_nearest_mean_by_a_rule_that_is_said():
    rng = np.random.default_rng(2)
    shots = random_units(rng, 5, 8)
    method = GDA().fit(shots, np.arange(5))
    assert method.search_.rule == "prior"
    assert "one shot, or group of them, per class" in method.search_.summary
    queries = random_units(rng, 20, 8)
    np.testing.assert_array_equal(method.predict(queries), (queries @ shots.T).argmax(axis=1))


def test_copies_of_one_photo_have_no_covariance_and_do_no_harm():
    rng = np.random.default_rng(3)
    shots, labels = np.repeat(random_units(rng, 3, 8), 4, axis=0), np.repeat(np.arange(3), 4)
    logits = GDA(random_units(rng, 3, 8)).fit(shots, labels).logits(shots)
    assert np.isfinite(logits).all()
    assert (logits.argmax(axis=1) == labels).all()


def test_a_class_without_shots_keeps_its_zero_shot_score_on_the_others_scale():
    rng = np.random.default_rng(4)
    texts, shots, labels = random_units(rng, 4, 8), random_units(rng, 9, 8), np.repeat([0, 1, 3], 3)
    method = GDA(texts, alpha=2.0, logit_scale=7.0).fit(shots, labels)
    shift = method.logits(shots)[:, 2] - 7.0 * shots @ texts[2]
    assert np.ptp(shift) < 1e-4
    assert shift[0] >= 0


def test_a_class_without_text_is_found_by_its_shots():
    rng = np.random.default_rng(5)
    centres = random_units(rng, 3, 16)
    labels = np.repeat(np.arange(3), 6)
    shots = centres[labels] + 0.1 * rng.normal(size=(18, 16)).astype(np.float32)
    shots /= np.linalg.norm(shots, axis=1, keepdims=True)
    texts = centres.copy()
    texts[1] = np.nan
    assert GDA(texts, logit_scale=20.0).fit(shots, labels).predict(centres[1:2]) == [1]


def test_validation_images_decide_by_accuracy():
    rng = np.random.default_rng(6)
    texts, shots, labels = random_units(rng, 3, 8), random_units(rng, 12, 8), np.repeat(np.arange(3), 4)
    method = GDA(texts, logit_scale=10.0).fit(shots, labels, validation=(shots, labels))
    assert method.search_.rule == "validation"
    assert method.search_.accuracy == method.score(shots, labels)
    assert method.search_.accuracy >= method.search_.zero_shot_accuracy


def test_on_real_features_it_reaches_what_was_measured(shared_data):
    data = np.load(shared_data / "clip-vit-b32" / "stanford_cars.npz")
    queries, truth = data["test_features"].astype(np.float32), data["test_labels"]
    zero_shot = np.mean((queries @ data["zero_shot_weights"].T).argmax(axis=1) == truth)
    reached = {}
    for shots in (1, 2, 4):
        features = data[f"support_{shots}_features"].astype(np.float32)
        reached[shots] = (
            GDA(data["zero_shot_weights"]).fit(features, data[f"support_{shots}_labels"]).score(queries, truth)
        )
    assert zero_shot == pytest.approx(0.5896, abs=1e-4)
    assert reached[1] > 0.61
    assert reached[2] > 0.635
    assert reached[4] > 0.69


def test_unequal_shots_do_not_decide(shared_data):
    """Classes with one shot among others with sixteen: as likely to be named as their text and shots deserve."""
    file = np.load(shared_data / "clip-vit-b32" / "stanford_cars.npz", allow_pickle=False)
    shots, labels = file["support_16_features"].astype(np.float32), file["support_16_labels"].astype(int)
    few, asked = np.arange(0, 60, 4), file["test_labels"] < 60
    kept = np.concatenate([np.flatnonzero(labels == c)[: 1 if c in few else 16] for c in range(60)])
    method = GDA(file["zero_shot_weights"][:60]).fit(shots[kept], labels[kept])
    named = np.isin(method.predict(file["test_features"][asked].astype(np.float32)), few).mean()
    assert named > 0.6 * np.isin(file["test_labels"][asked], few).mean()


def test_the_correction_for_few_shots_is_the_length_of_their_noise():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], (1, 3, 6))
    features = rng.normal(size=(10, 4))
    moments = Moments.of(features, labels, 3)
    means = np.stack([features[labels == c].mean(axis=0) for c in range(3)])
    scatter = sum(np.outer(f - means[c], f - means[c]) for f, c in zip(features, labels, strict=True))
    precision = 9 * np.linalg.inv(scatter + np.trace(scatter) / 9 * np.eye(4))
    within = np.trace(precision @ scatter) / 9
    noise = 9 * within / (10 - 3 - within)
    bias = [-0.5 * (means[c] @ precision @ means[c] - noise / n) for c, n in enumerate((1, 3, 6))]
    np.testing.assert_allclose(moments.classifier()[1], bias - np.mean(bias), rtol=1e-9)


@pytest.mark.parametrize("dim", [4, 40])
def test_few_shots_of_many_dimensions_are_solved_in_what_they_span(dim):
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], (1, 3, 6))
    features = random_units(rng, 10, dim)
    whole = Moments.of(features, labels, 3).classifier()
    for found, expected in zip(Gaussians(features, labels, 3).classifier(), whole, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)
