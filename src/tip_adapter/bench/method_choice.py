"""Names of methods or groups go in, as a user writes them; methods with their parameters come out."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tip_adapter.errors import InputError
from tip_adapter.methods import METHODS, FewShotMethod, method_class

__all__ = ["GROUPS", "MethodChoice", "choose_methods", "group_of"]

GROUPS = ("default", "all", "training-free", "trained", "on-encoder")
"""What stands for several methods: "default" is all that work on features, "on-encoder" those that need gradients of
the encoder itself."""

SEPARATOR = ":"


@dataclass(frozen=True)
class MethodChoice:
    """A method to measure.

    Attributes
    ----------
    name : str
        One of `METHODS`.
    parameters : dict
        What differs from its defaults.
    """

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What tables call it: name and parameters."""
        given = [f"{key}={_shown(value)}" for key, value in self.parameters.items()]
        return SEPARATOR.join([self.name, *given])

    @property
    def type(self) -> type[FewShotMethod]:
        """Its class."""
        return method_class(self.name)

    @property
    def on_encoder(self) -> bool:
        """Whether it needs the encoder itself, not only features."""
        return self.type.needs_encoder or self.type.takes_images

    @property
    def takes_images(self) -> bool:
        """Whether it learns from the photos themselves."""
        return self.type.takes_images

    @property
    def trains(self) -> bool:
        """Whether it needs torch."""
        return self.type.trains or self.on_encoder


def group_of(name: str) -> str:
    """Say how a method adapts, for the colours of figures.

    Parameters
    ----------
    name : str
        One of `METHODS`, or a label that begins with one.

    Returns
    -------
    {"training-free", "trained", "on-encoder"}

    Examples
    --------
    >>> from tip_adapter.bench.method_choice import group_of
    >>> group_of("tip-adapter:alpha=1")
    'training-free'
    """
    # A record may name a method of another version, or a variant of one: "full-fine-tuning + wise-ft".
    base = name.split(SEPARATOR)[0].split(" ")[0]
    if base not in METHODS:
        return "trained"
    choice = MethodChoice(base)
    return "on-encoder" if choice.on_encoder else "trained" if choice.trains else "training-free"


def choose_methods(wanted: str | Sequence[str]) -> tuple[MethodChoice, ...]:
    """Read names of methods.

    Parameters
    ----------
    wanted : str or sequence of str
        Names of `METHODS` or `GROUPS`, separated by commas; parameters follow a name after colons, as in
        ``"tip-adapter:alpha=1:beta=5.5"``.

    Returns
    -------
    tuple of MethodChoice
        Each once, in the given order.

    Raises
    ------
    InputError
        When a name or a parameter is unknown; the message lists the valid ones.

    Examples
    --------
    >>> from tip_adapter.bench.method_choice import choose_methods
    >>> [choice.label for choice in choose_methods("zero-shot,tip-adapter:alpha=1:beta=5.5")]
    ['zero-shot', 'tip-adapter:alpha=1:beta=5.5']
    """
    words = wanted.split(",") if isinstance(wanted, str) else list(wanted)
    words = [word.strip() for word in words if word.strip()]
    if not words:
        raise InputError(f"Expected at least one method, got none: name some of {', '.join([*GROUPS, *METHODS])}.")
    chosen: dict[str, MethodChoice] = {}
    for word in words:
        for choice in _of_group(word) if word in GROUPS else [_read(word)]:
            chosen.setdefault(choice.label, choice)
    return tuple(chosen.values())


def _of_group(group: str) -> list[MethodChoice]:
    found = [MethodChoice(name) for name in METHODS]
    belongs: Callable[[MethodChoice], bool] = {
        "all": lambda choice: True,
        "default": lambda choice: not choice.on_encoder,
        "training-free": lambda choice: not choice.trains,
        "trained": lambda choice: choice.trains,
        "on-encoder": lambda choice: choice.on_encoder,
    }[group]
    return [choice for choice in found if belongs(choice)]


def _read(word: str) -> MethodChoice:
    name, *given = word.split(SEPARATOR)
    if name not in METHODS:
        raise InputError(f"Unknown method {name!r}: choose among {', '.join([*GROUPS, *METHODS])}.")
    build: Callable[..., Any] = METHODS[name]
    known = {key: one.default for key, one in inspect.signature(build).parameters.items() if key not in RESERVED}
    parameters = {}
    for pair in given:
        key, equals, value = pair.partition("=")
        if not equals or key not in known:
            raise InputError(f"Expected NAME=VALUE with a parameter of {name} ({', '.join(known)}), got {pair!r}.")
        parameters[key] = _value(value)
        is_number = known[key] == "auto" or (isinstance(known[key], int | float) and not isinstance(known[key], bool))
        if is_number and isinstance(parameters[key], str) and parameters[key] != "auto":
            raise InputError(f"Expected {key} of {name} to be a number or 'auto', got {value!r}.")
    return MethodChoice(name, parameters)


RESERVED = (
    "zero_shot_weights",
    "class_names",
    "logit_scale",
    "random_state",
    "progress",
    "checkpoint",
    "encoder",
    "class_texts",
    "templates",
)
"""Parameters that the data set and the run decide."""


def _value(text: str) -> Any:
    try:
        return json.loads(text.lower() if text in ("True", "False") else text)
    except ValueError:
        return text


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
