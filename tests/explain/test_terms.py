"""Parts of logits against loops written from the formulas, against the methods, and against fits without a shot."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny_features import random_units
from tip_adapter.explain.explainer import ridge_held
from tip_adapter.explain.terms import TakenApart
from tip_adapter.methods import METHODS, heads
from tip_adapter.methods.heads.gaussian import Moments
from tip_adapter.methods.trained.linear_probe import LinearProbe

EXACT = {
    "zero-shot": None,
    "tip-adapter": None,
    "tip-x": None,
    "ape": None,
    "proker": None,
    "gda": "gaussian",
    "auto": "gaussian",
    "prototype": "prototype",
}
NEED_TEXT = [name for name in EXACT if METHODS[name].needs_text]


def problem(seed=0, counts=(4, 2, 5, 3), dim=8, text="all"):
    """Shots near class directions, some queries, and texts."""
    rng = np.random.default_rng(seed)
    centres = random_units(rng, len(counts), dim)
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    shots = centres[labels] + 0.6 * random_units(rng, len(labels), dim)
    shots = (shots / np.linalg.norm(shots, axis=1, keepdims=True)).astype(np.float32)
    weights = random_units(rng, len(counts), dim)
    if text == "some":
        weights[1] = np.nan
    return shots, labels, random_units(rng, 5, dim), None if text == "none" else weights


def fitted(name, shots, labels, weights, n_classes):
    names = list(range(n_classes))
    return METHODS[name](weights, class_names=names, logit_scale=20.0).fit(shots, labels)


def taken_apart(name, method, shots, labels):
    return TakenApart(method.head_, shots, labels, EXACT[name], 20.0, ridge_held(method.held_parameters()))


def close(left, right):
    scale = np.abs(right).max()
    np.testing.assert_allclose(left, right, rtol=0, atol=1e-5 * max(scale, 1e-6))


@pytest.mark.parametrize("counts", [(4, 2, 5, 3), (3, 3), (1, 1, 1)])
@pytest.mark.parametrize(
    ("name", "text"),
    [(name, text) for name in EXACT for text in ("all", "some", "none") if text != "none" or name not in NEED_TEXT],
)
def test_text_and_shots_are_the_logits(name, counts, text):
    shots, labels, queries, weights = problem(counts=counts, text=text)
    method = fitted(name, shots, labels, weights, len(counts))
    parts = taken_apart(name, method, shots, labels).contributions(queries)
    assert parts.exact
    close(parts.logits(), method.head_.logits(queries))
    for column in range(len(counts)):
        for query in range(len(queries)):
            close(parts.text[query, column] + parts.to_class(query, column).sum(), parts.logits()[query, column])


WITHOUT_SHOTS = ["tip-adapter", "ape", "gda", "auto", "proker", "tip-x"]


@pytest.mark.parametrize(
    ("name", "text"), [*((name, "all") for name in WITHOUT_SHOTS), ("gda", "none"), ("prototype", "none")]
)
def test_a_class_without_shots(name, text):
    shots, labels, queries, weights = problem(text=text)
    kept = labels != 2
    method = fitted(name, shots[kept], labels[kept], weights, 4)
    parts = taken_apart(name, method, shots[kept], labels[kept]).contributions(queries)
    assert parts.exact
    close(parts.logits(), method.head_.logits(queries))
    for query in range(len(queries)):
        close(parts.text[query, 2] + parts.to_class(query, 2).sum(), parts.logits()[query, 2])
        assert text == "all" or np.all(parts.to_class(query, 2) == 0)


def heads_without(head, shot):
    """The head built again without one shot, with all that was fitted held."""
    rows = np.delete(np.arange(len(head.labels)), shot)
    changed = {"keys": head.keys[rows], "labels": head.labels[rows]}
    if isinstance(head, heads.ChannelCacheHead):
        changed["key_weights"] = head.key_weights[rows]
    if isinstance(head, heads.NeighbourHead):
        changed["neighbours"] = min(head.neighbours, len(rows))
    return dataclasses.replace(head, **changed)


@given(
    seed=st.integers(0, 10_000),
    counts=st.lists(st.integers(0, 4), min_size=2, max_size=5).filter(any),
    kind=st.sampled_from(["cache", "channels", "tip-x", "neighbours", "top-k"]),
    balanced=st.booleans(),
    alpha=st.sampled_from([0.0, 0.7, 30.0]),
    beta=st.sampled_from([0.0, 1.0, 8.0]),
)
@settings(max_examples=80, deadline=None)
def test_without_a_shot_is_a_head_built_without_it(seed, counts, kind, balanced, alpha, beta):
    shots, labels, queries, weights = problem(seed, tuple(counts))
    n = len(counts)
    shared = {"keys": shots, "labels": labels, "alpha": alpha, "beta": beta, "balanced": balanced}
    if kind == "cache":
        head = heads.CacheHead(n, weights, 20.0, **shared)
    elif kind == "channels":
        strengths = np.random.default_rng(seed).uniform(0.5, 2, len(labels)).astype(np.float32)
        channels = np.array([0, 3, 5])
        keys = shots[:, channels] / np.linalg.norm(shots[:, channels], axis=1, keepdims=True)
        head = heads.ChannelCacheHead(
            n, weights, 20.0, **shared | {"keys": keys}, key_weights=strengths, channels=channels
        )
    elif kind == "top-k":
        head = heads.TopKCacheHead(n, weights, 20.0, **shared, neighbours=3)
    elif kind == "tip-x":
        head = heads.TipXHead(n, weights, 20.0, **shared, gamma=0.4, slope=1.5, offset=0.3)
    else:
        head = heads.NeighbourHead(n, shots, labels, min(3, len(labels)))
    parts = TakenApart(head, shots, labels).contributions(queries)
    close(parts.logits(), head.logits(queries))
    shot = seed % len(labels)
    for query in range(2):
        close(parts.logits_without(query, shot), heads_without(head, shot).logits(queries[query : query + 1])[0])


@pytest.mark.parametrize("text", ["all", "some", "none"])
def test_without_a_kernel_the_others_are_solved_again(text):
    shots, labels, queries, weights = problem(text=text)
    given = {"alpha": 3.0, "beta": 1.5, "ridge": 0.2, "logit_scale": 20.0, "class_names": [0, 1, 2, 3]}
    head = METHODS["proker"](weights, **given).fit(shots, labels).head_
    apart = TakenApart(head, shots, labels)
    assert apart.solves_again
    parts = apart.contributions(queries)
    counts = np.bincount(labels)
    weight = counts[labels] / counts[counts > 0].mean()  # of the class, held
    texts = head.logits(shots) - np.exp(1.5 * (shots @ shots.T - 1)) @ head.coefficients  # scaled
    texts = texts - (0 if head.bias is None else head.bias)
    residuals = np.eye(4)[labels] - texts / 20.0
    for shot in range(len(labels)):
        kept = np.delete(np.arange(len(labels)), shot)
        kernel = np.exp(1.5 * (shots[kept].astype(float) @ shots[kept].T - 1))
        solved = 3.0 * np.linalg.solve(kernel / 0.2 + np.diag(weight[kept]), residuals[kept])
        again = dataclasses.replace(head, keys=shots[kept], coefficients=solved.astype(np.float32)).logits(queries)
        for query in range(len(queries)):
            close(parts.logits_without(query, shot), again[query])
            taken = [parts.taken_from_class(query, column)[shot] for column in range(4)]
            close(parts.logits()[query] - taken, again[query])


def test_without_a_kernel_that_solves_nothing(monkeypatch):
    shots, labels, queries, weights = problem()
    head = fitted("proker", shots, labels, weights, 4).head_
    rng = np.random.default_rng(0)
    odd = dataclasses.replace(head, coefficients=rng.normal(size=head.coefficients.shape).astype(np.float32))
    assert not TakenApart(odd, shots, labels).solves_again
    monkeypatch.setattr("tip_adapter.explain.terms.MAX_SOLVED", 5)
    assert not TakenApart(head, shots, labels).solves_again
    parts = TakenApart(head, shots, labels).contributions(queries)
    rows = np.delete(np.arange(len(labels)), 3)
    rest = dataclasses.replace(head, keys=head.keys[rows], coefficients=head.coefficients[rows])
    close(parts.logits_without(1, 3), rest.logits(queries)[1])


def gaussian_without(shots, labels, queries, texts, shot, scale):
    """Class means without a shot, of shots and text as `TextMeans` says, the precision of all: a loop."""
    precision = Moments.of(shots, labels, len(texts)).precision()(np.eye(shots.shape[1]))
    text_means = Moments.of(shots, labels, len(texts)).text_means(texts.astype(np.float64))
    kept = np.arange(len(labels)) != shot
    left = np.isin(np.arange(len(texts)), labels[kept])
    logits = np.empty((len(queries), len(texts)))
    for column in range(len(texts)):
        share = text_means.shares_of(np.bincount(labels[kept], minlength=len(texts)))[column]
        mean = share * text_means.expected[column]
        if left[column]:
            mean = mean + (1 - share) * shots[kept][labels[kept] == column].astype(np.float64).mean(axis=0)
        for row, query in enumerate(queries.astype(np.float64)):
            logits[row, column] = scale * (query - 0.5 * mean) @ precision @ mean
    return logits - logits[:, left].mean(axis=1, keepdims=True)


@pytest.mark.parametrize("counts", [(4, 2, 5, 3), (1, 4, 3), (2, 2)])
def test_without_a_shot_of_a_gaussian(counts):
    shots, labels, queries, weights = problem(counts=counts)
    method = METHODS["gda"](weights, class_names=list(range(len(counts))), logit_scale=20.0, alpha=0.8)
    head = method.fit(shots, labels).head_
    parts = TakenApart(head, shots, labels, "gaussian").contributions(queries)
    scale = 0.8 * shots.shape[1] / (len(shots) - 1)
    # What texts, and offsets of classes with few shots, add whatever the means are.
    others = head.logits(queries) - gaussian_without(shots, labels, queries, weights, None, scale)
    for shot in range(len(labels)):
        naive = gaussian_without(shots, labels, queries, weights, shot, scale)
        for query in range(len(queries)):
            close(parts.logits_without(query, shot), others[query] + naive[query])


@pytest.mark.parametrize("counts", [(4, 2, 5), (1, 3, 2)])
def test_without_a_shot_of_a_prototype(counts):
    shots, labels, queries, _ = problem(counts=counts)
    head = METHODS["prototype"](class_names=list(range(len(counts))), scale=7.0).fit(shots, labels).head_
    parts = TakenApart(head, shots, labels, "prototype").contributions(queries)
    for shot in range(len(labels)):
        kept = np.delete(np.arange(len(labels)), shot)
        again = METHODS["prototype"](class_names=list(range(len(counts))), scale=7.0).fit(shots[kept], labels[kept])
        for query in range(len(queries)):
            close(parts.logits_without(query, shot), again.head_.logits(queries)[query])


def test_other_linear_methods_have_a_rest():
    shots, labels, queries, weights = problem()
    head = LinearProbe(weights, class_names=[0, 1, 2, 3]).fit(shots, labels).head_
    # Also where it is taken for what it is not: weights that the shots did not make are noticed.
    for linear in (None, "gaussian", "prototype"):
        parts = TakenApart(head, shots, labels, linear).contributions(queries)
        assert not parts.exact
        assert parts.parts == ()
        close(parts.logits(), head.logits(queries))


def test_unknown_heads_have_a_rest():
    class Odd:
        def logits(self, features):
            return features[:, :3] * 2

    shots, labels, queries, _ = problem()
    parts = TakenApart(Odd(), shots, labels).contributions(queries)
    assert not parts.exact
    close(parts.logits(), queries[:, :3] * 2)


def test_a_kernel_with_a_foreign_linear_part():
    shots, labels, queries, weights = problem()
    rng = np.random.default_rng(1)
    head = heads.KernelHead(
        4,
        weights,
        20.0,
        keys=shots,
        coefficients=rng.normal(size=(len(labels), 4)).astype(np.float32),
        beta=1.0,
        weights=rng.normal(size=(4, 8)).astype(np.float32),
        bias=rng.normal(size=4).astype(np.float32),
    )
    parts = TakenApart(head, shots, labels, "gaussian").contributions(queries)
    assert not parts.exact
    assert len(parts.parts) == 1
    close(parts.logits(), head.logits(queries))
    close(parts.rest, heads.LinearHead(4, None, 1.0, head.weights, head.bias).logits(queries))


def test_no_queries():
    shots, labels, queries, weights = problem()
    for name, linear in EXACT.items():
        head = fitted(name, shots, labels, weights, 4).head_
        assert TakenApart(head, shots, labels, linear).contributions(queries[:0]).logits().shape == (0, 4)
