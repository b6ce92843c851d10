"""Few-shot image classification with CLIP and a cache model, without training.

Everything public is here by name, and loaded when it is first used: importing the package is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tip_adapter.classifier import ImageClassifier
    from tip_adapter.classifier.embedder import ImageEmbedder
    from tip_adapter.encoders import ENCODERS, export_encoder, load_encoder
    from tip_adapter.errors import TipAdapterError
    from tip_adapter.methods import METHODS, TipAdapter, ZeroShot

__version__ = "0.1.0"

__all__ = [
    "ENCODERS",
    "METHODS",
    "ImageClassifier",
    "ImageEmbedder",
    "TipAdapter",
    "TipAdapterError",
    "ZeroShot",
    "export_encoder",
    "load_encoder",
]

_MODULES = {
    "ENCODERS": "encoders",
    "METHODS": "methods",
    "ImageClassifier": "classifier",
    "ImageEmbedder": "classifier.embedder",
    "TipAdapter": "methods",
    "TipAdapterError": "errors",
    "ZeroShot": "methods",
    "export_encoder": "encoders",
    "load_encoder": "encoders",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
