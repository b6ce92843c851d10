"""Left-out answers never see the image they are for, and know what leaving out costs."""

import numpy as np
import pytest

from tip_adapter.methods.selection.evidence import evidence_from_support, evidence_from_validation, spread


def shots(counts, dim=6, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    return rng.normal(size=(len(labels), dim)).astype(np.float32), labels


def test_no_image_is_answered_by_a_fit_that_saw_it():
    features, labels = shots((4, 3, 6))
    evidence = evidence_from_support(features, labels, np.zeros((13, 3)))

    def fit(kept):
        seen = {row.tobytes() for row in features[kept]}
        assert set(labels[kept]) == {0, 1, 2}

        def logits(queries):
            assert not seen & {row.tobytes() for row in queries}
            return np.ones((len(queries), 3))

        return logits

    np.testing.assert_array_equal(evidence.logits(fit), 1)


@pytest.mark.parametrize(
    ("counts", "rule", "n_folds", "growth"),
    [
        ((1, 1, 1), "prior", 1, 1.0),
        ((2, 2, 2), "cross-validation and prior", 2, 2.0),
        ((4, 4), "cross-validation", 4, 4 / 3),
        ((16, 16), "cross-validation", 8, 16 / 14),
        ((1, 3), "cross-validation and prior", 3, 1.5),
    ],
)
def test_the_rule_follows_from_the_shots(counts, rule, n_folds, growth):
    features, labels = shots(counts)
    evidence = evidence_from_support(features, labels, np.zeros((len(labels), len(counts))))
    assert (evidence.rule, evidence.n_folds) == (rule, n_folds)
    assert evidence.growth == pytest.approx(growth)


def test_a_shot_whose_class_has_no_other_does_not_count():
    features, labels = shots((1, 3))
    assert evidence_from_support(features, labels, np.zeros((4, 2))).scored.tolist() == [False, True, True, True]


def test_a_validation_set_is_answered_by_all_shots():
    features, labels = shots((2, 2))
    evidence = evidence_from_validation(features[:3], labels[:3], np.zeros((3, 2)), labels)

    def fit(kept):
        assert kept.tolist() == [True] * 4
        return lambda queries: np.full((len(queries), 2), 7.0)

    assert evidence.n_folds == 0
    np.testing.assert_array_equal(evidence.logits(fit), 7.0)


def test_the_spread_on_new_images_is_taken_where_a_class_was_left_out():
    features, labels = shots((2,) * 10)
    evidence = evidence_from_support(features, labels, np.zeros((20, 10)))
    seen_classes = []

    def fit(kept):
        present = np.unique(labels[kept])
        seen_classes.append(present)

        def logits(queries):
            absent = np.setdiff1d(np.arange(10), present)
            assert {row.tobytes() for row in queries} == {row.tobytes() for row in features[np.isin(labels, absent)]}
            # Logits of classes that were left out must not count.
            result = np.tile(np.where(np.arange(10) % 2, 1.0, -1.0), (len(queries), 1))
            result[:, absent] = 1e6
            return result

        return logits

    assert evidence.new_image_spread(fit) == pytest.approx(1.0, abs=0.05)
    left_out = np.concatenate([np.setdiff1d(np.arange(10), present) for present in seen_classes])
    assert sorted(left_out) == list(range(10))


def test_spread_without_images_is_none():
    assert spread(np.zeros((0, 4))) == 0.0
