"""K nearest neighbours: the most similar shots vote on the class of a query, without texts."""

from __future__ import annotations

from typing import Literal

import numpy as np

from tip_adapter.errors import InputError
from tip_adapter.methods.base import FewShotMethod
from tip_adapter.methods.heads import Head, NeighbourHead
from tip_adapter.methods.heads.base import row_chunks
from tip_adapter.methods.heads.cache import counted_votes
from tip_adapter.methods.selection.evidence import Evidence
from tip_adapter.methods.selection.weight import nll_and_accuracy
from tip_adapter.methods.support_set import SupportSet
from tip_adapter.typing import Float32Array, FloatArray, IntArray

NEIGHBOURS = (1, 2, 3, 5, 8, 12, 16, 24, 32)
"""What "auto" tries, as far as there are shots."""


class KNN(FewShotMethod):
    """Votes of the k nearest shots, ``log((votes + 1/C) / (k + 1))``; equal votes go to the nearer class.

    A baseline without text: class texts only align the classes, and a class without shots is never predicted.

    Parameters
    ----------
    zero_shot_weights : array-like of shape (C, D), optional
        Not used for predictions.
    class_names : sequence of str, optional
        Names of the classes.
    neighbours : int or "auto", default="auto"
        k, how many shots vote.
        "auto" chooses it by the accuracy of left-out shots or, where they are given, of validation images; with up
        to two shots per class it is 1.
    logit_scale : float, default=100.0
        Not used; accepted because all methods take it.

    Attributes
    ----------
    neighbours_ : int
        What was chosen.
    scores_ : dict of int to (float, float)
        Negative log-likelihood and accuracy of every k that was tried.

    References
    ----------
    Cover and Hart, "Nearest Neighbor Pattern Classification", IEEE Transactions on Information Theory, 1967.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.closed_form.knn import KNN
    >>> shots = np.array([[0.6, 0, 0.8], [0, 0.6, 0.8]], dtype=np.float32)
    >>> KNN(class_names=["hat", "cap"]).fit(shots, ["hat", "cap"]).predict([[0.8, 0, 0.6]]).tolist()
    ['hat']
    """

    uses_text = False

    neighbours: int | Literal["auto"] = "auto"

    def _fit_head(self, support: SupportSet) -> NeighbourHead:
        shots = len(support.labels)
        self.scores_: dict[int, tuple[float, float]] = {}
        if self.neighbours == "auto":
            self.neighbours_ = self._choose(support)
        elif not isinstance(self.neighbours, int | np.integer) or not 1 <= self.neighbours <= shots:
            raise InputError(
                f"Expected neighbours to be a whole number from 1 to {shots} (the shots), or 'auto', "
                f"got {self.neighbours!r}"
            )
        else:
            self.neighbours_ = int(self.neighbours)
        return NeighbourHead(support.n_classes, support.features, support.labels, self.neighbours_)

    def _refit_head(self, support: SupportSet) -> Head:
        return self._refitted(support, neighbours=min(self.neighbours_, len(support.labels)))

    def _choose(self, support: SupportSet) -> int:
        evidence = support.evidence
        rows = np.flatnonzero(evidence.scored)
        # Of two shots per class one is left out, and the other can never have company.
        if evidence.few or not len(rows):
            return 1
        voters = len(support.labels)
        if evidence.support_folds is not None:
            voters -= int(np.bincount(evidence.support_folds).max())
        trials = [tried for tried in NEIGHBOURS if tried <= max(voters, 1)]
        similar, owners = nearest_shots(evidence, rows, support, trials[-1])
        for tried in trials:
            votes: FloatArray = counted_votes(similar[:, :tried], owners[:, :tried], support.n_classes)
            self.scores_[tried] = nll_and_accuracy(votes, evidence.labels[rows])
        # Votes are coarse probabilities: their likelihood favours many neighbours where few name the class best.
        return max(self.scores_, key=lambda tried: self.scores_[tried][1])


def nearest_shots(evidence: Evidence, rows: IntArray, support: SupportSet, count: int) -> tuple[Float32Array, IntArray]:
    """Cosines and classes of the nearest shots of images, the nearest first; shots of the image's own fold last."""
    shape, key_folds = (len(rows), count), evidence.support_folds
    similar, owners = np.empty(shape, dtype=np.float32), np.empty(shape, dtype=np.intp)
    for chunk in row_chunks(len(rows), len(support.labels)):
        asked = rows[chunk]
        cosines = evidence.features[asked] @ support.features.T
        if evidence.folds is not None and key_folds is not None:
            cosines[evidence.folds[asked][:, None] == key_folds[None, :]] = -np.inf
        nearest = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
        found = np.take_along_axis(cosines, nearest, axis=1)
        order = np.argsort(-found, axis=1, kind="stable")
        similar[chunk] = np.take_along_axis(found, order, axis=1)
        owners[chunk] = support.labels[np.take_along_axis(nearest, order, axis=1)]
    return similar, owners
