"""Folds of a support set: what leaves together, and which photos are asked about."""

from __future__ import annotations

import numpy as np

from tip_adapter.typing import BoolArray, Float32Array, IntArray

MAX_FOLDS = 8

MAX_ASKED = 5000
"""Shots that decide, where there are more. A number chosen on n of them loses half a nat in all against the best, so
1 / 2n on each: with so many .0001, which no figure shows."""


VERY_MANY = 2 * MAX_ASKED
"""Shots of which only those that decide are looked at: logits of all of a million would take gigabytes."""


def support_folds(
    features: Float32Array, labels: IntArray, max_folds: int = MAX_FOLDS, groups: IntArray | None = None
) -> IntArray:
    """Number the folds of a support set: each leaves out about one shot, or group of shots, of every class at once.

    There are ``min(max groups per class, max_folds)`` folds, and group i of a class is in fold i mod folds; groups are
    ordered by the features of their first shots, so that the order of files does not matter. A group with shots of
    several classes counts among those of the first. By default each shot is a group.

    Shapes: `features` (N, D), `labels`, `groups` (N,) → (N,).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.selection.folds import support_folds
    >>> features, labels = np.array([[0.1], [0.3], [0.2], [0.4]]), np.array([0, 0, 1, 1])
    >>> support_folds(features, labels), support_folds(features, labels, groups=np.array([0, 0, 1, 2]))
    (array([0, 1, 0, 1]), array([0, 0, 0, 1]))
    """
    order = np.lexsort((*features.T[:3][::-1], labels))
    firsts = order if groups is None else order[np.sort(np.unique(groups[order], return_index=True)[1])]
    _, starts, counts = np.unique(labels[firsts], return_index=True, return_counts=True)
    folds = np.empty(len(labels), dtype=np.intp)
    folds[firsts] = (np.arange(len(firsts)) - np.repeat(starts, counts)) % min(counts.max(), max_folds)
    if groups is None:
        return folds
    of_group = np.empty(int(groups.max()) + 1, dtype=np.intp)
    of_group[groups[firsts]] = folds[firsts]
    return of_group[groups]


def second_fold(fold: int, n_folds: int) -> int:
    """Name the fold that is left out beside one, to see what a shot more brings: folds go in pairs.

    Examples
    --------
    >>> from tip_adapter.methods.selection.folds import second_fold
    >>> [second_fold(fold, 5) for fold in range(5)]
    [1, 0, 3, 2, 0]
    """
    return fold ^ 1 if fold ^ 1 < n_folds else 0


def one_of_each(features: Float32Array, labels: IntArray, groups: IntArray | None) -> BoolArray:
    """Choose a shot of every group in every class: frames of one burst are one question, not ten.

    Shapes: `features` (N, D), `labels` (N,), `groups` (N,) → (N,).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.selection.folds import one_of_each
    >>> one_of_each(np.array([[0.1], [0.3], [0.2]]), np.array([0, 0, 1]), np.array([0, 0, 1]))
    array([ True, False,  True])
    """
    chosen = np.ones(len(labels), dtype=bool)
    if groups is not None:
        order = np.lexsort((*features.T[:3][::-1], labels))
        pairs = labels[order] * (int(groups.max()) + 1) + groups[order]
        chosen[:] = False
        chosen[order[np.unique(pairs, return_index=True)[1]]] = True
    return chosen


def asked_shots(
    features: Float32Array, labels: IntArray, groups: IntArray | None = None, limit: int = MAX_ASKED
) -> BoolArray:
    """Choose the shots that decide: one of each group in a class, and where those are many, a part of every class.

    Shapes: `features` (N, D), `labels` (N,), `groups` (N,) → (N,).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.selection.folds import asked_shots
    >>> asked = asked_shots(np.array([[0.1], [0.3], [0.2], [0.4]]), np.array([0, 0, 1, 1]), limit=2)
    >>> int(asked.sum())
    2
    """
    asked = one_of_each(features, labels, groups)
    if asked.sum() <= limit:
        return asked
    # By chance within a class: every tenth in the order of the folds would be of a few folds alone.
    order = np.lexsort((*features.T[:3][::-1], labels))
    order = order[asked[order]]
    order = order[np.lexsort((np.random.default_rng(0).permutation(len(order)), labels[order]))]
    asked[:] = False
    asked[spread_over(order, limit)] = True
    return asked


def shots_per_class(labels: IntArray, groups: IntArray | None = None) -> float:
    """Count what tells of a class: its shots, or groups of them, on the mean of the classes that have any.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.selection.folds import shots_per_class
    >>> shots_per_class(np.array([0, 0, 0, 1])), shots_per_class(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 2]))
    (2.0, 1.5)
    """
    pairs = len(labels) if groups is None else len(np.unique(np.stack([labels, groups]), axis=1).T)
    return pairs / len(np.unique(labels))


def spread_over(rows: IntArray, limit: int) -> IntArray:
    """Take at most `limit` of the rows, evenly: rows are sorted by class, so every class keeps its part."""
    return rows if len(rows) <= limit else rows[np.linspace(0, len(rows) - 1, max(1, limit)).astype(np.intp)]
