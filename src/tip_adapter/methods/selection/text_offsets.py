"""Correct texts that are predicted too often or too seldom, as the shots show.

One class's text is near to every photo and another's to none, whatever the photos show. A class has as many shots as
were asked for and not as many as its text would name: what it is off by is what brings both together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tip_adapter.methods.heads.base import with_text
from tip_adapter.methods.heads.gaussian import class_frequency
from tip_adapter.methods.selection.folds import asked_shots, one_of_each
from tip_adapter.methods.selection.prior import expected_spread
from tip_adapter.typing import FloatArray, IntArray

if TYPE_CHECKING:
    from tip_adapter.methods.support_set import SupportSet

WIDTH = 0.25
"""Standard deviation expected of the offsets, over that of a photo's text logits: most of what texts differ by is due
to the photo, else they would not tell photos apart."""


def text_offsets(support: SupportSet) -> FloatArray:
    """Offsets (C,) of the text logits, 0 for classes without text or shots: the likeliest given what is expected.

    A shot's own class leads the others by as much as the terms, which the shots teach, are expected to add: where
    they know a class well, a poor text costs nothing.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.selection.text_offsets import text_offsets
    >>> from tip_adapter.methods.support_set import SupportSet
    >>> texts = np.array([[1, 0], [0.8, 0.6], [0, 1]], dtype=np.float32)  # the second is near to every photo
    >>> shots = np.array([[0.8, 0.6], [0.8, 0.6], [0.6, 0.8]], dtype=np.float32)
    >>> text_offsets(SupportSet(shots, np.arange(3), 3, texts, 10.0)).round(2)
    array([ 0.1 , -0.21,  0.11])
    """
    offsets, shots = np.zeros(support.n_classes), (support.features, support.labels, support.groups)
    counts = np.bincount(support.labels[one_of_each(*shots)], minlength=support.n_classes)
    known = with_text(support.zero_shot_weights, support.n_classes) & (counts > 0)
    if np.count_nonzero(known) > 1:
        asked = support.subset(asked_shots(*shots) & known[support.labels])
        logits, labels = asked.text_logits.astype(np.float64), asked.labels
        width = WIDTH * float(logits.std(axis=1).mean())
        lead = np.array([expected_spread(count) ** 2 for count in range(counts.max() + 1)])
        logits[np.arange(len(labels)), labels] += lead[counts[labels]]
        columns = np.cumsum(known) - 1
        if width > 0:  # texts that count nothing are not off
            offsets[known] = _likeliest(logits[:, known], columns[labels], class_frequency(labels), width)
    return offsets


def _likeliest(logits: FloatArray, labels: IntArray, frequencies: FloatArray, width: float) -> FloatArray:
    """Offsets (C,) that make the labels likeliest, classes counting alike, with a normal distribution expected."""
    from scipy.optimize import minimize

    rows, weights = np.arange(len(labels)), 1 / frequencies

    def loss(offsets: FloatArray) -> tuple[float, FloatArray]:
        moved = logits + offsets
        moved -= moved.max(axis=1, keepdims=True)
        powers = np.exp(moved)
        sums = powers.sum(axis=1)
        nll = float(weights @ (np.log(sums) - moved[rows, labels]))
        slope = (weights / sums) @ powers - np.bincount(labels, weights, len(offsets))
        return nll + float(offsets @ offsets) / (2 * width**2), slope + offsets / width**2

    result: FloatArray = minimize(loss, np.zeros(logits.shape[1]), jac=True, method="L-BFGS-B").x
    return result
