"""Import third-party code: libraries with telemetry switched off, optional dependencies, and plug-ins."""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any

from tip_adapter.errors import InputError, MissingExtraError, PluginWarning, install_command, warn

NO_TELEMETRY = {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
"""Read by ONNX Runtime, by huggingface_hub with hf-xet and transformers, and by MLflow, while they are imported."""


def import_library(name: str) -> ModuleType:
    """Import a module that must not look anything up in a network by itself.

    ONNX Runtime would look up a host of its maker a few seconds after the first session, and `huggingface_hub` would
    ask for a list of coding agents before a download. A lint rule keeps the rest of the package from importing them.

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


def require_extra(module: str, extra: str) -> ModuleType:
    """Import an optional dependency, or say in one line how to install it.

    Examples
    --------
    >>> from tip_adapter.libraries import require_extra
    >>> require_extra("json", "data").__name__
    'json'
    """
    try:
        return import_library(module)
    except ImportError as error:
        missing = error.name or module
        raise MissingExtraError(f"{missing} is needed and not installed: {install_command(extra)}") from error


@dataclass(frozen=True)
class Plugin:
    """What another package adds under a name."""

    entry_point: EntryPoint

    @property
    def package(self) -> str:
        """Name of the package that brings it."""
        return self.entry_point.dist.name if self.entry_point.dist else self.entry_point.module

    def load(self) -> Any:
        """Import it; a failure names the package, not a line inside it."""
        try:
            return self.entry_point.load()
        except Exception as error:
            raise InputError(
                f"{self.entry_point.name!r} of the package {self.package} cannot be imported "
                f"({type(error).__name__}: {error}): repair or remove that package"
            ) from error

    def works(self) -> bool:
        """Try to import it; a failure is said, and the others go on."""
        try:
            self.load()
        except InputError as error:
            warn(f"{error}; it is left out", PluginWarning)
            return False
        return True


def plugins(group: str) -> dict[str, Plugin]:
    """Find what other packages add to a group of entry points, by name."""
    return {entry_point.name: Plugin(entry_point) for entry_point in entry_points(group=group)}
