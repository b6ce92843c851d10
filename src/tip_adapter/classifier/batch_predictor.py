"""Wrap a classifier as a plain function of a batch of records, for threads and for every data engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from tip_adapter.classifier.predicting import calibration_of
from tip_adapter.features.batch_encoder import Batch, BatchEncoder, Columns
from tip_adapter.methods.heads.base import unit
from tip_adapter.trust.conformal import prediction_sets
from tip_adapter.typing import Float32Array, FloatArray

if TYPE_CHECKING:
    from tip_adapter.classifier import ImageClassifier
    from tip_adapter.trust.conformal import SetKind


class BatchPredictor:
    """Add predictions to a batch of images; those that cannot be read get the reason as their error.

    With `coverage`, sets of classes that contain the true one this often are added as ``set``; with `none_of_these`,
    ``out_of_distribution``, where this share of photos of known classes may be called so by mistake.
    """

    def __init__(
        self,
        classifier: ImageClassifier,
        *,
        coverage: float | None = None,
        sets: str = "lac",
        allow_empty: bool = False,
        none_of_these: float | None = None,
        seconds_per_image: float = 60.0,
    ) -> None:
        self.model, self.kind = classifier._fitted(), cast("SetKind", sets)
        self.allow_empty = allow_empty
        self._encode = BatchEncoder(
            classifier.encoder, seconds_per_image=seconds_per_image, allow_truncated=classifier.allow_truncated
        )
        self.set_threshold = self.none_threshold = None
        if coverage is not None:
            self.set_threshold = calibration_of(self.model).scores.threshold(
                coverage, self.kind, allow_empty=allow_empty
            )
        if none_of_these is not None:
            self.none_threshold = calibration_of(self.model).familiarity.threshold(none_of_these)

    def __call__(self, batch: Batch) -> Columns:
        """Return the batch with ``class``, ``probability``, ``probabilities`` (N, C) and ``error``."""
        columns = self._encode(batch)
        raw: Float32Array = columns.pop("features")
        features = unit(raw.astype(np.float64)).astype(np.float32)
        probabilities = self.model.probabilities(self.model.logits(features))
        best = probabilities.argmax(axis=1)
        columns["class"] = [self.model.class_names[column] for column in best]
        columns["probability"] = probabilities.max(axis=1).tolist()
        columns["probabilities"] = np.asarray(probabilities, dtype=np.float32)
        columns["set"] = self._sets(probabilities, columns["digest"])
        none = self.model.unfamiliar(probabilities, features, self.none_threshold)
        columns["out_of_distribution"] = [None] * len(none) if self.none_threshold is None else none.tolist()
        return columns

    def _sets(self, probabilities: FloatArray, digests: list[str | None]) -> list[list[str] | None]:
        if self.set_threshold is None:
            return [None] * len(probabilities)
        shares = np.array([int((digest or "0")[:13], 16) / 16**13 for digest in digests])
        inside = prediction_sets(
            probabilities, self.set_threshold, self.kind, allow_empty=self.allow_empty, shares=shares
        )
        return [[self.model.class_names[column] for column in np.flatnonzero(row)] for row in inside]
