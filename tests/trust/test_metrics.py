"""Metrics against plain loops, known values and limits."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from tip_adapter.errors import InputError
from tip_adapter.trust.metrics import (
    accuracy,
    bootstrap_interval,
    confusion_matrix,
    expected_calibration_error,
    log_softmax,
    negative_log_likelihood,
    per_class_recall,
    top_k_accuracy,
    wilson_interval,
)

LOGITS = arrays(np.float64, st.tuples(st.integers(1, 12), st.integers(2, 6)), elements=st.integers(-5, 5).map(float))
SEEDS = st.integers(0, 2**32)


def random_case(logits, seed):
    return np.random.default_rng(seed).integers(0, logits.shape[1], len(logits))


@given(LOGITS, SEEDS)
def test_accuracy_of_scores_and_of_predictions_agree(logits, seed):
    labels = random_case(logits, seed)
    by_hand = sum(int(np.argmax(row)) == label for row, label in zip(logits, labels, strict=True)) / len(labels)
    assert accuracy(logits, labels) == pytest.approx(by_hand)
    assert accuracy(logits.argmax(axis=1), labels) == pytest.approx(by_hand)
    assert top_k_accuracy(logits, labels, 1) == pytest.approx(by_hand)


@given(LOGITS, SEEDS)
def test_top_k_is_the_stable_sort(logits, seed):
    labels = random_case(logits, seed)
    for k in range(1, logits.shape[1] + 1):
        best = np.argsort(-logits, axis=1, kind="stable")[:, :k]
        by_hand = np.mean([label in row for row, label in zip(best, labels, strict=True)])
        assert top_k_accuracy(logits, labels, k) == pytest.approx(by_hand)


@given(LOGITS, SEEDS)
def test_confusion_and_recall(logits, seed):
    labels = random_case(logits, seed)
    counts = np.zeros((logits.shape[1],) * 2, dtype=int)
    for row, label in zip(logits, labels, strict=True):
        counts[label, np.argmax(row)] += 1
    np.testing.assert_array_equal(confusion_matrix(logits, labels), counts)
    recall = per_class_recall(logits, labels)
    for label, row in enumerate(counts):
        assert math.isnan(recall[label]) if row.sum() == 0 else recall[label] == row[label] / row.sum()


def test_confusion_of_given_size():
    assert confusion_matrix([0, 1], [1, 1], n_classes=4).shape == (4, 4)
    np.testing.assert_array_equal(per_class_recall([0, 1], [1, 1], n_classes=3), [np.nan, 0.5, np.nan])
    with pytest.raises(InputError, match=r"below n_classes = 2, got 3"):
        confusion_matrix([0, 3], [1, 1], n_classes=2)


@given(LOGITS, SEEDS, st.integers(1, 20))
def test_calibration_error_is_the_papers_sum(logits, seed, n_bins):
    labels = random_case(logits, seed)
    probabilities = np.exp(log_softmax(logits))
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    expected = 0.0
    for m in range(n_bins):
        inside = (np.ceil(confidence * n_bins) - 1).clip(0, n_bins - 1) == m
        if inside.any():
            expected += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    assert expected_calibration_error(probabilities, labels, n_bins=n_bins) == pytest.approx(expected, abs=1e-12)


def test_calibration_error_of_known_cases():
    assert expected_calibration_error([[1.0, 0.0]] * 4, [0] * 4) == 0
    assert expected_calibration_error([[1.0, 0.0]] * 4, [1] * 4) == 1
    half_right = expected_calibration_error([[0.75, 0.25]] * 4, [0, 0, 0, 1])
    assert half_right == pytest.approx(0)


@given(LOGITS, SEEDS)
def test_likelihood_of_logits_and_of_probabilities_agree(logits, seed):
    labels = random_case(logits, seed)
    by_hand = np.mean([math.log(np.exp(row - row[label]).sum()) for row, label in zip(logits, labels, strict=True)])
    assert negative_log_likelihood(logits, labels, from_logits=True) == pytest.approx(by_hand, abs=1e-12)
    probabilities = np.exp(log_softmax(logits))
    assert negative_log_likelihood(probabilities, labels) == pytest.approx(by_hand, abs=1e-12)


def test_likelihood_at_its_limits():
    assert negative_log_likelihood([[0.0, 1.0]], [0]) == math.inf
    assert negative_log_likelihood([[-np.inf, 1.0]], [0], from_logits=True) == math.inf
    assert math.copysign(1, negative_log_likelihood([[0.0, 1.0]], [1])) == 1
    assert negative_log_likelihood(np.float32([[1e30, 0.0]]), [1], from_logits=True) == pytest.approx(1e30)


@given(LOGITS, st.floats(-1e6, 1e6))
def test_log_softmax_sums_to_one_and_ignores_shifts(logits, shift):
    result = log_softmax(logits)
    assert result.dtype == np.float64
    np.testing.assert_allclose(np.exp(result).sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(log_softmax(logits + shift), result, atol=1e-8)


def test_log_softmax_leaves_its_input_alone_and_takes_minus_infinity():
    logits = np.array([[0.0, -np.inf, 0.0]])
    np.testing.assert_allclose(log_softmax(logits), [[-math.log(2), -np.inf, -math.log(2)]])
    np.testing.assert_array_equal(logits, [[0.0, -np.inf, 0.0]])


@pytest.mark.parametrize("row", [[np.nan, 0], [np.inf, 0], [-np.inf, -np.inf]])
def test_log_softmax_refuses_rows_without_a_finite_maximum(row):
    with pytest.raises(InputError, match=r"finite maximum, got .* in row 1"):
        log_softmax([[0, 0], row])


@given(right=st.integers(0, 40), wrong=st.integers(0, 40), level=st.floats(0.5, 0.99))
def test_wilson_interval_is_scipys(right, wrong, level):
    n = max(1, right + wrong)
    expected = stats.binomtest(right, n).proportion_ci(level, method="wilson")
    assert wilson_interval(right, n, level=level) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_bootstrap_interval_matches_resampling_by_hand():
    correct = np.random.default_rng(3).random(300) < 0.8
    rng = np.random.default_rng(0)
    means = [rng.choice(correct, size=300).mean() for _ in range(4000)]
    expected = np.quantile(means, [0.05, 0.95])
    got = bootstrap_interval(correct, level=0.9, n_resamples=4000)
    np.testing.assert_allclose(got, expected, atol=0.006)


@given(arrays(np.bool_, st.integers(1, 50)), SEEDS)
def test_bootstrap_interval_is_ordered_and_repeats(correct, seed):
    low, high = bootstrap_interval(correct, random_state=seed)
    assert 0 <= low <= high <= 1
    assert (low, high) == bootstrap_interval(correct, random_state=seed)
    narrow_low, narrow_high = bootstrap_interval(correct, level=0.5, random_state=seed)
    assert low <= narrow_low <= narrow_high <= high


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: accuracy([], []), "at least one"),
        (lambda: accuracy([0, 1], [0]), "as many predictions as labels, got 2 and 1"),
        (lambda: accuracy([0.5], [0]), "predictions as class indices"),
        (lambda: accuracy([[0.0, np.nan]], [0]), "without NaN, got one in row 0"),
        (lambda: accuracy([[0.0, 1.0]], [-1]), "labels as class indices"),
        (lambda: accuracy([[0.0, 1.0]], [2]), "below the 2 columns of the scores, got 2"),
        (lambda: top_k_accuracy([[0.0, 1.0]], [0], 3), "k from 1 to the 2 classes, got 3"),
        (lambda: top_k_accuracy([[0.0, 1.0]], [0], 0), "k from 1 to the 2 classes, got 0"),
        (lambda: top_k_accuracy([0.0, 1.0], [0], 1), r"scores of shape \(1, C\) to match the labels, got \(2,\)"),
        (lambda: expected_calibration_error([[3.0, 1.0]], [0]), "sum to 1, got a sum of 4 .* are these logits"),
        (lambda: expected_calibration_error([[1.5, -0.5]], [0]), "minimum of -0.5 in row 0"),
        (lambda: expected_calibration_error([[1.0, 0.0]], [0], n_bins=0), "at least 1 bin"),
        (lambda: negative_log_likelihood([[3.0, 1.0]], [0]), "are these logits"),
        (lambda: log_softmax([1.0, 2.0]), r"shape \(B, C\), got \(2,\)"),
        (lambda: bootstrap_interval([]), "booleans of shape"),
        (lambda: bootstrap_interval([0.5]), "booleans of shape"),
        (lambda: bootstrap_interval([True], level=1), r"a level in \(0, 1\)"),
        (lambda: wilson_interval(1, 2, level=0), r"a level in \(0, 1\)"),
        (lambda: wilson_interval(3, 2), "0 to n right answers of at least 1, got 3 of 2"),
        (lambda: wilson_interval(0, 0), "got 0 of 0"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(InputError, match=message):
        call()
