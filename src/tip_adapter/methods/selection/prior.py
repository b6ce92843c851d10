"""What is expected of α before any evidence, and the α that is likeliest given both.

Where few images decide, and all are right, likelihood alone lets α grow without end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from tip_adapter.methods.selection.line_search import best_likelihood_alpha, surprises
from tip_adapter.typing import FloatArray, IntArray

WEAK_WIDTH = float(np.log(4.0))
"""Where shots are not few the prior is this wide: it only bounds α where a handful of images says nothing about it."""


@dataclass(frozen=True)
class SpreadPrior:
    """What is known beforehand about the ratio ``c = α·σ(expert) / σ(text)``.

    σ is the standard deviation over classes. On real CLIP features the best ratio hardly depends on the data set, only
    on the shots, of which it is an increasing function.

    Attributes
    ----------
    ratios : mapping of int to float
        c by shots per class; interpolated between, in logarithms.
    growth : float
        The best c grows as shots to this power, so what was found with the shots a fold keeps is scaled up. 0 for
        experts whose own output grows as it should.
    width : float
        Standard deviation of log c where shots are few.
    """

    ratios: Mapping[int, float]
    growth: float = 1.0
    width: float = 0.35

    def at(self, shots: float) -> float:
        """Ratio c expected with so many shots per class.

        Examples
        --------
        >>> from tip_adapter.methods.selection.prior import SpreadPrior
        >>> round(SpreadPrior({1: 0.1, 4: 0.4}).at(2), 3)
        0.2
        """
        known = sorted(self.ratios)
        return float(np.exp(np.interp(np.log(shots), np.log(known), np.log([self.ratios[k] for k in known]))))


CACHE_PRIOR = SpreadPrior({1: 0.075, 2: 0.1, 4: 0.15, 8: 0.35, 16: 0.45}, growth=0.0)
"""Of Tip-Adapter's cache and its relatives, measured on CLIP ViT-B/32 features."""


def likely_ratio(
    text: FloatArray,
    expert: FloatArray,
    labels: IntArray,
    expected: float,
    *,
    width: float = WEAK_WIDTH,
    start: float | None = None,
) -> float:
    """Find the ratio c that is likeliest for ``text + c·expert``, given what is expected of it.

    Minimises the sum of negative log-likelihood plus ``log²(c / expected) / (2·width²)``.

    Parameters
    ----------
    text, expert : ndarray of shape (B, C)
        Logits with the same spread over classes.
    labels : ndarray of shape (B,)
    expected : float
        Above 0.
    width : float
        Standard deviation of log c.
    start : float, optional
        The c that is likeliest without expectation, where it is known.

    Returns
    -------
    float

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.selection.prior import likely_ratio
    >>> labels = np.array([0, 1, 0])  # all right: without expectation c would grow without end
    >>> round(likely_ratio(np.zeros((3, 2)), np.eye(2)[labels], labels, 0.5), 1)
    2.0
    """
    from scipy.optimize import minimize_scalar

    if start is None:
        start, _ = best_likelihood_alpha(text, expert, labels)

    def loss(log_ratio: float) -> float:
        surprise = float(surprises(text + np.exp(log_ratio) * expert, labels).sum())
        return surprise + float(log_ratio - np.log(expected)) ** 2 / (2 * width**2)

    # The likelihood alone is best at `start`, the prior alone at `expected`: the optimum lies between.
    centre = np.log(np.clip(start, expected / 100, expected * 100))
    low, high = sorted((float(centre), float(np.log(expected))))
    if high - low < 1e-3:
        return float(np.exp(low))
    best = _near_minimum(loss, float(centre))
    if best is None:
        best = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 5e-3}).x
    return float(np.exp(best))


def _near_minimum(loss: Callable[[float], float], x: float, reach: float = 0.05) -> float | None:
    """Lowest point of the parabola through the loss around x; None where that is not near x.

    Where many images decide, the expectation hardly moves the ratio, and three losses tell by how much.
    """
    before, here, after = loss(x - reach), loss(x), loss(x + reach)
    bend = before - 2 * here + after
    step = reach * (before - after) / (2 * bend) if bend > 0 else np.inf
    return x + step if abs(step) < 2 * reach else None
