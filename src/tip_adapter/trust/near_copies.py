"""Group photos that show the same moment: the frames of a burst say little more than one of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tip_adapter.processors import single_threaded_blas
from tip_adapter.typing import BoolArray, Float32Array, FloatArray, IntArray

SAME_FEATURE = 0.97
"""Cosine from which two photos show the same, with every encoder looked at."""

OTHER_CLASSES = 99.9
"""Percentile of the cosines of photos of different classes, which are no copies: copies are more alike than that."""

CROPS = 25.0
"""Percentile of the cosines of two random crops of a photo."""

SAME_SCENE = 0.5
"""Correlation from which the middle of one picture counts as found in another: pictures that only mean the same to an
encoder, such as two red balls, have less."""

SAMPLE = 500


def copy_cosine(features: Float32Array, labels: IntArray, crops: FloatArray | None = None) -> float:
    """Find the cosine from which photos of one class are near-copies.

    That is what three of four pairs of random crops of one photo have (half to all of it, mirrored or not: frames of a
    burst differ by no more), but not less than what photos of different classes reach, where all photos are alike.

    Shapes: `features` (N, D), unit rows; `labels` (N,); `crops` (M,), cosines of two random crops of each of some
    photos: without photos at hand, `SAME_FEATURE` is taken.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.trust.near_copies import copy_cosine
    >>> features = np.array([[1, 0], [0.8, 0.6]], dtype=np.float32)
    >>> copy_cosine(features, np.array([0, 1]), np.array([0.85, 0.9, 0.95]))
    0.875
    """
    own = SAME_FEATURE if crops is None or not len(crops) else float(np.percentile(crops, CROPS))
    rows = np.linspace(0, len(labels) - 1, min(len(labels), SAMPLE)).astype(np.intp)
    others = (features[rows] @ features[rows].T)[labels[rows][:, None] != labels[rows]]
    return max(own, float(np.percentile(others, OTHER_CLASSES))) if len(others) else own


def near_copies(
    features: Float32Array,
    labels: IntArray,
    cosine: float,
    pictures: Callable[[IntArray], Float32Array] | None = None,
) -> IntArray:
    """Number groups of shots: near-copies inside a class, and near-copies of these, have the same number.

    Shapes: `features` (N, D), `labels` (N,) → (N,). `pictures` gives those of some rows in grey, (n, side, side); it
    is asked for those alone whose features are alike.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.trust.near_copies import near_copies
    >>> features = np.array([[1, 0], [0.995, 0.1], [0, 1], [1, 0]], dtype=np.float32)
    >>> near_copies(features, np.array([0, 0, 0, 1]), 0.97)
    array([0, 0, 1, 2])
    """
    from scipy.sparse.csgraph import connected_components

    groups, found = np.empty(len(labels), dtype=np.intp), 0
    with single_threaded_blas():
        for label in np.unique(labels):
            rows = np.flatnonzero(labels == label)
            alike = features[rows] @ features[rows].T >= cosine
            doubtful = np.flatnonzero(alike.sum(axis=1) > 1)
            if pictures is not None and len(doubtful):
                pairs = np.ix_(doubtful, doubtful)
                alike[pairs] &= _same_scene(pictures(rows[doubtful]), alike[pairs])
            number, part = connected_components(alike, directed=False)
            groups[rows] = part + found
            found += number
    return groups


def _same_scene(pictures: Float32Array, asked: BoolArray) -> BoolArray:
    """Whether the middle of one picture is found in another, (n, n), for the pairs that are asked about."""
    side = pictures.shape[1]
    inner, same = side - 2 * (side // 5), np.zeros(asked.shape, dtype=bool)
    middles = _standardised(pictures[:, side // 5 : -(side // 5), side // 5 : -(side // 5)].reshape(len(pictures), -1))
    for row in range(len(pictures)):
        others = np.flatnonzero(asked[row])
        places = np.lib.stride_tricks.sliding_window_view(pictures[row], (inner, inner)).reshape(-1, inner * inner)
        same[row, others] = (_standardised(places) @ middles[others].T).max(axis=0) >= SAME_SCENE
    result: BoolArray = same | same.T
    return result


def _standardised(rows: Float32Array) -> Float32Array:
    """Rows of mean 0 and length 1, so that products are correlations."""
    centred = rows - rows.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    result: Float32Array = np.divide(centred, lengths, out=np.zeros_like(centred), where=lengths > 1e-3)
    return result
