"""α is the likeliest, near what is expected where shots say little, and 0 where the term is_worse."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

from tip_adapter.methods.selection.evidence import evidence_from_support
from tip_adapter.methods.selection.prior import expected_spread, likely_ratio, likely_text_weight
from tip_adapter.methods.selection.weight import choose, is_worse, likely_weights, nll_and_accuracy


def evidence_and_term(seed, shots, n_classes=12, quality=2.0):
    """Text that is right now and then, and a term whose logits are features themselves."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(n_classes), shots)
    truth = np.eye(n_classes)[labels]
    text = 1.5 * truth + rng.normal(size=truth.shape)
    features = (quality * truth + rng.normal(size=truth.shape)).astype(np.float32)
    return evidence_from_support(features, labels, text), lambda _: lambda kept: lambda queries: queries.astype(float)


def test_more_shots_are_expected_to_say_more_but_not_without_end():
    spreads = [expected_spread(shots) for shots in (1, 2, 4, 8, 16, 10_000)]
    assert spreads == sorted(spreads)
    assert spreads[1] == pytest.approx(spreads[-1] / 2, rel=1e-3)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.sampled_from([0.1, 1.0, 30.0]))
def test_texts_count_what_makes_the_shots_likeliest(seed, scale):
    """Against a grid of the loss written out."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 5, 40)
    text = 2.0 * np.eye(5)[labels] + rng.normal(size=(40, 5))
    grid = np.exp(np.linspace(-6, 6, 1201))
    losses = [40 * nll_and_accuracy(t * scale * text, labels)[0] + np.log(t) ** 2 / 8 for t in grid]
    assert likely_text_weight(scale * text, labels) == pytest.approx(grid[np.argmin(losses)], rel=0.05)


def test_texts_of_other_classes_count_nothing_also_with_one_shot_per_class():
    labels = np.arange(20)
    text = 10.0 * np.eye(20)[np.roll(labels, 1)]
    assert likely_text_weight(text, labels) < 0.05
    assert likely_text_weight(np.zeros((20, 20)), labels) == 1.0


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
def test_with_many_shots_the_likelihood_decides(seed):
    evidence, term = evidence_and_term(seed, shots=40)
    choice, _ = choose(evidence, term)
    logits, found = evidence.features.astype(float), (choice.text_weight, choice.alpha)

    def loss(t, alpha):
        return nll_and_accuracy(t * evidence.text + alpha * logits, evidence.labels)[0]

    # Priors count a nat or two among 480 shots.
    grid = [loss(t, alpha) for t in np.linspace(0.2, 3, 29) for alpha in np.linspace(0.2, 4, 39)]
    assert loss(*found) < min(grid) + 3 / len(logits)
    assert choice.alpha_seen == pytest.approx(choice.alpha)


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_one_shot_per_class_gets_the_spread_stated_beforehand_whatever_the_scales_of_text_and_term(scale):
    evidence, _ = evidence_and_term(0, shots=1)
    term = lambda _: lambda kept: lambda queries: scale * queries.astype(float)  # noqa: E731
    choice, _ = choose(evidence, term)
    assert choice.rule == "prior"
    assert np.isnan(choice.nll)
    assert choice.alpha * evidence.new_image_spread(term({})) == pytest.approx(expected_spread(1))


def test_few_shots_that_are_all_right_do_not_let_the_weight_grow_without_end():
    evidence, term = evidence_and_term(0, shots=2, quality=8.0)
    choice, _ = choose(evidence, term)
    assert choice.accuracy == 1.0
    assert choice.alpha * evidence.new_image_spread(term({})) < 4 * expected_spread(2)


def test_what_was_found_with_the_shots_of_a_fold_is_scaled_up():
    evidence, term = evidence_and_term(1, shots=4)
    (still, _), (grown, _) = choose(evidence, term), choose(evidence, term, growth=1.0)
    assert grown.alpha / grown.alpha_seen == pytest.approx(4 / 3)
    assert still.alpha == still.alpha_seen


def test_parameters_are_chosen_one_after_another():
    evidence, _ = evidence_and_term(2, shots=5)

    def term(parameters):
        return lambda kept: lambda queries: parameters["sign"] * queries ** parameters["power"]

    axes = {"sign": (-1.0, 1.0), "power": (3.0, 1.0)}
    choice, _ = choose(evidence, term, axes)
    assert choice.parameters["sign"] == 1.0
    assert len(choice.tried) == 3
    assert choice.nll == min(nll for _, nll in choice.tried)
    assert "sign = 1" in choice.summary


def test_an_term_that_is_wrong_gets_no_weight():
    evidence, term = evidence_and_term(3, shots=6, quality=-3.0)
    choice, _ = choose(evidence, term)
    zero_shot = choice.zero_shot_accuracy
    assert choice.accuracy >= zero_shot - 2 * np.sqrt(zero_shot * (1 - zero_shot) / choice.n_scored)


def test_an_term_without_opinion_gets_none():
    evidence, _ = evidence_and_term(4, shots=3)
    choice, _ = choose(evidence, lambda _: lambda kept: lambda queries: np.zeros((len(queries), 12)))
    assert choice.alpha == 0.0
    assert choice.accuracy == choice.zero_shot_accuracy


def test_a_given_alpha_is_kept():
    evidence, term = evidence_and_term(5, shots=3)
    assert choose(evidence, term, alpha=0.37)[0].alpha == 0.37


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
    assert not is_worse(right, some_wrong, labels)
    some_wrong[:9] = [0.0, 1.0]
    assert is_worse(right, some_wrong, labels)


@pytest.mark.parametrize("n", [6, 60, 2000])
@pytest.mark.parametrize("expected", [0.05, 0.4, 3.0])
def test_the_likely_ratio_is_the_minimum_of_its_loss(n, expected):
    """Against a fine grid of the loss written out; many images take the short way, few the long one."""
    rng = np.random.default_rng(n)
    labels = rng.integers(0, 4, n)
    text = rng.normal(size=(n, 4))
    term = rng.normal(size=(n, 4)) + 1.5 * np.eye(4)[labels]
    ratios = np.exp(np.linspace(np.log(expected) - 6, np.log(expected) + 6, 2401))
    losses = []
    for ratio in ratios:
        logits = text + ratio * term
        losses.append(np.sum(logsumexp(logits, axis=1) - logits[np.arange(n), labels]))
    best = ratios[np.argmin(losses + np.log(ratios / expected) ** 2 / (2 * np.log(2) ** 2))]
    assert likely_ratio(text, term, labels, expected) == pytest.approx(best, rel=0.01)
