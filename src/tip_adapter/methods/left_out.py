"""Cross-validated logits of a fitted method on its own shots, hyper-parameters held fixed."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from tip_adapter.errors import InputError
from tip_adapter.methods.base import FewShotMethod
from tip_adapter.methods.inputs import checked_views
from tip_adapter.methods.selection.folds import MAX_FOLDS, one_of_each, shots_per_class, support_folds
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
        Of the shots that say something: those whose class has others.
    labels : ndarray of shape (B,), integers in [0, C)
    rows : ndarray of shape (B,)
        Which of the N shots they are.
    folds : ndarray of shape (N,)
        Fold of every shot.
    n_folds : int
        0 where nothing can be left out.
    shots : float
        Shots, or groups of them, per class, of the classes that have any.
    """

    logits: Float32Array
    labels: IntArray
    rows: IntArray
    folds: IntArray
    n_folds: int
    shots: float


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
    to the rest with every hyper-parameter as it was chosen from all shots.

    Shapes: `X` (N, D), `y` (N,), `queries` (N, D), `views` (N, V, D).

    Parameters
    ----------
    queries : array-like of shape (N, D), optional
        The same shots as a photo to classify would be seen. A key is the mean of several views and easier to recognise
        than a photo seen once, so where there are several views, one view of each shot is the fair question.
    groups : array-like of shape (N,), optional
        What each shot belongs to, as in `fit`: whole groups are left out, and one shot of each is asked about.
    every : bool, default=False
        Ask about every shot of a group.

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
    support: SupportSet = clone(method)._support_set(X, y, groups=groups)
    if views is not None:
        support = dataclasses.replace(support, views=checked_views(views, support.features.shape))
    asked = support.features if queries is None else np.asarray(queries, dtype=np.float32)
    if asked.shape != support.features.shape:
        raise InputError(f"Expected queries of shape {support.features.shape}, as the shots, got {asked.shape}.")
    max_folds = TRAINED_FOLDS if method.trains else MAX_FOLDS
    folds = support_folds(support.features, support.labels, max_folds, support.groups)
    n_folds = int(folds.max()) + 1
    logits = np.zeros((len(folds), support.n_classes), dtype=np.float32)
    scored = np.zeros(len(folds), dtype=bool)
    with single_threaded_blas():
        for fold in range(n_folds if n_folds > 1 else 0):
            kept = folds != fold
            rest = support.subset(kept)
            if len(np.unique(rest.labels)) > 1:
                logits[~kept] = method._refit_head(rest).logits(asked[~kept])
                scored[~kept] = np.isin(support.labels[~kept], rest.labels)
    rows = np.flatnonzero(scored if every else scored & one_of_each(support.features, support.labels, support.groups))
    shots = shots_per_class(support.labels, support.groups)
    return LeftOut(logits[rows], support.labels[rows], rows, folds, n_folds if len(rows) else 0, shots)
