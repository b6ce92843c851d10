"""Tip-Adapter of the nearest keys alone, with k, α and β chosen for the sum that is cut there."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np

from tip_adapter.errors import InputError
from tip_adapter.methods.base import FewShotMethod
from tip_adapter.methods.closed_form.knn import nearest_shots
from tip_adapter.methods.heads import Head
from tip_adapter.methods.heads.affinity import Cache
from tip_adapter.methods.heads.top_k import (
    INDEXES,
    SURE,
    CellKeys,
    ExactKeys,
    TopKCacheHead,
    measured_recall,
    nearest_mass,
)
from tip_adapter.methods.inputs import given_or_auto
from tip_adapter.methods.selection.evidence import Evidence, Fit
from tip_adapter.methods.selection.weight import Choice, choose
from tip_adapter.methods.support_set import SupportSet
from tip_adapter.typing import BoolArray, Float32Array, FloatArray

NEIGHBOURS = (64, 16, 256)
BETAS = (5.5, 2.0, 1.0, 11.0, 22.0, 44.0)
"""What "auto" tries, what is taken without evidence first."""

MAX_COSINES = 500_000_000
"""Cosines of left-out shots to keys that choosing computes; with more, a part of the shots is scored."""

QUERIES_OF_RECALL = 256
"""Shots that the recall of an index is measured on."""


class TipAdapterTopK(FewShotMethod):
    """Tip-Adapter on the k nearest shots, ``t·s·f·Wᵀ + α·Σ exp(-β(1 - f·F_i))·Y_i``.

    No approximation of `TipAdapter`: at its β the nearest shots hold little of the sum, so k, α and β are chosen
    together.

    Parameters
    ----------
    zero_shot_weights : array-like of shape (C, D), optional
        W, class text features; a row of NaN for a class without text.
    class_names : sequence of str, optional
        Names of the rows of `zero_shot_weights`.
    neighbours : int or "auto", default="auto"
        k.
    alpha, beta, text_weight : float or "auto", default="auto"
        As for `TipAdapter`.
    logit_scale : float, default=100.0
        s, the inverse temperature the encoder was trained with.
    balanced : bool, default=True
        Let classes count equally whatever their number of shots.
    index : {"exact", "faiss"}, default="exact"
        How the nearest shots are found: among all, or among those in the nearest cells of an index (extra ``index``),
        which is faster where there are tens of thousands and misses a few: `recall_` says how many.
    probes : int or "auto", default="auto"
        Cells that the index looks into; "auto": so many, doubled from 1 on, that it finds 95 % of the nearest shots.

    Attributes
    ----------
    neighbours_ : int
    alpha_, beta_, text_weight_ : float
        What was chosen.
    recall_ : float
        Share of the k nearest shots that the index finds, measured on shots at fit; 1 for "exact".
    probes_ : int
        Of an index.
    search_ : Choice or None
        The evidence for it; None where all were given.

    References
    ----------
    Zhang et al., "Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification", ECCV 2022, equation 5,
    cut after k terms.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods import TipAdapterTopK
    >>> texts = np.array([[1, 0, 0], [0, 1, 0]], dtype=np.float32)
    >>> shots = np.array([[0.6, 0, 0.8], [0, 0.6, 0.8]], dtype=np.float32)
    >>> method = TipAdapterTopK(texts, class_names=["hat", "cap"], neighbours=1, alpha=1.0, beta=5.5, logit_scale=1.0)
    >>> method.fit(shots, ["hat", "cap"]).predict([[0.6, 0, 0.8]]).tolist()
    ['hat']
    """

    neighbours: int | Literal["auto"] = "auto"
    alpha: float | Literal["auto"] = "auto"
    beta: float | Literal["auto"] = "auto"
    text_weight: float | Literal["auto"] = "auto"
    balanced: bool = True
    index: str = "exact"
    probes: int | Literal["auto"] = "auto"

    def _fit_head(self, support: SupportSet) -> Head:
        alpha, beta = given_or_auto("alpha", self.alpha), given_or_auto("beta", self.beta)
        text_weight = given_or_auto("text_weight", self.text_weight)
        if self.neighbours != "auto" and (not isinstance(self.neighbours, int | np.integer) or self.neighbours < 1):
            raise InputError(f"Expected neighbours as a whole number of at least 1, or 'auto', got {self.neighbours!r}")
        if self.index not in INDEXES:
            raise InputError(f"Expected an index of {', '.join(INDEXES)}, got {self.index!r}")
        counts = NEIGHBOURS if self.neighbours == "auto" else (int(self.neighbours),)
        self.search_ = None
        if alpha is None or beta is None or len(counts) > 1:
            self.search_ = self._choose(support, counts, BETAS if beta is None else (beta,), alpha, text_weight)
            alpha, text_weight = self.search_.alpha, self.search_.text_weight
            beta, counts = self.search_.parameters["beta"], (int(self.search_.parameters["neighbours"]),)
        self.neighbours_, self.alpha_, self.beta_ = counts[0], alpha, beta
        self.text_weight_ = 1.0 if text_weight is None else text_weight
        count = max(1, min(self.neighbours_, len(support.labels)))
        self.recall_, index, probes = 1.0, None, 1 if self.probes == "auto" else int(self.probes)
        if self.index != "exact":
            index = self._key_index(support.features, count, probes)
            probes = self.probes_ = index.probes
        head = TopKCacheHead(
            support.n_classes,
            support.zero_shot_weights,
            support.logit_scale * self.text_weight_,
            keys=support.features,
            labels=support.labels,
            neighbours=count,
            alpha=alpha,
            beta=beta,
            balanced=self.balanced,
            index=self.index,
            probes=probes,
        )
        if index is not None:
            vars(head)["key_index"] = index  # it is built already
        return head

    def _key_index(self, keys: Float32Array, count: int, probes: int) -> CellKeys:
        """Build the index, find how many cells it has to look into, and measure what it misses."""
        index = CellKeys(keys, probes)
        asked = np.arange(0, len(keys), -(-len(keys) // QUERIES_OF_RECALL))
        self.recall_ = measured_recall(index, keys, asked, count, SURE if self.probes == "auto" else 0.0)
        return index

    def _choose(
        self,
        support: SupportSet,
        counts: Sequence[int],
        betas: Sequence[float],
        alpha: float | None,
        text_weight: float | None,
    ) -> Choice:
        evidence = _affordable(support.evidence)
        largest = min(max(counts), len(support.labels))
        rows = np.arange(len(evidence.labels))
        cosines, owners = nearest_shots(evidence, rows, support, largest)
        cache = self._cache(support, np.ones(len(support.labels), dtype=bool))

        def left_out(parameters: dict[str, float]) -> FloatArray:
            count = int(parameters["neighbours"])
            return nearest_mass(cosines[:, :count], owners[:, :count], cache, parameters["beta"])

        def term(parameters: dict[str, float]) -> Fit:
            return lambda kept: lambda queries: self._mass(support, kept, queries, parameters)

        axes = {"neighbours": [float(count) for count in counts], "beta": betas}
        return choose(evidence, term, axes, alpha=alpha, text_weight=text_weight, left_out=left_out)[0]

    def _cache(self, support: SupportSet, kept: BoolArray) -> Cache:
        return Cache.build(support.features[kept], support.labels[kept], support.n_classes, balanced=self.balanced)

    def _mass(
        self, support: SupportSet, kept: BoolArray, queries: Float32Array, parameters: dict[str, float]
    ) -> FloatArray:
        count = min(int(parameters["neighbours"]), int(kept.sum()))
        cosines, rows = ExactKeys(support.features[kept]).nearest(queries, count)
        return nearest_mass(cosines, support.labels[kept][rows], self._cache(support, kept), parameters["beta"])

    def _refit_head(self, support: SupportSet) -> Head:
        # As many shots are summed as there are, up to k, and α makes up for those that are left out.
        summed = min(self.neighbours_, self._n_shots) / min(self.neighbours_, len(support.labels))
        return self._refitted(support, **self.held_parameters() | {"alpha": self.alpha_ * summed})


def _affordable(evidence: Evidence) -> Evidence:
    """Score so many shots as can be compared with all of them."""
    most = max(500, MAX_COSINES // len(evidence.support_labels))
    if evidence.few or len(evidence.labels) <= most:
        return evidence
    rows = np.flatnonzero(evidence.asked)
    rows = np.sort(np.random.default_rng(0).choice(rows, min(most, len(rows)), replace=False))
    folds = None if evidence.folds is None else evidence.folds[rows]
    return dataclasses.replace(
        evidence,
        features=evidence.features[rows],
        labels=evidence.labels[rows],
        text=evidence.text[rows],
        asked=evidence.asked[rows],
        scored=evidence.scored[rows],
        folds=folds,
    )
