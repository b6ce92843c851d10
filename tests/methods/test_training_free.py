"""What every training-free method owes its users, whatever its formula."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny_features import unit
from tip_adapter.errors import FeatureError, FeatureWarning, InputError
from tip_adapter.methods import METHODS, describe
from tip_adapter.methods.heads import head_from_state, head_state

NAMES = ("tip-adapter", "tip-adapter-topk", "tip-x", "ape", "gda", "proker", "prototype", "knn", "linear-probe", "auto")
VISION_ONLY = ("prototype", "knn", "linear-probe")
# L-BFGS stops where it is near enough.
TOLERANCE = {"linear-probe": 2e-2}


def problem(seed, counts, dim=12, noise=0.6):
    """Texts, shots, labels and queries of classes that can be told apart, though not at once."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(len(counts), dim))
    labels = np.repeat(np.arange(len(counts)), counts)
    shots = unit(centres[labels] + noise * rng.normal(size=(len(labels), dim)))
    texts = unit(centres + noise * rng.normal(size=centres.shape))
    return texts, shots, labels, unit(centres[rng.integers(0, len(counts), 15)] + noise * rng.normal(size=(15, dim)))


def fitted(name, texts, shots, labels, **kwargs):
    return METHODS[name](texts, logit_scale=20.0, **kwargs).fit(shots, labels)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 1000),
    counts=st.sampled_from([(1, 1, 1), (2, 2, 2), (3, 1, 4), (4, 4, 4, 4), (5, 2), (9, 9, 9)]),
)
def test_permuting_shots_changes_nothing_and_permuting_classes_permutes_columns(name, seed, counts):
    texts, shots, labels, queries = problem(seed, counts)
    logits = fitted(name, texts, shots, labels).logits(queries)
    assert np.isfinite(logits).all()
    tolerance = {"rtol": TOLERANCE.get(name, 1e-3), "atol": TOLERANCE.get(name, 1e-3) * max(1.0, np.ptp(logits[:, :2]))}

    order = np.random.default_rng(seed).permutation(len(labels))
    np.testing.assert_allclose(fitted(name, texts, shots[order], labels[order]).logits(queries), logits, **tolerance)

    classes = np.random.default_rng(seed + 1).permutation(len(counts))
    renamed = fitted(name, texts[classes], shots, np.argsort(classes)[labels]).logits(queries)
    np.testing.assert_allclose(renamed, logits[:, classes], **tolerance)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 1000), size=st.integers(1, 14))
def test_the_batch_size_does_not_matter(name, seed, size):
    texts, shots, labels, queries = problem(seed, (3, 3, 3))
    method = fitted(name, texts, shots, labels)
    parts = np.concatenate([method.logits(queries[:size]), method.logits(queries[size:])])
    np.testing.assert_allclose(parts, method.logits(queries), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("counts", [(1, 1, 1), (2, 2, 2), (1, 7, 2), (20, 1, 1)])
def test_few_and_unequal_shots_are_fine(name, counts):
    texts, shots, labels, queries = problem(3, counts)
    assert np.isfinite(fitted(name, texts, shots, labels).logits(queries)).all()


def test_texts_of_the_caller_stay_as_they_are():
    texts, shots, labels, _ = problem(0, (3, 3))
    texts = 2 * texts
    before = texts.copy()
    texts.setflags(write=False)
    with pytest.warns(FeatureWarning, match="normalised"):
        METHODS["tip-adapter"](texts, alpha=1.0, beta=1.0).fit(shots, labels)
    np.testing.assert_array_equal(texts, before)


@pytest.mark.parametrize("name", NAMES)
def test_copies_of_one_photo_are_fine(name):
    texts, shots, labels, queries = problem(4, (1, 1, 1))
    method = fitted(name, texts, np.repeat(shots, 3, axis=0), np.repeat(labels, 3))
    assert np.isfinite(method.logits(queries)).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_class_without_shots_has_a_finite_logit(name):
    texts, shots, labels, queries = problem(5, (4, 4, 4))
    kept = labels != 1
    method = fitted(name, texts, shots[kept], labels[kept])
    logits = method.logits(queries)
    assert logits.shape[1] == 3
    assert np.isfinite(logits).all()
    if name in VISION_ONLY:
        assert 1 not in method.predict(queries)


@pytest.mark.parametrize("name", NAMES)
def test_a_class_without_text_can_be_predicted(name):
    texts, shots, labels, _ = problem(6, (8, 8, 8), noise=0.15)
    texts[1] = np.nan
    method = fitted(name, texts, shots, labels)
    assert np.isfinite(method.logits(shots)).all()
    assert np.mean(method.predict(shots[labels == 1]) == 1) > 0.7


@pytest.mark.parametrize("name", NAMES)
def test_without_any_text_shots_answer_or_the_method_says_that_it_needs_text(name):
    _, shots, labels, _ = problem(7, (6, 6, 6), noise=0.2)
    if METHODS[name].needs_text:
        with pytest.raises(InputError, match="texts"):
            METHODS[name]().fit(shots, labels)
    else:
        assert METHODS[name]().fit(shots, labels).score(shots, labels) > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_what_is_said_of_the_use_of_text_is_so(name):
    texts, shots, labels, queries = problem(10, (4, 4, 4))
    same = np.array_equal(
        fitted(name, texts, shots, labels).logits(queries), fitted(name, texts[::-1], shots, labels).logits(queries)
    )
    assert METHODS[name].uses_text != same


def test_every_method_is_described_in_one_line():
    assert max(len(describe(name)) for name in METHODS) <= 100


@pytest.mark.parametrize("name", NAMES)
def test_without_text_a_class_without_shots_is_never_predicted(name):
    if METHODS[name].needs_text:
        pytest.skip(f"{name} needs text")
    _, shots, labels, queries = problem(8, (6, 6, 6))
    names = ["a", "b", "c", "unseen"]
    method = METHODS[name](class_names=names).fit(shots, labels)
    assert 3 not in method.predict(queries)


@pytest.mark.parametrize("name", NAMES)
def test_validation_images_are_accepted_with_names(name):
    texts, shots, labels, queries = problem(9, (5, 5, 5))
    names = np.array(["zebra", "ant", "mole"])
    truth = (queries @ texts.T).argmax(axis=1)
    method = METHODS[name](texts, class_names=list(names), logit_scale=20.0)
    method.fit(shots, names[labels], validation=(queries, names[truth]))
    assert set(method.predict(queries)) <= set(names)


@pytest.mark.parametrize("name", ["gda", "proker", "tip-x", "ape", "auto"])
def test_a_validation_set_is_answered_at_least_as_well_as_by_text_alone(name):
    texts, shots, labels, queries = problem(10, (5, 5, 5))
    truth = problem(10, (5, 5, 5))[3] @ texts.T
    truth = truth.argmax(axis=1)
    truth[:5] = (truth[:5] + 1) % 3
    method = METHODS[name](texts, logit_scale=20.0).fit(shots, labels, validation=(queries, truth))
    assert method.search_.rule == "validation"
    zero_shot = METHODS["zero-shot"](texts).fit(shots, labels)
    assert method.score(queries, truth) >= zero_shot.score(queries, truth)


def test_bad_validation_sets_are_explained():
    texts, shots, labels, queries = problem(11, (3, 3, 3))
    with pytest.raises(InputError, match="among the classes, got 7"):
        METHODS["gda"](texts).fit(shots, labels, validation=(queries, np.full(len(queries), 7)))
    with pytest.raises(InputError, match="a label for each"):
        METHODS["gda"](texts).fit(shots, labels, validation=(queries, [0]))
    with pytest.raises(FeatureError, match="another encoder"):
        METHODS["gda"](texts).fit(shots, labels, validation=(queries[:, :5], labels[: len(queries)]))


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("gda", {"alpha": -1}, "alpha to be at least 0"),
        ("proker", {"ridge": 0}, "ridge to be above 0"),
        ("proker", {"beta": "big"}, "beta to be at least 0, or 'auto'"),
        ("tip-x", {"alpha": 1.0}, "both as numbers or both as 'auto'"),
        ("ape", {"channels": 13}, "from 1 to 12"),
        ("knn", {"neighbours": 10}, "from 1 to 9"),
        ("linear-probe", {"strength": 0}, "strength to be above 0"),
        ("prototype", {"scale": float("nan")}, "scale to be at least 0"),
    ],
)
def test_wrong_hyper_parameters_are_explained(name, parameters, message):
    texts, shots, labels, _ = problem(12, (3, 3, 3))
    with pytest.raises(InputError, match=message):
        fitted(name, texts, shots, labels, **parameters)


@pytest.mark.parametrize("name", NAMES)
def test_a_fitted_formula_can_be_taken_apart_and_put_together(name):
    texts, shots, labels, queries = problem(13, (4, 4, 4))
    method = fitted(name, texts, shots, labels)
    again = head_from_state(*head_state(method.head_))
    np.testing.assert_array_equal(again.logits(queries), method.logits(queries))


@pytest.mark.parametrize("n_classes", [2, 3, 5, 9])
@pytest.mark.parametrize("name", ["tip-adapter", "gda", "proker", "auto"])
def test_one_text_for_all_classes_is_no_text(name, n_classes):
    """Products of equal rows differ by rounding from column to column; that must not weigh against the shots."""
    rng = np.random.default_rng(n_classes)
    centres, labels = rng.normal(size=(n_classes, 64)), np.repeat(np.arange(n_classes), 5)
    shots, queries = (unit(centres[labels] + 0.7 * rng.normal(size=(len(labels), 64))) for _ in range(2))
    texts = np.tile(unit(rng.normal(size=(1, 64))), (n_classes, 1)) + 1e-6 * rng.normal(size=(n_classes, 64))
    method = METHODS[name](texts.astype(np.float32)).fit(shots, labels)
    assert method.score(queries, labels) == 1
    assert method.predict_proba(queries).max(axis=1).min() > 1.5 / n_classes
