"""Rank unlabelled photos by how much their labels would help: those that resemble many uncertain photos come first."""

from __future__ import annotations

import numpy as np

from tip_adapter.errors import InputError
from tip_adapter.typing import Float32Array, FloatArray, IntArray

EQUAL = 1 - 1e-5
"""Cosine of equal unit rows of float32, as far as rounding goes."""

REPRESENTED = 2000
"""So many of the unlabelled photos, drawn at random, stand for all of them, where there are more."""


def next_to_label(
    features: Float32Array,
    probabilities: FloatArray,
    shots: Float32Array,
    count: int,
    *,
    same: float = EQUAL,
) -> IntArray:
    """Choose unlabelled photos to label next, the first the most useful.

    Each photo i adds ``Σ_j u_j·max(0, f_i·f_j - b_j)``: j runs over the unlabelled photos, u_j is how uncertain its
    prediction is (1 less the margin of the two most probable classes), b_j its cosine to the nearest shot, or to the
    nearest photo chosen before. So a photo is chosen for the uncertain photos that are more like it than like anything
    labelled: neither outliers nor near-copies are.

    Shapes: `features` (N, D), `probabilities` (N, C), `shots` (M, D), unit rows. From the cosine `same` on, photos of
    one moment are near-copies: of those one is chosen.

    References
    ----------
    Wei, Iyer, Bilmes, "Submodularity in Data Subset Selection and Active Learning", ICML 2015: facility location over
    uncertain samples, greedily, which is within 1 - 1/e of the best choice.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.trust.unlabelled import next_to_label
    >>> photos = np.array([[1, 0, 0], [0, 1, 0], [0, 0.96, 0.28], [0, 0, 1]], dtype=np.float32)
    >>> next_to_label(photos, np.full((4, 2), 0.5), photos[:1], count=2).tolist()
    [2, 3]
    """
    if count < 1:
        raise InputError(f"Expected count to be at least 1, got {count}")
    if not len(features):
        return np.zeros(0, dtype=np.intp)
    ordered = np.sort(probabilities, axis=1)
    uncertain = 1.0 - (ordered[:, -1] - ordered[:, -2]) if probabilities.shape[1] > 1 else np.ones(len(features))
    seen = np.arange(len(features))
    if len(features) > REPRESENTED:
        seen = np.random.default_rng(0).choice(len(features), REPRESENTED, replace=False)
    near = np.full(len(features), -1.0, dtype=np.float32)
    if len(shots):
        near = (features @ shots.T).max(axis=1)
    alike, weights = features @ features[seen].T, uncertain[seen].astype(np.float32)
    best, left = near[seen], near < same
    chosen: list[int] = []
    while len(chosen) < count and left.any():
        gains = np.maximum(alike - best, 0.0) @ weights
        # Where nothing is left to gain, the most uncertain photo is.
        gains = np.where(left, gains + 1e-6 * uncertain, -np.inf)
        pick = int(gains.argmax())
        chosen.append(pick)
        left &= features @ features[pick] < same
        left[pick] = False
        best = np.maximum(best, alike[pick])
    return np.array(chosen, dtype=np.intp)
