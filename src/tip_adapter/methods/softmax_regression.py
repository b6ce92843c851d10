"""Train a linear head by the likelihood of shots that are read a part at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from tip_adapter.methods.heads import LinearHead
from tip_adapter.typing import FloatArray

if TYPE_CHECKING:
    from tip_adapter.methods.many_shots import ManyShots

PENALTIES = (100.0, 10.0, 1.0)
"""How firmly weights are held where they began, from the most on: inverse variances, in coordinates in which features
vary alike in all directions within classes."""

ITERATIONS = 15
"""Of L-BFGS for each of these, begun where the one before ended."""

WORK = 20_000_000_000
"""Products of one look at the shots; where all would take more, every second, third … is looked at."""


def softmax_regressions(shots: ManyShots, start: LinearHead | None) -> Iterator[LinearHead]:
    """Multinomial logistic regressions, each held less firmly near a linear head than the one before.

    Classes count alike whatever their shots, and the texts count what they count in the head.
    """
    from scipy.linalg import solve_triangular
    from scipy.optimize import minimize

    root, moments = shots.moments.root(), shots.moments
    if root is None or start is None or start.weights is None or start.bias is None:
        return
    n, centre = float(moments.counts.sum()), moments.sums.sum(axis=0) / moments.counts.sum()
    step = max(1, round(n * moments.sums.size / WORK))
    share = step / (np.count_nonzero(moments.counts) * np.maximum(moments.counts, 1))
    text_weight = start.logit_scale / shots.logit_scale

    def read(table: FloatArray) -> tuple[FloatArray, FloatArray]:
        weights = solve_triangular(root, table[:, :-1].T, lower=True, trans="T").T
        return weights, table[:, -1] - weights @ centre

    def loss(flat: FloatArray, penalty: float) -> tuple[float, FloatArray]:
        table = flat.reshape(first.shape)
        weights, bias = read(table)
        single, value, slopes = weights.T.astype(np.float32), 0.0, np.zeros_like(table)
        for features, labels in shots.blocks(step):
            logits = np.float32(text_weight) * shots.text(features) + features @ single + bias.astype(np.float32)
            rows, counted = np.arange(len(labels)), share[labels].astype(np.float32)
            logits -= logits.max(axis=1, keepdims=True)
            true = logits[rows, labels]
            np.exp(logits, out=logits)
            sums = logits.sum(axis=1)
            value += float(counted @ (np.log(sums) - true).astype(np.float64))
            logits *= (counted / sums)[:, None]
            logits[rows, labels] -= counted
            slopes[:, :-1] += logits.T @ features
            slopes[:, -1] += logits.sum(axis=0)
        slopes[:, :-1] = solve_triangular(root, (slopes[:, :-1] - np.outer(slopes[:, -1], centre)).T, lower=True).T
        away = table[:, :-1] - first[:, :-1]
        slopes[:, :-1] += penalty / n * away
        return value + penalty / (2 * n) * float(np.sum(away**2)), slopes.ravel()

    weights = start.weights.astype(np.float64)
    first = np.column_stack([weights @ root, start.bias + weights @ centre])
    table = first.ravel()
    for penalty in PENALTIES:
        table = minimize(loss, table, (penalty,), jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS}).x
        yield shots.linear(*read(table.reshape(first.shape)), text_weight)
