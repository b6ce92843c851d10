"""α is the likeliest, near what is expected where shots say little, and 0 where the expert harms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

from tip_adapter.methods.selection.evidence import evidence_from_support, spread
from tip_adapter.methods.selection.prior import SpreadPrior, likely_ratio
from tip_adapter.methods.selection.weight import choose, harms, likely_weights, nll_and_accuracy

PRIOR = SpreadPrior({1: 0.2, 16: 2.0})


def evidence_and_expert(seed, shots, n_classes=12, quality=2.0):
    """Text that is right now and then, and an expert whose logits are features themselves."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(n_classes), shots)
    truth = np.eye(n_classes)[labels]
    text = 1.5 * truth + rng.normal(size=truth.shape)
    features = (quality * truth + rng.normal(size=truth.shape)).astype(np.float32)
    return evidence_from_support(features, labels, text), lambda _: lambda kept: lambda queries: queries.astype(float)


def test_the_prior_grows_between_what_is_known():
    assert PRIOR.at(1) == pytest.approx(0.2)
    assert PRIOR.at(4) == pytest.approx(0.2 * 10**0.5)
    assert PRIOR.at(100) == pytest.approx(2.0)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
def test_with_many_shots_the_likelihood_decides(seed):
    evidence, expert = evidence_and_expert(seed, shots=40)
    choice = choose(evidence, expert, prior=SpreadPrior({1: 1.0}, growth=0.0))
    logits = evidence.features.astype(float)
    grid = np.linspace(0, 4, 401)
    best = min(grid, key=lambda alpha: nll_and_accuracy(evidence.text + alpha * logits, evidence.labels)[0])
    assert choice.alpha == pytest.approx(best, rel=0.05)
    assert choice.alpha_seen == pytest.approx(choice.alpha)


def test_one_shot_per_class_follows_the_ratio_stated_beforehand():
    evidence, expert = evidence_and_expert(0, shots=1)
    choice = choose(evidence, expert, prior=PRIOR)
    assert choice.rule == "prior"
    assert np.isnan(choice.nll)
    ratio = choice.alpha * evidence.new_image_spread(expert({})) / spread(evidence.text)
    assert ratio == pytest.approx(0.2)


def test_two_shots_per_class_stay_near_the_prior():
    evidence, expert = evidence_and_expert(0, shots=2, quality=8.0)
    ratios = []
    for width in (0.01, 10.0):
        choice = choose(evidence, expert, prior=SpreadPrior({1: 0.2}, growth=0.0, width=width))
        ratios.append(choice.alpha * evidence.new_image_spread(expert({})) / spread(evidence.text))
    assert ratios[0] == pytest.approx(0.2, rel=0.05)
    assert ratios[1] > 2 * ratios[0]


def test_what_was_found_with_the_shots_of_a_fold_is_scaled_up():
    evidence, expert = evidence_and_expert(1, shots=4)
    still = choose(evidence, expert, prior=SpreadPrior({1: 1.0}, growth=0.0))
    grown = choose(evidence, expert, prior=SpreadPrior({1: 1.0}, growth=1.0))
    assert grown.alpha / grown.alpha_seen == pytest.approx(4 / 3)
    assert still.alpha == still.alpha_seen


def test_parameters_are_chosen_one_after_another():
    evidence, _ = evidence_and_expert(2, shots=5)

    def expert(parameters):
        return lambda kept: lambda queries: parameters["sign"] * queries ** parameters["power"]

    axes = {"sign": (-1.0, 1.0), "power": (3.0, 1.0)}
    choice = choose(evidence, expert, axes, prior=PRIOR)
    assert choice.parameters["sign"] == 1.0
    assert len(choice.tried) == 3
    assert choice.nll == min(nll for _, nll in choice.tried)
    assert "sign = 1" in choice.summary


def test_an_expert_that_is_wrong_gets_no_weight():
    evidence, expert = evidence_and_expert(3, shots=6, quality=-3.0)
    choice = choose(evidence, expert, prior=PRIOR)
    zero_shot = choice.zero_shot_accuracy
    assert choice.accuracy >= zero_shot - 2 * np.sqrt(zero_shot * (1 - zero_shot) / choice.n_scored)


def test_an_expert_without_opinion_gets_none():
    evidence, _ = evidence_and_expert(4, shots=3)
    choice = choose(evidence, lambda _: lambda kept: lambda queries: np.zeros((len(queries), 12)), prior=PRIOR)
    assert choice.alpha == 0.0
    assert choice.nll == choice.zero_shot_nll


def test_a_given_alpha_is_kept():
    evidence, expert = evidence_and_expert(5, shots=3)
    assert choose(evidence, expert, prior=PRIOR, alpha=0.37).alpha == 0.37


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000))
def test_weights_are_at_the_minimum_of_a_convex_loss(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, 30)
    logits = np.stack([np.eye(4)[labels] * strength + rng.normal(size=(30, 4)) for strength in (2.0, 1.0, 0.0)])
    expected, widths = np.array([1.0, 0.5, 0.5]), np.array([0.5, 0.5, 1.0])

    def loss(weights):
        nll = 30 * nll_and_accuracy(np.tensordot(weights, logits, axes=1), labels)[0]
        return nll + np.sum(((weights - expected) / (widths * expected)) ** 2) / 2

    found = likely_weights(logits, labels, expected, widths)
    assert (found >= 0).all()
    for _ in range(20):
        other = np.maximum(found + 0.1 * rng.normal(size=3), 0)
        assert loss(found) <= loss(other) + 1e-4


def test_chance_is_no_harm():
    labels = np.zeros(40, dtype=int)
    right, some_wrong = np.tile([1.0, 0.0], (40, 1)), np.tile([1.0, 0.0], (40, 1))
    some_wrong[:3] = [0.0, 1.0]
    assert not harms(right, some_wrong, labels)
    some_wrong[:9] = [0.0, 1.0]
    assert harms(right, some_wrong, labels)


@pytest.mark.parametrize("n", [6, 60, 2000])
@pytest.mark.parametrize("expected", [0.05, 0.4, 3.0])
def test_the_likely_ratio_is_the_minimum_of_its_loss(n, expected):
    """Against a fine grid of the loss written out; many images take the short way, few the long one."""
    rng = np.random.default_rng(n)
    labels = rng.integers(0, 4, n)
    text = rng.normal(size=(n, 4))
    expert = rng.normal(size=(n, 4)) + 1.5 * np.eye(4)[labels]
    ratios = np.exp(np.linspace(np.log(expected) - 6, np.log(expected) + 6, 2401))
    losses = []
    for ratio in ratios:
        logits = text + ratio * expert
        losses.append(np.sum(logsumexp(logits, axis=1) - logits[np.arange(n), labels]))
    best = ratios[np.argmin(losses + np.log(ratios / expected) ** 2 / (2 * np.log(4) ** 2))]
    assert likely_ratio(text, expert, labels, expected) == pytest.approx(best, rel=0.01)
