"""Measure what classes with few shots lose to those with many, and correct it.

A term knows a class of one shot less well than one of sixteen, so its logits for that class stay lower, also on the
class's own images. How much lower is measured on classes that have many shots: some of them are cut to as few shots, or
to none, and asked about shots that were left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tip_adapter.methods.heads.base import log_sum_exp
from tip_adapter.methods.selection.evidence import Fit
from tip_adapter.typing import BoolArray, Float32Array, FloatArray, IntArray

if TYPE_CHECKING:
    from tip_adapter.methods.support_set import SupportSet

GROUPS = 4
"""Groups of classes, each of which is cut once."""


def class_offsets(support: SupportSet, fit: Fit) -> FloatArray:
    """Offsets (C,) of a term's logits: 0 but for classes with less than half of the shots of the largest class.

    They are the likeliest for ``text + term + offset`` on shots of classes that were cut: with them the
    probabilities of a class with few shots add up to what is there of it, so that it is named as often as it occurs.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.selection.class_offsets import class_offsets
    >>> from tip_adapter.methods.support_set import SupportSet
    >>> labels = np.array([0, 0, 0, 0, 1, 1, 1, 1, 2])
    >>> support = SupportSet(np.eye(3, dtype=np.float32)[labels], labels, 3, None, 1.0)
    >>> def fit(kept):  # a class's logit is ten times its cosine, times the share of four shots that it has
    ...     shares = 10 * np.bincount(labels[kept], minlength=3) / 4
    ...     return lambda queries: queries @ np.diag(shares)
    >>> class_offsets(support, fit).round(2)
    array([0. , 0. , 2.5])
    """
    counts, left_out = support.counts, support.shot_folds == 0
    few = 2 * counts < counts.max()
    # To be asked about some shots, a class needs others: a single burst leaves none.
    full = ~few
    for part in (left_out, ~left_out):
        full &= np.bincount(support.labels[part], minlength=support.n_classes) > 0
    offsets = np.zeros(support.n_classes)
    if few.any() and np.count_nonzero(full) > 1:
        if (none := few & (counts == 0)).any():
            offsets[none] = _lost(support, fit, full, 0)
        if (some := few & (counts > 0)).any():
            offsets[some] = _interpolated(support, fit, full, counts[some])
    return offsets


def _interpolated(support: SupportSet, fit: Fit, full: BoolArray, counts: IntArray) -> FloatArray:
    """Offsets of classes with so many shots: measured for the fewest and the most, between as noise of means."""
    ends = np.unique([counts.min(), counts.max()])[::-1]
    lost = [_lost(support, fit, full, int(left)) for left in ends]
    result: FloatArray = np.interp(1.0 / counts, 1.0 / ends, lost)
    return result


def _lost(support: SupportSet, fit: Fit, full: BoolArray, left: int) -> float:
    """Likeliest offset of classes that are cut to so many shots, at least 0."""
    labels, classes = support.labels, np.flatnonzero(full)
    asked = full[labels] & (support.shot_folds == 0)
    rank, known = _rank(support.features, labels, ~asked), labels[asked]
    leads, n_cut = [], 0
    n_groups = min(GROUPS, len(classes))
    for group in range(n_groups):
        cut = classes[group::n_groups]
        kept = ~asked & (~np.isin(labels, cut) | (rank < left))
        logits = support.text_of(asked) + fit(kept)(support.features[asked])
        leads.append(log_sum_exp(logits[:, np.setdiff1d(classes, cut)]) - log_sum_exp(logits[:, cut]))
        n_cut += int(np.isin(known, cut).sum())
    return max(0.0, _likeliest_shift(np.concatenate(leads), n_cut))


def _likeliest_shift(leads: FloatArray, n_cut: int) -> float:
    """Shift of the cut classes whose probabilities, one over 1 + exp(lead - shift), add up to their images."""
    from scipy.optimize import brentq
    from scipy.special import expit

    low, high = float(leads.min()) - 50.0, float(leads.max()) + 50.0
    return float(brentq(lambda shift: expit(shift - leads).sum() - n_cut, low, high))


def _rank(features: Float32Array, labels: IntArray, among: BoolArray) -> IntArray:
    """Number the shots of every class among some of them, in the order of their features: that of files is chance."""
    rank = np.full(len(labels), len(labels))
    order = np.lexsort((*features.T[:3][::-1], labels))
    order = order[among[order]]
    _, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    rank[order] = np.arange(len(order)) - np.repeat(starts, counts)
    return rank
