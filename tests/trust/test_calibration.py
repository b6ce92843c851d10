"""Temperatures are the likeliest, and what is learned from answers survives being saved."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tip_adapter.methods.heads import softmax
from tip_adapter.trust.calibration import WIDTH, Calibration, fit_temperature
from tip_adapter.trust.metrics import expected_calibration_error, negative_log_likelihood


def drawn(seed, n=4000, n_classes=6, temperature=1.0):
    """Logits whose softmax at a temperature is the true distribution of the labels."""
    rng = np.random.default_rng(seed)
    logits = 2.0 * rng.normal(size=(n, n_classes))
    chances = softmax(logits / temperature).cumsum(axis=1)
    return logits, (rng.random((n, 1)) > chances).sum(axis=1).clip(0, n_classes - 1)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 100), temperature=st.floats(0.6, 2.5))
def test_the_true_temperature_is_found(seed, temperature):
    logits, labels = drawn(seed, temperature=temperature)
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(temperature, rel=0.12)
    assert expected_calibration_error(softmax(logits / found), labels) < 0.05


def test_no_other_temperature_is_likelier():
    logits, labels = drawn(3, n=60, temperature=1.7)

    def loss(t):
        return 60 * negative_log_likelihood(logits / t, labels, from_logits=True) + (np.log(t) / WIDTH) ** 2 / 2

    found = fit_temperature(logits, labels)
    assert all(loss(found) <= loss(t) + 1e-6 for t in np.geomspace(0.1, 10, 200))


def test_a_handful_of_right_answers_does_not_make_sure():
    assert 0.4 < fit_temperature(10 * np.eye(3), np.arange(3)) < 1.0
    assert fit_temperature(np.zeros((0, 3)), np.zeros(0, dtype=int)) == 1.0


def calibration(seed=0, shots=5.0, n=40):
    rng = np.random.default_rng(seed)
    logits, labels = drawn(seed, n=n, n_classes=4, temperature=1.5)
    features = rng.normal(size=(n, 8)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    folds = np.arange(n) % 5
    return Calibration.of(logits, labels, (features, features, labels), folds=(folds, folds), shots=shots)


def test_few_shots_keep_temperature_one_and_say_so():
    few = calibration(shots=2.0)
    assert few.temperature == 1.0
    assert not few.chosen
    assert "too few" in few.summary
    assert len(few.scores) == 40


def test_one_shot_is_not_calibrated():
    nothing = np.zeros((0, 4), dtype=np.float32), np.eye(4, dtype=np.float32), np.arange(4)
    none = Calibration.of(np.zeros((0, 4)), np.zeros(0, dtype=int), nothing, folds=(np.zeros(0, int), np.zeros(4, int)))
    assert none.source == "none"
    assert none.temperature == 1.0
    assert "one shot per class" in none.summary


def test_saved_and_loaded_it_is_the_same():
    before = calibration()
    after = Calibration.from_state(*before.state())
    assert after.temperature == before.temperature
    assert after.nll == before.nll
    assert after.scores.threshold(0.8) == before.scores.threshold(0.8)
    assert after.familiarity.threshold(0.1) == before.familiarity.threshold(0.1)
    assert after.origin == "40 shots, left out in 5 folds"
    assert "estimate and no guarantee" in after.guarantee


def test_a_very_sure_wrong_answer_has_a_finite_loss():
    logits, labels = np.array([[5000.0, 0.0]] * 6), np.array([0, 0, 0, 0, 0, 1])
    rows = np.eye(2, dtype=np.float32)[labels]
    calibration = Calibration.of(logits, labels, (rows, rows, labels))
    assert calibration.nll[0] == pytest.approx(5000 / 6)
    assert np.isfinite(calibration.nll).all()
    json.dumps(calibration.state()[1], allow_nan=False)
