"""Methods as users write them: a name with parameters, such as ``tip-adapter:alpha=1:beta=5.5``."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tip_adapter.errors import InputError
from tip_adapter.methods import FewShotMethod, method_class

SEPARATOR = ":"

GIVEN = ("zero_shot_weights", "class_names", "prompt_features", "logit_scale")
"""Parameters that come from the classifier or the data set."""

RESERVED = (*GIVEN, "random_state", "templates", "held")
"""Parameters that are no part of a method's name: the run decides them, too."""


@dataclass(frozen=True)
class MethodSpec:
    """A method by its name in `METHODS`, and the parameters that differ from its defaults."""

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What tables call it, and what `read_method` reads: name and parameters."""
        return SEPARATOR.join([self.name, *(f"{key}={shown(value)}" for key, value in self.parameters.items())])

    @property
    def type(self) -> type[FewShotMethod]:
        """Its class."""
        return method_class(self.name)

    @property
    def on_encoder(self) -> bool:
        """Whether it needs the encoder itself, not only features."""
        return self.type.needs_encoder

    @property
    def takes_images(self) -> bool:
        """Whether it learns from the photos themselves."""
        return self.type.takes_images

    @property
    def trains(self) -> bool:
        """Whether parameters are trained by gradient descent."""
        return self.type.trains or self.on_encoder

    def build(self, given: Mapping[str, Any] | None = None) -> FewShotMethod:
        """Make the estimator; of what is given it takes what its constructor knows."""
        known = inspect.signature(self.type).parameters
        build: Callable[..., FewShotMethod] = self.type
        return build(**{key: value for key, value in (given or {}).items() if key in known} | dict(self.parameters))


def parameters_of(name: str) -> dict[str, Any]:
    """List the parameters of a method that users choose, with their defaults."""
    signature = inspect.signature(method_class(name))
    return {key: one.default for key, one in signature.parameters.items() if key not in RESERVED}


def read_method(word: str) -> MethodSpec:
    """Read a name with parameters; an unknown name or parameter raises, and the message lists the valid ones.

    Examples
    --------
    >>> from tip_adapter.methods.spec import read_method
    >>> read_method("tip-adapter:alpha=1:beta=5.5").parameters
    {'alpha': 1, 'beta': 5.5}
    """
    name, *given = word.split(SEPARATOR)
    known = parameters_of(name)
    parameters = {}
    for pair in given:
        key, equals, text = pair.partition("=")
        if not equals or key not in known:
            raise InputError(f"Expected NAME=VALUE with a parameter of {name} ({_listed(known)}), got {pair!r}")
        parameters[key] = _value(text)
        _check_kind(f"{key} of {name}", parameters[key], known[key])
    return MethodSpec(name, parameters)


def _listed(parameters: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={shown(default)}" for key, default in parameters.items()) or "it has none"


def _check_kind(what: str, value: Any, default: Any) -> None:
    """Raise where a value is of another kind than the default."""
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise InputError(f"Expected {what} to be true or false, got {shown(value)!r}")
    elif (default == "auto" or isinstance(default, int | float)) and value != "auto" and not _is_number(value):
        raise InputError(f"Expected {what} to be a number or 'auto', got {shown(value)!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _value(text: str) -> Any:
    try:
        return json.loads(text.lower() if text in ("True", "False") else text)
    except ValueError:
        return text


def shown(value: Any) -> str:
    """Write a value as `read_method` reads it."""
    return value if isinstance(value, str) else json.dumps(value)
