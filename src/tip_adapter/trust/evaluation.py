"""Evaluate logits: accuracy with its interval, figures per class, confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tip_adapter.trust.agreement import disagreement
from tip_adapter.trust.conformal import ConformalScores
from tip_adapter.trust.figures import percent
from tip_adapter.trust.metrics import (
    accuracy,
    confusion_matrix,
    expected_calibration_error,
    negative_log_likelihood,
    per_class_recall,
    top_k_accuracy,
    wilson_interval,
)
from tip_adapter.typing import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How a classifier does on labelled photos.

    Attributes
    ----------
    n : int
        Photos.
    accuracy : float
        Fraction of photos that are right.
    accuracy_interval : tuple of float
        95 % interval over the photos (Wilson 1927): as wide as few photos deserve, even where all are right.
    zero_shot_accuracy, cache_accuracy : float or None
        Of text alone and of the shots alone; None where the classifier has no such part.
    top_k_accuracy : dict of int to float
        Fraction of photos whose class is among the k best.
    nll : float
        Mean negative log-likelihood, in nats.
    ece : float
        Expected calibration error, 15 bins.
    class_names : tuple of C str
    recall : ndarray of shape (C,)
        Fraction of each class's photos that are right; NaN for a class without photos.
    confusion : ndarray of shape (C, C)
        Photos by true class (row) and answer (column).
    n_shots_among : int
        How many of the photos are shots of the classifier itself: they make every figure too good.
    skipped : tuple of (name, reason)
        Photos that could not be read, and are in none of the figures.
    disagreement : str
        Where the photos show something else than the left-out shots promised, and what to do; empty where they agree.
    """

    n: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    zero_shot_accuracy: float | None
    cache_accuracy: float | None
    top_k_accuracy: dict[int, float]
    nll: float
    ece: float
    class_names: tuple[str, ...]
    recall: FloatArray
    confusion: IntArray
    n_shots_among: int = 0
    skipped: tuple[tuple[str, str], ...] = ()
    disagreement: str = ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What people should know: where a part alone does better than the whole, or the shots promised otherwise."""
        alone = (
            (self.cache_accuracy, "the shots alone", "better class texts, or none (--no-text), may help"),
            (self.zero_shot_accuracy, "the class texts alone", "more shots, or shots more like these photos, may help"),
        )
        mine = percent(self.accuracy)
        parts = tuple(
            f"{part} are right more often on these photos ({percent(value)} against {mine}): {remedy}"
            for value, part, remedy in alone
            if value is not None and value > self.accuracy
        )
        return (*parts, self.disagreement) if self.disagreement else parts

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values; fractions, not per cent."""
        return {
            "n": self.n,
            "n_shots_among": self.n_shots_among,
            "accuracy": self.accuracy,
            "accuracy_interval": list(self.accuracy_interval),
            "zero_shot_accuracy": self.zero_shot_accuracy,
            "cache_accuracy": self.cache_accuracy,
            "top_k_accuracy": {str(k): value for k, value in self.top_k_accuracy.items()},
            "nll": self.nll,
            "ece": self.ece,
            "notes": list(self.notes),
            "per_class": [
                {
                    "class": name,
                    "n": int(row.sum()),
                    "recall": None if np.isnan(recall) else float(recall),
                    "precision": float(row[index] / column) if (column := self.confusion[:, index].sum()) else None,
                }
                for index, (name, recall, row) in enumerate(
                    zip(self.class_names, self.recall, self.confusion, strict=True)
                )
            ],
            "confusion": self.confusion.tolist(),
        }


def evaluate_probabilities(
    probabilities: FloatArray,
    labels: IntArray,
    class_names: Sequence[str],
    *,
    zero_shot: FloatArray | None = None,
    cache: FloatArray | None = None,
    n_shots_among: int = 0,
    skipped: Sequence[tuple[str, str]] = (),
    stated: ConformalScores | None = None,
    turned_away: BoolArray | None = None,
) -> Evaluation:
    """Measure answers against the truth.

    Shapes: `probabilities` (B, C), `labels` (B,), `zero_shot, cache` (B, C). `stated` are scores of left-out shots,
    `turned_away` (B,) the photos that they would have shown no class.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.trust.evaluation import evaluate_probabilities
    >>> evaluation = evaluate_probabilities(np.array([[0.9, 0.1], [0.6, 0.4]]), np.array([0, 1]), ["hat", "cap"])
    >>> evaluation.accuracy, evaluation.confusion.tolist()
    (0.5, [[1, 0], [1, 0]])
    """
    predictions = probabilities.argmax(axis=1)
    n_classes = len(class_names)

    def of(logits: FloatArray | None) -> float | None:
        return None if logits is None else accuracy(logits.argmax(axis=1), labels)

    return Evaluation(
        n=len(labels),
        accuracy=accuracy(predictions, labels),
        accuracy_interval=wilson_interval(int((predictions == labels).sum()), len(labels)),
        zero_shot_accuracy=of(zero_shot),
        cache_accuracy=of(cache),
        top_k_accuracy={k: top_k_accuracy(probabilities, labels, k) for k in (1, 3, 5) if k <= n_classes},
        nll=negative_log_likelihood(probabilities, labels),
        ece=expected_calibration_error(probabilities, labels),
        class_names=tuple(class_names),
        recall=per_class_recall(predictions, labels, n_classes=n_classes),
        confusion=confusion_matrix(predictions, labels, n_classes=n_classes),
        n_shots_among=n_shots_among,
        skipped=tuple(skipped),
        disagreement="" if stated is None else disagreement(stated, probabilities, labels, turned_away),
    )
