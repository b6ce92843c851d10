"""Support sets: the right number, by seed, whatever the order of the classes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tip_adapter.data.sampling import sample_shots, shots_at_most, split_dataset
from tip_adapter.errors import InputError, ShotsWarning

SEEDS = st.integers(0, 2**32)


@st.composite
def labellings(draw):
    counts = draw(st.lists(st.integers(1, 12), min_size=1, max_size=6))
    return np.array(draw(st.permutations(np.repeat(np.arange(len(counts)), counts).tolist())))


@given(labellings(), st.integers(1, 12), SEEDS)
def test_every_class_gives_its_shots(labels, shots, seed):
    chosen = sample_shots(labels, shots, random_state=seed, at_most=True)
    assert (np.diff(chosen) > 0).all()
    expected = np.minimum(np.bincount(labels), shots)
    np.testing.assert_array_equal(np.bincount(labels[chosen]), expected)


@given(labellings(), st.integers(1, 11), SEEDS)
def test_fewer_shots_are_among_more(labels, shots, seed):
    fewer, more = (sample_shots(labels, k, random_state=seed, at_most=True) for k in (shots, shots + 1))
    assert set(fewer) <= set(more)


@given(labellings(), SEEDS, SEEDS)
def test_mixing_the_classes_differently_draws_the_same_items(labels, seed, order_seed):
    rank_in_class = np.array([np.sum(labels[:i] == label) for i, label in enumerate(labels)])
    noise = np.random.default_rng(order_seed).random(len(labels))
    order = np.lexsort((noise, rank_in_class))  # another mixture, the same order within each class
    drawn = sample_shots(labels, 2, random_state=seed, at_most=True)
    redrawn = order[sample_shots(labels[order], 2, random_state=seed, at_most=True)]
    assert {(labels[i], rank_in_class[i]) for i in drawn} == {(labels[i], rank_in_class[i]) for i in redrawn}


def test_names_and_indices_draw_alike():
    labels = np.repeat([0, 1, 2], 9)
    names = np.array(["cat", "dog", "emu"])[labels]
    np.testing.assert_array_equal(sample_shots(labels, 3, random_state=5), sample_shots(names, 3, random_state=5))


def test_seeds_differ_and_repeat():
    labels = np.repeat(np.arange(5), 40)
    first, again, other = (sample_shots(labels, 4, random_state=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_classes_do_not_draw_the_same_positions():
    chosen = sample_shots(np.repeat(np.arange(20), 100), 5, random_state=0)
    assert len({tuple(part % 100) for part in chosen.reshape(20, 5)}) == 20


def test_every_item_is_as_likely():
    counts = sum(np.bincount(sample_shots([0] * 10, 3, random_state=seed), minlength=10) for seed in range(2000))
    assert np.abs(counts / 2000 - 0.3).max() < 0.05


def test_none_takes_all():
    np.testing.assert_array_equal(sample_shots([1, 0, 1], None, random_state=0), [0, 1, 2])


def test_too_many_shots_name_the_class_and_the_remedy():
    message = (
        r"^Expected at least 3 images of every class, got 1 image of 'dog': add images, or ask for at most 1 shots$"
    )
    with pytest.raises(InputError, match=message):
        sample_shots([0, 0, 0, 1], 3, random_state=0, class_names=("cat", "dog"))
    with pytest.raises(InputError, match="got 1 image of '1'"):
        sample_shots([0, 0, 0, 1], 3, random_state=0)


@pytest.mark.parametrize(
    ("labels", "shots", "seed", "message"),
    [
        ([], 1, 0, "labels of shape"),
        ([[0]], 1, 0, "labels of shape"),
        ([0], 0, 0, "at least 1 shot per class as a whole number, got 0: use None for all"),
        ([0], 1, -1, "random_state to be a whole number of at least 0"),
    ],
)
def test_arguments_out_of_range(labels, shots, seed, message):
    with pytest.raises(InputError, match=message):
        sample_shots(labels, shots, random_state=seed)


@given(labellings(), SEEDS)
def test_parts_are_disjoint_and_stratified(labels, seed):
    labels = np.concatenate([labels, labels, labels, labels])
    parts = split_dataset(labels, (0.5, 0.25, 0.25), random_state=seed)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(len(labels)))
    for part, share in zip(parts, (0.5, 0.25, 0.25), strict=True):
        np.testing.assert_array_equal(np.bincount(labels[part]), np.bincount(labels) * share)


def test_what_is_left_over_is_in_no_part():
    (part,) = split_dataset(["a"] * 10 + ["b"] * 20, [0.3], random_state=0)
    assert len(part) == 9


def test_thirds_leave_nothing_out():
    parts = split_dataset([0] * 10, [1 / 3] * 3, random_state=0)
    assert sorted(map(len, parts)) == [3, 3, 4]


@pytest.mark.parametrize("fractions", [(), (0.5, 0.6), (0.5, 0), (-0.5, 0.5), (np.nan,)])
def test_fractions_out_of_range(fractions):
    with pytest.raises(InputError, match="Expected positive fractions with a sum of at most 1, got"):
        split_dataset([0, 1], fractions, random_state=0)


def test_a_class_too_small_for_every_part_is_named():
    with pytest.raises(InputError, match=r"in all 2 parts, 1 of 'dog' do not suffice: add images, or change"):
        split_dataset(["cat"] * 4 + ["dog"], (0.5, 0.5), random_state=0)


def test_at_most_takes_all_of_a_small_class_and_warns_which():
    labels = np.repeat([0, 1, 2], [9, 2, 3])
    with pytest.warns(ShotsWarning, match=r"^Fewer than 4 photos in 2 of 3 classes, .*: hat \(2\), sky \(3\)$"):
        chosen = shots_at_most(labels, 4, random_state=3, class_names=("red", "hat", "sky"))
    np.testing.assert_array_equal(np.bincount(labels[chosen]), [4, 2, 3])
    np.testing.assert_array_equal(chosen, sample_shots(labels, 4, random_state=3, at_most=True))
    with pytest.warns(ShotsWarning, match=r"^Fewer than 10 photos in every class.*0 \(1\).* and 3 more$"):
        shots_at_most(np.arange(8), 10, random_state=0)


def test_at_most_is_exact_and_silent_where_there_are_enough():
    labels = np.repeat([0, 1], 5)
    np.testing.assert_array_equal(shots_at_most(labels, 5, random_state=1), sample_shots(labels, 5, random_state=1))
    np.testing.assert_array_equal(shots_at_most(labels, None, random_state=1), np.arange(10))
