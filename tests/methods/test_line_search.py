"""α at the edges: nothing to gain, everything to gain, ties, and large numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tip_adapter.methods.selection.line_search import best_accuracy_alpha, best_likelihood_alpha

LABELS = np.array([0, 1, 1])
RIGHT = np.eye(2)[LABELS]


@pytest.mark.parametrize("find", [best_accuracy_alpha, best_likelihood_alpha])
def test_a_cache_that_says_nothing(find):
    assert find(2 * RIGHT, np.zeros((3, 2)), LABELS)[0] == 0
    assert find(2 * RIGHT, np.full((3, 2), 5.0), LABELS)[0] == 0


@pytest.mark.parametrize("find", [best_accuracy_alpha, best_likelihood_alpha])
def test_a_cache_that_is_wrong(find):
    assert find(2 * RIGHT, 1 - RIGHT, LABELS)[0] == 0


def test_a_cache_that_is_always_right():
    assert best_accuracy_alpha(1 - RIGHT, RIGHT, LABELS)[1] == 1.0
    alpha, nll = best_likelihood_alpha(1 - RIGHT, RIGHT, LABELS)
    assert np.isfinite(alpha)
    assert alpha > 5
    assert nll < 0.01


def test_a_tie_is_no_success():
    # At α = 1 both classes are equal; only beyond it the image is right.
    alpha, accuracy = best_accuracy_alpha(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]), np.array([1]))
    assert (alpha > 1, accuracy) == (True, 1.0)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 100_000), scale=st.sampled_from([1e-4, 1.0, 1e4]))
def test_units_of_the_cache_do_not_matter(seed, scale):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, 25)
    text, cache = rng.standard_normal((2, 25, 3))
    assert best_accuracy_alpha(text, scale * cache, labels)[1] == best_accuracy_alpha(text, cache, labels)[1]
    alpha, nll = best_likelihood_alpha(text, cache, labels)
    scaled, same = best_likelihood_alpha(text, scale * cache, labels)
    assert same == pytest.approx(nll, abs=1e-4)
    assert scaled * scale == pytest.approx(alpha, abs=2e-2)
    assert nll <= best_likelihood_alpha(text, 0 * cache, labels)[1] + 1e-6


def test_large_alphas_that_say_nothing_are_not_looked_for():
    # The last image is right only where the cache outweighs the text a million times.
    text, cache = np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([[0.0, 1.0], [0.0, 1e-6]])
    alpha, accuracy = best_accuracy_alpha(text, cache, np.array([1, 1]))
    assert accuracy == 0.5
    assert 1 < alpha < 100
