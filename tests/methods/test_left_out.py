"""Left-out logits are those of a fit that has not seen the shot, with what was chosen held."""

import numpy as np
import pytest

from tip_adapter.errors import InputError
from tip_adapter.methods import METHODS
from tip_adapter.methods.left_out import left_out_logits
from tip_adapter.methods.selection.folds import support_folds

TRAINING_FREE = [name for name, method in METHODS.items() if not (method.trains or method.transductive)]


def support(seed=0, shots=5, n_classes=6, dim=12):
    rng = np.random.default_rng(seed)
    texts = rng.normal(size=(n_classes, dim))
    labels = np.repeat(np.arange(n_classes), shots)
    features = texts[labels] + 1.2 * rng.normal(size=(len(labels), dim))
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (texts, features)]
    return unit[0].astype(np.float32), unit[1].astype(np.float32), labels


@pytest.mark.parametrize("name", TRAINING_FREE)
def test_a_shot_does_not_speak_for_itself(name):
    texts, features, labels = support()
    method = METHODS[name](texts, logit_scale=20.0).fit(features, labels)
    before = left_out_logits(method, features, labels)
    assert before.n_folds == 5
    assert len(before.rows) == len(labels)
    # With another class on one shot only the folds that keep it can answer otherwise.
    fold = support_folds(features, labels) == before.folds[3]
    changed = labels.copy()
    changed[3] = (labels[3] + 1) % 6
    after = np.zeros_like(before.logits)
    kept = ~fold
    clone = METHODS[name](texts, logit_scale=20.0).fit(features, labels)
    part = type(clone._support_set(features, labels))(features[kept], labels[kept], 6, texts, 20.0)
    after[fold] = clone._refit_head(part).logits(features[fold])
    np.testing.assert_allclose(before.logits[fold], after[fold], rtol=1e-5, atol=1e-5)


def test_tip_adapter_against_a_loop():
    texts, features, labels = support(1)
    method = METHODS["tip-adapter"](texts, logit_scale=20.0, alpha=0.7, beta=3.0).fit(features, labels)
    answers = left_out_logits(method, features, labels)
    for row in range(len(labels)):
        expected = 20.0 * texts.astype(float) @ features[row]
        for other in np.flatnonzero(answers.folds != answers.folds[row]):
            kept = np.sum((labels == labels[other]) & (answers.folds != answers.folds[row]))
            cosine = float(features[row].astype(float) @ features[other])
            expected[labels[other]] += 0.7 * np.exp(-3.0 * (1 - cosine)) * 5 / kept
        np.testing.assert_allclose(answers.logits[row], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["gda", "proker", "auto"])
def test_what_was_chosen_is_held(name):
    texts, features, labels = support(2)
    method = METHODS[name](texts, logit_scale=20.0).fit(features, labels)
    part = method._support_set(features, labels)
    np.testing.assert_allclose(
        method._refit_head(part).logits(features), method.head_.logits(features), rtol=1e-4, atol=1e-4
    )


def test_one_shot_per_class_leaves_nothing_to_ask():
    texts, features, labels = support(shots=1)
    answers = left_out_logits(METHODS["tip-adapter"](texts).fit(features, labels), features, labels)
    assert answers.n_folds == 0
    assert answers.logits.shape == (0, 6)


def test_a_class_of_one_shot_is_not_asked_about():
    texts, features, labels = support(3)
    keep = np.r_[0, 5:30]
    answers = left_out_logits(METHODS["gda"](texts).fit(features[keep], labels[keep]), features[keep], labels[keep])
    assert 0 not in answers.rows
    assert len(answers.rows) == 25


def test_queries_of_another_shape():
    texts, features, labels = support()
    method = METHODS["tip-adapter"](texts).fit(features, labels)
    with pytest.raises(InputError, match=r"queries of shape \(30, 12\), as the shots, got \(29, 12\)"):
        left_out_logits(method, features, labels, queries=features[1:])


def test_with_views_the_fits_to_the_rest_train_on_the_views_of_the_rest():
    pytest.importorskip("torch", reason="the extra torch is not installed")
    texts, features, labels = support(3)
    rng = np.random.default_rng(0)
    views = features[:, None] + 0.3 * rng.normal(size=(len(labels), 4, features.shape[1])).astype(np.float32)
    views /= np.linalg.norm(views, axis=2, keepdims=True)
    method = METHODS["task-res"](texts, logit_scale=20.0, epochs=3).fit(features, labels, views=views)
    answers = left_out_logits(method, features, labels, views=views)
    held = {**method.get_params(), **method.held_parameters()}
    for fold in range(answers.n_folds):
        kept = answers.folds != fold
        rest = METHODS["task-res"](**held).fit(features[kept], labels[kept], views=views[kept])
        np.testing.assert_allclose(answers.logits[~kept], rest.logits(features[~kept]), rtol=1e-5, atol=1e-5)
    without = left_out_logits(method, features, labels)
    assert np.abs(answers.logits - without.logits).max() > 1e-3


def test_a_second_fold_left_out_is_a_fit_to_what_neither_has():
    texts, features, labels = support(4, shots=3)
    method = METHODS["tip-adapter"](texts, logit_scale=20.0, alpha=0.7, beta=3.0).fit(features, labels)
    answers = left_out_logits(method, features, labels)
    for row in range(len(labels)):
        fold = answers.folds[row]
        both = (fold, {0: 1, 1: 0, 2: 0}[fold])
        kept = ~np.isin(answers.folds, both)
        expected = 20.0 * texts.astype(float) @ features[row]
        cosines = features[kept].astype(float) @ features[row]
        np.add.at(expected, labels[kept], 0.7 * 3 * np.exp(-3.0 * (1 - cosines)))
        np.testing.assert_allclose(answers.fewer[row], expected, rtol=1e-4, atol=1e-5)


def test_of_two_shots_the_texts_are_what_is_left_without_any():
    texts, features, labels = support(5, shots=2)
    method = METHODS["gda"](texts, logit_scale=20.0).fit(features, labels)
    answers = left_out_logits(method, features, labels)
    for fold in range(2):
        rest = METHODS["gda"](texts, logit_scale=20.0).fit(
            features[answers.folds != fold], labels[answers.folds != fold]
        )
        rows = answers.folds == fold
        # One shot of a class follows its own rule, whatever two would have chosen.
        np.testing.assert_allclose(answers.logits[rows], rest.logits(features[rows]), rtol=1e-4, atol=1e-4)
        expected = 20.0 * rest.text_weight_ * features[rows] @ texts.T
        np.testing.assert_allclose(answers.fewer[rows], expected, rtol=1e-4, atol=1e-4)
    assert left_out_logits(METHODS["knn"]().fit(features, labels), features, labels).fewer is None
