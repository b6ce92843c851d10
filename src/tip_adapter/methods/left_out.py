"""Cross-validated logits of a fitted method on its own shots, hyper-parameters held fixed."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from tip_adapter.methods.base import FewShotMethod
from tip_adapter.methods.heads import Head, zero_shot_logits
from tip_adapter.methods.inputs import checked_views
from tip_adapter.methods.selection.folds import MAX_FOLDS, asked_shots, second_fold, shots_per_class, support_folds
from tip_adapter.methods.support_set import SupportSet
from tip_adapter.processors import single_threaded_blas
from tip_adapter.typing import Float32Array, IntArray

TRAINED_FOLDS = 4
"""Folds of methods that train, each of which is a training."""


@dataclasses.dataclass(frozen=True, eq=False)
class LeftOut:
    """Answers to shots by fits that have not seen them.

    Attributes
    ----------
    logits : ndarray of shape (B, C), float32
        Of the shots that say something: those whose class has others; of many shots, a part of every class.
    labels : ndarray of shape (B,), integers in [0, C)
    rows : ndarray of shape (B,)
        Which of the N shots they are.
    folds : ndarray of shape (N,)
        Fold of every shot.
    n_folds : int
        0 where nothing can be left out.
    shots : float
        Shots, or groups of them, per class, of the classes that have any.
    fewer : ndarray of shape (B, C), float32, or None
        Answers to the same by fits that lack another fold besides, `second_fold`; where there are but two folds, by the
        texts of the fit. None where the method has no such part.
    """

    logits: Float32Array
    labels: IntArray
    rows: IntArray
    folds: IntArray
    n_folds: int
    shots: float
    fewer: Float32Array | None = None


def left_out_logits(
    method: FewShotMethod,
    X: Any,
    y: Any,
    *,
    queries: Any = None,
    views: Any = None,
    groups: Any = None,
    every: bool = False,
) -> LeftOut:
    """Ask a fitted method about its own shots as if it had not seen them.

    One shot of every class is left out at once, in at most 8 folds (4 for methods that train), and the method is fitted
    to the rest with every hyper-parameter as it was chosen from all shots; where one of each is left, anew.

    Shapes: `X` (N, D), `y` (N,), `queries` (N, D), `views` (N, V, D).

    Parameters
    ----------
    queries : array-like of shape (N, D), optional
        The same shots as a photo to classify would be seen. A key is the mean of several views and easier to recognise
        than a photo seen once, so where there are several views, one view of each shot is the fair question.
    groups : array-like of shape (N,), optional
        What each shot belongs to, as in `fit`: whole groups are left out, and one shot of each is asked about.
    every : bool, default=False
        Ask about every shot of a group, and of many.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods import TipAdapter
    >>> from tip_adapter.methods.left_out import left_out_logits
    >>> X, y = np.eye(4, dtype=np.float32)[[0, 0, 1, 1]], np.array([0, 0, 1, 1])
    >>> answers = left_out_logits(TipAdapter(np.eye(2, 4, dtype=np.float32)).fit(X, y), X, y)
    >>> answers.n_folds, answers.logits.argmax(axis=1)
    (2, array([0, 0, 1, 1]))
    """
    check_is_fitted(method, "head_")
    support: SupportSet = clone(method)._support_set(X, y, groups=groups, queries=queries)
    if views is not None:
        support = dataclasses.replace(support, views=checked_views(views, support.features.shape))
    max_folds = TRAINED_FOLDS if method.trains else MAX_FOLDS
    folds = support_folds(support.features, support.labels, max_folds, support.groups)
    n_folds = int(folds.max()) + 1
    chosen = np.ones(len(folds), dtype=bool)
    if not every:
        chosen = asked_shots(support.features, support.labels, support.groups)
    # Of the shots that are asked about, in their order: with a thousand classes all others would take gigabytes.
    rows = np.flatnonzero(chosen)
    asked, labels, of_row = support.asked[rows], support.labels[rows], folds[rows]
    logits, fewer = np.zeros((2, len(rows), support.n_classes), dtype=np.float32)
    scored, texts = np.zeros(len(rows), dtype=bool), n_folds == 2
    with single_threaded_blas():
        for fold in range(n_folds if n_folds > 1 else 0):
            rest, out = support.subset(folds != fold), of_row == fold
            if len(np.unique(rest.labels)) > 1:
                head: Any = _head_of_rest(method, rest)
                logits[out] = head.logits(asked[out])
                scored[out] = np.isin(labels[out], rest.labels)
                if texts and (texts := hasattr(head, "logit_scale")):
                    weights, scale = head.zero_shot_weights, head.logit_scale
                    fewer[out] = zero_shot_logits(asked[out], weights, scale, support.n_classes)
        if n_folds > 2 and not every:
            _answer_with_fewer(method, support, (asked, of_row), folds, fewer)
    shots = shots_per_class(support.labels, support.groups)
    known = fewer[scored] if texts or (n_folds > 2 and not every) else None
    n_folds = n_folds if scored.any() else 0
    return LeftOut(logits[scored], labels[scored], rows[scored], folds, n_folds, shots, known)


def _head_of_rest(method: FewShotMethod, rest: SupportSet) -> Head:
    """Fit to what is left with what was chosen from all; one shot, or group, per class follows its own rule.

    What is chosen for two groups, such as two bursts, may be far from right for one, whose frames are nearly alike.
    """
    if shots_per_class(rest.labels, rest.groups) > 1 or getattr(method, "search_", None) is None:
        return method._refit_head(rest)
    return method._refitted(rest)


def _answer_with_fewer(
    method: FewShotMethod,
    support: SupportSet,
    asked: tuple[Float32Array, IntArray],
    folds: IntArray,
    answers: Float32Array,
) -> None:
    """Answer for shots, given with their folds, by fits that lack a second fold, too: each serves both of its folds."""
    n_folds = int(folds.max()) + 1
    for fold in range(0, n_folds, 2):
        out = (fold, second_fold(fold, n_folds))
        rest, rows = support.subset(~np.isin(folds, out)), np.isin(asked[1], (fold, fold + 1))
        if len(np.unique(rest.labels)) > 1:
            answers[rows] = _head_of_rest(method, rest).logits(asked[0][rows])
