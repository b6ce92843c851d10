"""Conformal prediction sets with a wanted coverage."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from tip_adapter.errors import InputError
from tip_adapter.typing import BoolArray, FloatArray, IntArray

SetKind = Literal["lac", "aps"]

NOTHING_LEFT_OUT = (
    "give two shots or more of every class, not all of one group, or calibrate with photos apart from them"
)


@dataclass(frozen=True, eq=False)
class ConformalScores:
    """How probable the true classes of calibration photos were held to be."""

    true: FloatArray
    """(n,): probability of the true class."""
    ahead: FloatArray
    """(n,): total probability of the classes before it, the most probable first; 0 where the answer was right."""

    @classmethod
    def of(cls, probabilities: FloatArray, labels: IntArray) -> ConformalScores:
        """Score calibration photos.

        Shapes: `probabilities` (n, C), `labels` (n,).

        Examples
        --------
        >>> import numpy as np
        >>> from tip_adapter.trust.conformal import ConformalScores
        >>> scores = ConformalScores.of(np.array([[0.5, 0.2, 0.3]]), np.array([1]))
        >>> scores.true, scores.ahead
        (array([0.2]), array([0.8]))
        """
        rows = np.arange(len(labels))
        return cls(probabilities[rows, labels], _ahead(probabilities)[rows, labels])

    def __len__(self) -> int:
        return len(self.true)

    def threshold(
        self, coverage: float, kind: SetKind = "lac", *, allow_empty: bool = False, random_state: int = 0
    ) -> float:
        """Find the non-conformity up to which a class belongs to a set.

        The k-th smallest of the n scores, ``k = ⌈(n + 1)·coverage⌉``. The score of a class is 1 - p ("lac"), or the
        probability of the classes before it plus a random share of its own ("aps"). Where sets may not be empty, the
        most probable class is in every set, so its score is -inf.

        References
        ----------
        Sadinle, Lei and Wasserman, "Least Ambiguous Set-Valued Classifiers With Bounded Error Levels", JASA 2019.
        Romano, Sesia and Candès, "Classification with Valid and Adaptive Coverage", NeurIPS 2020, equations 5 to 8.

        Examples
        --------
        >>> import numpy as np
        >>> from tip_adapter.trust.conformal import ConformalScores
        >>> scores = ConformalScores(np.array([0.9, 0.8, 0.3, 0.7]), np.array([0.0, 0.0, 0.6, 0.0]))
        >>> scores.threshold(0.8)
        0.7
        """
        _check_kind(kind)
        check_enough(len(self), coverage)
        rank = math.ceil((len(self) + 1) * coverage - 1e-9)
        if kind == "lac":
            scores = 1.0 - self.true
        else:
            scores = self.ahead + np.random.default_rng(random_state).random(len(self)) * self.true
        if not allow_empty:
            scores = np.where(self.ahead == 0, -np.inf, scores)
        return float(np.partition(scores, rank - 1)[rank - 1])


def prediction_sets(
    probabilities: FloatArray,
    threshold: float,
    kind: SetKind = "lac",
    *,
    allow_empty: bool = False,
    shares: FloatArray | None = None,
) -> BoolArray:
    """Take the classes that are no less conforming than the threshold.

    Shapes: `probabilities` (B, C), `shares` (B,) → (B, C).

    Parameters
    ----------
    shares : ndarray of shape (B,), optional
        For "aps": a random number in [0, 1) for each photo. Without it the whole probability counts, and sets cover
        less than wanted.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.trust.conformal import prediction_sets
    >>> prediction_sets(np.array([[0.5, 0.3, 0.2], [0.9, 0.06, 0.04]]), 0.7)
    array([[ True,  True, False],
           [ True, False, False]])
    """
    _check_kind(kind)
    ahead = _ahead(probabilities)
    if kind == "lac":
        scores = 1.0 - probabilities
    else:
        own = np.ones(len(probabilities)) if shares is None else shares
        scores = ahead + own[:, None] * probabilities
    inside: BoolArray = scores <= threshold
    return inside if allow_empty else inside | (ahead == 0)


def _ahead(probabilities: FloatArray) -> FloatArray:
    """Total probability of the classes before each; equal ones in their order. Exactly 0 for the first alone."""
    values = probabilities.astype(np.float64)
    order = np.argsort(-values, axis=1, kind="stable")
    ranked = np.take_along_axis(values, order, axis=1)
    before = np.zeros(values.shape)
    # The first class may have probability 0 in float32 sums; whoever comes later must not look like the first.
    before[:, 1:] = np.maximum(np.cumsum(ranked[:, :-1], axis=1), np.finfo(np.float64).tiny)
    result = np.empty(values.shape)
    np.put_along_axis(result, order, before, axis=1)
    return result


def check_share(name: str, value: float) -> None:
    """Raise unless a value is in (0, 1).

    Examples
    --------
    >>> from tip_adapter.trust.conformal import check_share
    >>> check_share("coverage", 0.9)
    """
    if not 0 < value < 1:
        example = "0.9" if name == "coverage" else "0.1"
        share = f"{example} for {100 * float(example):g} %"
        raise InputError(f"Expected {name} above 0 and below 1, a share such as {share}, got {value:g}")


def check_enough(n: int, coverage: float) -> None:
    """Raise where n calibration photos are too few for a coverage.

    Examples
    --------
    >>> from tip_adapter.trust.conformal import check_enough
    >>> check_enough(9, 0.9)
    """
    check_share("coverage", coverage)
    if math.ceil((n + 1) * coverage - 1e-9) <= n:
        return
    needed = math.ceil(coverage / (1 - coverage) - 1e-9)
    remedy = f"add photos, or ask for at most {math.floor(1000 * n / (n + 1)) / 1000:g}" if n else NOTHING_LEFT_OUT
    raise InputError(f"A coverage of {coverage:g} needs at least {needed} calibration photos, got {n}: {remedy}")


def _check_kind(kind: str) -> None:
    if kind not in get_args(SetKind):
        raise InputError(f"Expected a kind of sets, {' or '.join(get_args(SetKind))}, got {kind!r}")
