"""Metrics of predictions and probabilities."""

from __future__ import annotations

from tip_adapter.trust.metrics.answers import (
    accuracy,
    bootstrap_interval,
    confusion_matrix,
    per_class_recall,
    top_k_accuracy,
    wilson_interval,
)
from tip_adapter.trust.metrics.confidence import (
    expected_calibration_error,
    log_softmax,
    negative_log_likelihood,
    reliability,
)

__all__ = [
    "accuracy",
    "bootstrap_interval",
    "confusion_matrix",
    "expected_calibration_error",
    "log_softmax",
    "negative_log_likelihood",
    "per_class_recall",
    "reliability",
    "top_k_accuracy",
    "wilson_interval",
]
