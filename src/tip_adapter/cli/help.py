"""Show the values of options in words in --help: flags take none, and lists show their elements."""

from __future__ import annotations

import functools
from typing import Any

from typer.core import TyperCommand, TyperGroup

WORDS = {"str": "text", "Path": "path", "int": "number", "float": "number"}


class ReadableCommand(TyperCommand):
    """A command without ``<list[str]>`` and ``<bool>`` in its help."""

    def get_params(self, ctx: Any) -> list[Any]:
        """List the parameters, ``--help`` among them, with readable types."""
        return _readable(super().get_params(ctx))


class ReadableGroup(TyperGroup):
    """Commands under one name, without ``<bool>`` in its help."""

    def get_params(self, ctx: Any) -> list[Any]:
        """List the parameters, ``--help`` among them, with readable types."""
        return _readable(super().get_params(ctx))


def _readable(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        # Typer has no setting for this: a metavar hides the bounds of a number, and renames an argument.
        parameter.display_type = functools.partial(_shown, _label(parameter))
    return parameters


def _shown(label: str, ctx: Any) -> str:
    return label


def _label(parameter: Any) -> str:
    """Say what kind of value an option takes; arguments are told by their name and their help."""
    if parameter.param_type_name == "argument" or getattr(parameter, "is_flag", False):
        return ""
    kind = parameter.bare_type().removeprefix("list[").removesuffix("]")
    return f"<{WORDS.get(kind, kind.lower())}>"
