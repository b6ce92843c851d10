"""Predict what one more photo of a class would gain, and say whether there are enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from tip_adapter.methods.left_out import LeftOut
from tip_adapter.methods.selection.folds import second_fold
from tip_adapter.methods.selection.prior import HALF_KNOWN
from tip_adapter.trust.calibration import FEW_SHOTS, fit_temperature
from tip_adapter.trust.metrics import wilson_interval
from tip_adapter.trust.one_shot_more import foreseen_gain, next_step, odds_of, raised
from tip_adapter.typing import FloatArray, IntArray

Verdict = Literal["enough", "more would help", "too few to say"]
Interval = tuple[float, float]
Gain = tuple[float | None, Interval | None, Verdict]

WORTH = 0.01
"""Accuracy that one more photo has to be worth: one more of a hundred photos named rightly."""

TWO_SIDED = 1.96
"""Standard errors on either side of a 95 % interval."""


_UNKNOWN: Gain = (None, None, "too few to say")


@dataclass(frozen=True)
class ShotHint:
    """Why a shot is worth a look."""

    shot: str
    """Its name."""
    kind: Literal["doubtful label", "near-copy", "tiny picture"]
    reason: str
    """For people."""


@dataclass(frozen=True)
class Sufficiency:
    """How well left-out photos are recognised, and what one more is expected to gain.

    Attributes
    ----------
    photos, groups : int
        Shots, and groups of them; one more photo means one more group.
    asked, right : int
        Groups that could be left out, and those named rightly.
    gain : float or None
        Recall that one more photo is expected to add; None where that cannot be foreseen.
    gain_interval : (float, float) or None
        95 %.
    verdict : {"enough", "more would help", "too few to say"}
    """

    photos: int
    groups: int
    asked: int
    right: int
    gain: float | None
    gain_interval: Interval | None
    verdict: Verdict

    @property
    def accuracy(self) -> float | None:
        """Share of the groups that are named rightly; None where none could be left out."""
        return self.right / self.asked if self.asked else None

    @property
    def interval(self) -> Interval | None:
        """Its 95 % interval, Wilson's."""
        return wilson_interval(self.right, self.asked) if self.asked else None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**vars(self), "accuracy": self.accuracy, "interval": self.interval}


@dataclass(frozen=True)
class ClassEnough(Sufficiency):
    """Whether there are enough photos of a class.

    Attributes
    ----------
    name : str
    taken_for : str or None
        The class that its photos are most often taken for.
    taken_share : float
        Of its photos that are.
    """

    name: str
    taken_for: str | None
    taken_share: float


@dataclass(frozen=True)
class Enough(Sufficiency):
    """Whether there are enough photos: in all, where one more means one of every class, and of each class.

    Attributes
    ----------
    worth : float
        The gain from which one more photo is worth it.
    classes : tuple of ClassEnough
    hints : tuple of ShotHint
        Shots that somebody should look at, where that was asked.
    """

    worth: float
    classes: tuple[ClassEnough, ...]
    hints: tuple[ShotHint, ...] = ()

    @property
    def neediest(self) -> tuple[ClassEnough, ...]:
        """The classes, those first that nothing is known of, then those that one more photo gains most."""
        return tuple(sorted(self.classes, key=lambda one: (one.asked > 0, -(one.gain or 0.0), one.groups)))

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, the classes in their order."""
        classes, hints = [one.to_dict() for one in self.classes], [vars(hint) for hint in self.hints]
        return {**super().to_dict(), "classes": classes, "hints": hints}


def enough(
    answers: LeftOut,
    labels: IntArray,
    groups: IntArray | None,
    class_names: Sequence[str],
    *,
    worth: float = WORTH,
) -> Enough:
    """Foresee from left-out answers what one more photo of each class would gain.

    What is unknown of a class with K groups falls as 1 / (K + 2) (`tip_adapter.methods.selection.prior`). How much
    accuracy hangs on that is the same number for all classes: single ones have too few photos to tell. It is what the
    left-out answers gained on those of fits that lack a second fold, over what became known in between; a class whose
    photos are missed more often than others gains more in proportion, as far as its few photos tell.

    A right answer counts as ``sigmoid(margin / temperature)``, since few answers change with one photo.

    "enough" is a class whose gain is below `worth`, at the upper end of its interval. "more would help" is one whose
    expected gain is not, if the photos gain anything at all for sure. All else is "too few to say".

    Shapes: `labels`, `groups` (N,); `answers` are to one photo of each group.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods import TipAdapter
    >>> from tip_adapter.methods.left_out import left_out_logits
    >>> from tip_adapter.trust.enough import enough
    >>> features, labels = np.eye(2, dtype=np.float32)[[0] * 20 + [1] * 20], np.array([0] * 20 + [1] * 20)
    >>> method = TipAdapter(np.eye(2, dtype=np.float32), logit_scale=10.0).fit(features, labels)
    >>> found = enough(left_out_logits(method, features, labels), labels, None, ["hat", "cap"])
    >>> found.right, found.asked, found.verdict
    (40, 40, 'enough')
    """
    own = np.arange(len(labels)) if groups is None else groups
    kept = _groups_in_folds(answers, labels, own, len(class_names))
    temperature = fit_temperature(answers.logits, answers.labels) if answers.shots > FEW_SHOTS else 1.0
    credit, best = _expected(answers, temperature)
    curve = _Curve(*_slope(answers, kept, temperature), *_factors(credit, answers.labels, len(class_names)), worth)
    n_groups = kept.sum(axis=1)
    rows = []
    for number, name in enumerate(class_names):
        named = np.bincount(best[answers.labels == number], minlength=len(class_names))
        asked, right = int(named.sum()), int(named[number])
        named[number] = 0
        worst = int(named.argmax())
        gain = curve.of_class(number, n_groups[number]) if asked else _UNKNOWN
        taken_for = class_names[worst] if named.any() else None
        counts = int((labels == number).sum()), int(n_groups[number]), asked, right
        rows.append(ClassEnough(*counts, *gain, name, taken_for, float(named[worst] / max(1, asked))))
    whole = curve.of_all(n_groups)
    if whole[2] == "enough" and not all(one.asked for one in rows):
        whole = (*whole[:2], "too few to say")
    right = int((best == answers.labels).sum())
    return Enough(len(labels), len(np.unique(own)), len(best), right, *whole, worth, tuple(rows))


@dataclass(frozen=True)
class _Curve:
    """Accuracy against what is known of classes: `slope` for all, times a factor (C,) for each; standard errors."""

    slope: float
    error: float
    factors: FloatArray
    factor_errors: FloatArray
    worth: float

    def of_class(self, number: int, n_groups: float) -> Gain:
        factor, error, step = self.factors[number], self.factor_errors[number], _step(n_groups)
        spread = np.hypot(self.error * factor, np.hypot(self.slope, self.error) * error)
        return self._judged(float(self.slope * factor * step), float(spread * step))

    def of_all(self, n_groups: FloatArray) -> Gain:
        mean = float((self.factors * _step(n_groups))[n_groups > 0].mean())
        return self._judged(self.slope * mean, self.error * mean)

    def _judged(self, gain: float, error: float) -> Gain:
        if not np.isfinite(gain):
            return _UNKNOWN
        interval = gain - TWO_SIDED * error, gain + TWO_SIDED * error
        if interval[1] < self.worth:
            return max(0.0, gain), interval, "enough"
        helps = gain >= self.worth and self.slope > TWO_SIDED * self.error
        return max(0.0, gain), interval, "more would help" if helps else "too few to say"


def _step(n_groups: FloatArray | float) -> Any:
    """What becomes known of a class with one group more."""
    return 1.0 / ((n_groups + HALF_KNOWN) * (n_groups + HALF_KNOWN + 1.0))


def _groups_in_folds(answers: LeftOut, labels: IntArray, groups: IntArray, n_classes: int) -> FloatArray:
    """Count the groups of every class in every fold: (C, folds)."""
    folds = answers.folds if answers.n_folds else np.zeros_like(answers.folds)
    pairs = np.unique(np.stack([labels, groups, folds]), axis=1)
    result = np.zeros((n_classes, int(folds.max()) + 1))
    np.add.at(result, (pairs[0], pairs[2]), 1.0)
    return result


def _expected(answers: LeftOut, temperature: float) -> tuple[FloatArray, IntArray]:
    """Credit of the left-out answers (B,), and the classes that all shots together are expected to name (B,)."""
    logits, labels = answers.logits / temperature, answers.labels
    if answers.fewer is not None and len(labels):
        before = odds_of(answers.fewer / temperature, labels)
        gain = foreseen_gain(odds_of(logits, labels), before, next_step(answers.shots, answers.n_folds))
        return _credit(logits, labels), raised(logits, labels, gain).argmax(axis=1)
    return _credit(logits, labels), logits.argmax(axis=1)


def _credit(logits: FloatArray, labels: IntArray) -> FloatArray:
    """Sigmoid of the margin between the true class and the best of the others."""
    from scipy.special import expit

    rows, others = np.arange(len(labels)), logits.astype(np.float64)
    true = others[rows, labels].copy()
    others[rows, labels] = -np.inf
    result: FloatArray = expit(true - others.max(axis=1, initial=-np.inf))
    return result


def _slope(answers: LeftOut, kept: FloatArray, temperature: float) -> tuple[float, float]:
    """Accuracy gained over what became known between two folds less and one, and its standard error; NaN without.

    Two photos more, that gained as much as became known of their class, keep the error from 0 where few photos agree.
    """
    if answers.fewer is None or not len(answers.labels):
        return np.nan, np.nan
    labels, n_folds, fold = answers.labels, answers.n_folds, answers.folds[answers.rows]
    second = np.array([second_fold(one, n_folds) for one in range(n_folds)])[fold]
    one_less = kept[labels].sum(axis=1) - kept[labels, fold]
    # Of two folds none is left: the answers were by the texts alone.
    two_less = one_less - kept[labels, second] if n_folds > 2 else np.zeros(len(labels))
    known = 1.0 / (two_less + HALF_KNOWN) - 1.0 / (one_less + HALF_KNOWN)
    asked = known > 0
    if not asked.any():
        return np.nan, np.nan
    known, before = known[asked], answers.fewer / temperature
    gained = (_credit(answers.logits / temperature, labels) - _credit(before, labels))[asked]
    slope = float(gained.sum() / known.sum())
    spread = ((gained - slope * known) ** 2).sum() + HALF_KNOWN * (known**2).mean()
    return slope, float(np.sqrt(spread) / known.sum())


def _factors(credit: FloatArray, labels: IntArray, n_classes: int) -> tuple[FloatArray, FloatArray]:
    """How much more often than all a class is missed (C,), as far as its photos tell, and the standard error (C,)."""
    counts = np.bincount(labels, minlength=n_classes)
    missed = np.bincount(labels, weights=1.0 - credit, minlength=n_classes)
    whole = (missed.sum() + 1.0) / (len(labels) + 2.0)
    share = (missed + HALF_KNOWN * whole) / (counts + HALF_KNOWN)
    error: FloatArray = np.sqrt(share * (1.0 - share) / (counts + HALF_KNOWN))
    return share / whole, error / whole
