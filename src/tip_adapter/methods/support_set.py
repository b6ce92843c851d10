"""`SupportSet`: the validated inputs of a fit, and the evidence for its hyper-parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from tip_adapter.methods.heads import zero_shot_logits
from tip_adapter.methods.selection.evidence import Evidence, evidence_from_support, evidence_from_validation
from tip_adapter.methods.selection.folds import VERY_MANY, support_folds
from tip_adapter.typing import BoolArray, Float32Array, IntArray, StrPath

if TYPE_CHECKING:
    from tip_adapter.encoders import Encoder
    from tip_adapter.encoders.trainable import TrainableEncoder
    from tip_adapter.methods.trained.loop import TrainingProgress


@dataclass(frozen=True)
class FitCall:
    """What one call of `fit` is given besides shots, and what nobody needs once it has returned."""

    progress: TrainingProgress | None = None
    encoder: StrPath | Encoder | TrainableEncoder | None = None
    class_texts: Sequence[str | Sequence[str]] | None = None
    checkpoint: StrPath | None = None


@dataclass(frozen=True)
class SupportSet:
    """A checked support set, classes aligned with the zero-shot weights.

    Attributes
    ----------
    features : ndarray of shape (N, D), float32
        Unit rows.
    labels : ndarray of shape (N,), integers in [0, C)
    n_classes : int
        C, classes without shots included.
    zero_shot_weights : ndarray of shape (C, D), float32, or None
        Unit rows; NaN for a class without text; None where no class has text.
    logit_scale : float
    text_weight : float, default=1
        What the zero-shot logits count: they are ``logit_scale * text_weight * cosine``.
    validation : tuple of features (B, D) and labels (B,), optional
        Images apart from the support set that hyper-parameters are chosen on.
    views : ndarray of shape (N, V, D), float32, optional
        Unit rows: augmented views of each shot, for methods that train on them.
    groups : ndarray of shape (N,), integers, optional
        Shots that tell of the same, such as the frames of a burst, have the same number. Default: each is its own.
    queries : ndarray of shape (N, D), float32, optional
        Unit rows: one view of each shot, where features are means of several. Shots are asked about as photos to
        classify are seen. Default: the features.
    call : FitCall, optional
        None for a part of the shots that the method is fitted to again: that reports no progress, touches no
        checkpoint, and is not ended early, since half a training would say something else about the shots left out.
    """

    features: Float32Array
    labels: IntArray
    n_classes: int
    zero_shot_weights: Float32Array | None
    logit_scale: float
    validation: tuple[Float32Array, IntArray] | None = None
    views: Float32Array | None = None
    text_weight: float = 1.0
    groups: IntArray | None = None
    queries: Float32Array | None = None
    call: FitCall | None = None

    def subset(self, rows: IntArray | BoolArray) -> SupportSet:
        """Keep some of the shots."""
        views = None if self.views is None else self.views[rows]
        groups = None if self.groups is None else self.groups[rows]
        queries = None if self.queries is None else self.queries[rows]
        features, labels = self.features[rows], self.labels[rows]
        return replace(self, features=features, labels=labels, views=views, groups=groups, queries=queries, call=None)

    def weigh_text(self, weight: float) -> SupportSet:
        """Let the texts count so much."""
        return replace(self, text_weight=weight)

    @property
    def text_scale(self) -> float:
        """Scale of the cosines with the texts."""
        return self.logit_scale * self.text_weight

    @property
    def asked(self) -> Float32Array:
        """The shots as they are asked about, (N, D)."""
        return self.features if self.queries is None else self.queries

    @cached_property
    def text_logits(self) -> Float32Array:
        """Zero-shot logits of the support features, (N, C)."""
        return self._text(self.features)

    @cached_property
    def _asked_text(self) -> Float32Array:
        return self.text_logits if self.queries is None else self._text(self.queries)

    def text_of(self, rows: IntArray | BoolArray) -> Float32Array:
        """Zero-shot logits of some shots as they are asked about; of very many, not all are computed."""
        return self._text(self.asked[rows]) if len(self.labels) > VERY_MANY else self._asked_text[rows]

    @property
    def validation_set(self) -> tuple[Float32Array, IntArray, Float32Array] | None:
        """The validation images with their zero-shot logits, (B, C)."""
        return None if self.validation is None else (*self.validation, self._text(self.validation[0]))

    @cached_property
    def evidence(self) -> Evidence:
        """What hyper-parameters are chosen on: the validation images if there are any, else left-out shots."""
        if self.validation_set is not None:
            return evidence_from_validation(*self.validation_set, self.labels)
        return evidence_from_support(self.features, self.labels, self.text_of, groups=self.groups, queries=self.queries)

    @cached_property
    def shot_folds(self) -> IntArray:
        """Fold of every shot, (N,)."""
        return support_folds(self.features, self.labels, groups=self.groups)

    def _text(self, features: Float32Array) -> Float32Array:
        return zero_shot_logits(features, self.zero_shot_weights, self.text_scale, self.n_classes)

    @property
    def counts(self) -> IntArray:
        """Shots of every class, (C,)."""
        return np.bincount(self.labels, minlength=self.n_classes)
