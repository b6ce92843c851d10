"""Calibrate a classifier from held-out predictions: temperature, conformal scores, out-of-distribution score.

One object holds all that is learned from such answers: the temperature that makes probabilities mean what they say, the
scores that sets of classes are made from, and what is usual for photos of known classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from tip_adapter.methods.heads import softmax
from tip_adapter.methods.selection.folds import support_folds
from tip_adapter.trust.conformal import ConformalScores
from tip_adapter.trust.metrics import expected_calibration_error, negative_log_likelihood
from tip_adapter.trust.one_shot_more import foreseen_gain, next_step, odds_of, raised
from tip_adapter.trust.out_of_distribution import Familiarity, familiarity_parts, log_odds, without_own
from tip_adapter.typing import Float32Array, FloatArray, IntArray

CalibrationSource = Literal["shots", "photos", "none"]

FEW_SHOTS = 2.0
"""Up to so many shots per class, a fit without one of them is too unlike the whole one for its temperature to count."""

WIDTH = 0.5
"""How far from 1 a temperature may well be, in logarithms: it decides where a handful of photos, all of them right,
would make the classifier infinitely sure."""

LEAST_CLASSES = 4
"""With fewer, a classifier that does not know one of them has hardly a choice, and tells nothing of unknown photos."""

LIMIT = 3.0
"""Logarithm of the highest temperature looked at."""


def fit_temperature(logits: FloatArray, labels: IntArray) -> float:
    """Find the temperature T whose ``softmax(logits / T)`` is the likeliest, near 1 where there is little evidence.

    Minimises the negative log-likelihood of all photos plus ``(log T / 0.5)² / 2``.

    Shapes: `logits` (n, C), `labels` (n,).

    References
    ----------
    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 4.2.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.trust.calibration import fit_temperature
    >>> sure, labels = np.array([[4.0, 0.0]] * 50), np.array([0] * 40 + [1] * 10)
    >>> round(fit_temperature(sure, labels), 1)
    2.4
    """
    from scipy.optimize import minimize_scalar

    if not len(labels):
        return 1.0
    # Logits less those of the true class: the loss of a photo is then the log of the sum of their powers.
    lead = logits.astype(np.float64) - logits[np.arange(len(labels)), labels][:, None]
    top = lead.max(axis=1)

    def loss(log_temperature: float) -> float:
        scale = np.exp(-log_temperature)
        sums = np.exp((lead - top[:, None]) * scale).sum(axis=1)
        return float(np.sum(np.log(sums) + top * scale) + (log_temperature / WIDTH) ** 2 / 2)

    found = minimize_scalar(loss, bounds=(-LIMIT, LIMIT), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))


@dataclass(frozen=True, eq=False)
class Calibration:
    """What a classifier's answers to photos it had not seen tell about its other answers."""

    temperature: float
    """T of ``softmax(logits / T)``."""
    source: CalibrationSource
    """Shots left out in turn, photos apart from the shots, or nothing."""
    n: int
    n_folds: int
    """n and n_folds: photos that were asked about, and folds of the cross-validation (0 without)."""
    chosen: bool
    """Whether the temperature comes from them; with one or two shots per class it stays 1."""
    nll: tuple[float, float]
    ece: tuple[float, float]
    """nll and ece: negative log-likelihood and expected calibration error of these photos, at temperature 1 and at T;
    NaN without."""
    scores: ConformalScores
    familiarity: Familiarity

    @classmethod
    def of(
        cls,
        logits: FloatArray,
        labels: IntArray,
        parts: tuple[Float32Array, Float32Array, IntArray],
        *,
        groups: IntArray | None = None,
        folds: tuple[IntArray, IntArray] | None = None,
        shots: float = np.inf,
        fewer: FloatArray | None = None,
    ) -> Calibration:
        """Learn from answers to photos that the classifier has not seen.

        Shapes: `logits` (n, C), `labels` (n,); `parts`: unit features of the photos (n, D), keys of the shots (N, D)
        and their classes (N,); `groups` (N,) of the shots, where the photos are others; `folds`: of photos (n,) and
        shots (N,), where the photos are shots left out in turn, of which there are `shots` a class.

        `fewer` (n, C) are answers of fits that lack another fold besides (`tip_adapter.methods.left_out.LeftOut`): what
        one fold more brought tells how much better all shots together answer. Not where the photos asked about are
        means of views, which are easier than what will come.

        Examples
        --------
        >>> import numpy as np
        >>> from tip_adapter.trust.calibration import Calibration
        >>> features, labels = np.eye(2, dtype=np.float32)[[0, 0, 1, 1]], np.array([0, 0, 1, 1])
        >>> calibration = Calibration.of(4 * features, labels, (features, features, labels))
        >>> calibration.source, calibration.temperature < 1
        ('photos', True)
        """
        n = len(labels)
        chosen = n > 0 and shots > FEW_SHOTS
        temperature = fit_temperature(logits, labels) if chosen else 1.0
        probabilities = softmax(logits / temperature) if n else np.zeros((0, logits.shape[1]))
        unknown = (float("nan"), float("nan"))
        key_folds = folds[1] if folds is not None else support_folds(*parts[1:], groups=groups)
        n_folds = int(key_folds.max()) + 1 if folds is not None and n else 0
        looked = partial(familiarity_parts, key_folds=key_folds, query_folds=folds and folds[0])
        signs = looked(probabilities, *parts)
        apart = looked(without_own(probabilities, labels), *parts) if logits.shape[1] >= LEAST_CLASSES else None
        expected = probabilities
        if fewer is not None and n_folds > 1:
            step, less = next_step(shots, n_folds), fewer / temperature
            gain = foreseen_gain(odds_of(logits / temperature, labels), odds_of(less, labels), step)
            expected = softmax(raised(logits / temperature, labels, gain))
            signs[:, 0] += foreseen_gain(signs[:, 0], log_odds(softmax(less)), step)
        return cls(
            temperature,
            "none" if not n else "photos" if folds is None else "shots",
            n,
            n_folds,
            chosen,
            _losses(logits, temperature, labels) if n else unknown,
            _errors(logits, probabilities, labels) if n else unknown,
            ConformalScores.of(expected, labels),
            Familiarity.of(signs, apart),
        )

    @property
    def origin(self) -> str:
        """Where it comes from, for people."""
        if self.source == "none":
            return "not calibrated: there is one shot per class, so none can be left out"
        if self.source == "photos":
            return f"{self.n} photos apart from the shots"
        return f"{self.n} shots, left out in {self.n_folds} folds"

    @property
    def guarantee(self) -> str:
        """What sets of classes, and the share of photos turned away, can be relied on for."""
        if self.source == "photos":
            return "holds on average for new photos taken like the calibration photos"
        return (
            "measured on held-out shots, so an estimate and no guarantee: for a guarantee, calibrate with photos apart "
            "from the shots"
        )

    @property
    def summary(self) -> str:
        """One sentence for people."""
        if self.source == "none":
            return self.origin
        if not self.chosen:
            return f"temperature 1: one or two shots per class are too few to choose one ({self.origin})"
        errors = f"ECE {self.ece[0]:.3f} → {self.ece[1]:.3f}"
        if self.ece[1] > self.ece[0]:
            errors += f", which is worse: the log loss decides, {self.nll[0]:.3f} → {self.nll[1]:.3f}"
        return f"temperature {self.temperature:.3g} from {self.origin} ({errors})"

    def state(self) -> tuple[dict[str, FloatArray], dict[str, Any]]:
        """Take apart into arrays and plain values, to be saved."""
        arrays = {
            "true": self.scores.true,
            "ahead": self.scores.ahead,
            "means": self.familiarity.means,
            "spreads": self.familiarity.spreads,
            "familiar": self.familiarity.scores,
        }
        values = {name: getattr(self, name) for name in ("temperature", "source", "n", "n_folds", "chosen")} | {
            name: [None if np.isnan(v) else v for v in getattr(self, name)] for name in ("nll", "ece")
        }
        return arrays, values

    @classmethod
    def from_state(cls, arrays: Mapping[str, FloatArray], values: Mapping[str, Any]) -> Calibration:
        """Put together what `state` took apart."""
        scores = ConformalScores(arrays["true"], arrays["ahead"])
        familiarity = Familiarity(arrays["means"], arrays["spreads"], arrays["familiar"])
        pairs = {
            name: tuple(float("nan") if value is None else value for value in values[name]) for name in ("nll", "ece")
        }
        return cls(**{**values, **pairs}, scores=scores, familiarity=familiarity)


def _losses(logits: FloatArray, temperature: float, labels: IntArray) -> tuple[float, float]:
    # From logits: the probability of a wrong answer that was very sure is 0 in float64, and its logarithm infinite.
    first, second = (
        negative_log_likelihood(scores, labels, from_logits=True) for scores in (logits, logits / temperature)
    )
    return first, second


def _errors(logits: FloatArray, probabilities: FloatArray, labels: IntArray) -> tuple[float, float]:
    first, second = (expected_calibration_error(values, labels) for values in (softmax(logits), probabilities))
    return first, second
