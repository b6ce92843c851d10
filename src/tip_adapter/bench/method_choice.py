"""Parse the methods, groups and parameters that a user names."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tip_adapter.errors import InputError, probably
from tip_adapter.methods import METHODS
from tip_adapter.methods.spec import MethodSpec, read_method

GROUPS = ("default", "all", "training-free", "trained", "on-encoder", "transductive")
"""What stands for several methods: "default" is all that work on features, "on-encoder" those that need gradients of
the encoder itself, "transductive" those that see the test photos together, which only "all" has beside others."""


def group_of(name: str) -> str:
    """Say how a method adapts, for the colours of figures.

    Examples
    --------
    >>> from tip_adapter.bench.method_choice import group_of
    >>> group_of("tip-adapter:alpha=1")
    'training-free'
    """
    # A record may name a method of another version, or a variant of one: "full-fine-tuning + wise-ft".
    base = name.split(":")[0].split(" ")[0]
    if base not in METHODS:
        return "trained"
    choice = MethodSpec(base)
    if choice.type.transductive:
        return "transductive"
    return "on-encoder" if choice.on_encoder else "trained" if choice.trains else "training-free"


def choose_methods(wanted: str | Sequence[str]) -> tuple[MethodSpec, ...]:
    """Read names of methods.

    Parameters
    ----------
    wanted : str or sequence of str
        Names of `METHODS` or `GROUPS`, separated by commas; parameters follow a name after colons, as in
        ``"tip-adapter:alpha=1:beta=5.5"``.

    Examples
    --------
    >>> from tip_adapter.bench.method_choice import choose_methods
    >>> [choice.label for choice in choose_methods("zero-shot,tip-adapter:alpha=1:beta=5.5")]
    ['zero-shot', 'tip-adapter:alpha=1:beta=5.5']
    """
    words = wanted.split(",") if isinstance(wanted, str) else list(wanted)
    words = [word.strip() for word in words if word.strip()]
    if not words:
        raise InputError(f"Expected at least one method, got none: name some of {', '.join([*GROUPS, *METHODS])}")
    chosen: dict[str, MethodSpec] = {}
    for word in words:
        for choice in _of_group(word) if word in GROUPS else [_read(word)]:
            chosen.setdefault(choice.label, choice)
    return tuple(chosen.values())


def _of_group(group: str) -> list[MethodSpec]:
    found = [MethodSpec(name) for name in METHODS]
    belongs: Callable[[MethodSpec], bool] = {
        "all": lambda choice: True,
        "default": lambda choice: not (choice.on_encoder or choice.type.transductive),
        "training-free": lambda choice: not (choice.trains or choice.type.transductive),
        "trained": lambda choice: choice.trains,
        "on-encoder": lambda choice: choice.on_encoder,
        "transductive": lambda choice: choice.type.transductive,
    }[group]
    return [choice for choice in found if belongs(choice)]


def _read(word: str) -> MethodSpec:
    if word.split(":")[0] not in METHODS:
        known = [*GROUPS, *METHODS]
        raise InputError(f"Unknown method {word!r}{probably(word, known)}: choose among {', '.join(known)}")
    return read_method(word)
