"""Import libraries that would report to their makers, with those reports switched off."""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType

NO_TELEMETRY = {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
"""Read by ONNX Runtime, and by huggingface_hub with hf-xet and transformers, while they are imported."""


def import_library(name: str) -> ModuleType:
    """Import a module that must not look anything up in a network by itself.

    ONNX Runtime would look up a host of its maker a few seconds after the first session, and `huggingface_hub` would
    ask for a list of coding agents before a download. A lint rule keeps the rest of the package from importing them.

    Parameters
    ----------
    name : str
        Such as ``"onnxruntime"`` or ``"onnxruntime.quantization"``.

    Returns
    -------
    module

    Raises
    ------
    ImportError
        When it is not installed.

    Examples
    --------
    >>> from tip_adapter.libraries import import_library
    >>> import_library("huggingface_hub.constants").HF_HUB_DISABLE_TELEMETRY
    True
    """
    os.environ.update(NO_TELEMETRY)
    module = importlib.import_module(name)
    # Where the calling program has imported it before, with the reports switched on.
    if constants := sys.modules.get("huggingface_hub.constants"):
        constants.HF_HUB_DISABLE_TELEMETRY = True  # type: ignore[attr-defined]
    return module
