"""Choose and fit a head for very many labelled photos, whose features are read a part at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from tip_adapter.methods.heads import LinearHead, zero_shot_logits
from tip_adapter.methods.heads.affinity import Cache
from tip_adapter.methods.heads.base import nll_per_sample, unit
from tip_adapter.methods.heads.gaussian import Moments
from tip_adapter.methods.heads.top_k import ExactKeys, nearest_mass
from tip_adapter.methods.selection.folds import one_of_each
from tip_adapter.methods.selection.weight import likely_weights, nll_and_accuracy
from tip_adapter.methods.softmax_regression import softmax_regressions
from tip_adapter.typing import BoolArray, Float32Array, FloatArray, IntArray

MANY = 20_000
"""Of more shots most methods would need all in the memory, and no few of them decide anything."""

HELD_OUT, MOST_OF_A_CLASS = 5000, 0.2
"""Shots that decide, equally many of every class, but no more than a fifth of one; of small classes, one of some."""

MAX_LOGITS = 5_000_000
"""Of the shots that decide, times classes: several such arrays of float64 are compared."""

KEPT = 10_000
"""Shots that a classifier keeps to show beside its answers."""

BLOCK = 8192
"""Shots that are looked at together."""

RIDGES = (1.0, 0.1, 0.01)

NEIGHBOURS, BETAS = (16, 64, 256), (5.5, 11.0, 22.0, 44.0)

MAX_COSINES = 200_000_000
"""Cosines that the cache of the nearest shots is measured with; of very many shots fewer photos decide about it."""

MAX_CACHE_BYTES = 2**30
"""Of the keys of a cache, all of which have to be in the memory."""

TOP_K = "tip-adapter-topk"


@dataclass(frozen=True, eq=False)
class ManyShots:
    """Labelled features, some of which are left out.

    Attributes
    ----------
    features : ndarray of shape (N, D), float32
        Unit rows, in the memory or on the disk.
    labels : ndarray of shape (N,), integers in [0, C)
    n_classes : int
    zero_shot_weights : ndarray of shape (C, D), float32, or None
    logit_scale : float
    asked : ndarray of shape (N,), bool
        Left out, and asked about.
    learned : ndarray of shape (N,), bool
        Learned from: neither left out nor of a group of those.
    """

    features: Float32Array
    labels: IntArray
    n_classes: int
    zero_shot_weights: Float32Array | None
    logit_scale: float
    asked: BoolArray
    learned: BoolArray

    def blocks(self, step: int = 1) -> Iterator[tuple[Float32Array, IntArray]]:
        """Read what is learned from: all of it, or one of every `step`."""
        for start in range(0, len(self.labels), BLOCK * step):
            rows = start + np.flatnonzero(self.learned[start : start + BLOCK * step])[::step]
            if rows.size:
                yield self.features[rows], self.labels[rows]

    @cached_property
    def queries(self) -> Float32Array:
        """Features that are asked about, (B, D)."""
        return self.features[self.asked]

    @cached_property
    def truth(self) -> IntArray:
        """Their classes, (B,)."""
        return self.labels[self.asked]

    @cached_property
    def moments(self) -> Moments:
        """Sums over what is learned from, in one reading."""
        parts = (Moments.of(features, labels, self.n_classes) for features, labels in self.blocks())
        total = next(parts)
        for part in parts:
            total = total.with_(part)
        return total

    def text(self, features: Float32Array) -> Float32Array:
        """Zero-shot logits."""
        return zero_shot_logits(features, self.zero_shot_weights, self.logit_scale, self.n_classes)

    def weighed(self, logits: FloatArray, asked: IntArray | None = None) -> FloatArray:
        """The likeliest weights of the texts and of other logits (B, C)."""
        rows = slice(None) if asked is None else asked
        terms = np.stack([self.text(self.queries[rows]).astype(np.float64), logits])
        textless = self.zero_shot_weights is None
        weights = likely_weights(terms[1:] if textless else terms, self.truth[rows], *_UNKNOWN[textless])
        return np.concatenate([[0.0], weights]) if textless else weights

    def linear(self, weights: FloatArray, bias: FloatArray, text_weight: float) -> LinearHead:
        """Put a linear function beside the texts."""
        return LinearHead(
            self.n_classes,
            self.zero_shot_weights,
            self.logit_scale * (1.0 if self.zero_shot_weights is None else text_weight),
            weights=weights.astype(np.float32),
            bias=bias.astype(np.float32),
        )


_UNKNOWN = {True: ((1.0,), (np.inf,)), False: ((1.0, 1.0), (np.inf, np.inf))}


@dataclass(frozen=True, eq=False)
class Candidate:
    """One of the heads that were tried, and its answers to all photos asked about, or to some; None is no head yet."""

    name: str
    logits: FloatArray
    head: LinearHead | None
    asked: IntArray | None = None


@dataclass(frozen=True, eq=False)
class HeadChoice:
    """The head that was chosen for very many shots.

    Attributes
    ----------
    name : str
        Of the method that it is the head of.
    head : LinearHead or None
        None where all shots are wanted as keys: `TOP_K`.
    summary : str
        What was chosen, and what from, for people.
    logits : ndarray of shape (B, C), float64
        Its answers to the shots left out.
    shots : ManyShots
    """

    name: str
    head: LinearHead | None
    summary: str
    logits: FloatArray
    shots: ManyShots

    @property
    def kept(self) -> IntArray:
        """Rows of some shots of every class that the head was fitted to, for a classifier to show."""
        rows = np.flatnonzero(self.shots.learned)
        return _some_of_each(rows, self.shots.labels[rows], max(1, KEPT // self.shots.n_classes))


def choose_head(
    features: Float32Array,
    labels: IntArray,
    zero_shot_weights: Float32Array | None,
    logit_scale: float,
    n_classes: int,
    *,
    groups: IntArray | None = None,
) -> HeadChoice | None:
    """Fit class means, Gaussians, a linear probe and a cache, and take the simplest that no other beats beyond chance.

    None where nothing can be left out: all are of one group, or of very few.

    Shapes: `features` (N, D), `labels` (N,), `zero_shot_weights` (C, D), `groups` (N,).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.many_shots import choose_head
    >>> rng, labels = np.random.default_rng(0), np.arange(600) % 2
    >>> rows = np.eye(2, 8)[labels] + rng.normal(0, 0.3, (600, 8))
    >>> rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    >>> choose_head(rows, labels, None, 100.0, 2).name
    'prototype'
    """
    asked, learned = _parted(features, labels, groups, n_classes)
    if not asked.any():
        return None
    shots = ManyShots(features, labels, n_classes, zero_shot_weights, logit_scale, asked, learned)
    gaussians = _gaussians(shots)
    tried = [_prototypes(shots), gaussians, _linear(shots, gaussians), _nearest(shots)]
    if zero_shot_weights is not None:
        text = shots.text(shots.queries).astype(np.float64)
        weight = float(likely_weights(text[None], shots.truth, *_UNKNOWN[True])[0])
        head = LinearHead(n_classes, zero_shot_weights, logit_scale * weight)
        tried.insert(0, Candidate("zero-shot", weight * text, head))
    best = _simplest(shots, tried)
    taken = best
    if best.head is None and features.nbytes > MAX_CACHE_BYTES:
        taken = _simplest(shots, [one for one in tried if one.head is not None])
    return HeadChoice(taken.name, taken.head, _summary(shots, tried, taken, best), taken.logits, shots)


def _parted(
    features: Float32Array, labels: IntArray, groups: IntArray | None, n_classes: int
) -> tuple[BoolArray, BoolArray]:
    """Choose what is left out, one of a group, and what is learned from, no group of those."""
    firsts = np.flatnonzero(one_of_each(features, labels, groups))
    counts = np.bincount(labels[firsts], minlength=n_classes)
    if groups is not None:
        firsts = firsts[np.isin(groups[firsts], _groups_to_leave_out(labels[firsts], groups[firsts]))]
    rng = np.random.default_rng(0)
    share = np.minimum((MOST_OF_A_CLASS * counts + (counts > 1) * rng.random(n_classes)).astype(np.intp), counts - 1)
    rows = _some_of_each(firsts, labels[firsts], np.minimum(-(-HELD_OUT // n_classes), share))
    rows = np.sort(rng.permutation(rows)[: MAX_LOGITS // n_classes])
    asked = np.zeros(len(labels), dtype=bool)
    asked[rows] = True
    learned = ~asked if groups is None else ~np.isin(groups, groups[rows])
    return asked, learned


def _groups_to_leave_out(labels: IntArray, groups: IntArray) -> IntArray:
    """Draw a fifth of the groups, so that every class keeps one; of classes in groups, each pair once."""
    names = np.random.default_rng(0).permutation(np.unique(groups))
    drawn = names[: round(MOST_OF_A_CLASS * len(names))]
    while True:
        lost = np.setdiff1d(labels, labels[~np.isin(groups, drawn)])
        if not lost.size:
            return drawn
        drawn = np.setdiff1d(drawn, groups[np.isin(labels, lost)])


def _some_of_each(rows: IntArray, labels: IntArray, most: IntArray | int) -> IntArray:
    """Draw at most so many rows of every class."""
    if not len(rows):
        return rows
    order = np.lexsort((np.random.default_rng(0).permutation(len(rows)), labels))
    _, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    rank = np.arange(len(rows)) - np.repeat(starts, counts)
    limits = np.broadcast_to(most, (int(labels.max()) + 1,)) if np.ndim(most) == 0 else np.asarray(most)
    return np.sort(rows[order[rank < limits[labels[order]]]])


def _prototypes(shots: ManyShots) -> Candidate:
    means = unit(shots.moments.means)
    logits = shots.logit_scale * (shots.queries @ means.T)
    text, gain = shots.weighed(logits)
    head = shots.linear(gain * shots.logit_scale * means, np.zeros(shots.n_classes), text)
    return Candidate("prototype", head.logits(shots.queries).astype(np.float64), head)


def _gaussians(shots: ManyShots) -> Candidate:
    tried = []
    for ridge in RIDGES:
        weights, bias = shots.moments.classifier(ridge)
        text, gain = shots.weighed(shots.queries @ weights.T + bias)
        head = shots.linear(gain * weights, gain * bias, text)
        tried.append(Candidate("gda", head.logits(shots.queries).astype(np.float64), head))
    return min(tried, key=lambda one: nll_and_accuracy(one.logits, shots.truth)[0])


def _linear(shots: ManyShots, gaussians: Candidate) -> Candidate:
    """Train a linear probe, from the Gaussians on, until it loses on what is left out."""
    best = gaussians
    for head in softmax_regressions(shots, gaussians.head):
        now = Candidate("linear-probe", head.logits(shots.queries).astype(np.float64), head)
        before, after = (nll_and_accuracy(one.logits, shots.truth)[0] for one in (best, now))
        if after >= before:
            break
        best = now
    return replace(best, name="linear-probe")


def _nearest(shots: ManyShots) -> Candidate:
    """The cache of the nearest shots, compared with all of them."""
    most = max(1, MAX_COSINES // len(shots.labels))
    rows = np.sort(np.random.default_rng(0).permutation(len(shots.truth))[:most])
    count = min(max(NEIGHBOURS) + max(NEIGHBOURS) // 4, len(shots.labels))
    cosines, found = ExactKeys(shots.features).nearest(shots.queries[rows], count)
    cosines = np.where(shots.learned[found], cosines, -np.inf)
    order = np.argsort(-cosines, axis=1)
    cosines, found = np.take_along_axis(cosines, order, axis=1), np.take_along_axis(found, order, axis=1)
    cache = _weights_of(shots)
    tried = []
    for neighbours in NEIGHBOURS:
        for beta in BETAS:
            mass = nearest_mass(cosines[:, :neighbours], shots.labels[found[:, :neighbours]], cache, beta)
            text, gain = shots.weighed(mass, rows)
            tried.append(text * shots.text(shots.queries[rows]) + gain * mass)
    best = min(tried, key=lambda logits: nll_and_accuracy(logits, shots.truth[rows])[0])
    return Candidate(TOP_K, best, None, rows)


def _weights_of(shots: ManyShots) -> Cache:
    """What `nearest_mass` needs of a cache: how classes are weighed."""
    counts = shots.moments.counts
    classes = np.flatnonzero(counts)
    cache = Cache.build(np.zeros((len(classes), 1), dtype=np.float32), classes, shots.n_classes)
    return replace(cache, weights=counts.sum() / (len(classes) * counts[classes]))


def _simplest(shots: ManyShots, tried: list[Candidate]) -> Candidate:
    """The first that loses no more against the best than chance explains."""
    rows = next((one.asked for one in tried if one.asked is not None), np.arange(len(shots.truth)))
    truth = shots.truth[rows]
    losses = [nll_per_sample(one.logits[rows] if one.asked is None else one.logits, truth) for one in tried]
    best = min(losses, key=np.mean)
    lost = [loss - best for loss in losses]
    alike = (one for one, by in zip(tried, lost, strict=True) if by.mean() <= 2 * by.std() / np.sqrt(len(by)))
    return next(alike)  # the best loses nothing against itself


def _summary(shots: ManyShots, tried: list[Candidate], taken: Candidate, best: Candidate) -> str:
    figures = {}
    for one in tried:
        nll, accuracy = nll_and_accuracy(one.logits, shots.truth if one.asked is None else shots.truth[one.asked])
        figures[one.name] = f"{100 * accuracy:.1f} % ({nll:.3f})"
    others = ", ".join(f"{name} {told}" for name, told in figures.items() if name != taken.name)
    learned = len(shots.labels) if taken.head is None else int(shots.learned.sum())
    said = (
        f"{taken.name} of {learned:,} photos, the simplest that none beats beyond chance on {len(shots.truth):,} left "
        f"out: {figures[taken.name]} against {others}; in brackets the likelihood loss; with up to {MANY:,} photos "
        "auto is gda, and proker beside it"
    )
    if best is not taken:
        gigabytes = shots.features.nbytes / 1e9
        said += f"; {best.name} is better, but keeps {gigabytes:.1f} GB in the memory: name it with --method"
    return said
