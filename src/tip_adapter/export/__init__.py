"""Export a fitted classifier as ONNX files, a script and a web page that need no part of this package."""

from tip_adapter.export.folder import ExportReport, export_classifier
from tip_adapter.export.models import classifier_model, head_model

__all__ = ["ExportReport", "classifier_model", "export_classifier", "head_model"]
