"""`ImageClassifier`, which learns from labelled photos to classify new ones, part by part."""

from __future__ import annotations

from tip_adapter.classifier.encoding import DEFAULT_METHOD, ENCODER_VARIABLE, default_encoder
from tip_adapter.classifier.image_classifier import ImageClassifier
from tip_adapter.model.predictions import Prediction

__all__ = ["DEFAULT_METHOD", "ENCODER_VARIABLE", "ImageClassifier", "Prediction", "default_encoder"]
