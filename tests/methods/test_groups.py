"""Shots that show the same moment leave together, and are asked about once."""

import numpy as np
import pytest

from tiny_features import unit
from tip_adapter.errors import InputError
from tip_adapter.methods import METHODS
from tip_adapter.methods.left_out import left_out_logits
from tip_adapter.methods.selection.folds import support_folds

DIM, CLASSES = 48, 5


def bursts(seed, photos, frames=8, noise=1.4, jitter=0.1):
    """Frames of few photos of every class, the photo each is of, and as many photos that are not among them."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(CLASSES, DIM))
    shown = np.repeat(np.arange(CLASSES), photos)
    scenes = centres[shown] + noise * rng.normal(size=(len(shown), DIM))
    groups = np.repeat(np.arange(len(shown)), frames)
    features = scenes[groups] + jitter * rng.normal(size=(len(groups), DIM))
    truth = np.repeat(np.arange(CLASSES), 100)
    queries = centres[truth] + noise * rng.normal(size=(len(truth), DIM))
    texts = centres + 2.0 * rng.normal(size=centres.shape)
    return unit(features), shown[groups], groups, unit(queries), truth, unit(texts)


@pytest.mark.parametrize("groups", [[0, 0, 1, 2, 2, 3], [5, 5, 5, 5, 1, 1], [0, 0, 0, 1, 1, 0]])
def test_no_group_is_on_both_sides(groups):
    groups = np.array(groups)
    features = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    folds = support_folds(features, np.array([0, 0, 0, 1, 1, 1]), groups=groups)
    for group in set(groups):
        assert len(set(folds[groups == group])) == 1


@pytest.mark.parametrize("name", ["tip-adapter", "gda", "proker", "auto"])
def test_left_out_answers_are_as_good_as_those_to_new_photos(name):
    stated, apart, measured = [], [], []
    for seed in range(4):
        X, y, groups, queries, truth, texts = bursts(seed, photos=4)
        method = METHODS[name](texts, logit_scale=20.0).fit(X, y, groups=groups)
        answers = left_out_logits(method, X, y, groups=groups)
        assert len(answers.rows) == len(set(groups))
        stated.append(np.mean(answers.logits.argmax(axis=1) == answers.labels))
        careless = left_out_logits(METHODS[name](texts, logit_scale=20.0).fit(X, y), X, y)
        apart.append(np.mean(careless.logits.argmax(axis=1) == careless.labels))
        measured.append(method.score(queries, truth))
    assert np.mean(apart) > 0.97
    assert abs(np.mean(stated) - np.mean(measured)) < 0.1


@pytest.mark.parametrize("name", ["tip-adapter", "gda", "proker", "auto", "linear-probe", "knn", "lp-plus-plus"])
def test_one_group_a_class_follows_the_rule_for_one_shot(name):
    X, y, groups, queries, truth, texts = bursts(0, photos=1)
    method = (
        METHODS[name](
            texts if METHODS[name].uses_text else None,
            logit_scale=20.0,
            **({} if METHODS[name].uses_text else {"class_names": list(range(CLASSES))}),
        )
        if name not in ("linear-probe", "knn")
        else METHODS[name]()
    )
    method.fit(X, y, groups=groups)
    assert not len(left_out_logits(method, X, y, groups=groups).rows)
    assert method.score(queries, truth) > 1 / CLASSES


def test_names_of_groups_are_any_and_their_number_is_checked():
    X, y, groups, *_, texts = bursts(0, photos=2)
    by_number = METHODS["gda"](texts).fit(X, y, groups=groups)
    by_name = METHODS["gda"](texts).fit(X, y, groups=[f"burst {group}" for group in groups])
    assert by_number.alpha_ == pytest.approx(by_name.alpha_)
    with pytest.raises(InputError, match=r"a group for each of 80 shots, got an array of shape \(3,\)"):
        METHODS["gda"](texts).fit(X, y, groups=[1, 2, 3])


def test_every_shot_its_own_group_changes_nothing():
    X, y, _, queries, _, texts = bursts(0, photos=3, frames=1)
    plain, own = (METHODS["auto"](texts).fit(X, y, groups=given) for given in (None, np.arange(len(y))))
    np.testing.assert_array_equal(plain.logits(queries), own.logits(queries))


@pytest.mark.parametrize("name", ["tip-adapter", "tip-adapter-topk", "gda", "proker", "auto", "ape", "tip-x", "timo"])
def test_groups_through_several_classes_that_leave_no_class_a_shot(name):
    """Two visits: the first group of every class is left out with both, so that nothing is."""
    rng = np.random.default_rng(0)
    labels, groups = np.array([0, 1, 1, 1]), np.array([0, 0, 1, 1])
    shots, texts = unit(rng.normal(size=(4, 8))), unit(rng.normal(size=(2, 8)))
    shots = shots[np.argsort(shots[:, 0])]  # folds go by features
    method = METHODS[name](texts, class_names=[0, 1], logit_scale=20.0).fit(shots, labels, groups=groups)
    assert np.isfinite(method.logits(shots)).all()
