"""State the prior of a weight, and find the most likely weight given prior and evidence.

Where few images decide, and all are right, likelihood alone lets a weight grow without end.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tip_adapter.methods.selection.line_search import best_likelihood_alpha, nll_along
from tip_adapter.typing import FloatArray, IntArray

WIDTH = float(np.log(2.0))
"""Standard deviation of the logarithm of a weight around what is expected: a factor of two either way."""

TEXT_WIDTH = 2.0
"""The same of what the texts count: from a seventh to seven times what the encoder was trained for. Words may say
nothing at all of the classes at hand, and the shots, which they have not seen, tell."""

FULL_SPREAD = 2.0
"""Standard deviation over classes of good logits. Were they Gaussian log-likelihoods, the true class would lead any
other by the square of it, 4 nats: right in 98 of 100 choices between two classes."""

HALF_KNOWN = 2.0
"""Shots at which half of that is known: a mean of K shots that vary around their class's mean with κ times the variance
between classes deserves K / (K + κ) of its length."""


def expected_spread(shots: float) -> float:
    """Expect so much spread over classes, in nats, of a term's logits for new images.

    Examples
    --------
    >>> from tip_adapter.methods.selection.prior import expected_spread
    >>> [round(expected_spread(shots), 2) for shots in (1, 2, 16)]
    [0.67, 1.0, 1.78]
    """
    return FULL_SPREAD * shots / (shots + HALF_KNOWN)


def likely_text_weight(text: FloatArray, labels: IntArray, beside: FloatArray | None = None) -> float:
    """Find how much the texts count: the t that makes the shots likeliest under ``t·text + beside``, expected at 1.

    Texts have seen no shot, so every shot tests them, also a class's only one.

    Parameters
    ----------
    text : ndarray of shape (N, C)
        Zero-shot logits of the shots.
    labels : ndarray of shape (N,), integers in [0, C)
    beside : ndarray of shape (N, C), optional
        What is added to them.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.selection.prior import likely_text_weight
    >>> labels = np.arange(4)
    >>> right, wrong = 4 * np.eye(4), 4 * np.eye(4)[[1, 2, 3, 0]]
    >>> likely_text_weight(right, labels) > 1, likely_text_weight(wrong, labels) < 0.2
    (True, True)
    """
    if not text.any():
        return 1.0
    return likely_ratio(np.zeros_like(text) if beside is None else beside, text, labels, 1.0, width=TEXT_WIDTH)


def likely_ratio(
    text: FloatArray,
    term: FloatArray,
    labels: IntArray,
    expected: float,
    *,
    width: float = WIDTH,
    start: float | None = None,
) -> float:
    """Find the ratio c that is likeliest for ``text + c·term``, given what is expected of it.

    Minimises the sum of negative log-likelihood plus ``log²(c / expected) / (2·width²)``.

    Parameters
    ----------
    text, term : ndarray of shape (B, C)
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
    0.7
    """
    from scipy.optimize import minimize_scalar

    if start is None:
        start, _ = best_likelihood_alpha(text, term, labels)

    def loss(log_ratio: float) -> float:
        nll = float(nll_along(text, term, labels, float(np.exp(log_ratio))).sum())
        return nll + float(log_ratio - np.log(expected)) ** 2 / (2 * width**2)

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
