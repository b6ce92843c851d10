"""Logits on images that a fit has not seen: shots left out in turn, or a validation set.

One shot of every class is left out at once (never one image alone, which handicaps its own class), and a term fitted
to the rest answers for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from tip_adapter.methods.selection.folds import MAX_FOLDS, VERY_MANY, asked_shots, shots_per_class, support_folds
from tip_adapter.methods.selection.prior import likely_text_weight
from tip_adapter.typing import BoolArray, Float32Array, FloatArray, IntArray

Fit = Callable[[BoolArray], Callable[[Float32Array], FloatArray]]
"""Fit a term to the shots that a mask (N,) keeps; the result turns unit features (B, D) into logits (B, C), 0 for
classes without a kept shot."""

TextOf = Callable[[IntArray | BoolArray], FloatArray]
"""Gives the zero-shot logits of some shots."""

Rule = Literal["cross-validation", "cross-validation and prior", "prior", "validation"]

FEW_SHOTS = 2.0
"""Up to so many shots per class, on average, left-out fits differ so much from the full one that a prior is needed."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What was chosen to count beside the texts, and how it did on images that no fit had seen.

    Attributes
    ----------
    alpha : float
        α, weight of what the shots say.
    rule : {"cross-validation", "cross-validation and prior", "prior", "validation"}
        "cross-validation" on the shots, "cross-validation and prior" where they are few, "prior" where none can be left
        out, or "validation".
    n_folds, n_scored : int
        Folds of the cross-validation (0 without), and images that were scored.
    nll, accuracy : float
        On these images, in nats per image and as a fraction; NaN under the rule "prior".
    zero_shot_nll, zero_shot_accuracy : float
        The same of text alone; NaN without text.
    text_weight : float
        t, what the zero-shot logits count.
    """

    alpha: float
    rule: Rule
    n_folds: int = 0
    n_scored: int = 0
    nll: float = math.nan
    accuracy: float = math.nan
    zero_shot_nll: float = math.nan
    zero_shot_accuracy: float = math.nan
    text_weight: float = 1.0

    def _sentence(self, chosen: str) -> str:
        if self.rule == "prior":
            return f"{chosen} by the rule for one shot, or group of them, per class (nothing can be left out)"
        source = f"{self.n_folds}-fold cross-validation on the shots" if self.n_folds else "the validation set"
        if self.rule == "cross-validation and prior":
            source += " and the prior for few shots"
        compared = f"{100 * self.accuracy:.1f} %"
        if not math.isnan(self.zero_shot_accuracy):
            compared += f" against {100 * self.zero_shot_accuracy:.1f} % zero-shot"
        return f"{chosen} by {source} ({compared})"


GROUPS = 8
"""Groups of classes, each left out once, when the spread of a term's logits on new images is measured."""


@dataclass(frozen=True)
class Evidence:
    """Images that decide, and how a term is asked about them without having seen them.

    Attributes
    ----------
    features : ndarray of shape (B, D), float32
    labels : ndarray of shape (B,), integers in [0, C)
    text : ndarray of shape (B, C)
        Their zero-shot logits.
    asked : ndarray of shape (B,), bool
        Images that ask the texts: all, or one of every group, at most `folds.MAX_ASKED`.
    scored : ndarray of shape (B,), bool
        Those that ask the term, too; a shot whose class has none left says nothing. None with one shot per class.
    folds : ndarray of shape (B,), or None
        Their folds; None for a validation set.
    support_folds : ndarray of shape (N,), or None
        Folds of the shots a term is fitted to.
    support_labels : ndarray of shape (N,)
        Classes of the shots a term is fitted to.
    growth : float
        Shots per class over shots per class that a left-out fit keeps.
    groups : ndarray of shape (N,), optional
        Group of every shot, where some belong together.
    """

    features: Float32Array
    labels: IntArray
    text: FloatArray
    asked: BoolArray
    scored: BoolArray
    folds: IntArray | None
    support_folds: IntArray | None
    support_labels: IntArray
    growth: float = 1.0
    groups: IntArray | None = None

    @property
    def n_folds(self) -> int:
        """Folds of the cross-validation; 0 for a validation set."""
        return 0 if self.support_folds is None else int(self.support_folds.max()) + 1

    @property
    def shots(self) -> float:
        """Mean shots, or groups of them, per class, of the classes that have any."""
        return shots_per_class(self.support_labels, self.groups)

    @cached_property
    def text_weight(self) -> float:
        """What the texts count by themselves."""
        return likely_text_weight(self.text[self.asked], self.labels[self.asked])

    @property
    def few(self) -> bool:
        """Whether a prior has to help."""
        return self.folds is not None and self.shots <= FEW_SHOTS

    @property
    def rule(self) -> Rule:
        """What decides."""
        if self.folds is None:
            return "validation"
        if not self.scored.any():
            return "prior"
        return "cross-validation and prior" if self.few else "cross-validation"

    def logits(self, fit: Fit) -> FloatArray:
        """Logits of the scored images, by terms that have not seen them; 0 for the others.

        All of a validation set are scored; with a single fold, which nothing is left out of, none.

        Shapes: → (B, C).
        """
        if self.folds is None or self.support_folds is None:
            return fit(np.ones(len(self.support_labels), dtype=bool))(self.features)
        result = np.zeros(self.text.shape)
        for fold in range(self.n_folds if self.scored.any() else 0):
            out = (self.folds == fold) & self.scored
            result[out] = fit(self.support_folds != fold)(self.features[out])
        return result

    def new_image_spread(self, fit: Fit) -> float:
        """Spread over classes of the logits that the full term would give new images.

        Shots are no new images, but to a term that has not seen their class they are: a part of the classes is left
        out at a time, and the others' logits are looked at.
        """
        present = np.unique(self.support_labels)
        spreads = []
        for group in range(min(GROUPS, len(present))):
            kept_classes = np.delete(present, np.s_[group::GROUPS])
            kept = np.isin(self.support_labels, kept_classes)
            if len(kept_classes) > 1:
                spreads.append(fit(kept)(self.features[~kept])[:, kept_classes].std(axis=1))
        if not spreads:  # two classes: nothing is left to compare
            return spread(fit(np.ones(len(self.support_labels), dtype=bool))(self.features))
        return float(np.concatenate(spreads).mean())


def evidence_from_support(
    features: Float32Array,
    labels: IntArray,
    text: FloatArray | TextOf,
    *,
    max_folds: int = MAX_FOLDS,
    groups: IntArray | None = None,
    queries: Float32Array | None = None,
) -> Evidence:
    """Use the shots themselves, one of every class left out at once, or one group, of which one shot is asked about.

    Shapes: `features` (N, D), `labels` (N,), `text` (N, C), `groups` (N,), `queries` (N, D).

    Parameters
    ----------
    text : ndarray or callable
        Zero-shot logits, or what gives those of some rows.
    queries : ndarray, optional
        The shots as they are asked about; see `tip_adapter.methods.support_set.SupportSet`.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.selection.evidence import evidence_from_support
    >>> labels = np.repeat([0, 1], 4)
    >>> evidence = evidence_from_support(np.eye(8, dtype=np.float32), labels, np.zeros((8, 2)))
    >>> evidence.rule, evidence.n_folds, round(evidence.growth, 3)
    ('cross-validation', 4, 1.333)
    """
    folds = support_folds(features, labels, max_folds, groups)
    kept = np.bincount(labels)[labels] - np.bincount(_pairs(labels, folds))[_pairs(labels, folds)]
    asked = asked_shots(features, labels, groups)
    scored = (kept > 0) & asked
    growth = float(np.mean(np.bincount(labels)[labels][scored] / kept[scored])) if scored.any() else 1.0
    shots = shots_per_class(labels, groups)
    # Few per class decide by their spread over classes that nobody has seen, for which all are needed.
    rows = np.flatnonzero(asked) if len(labels) > VERY_MANY and shots > FEW_SHOTS else np.arange(len(labels))
    given = text(rows) if callable(text) else text[rows]
    images = features if queries is None else queries
    seen = images[rows], labels[rows], given, asked[rows], scored[rows], folds[rows]
    return Evidence(*seen, folds, labels, growth, groups)


def _pairs(labels: IntArray, folds: IntArray) -> IntArray:
    """Number every pair of class and fold."""
    pairs: IntArray = labels * (int(folds.max()) + 1) + folds
    return pairs


def evidence_from_validation(
    features: Float32Array, labels: IntArray, text: FloatArray, support_labels: IntArray
) -> Evidence:
    """Use images apart from the support set.

    Shapes: `features` (B, D), `labels` (B,), `text` (B, C), `support_labels` (N,).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.selection.evidence import evidence_from_validation
    >>> labels = np.array([0, 1])
    >>> evidence_from_validation(np.eye(2, dtype=np.float32), labels, np.zeros((2, 2)), labels).rule
    'validation'
    """
    every = np.ones(len(labels), dtype=bool)
    return Evidence(features, labels, text, every, every, None, None, support_labels)


def spread(logits: FloatArray) -> float:
    """Mean standard deviation of logits over classes.

    Shapes: `logits` (B, C).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.selection.evidence import spread
    >>> spread(np.array([[1.0, 3.0], [5.0, 5.0]]))
    0.5
    """
    return float(logits.std(axis=1).mean()) if len(logits) else 0.0
