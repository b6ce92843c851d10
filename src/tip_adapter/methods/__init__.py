"""The methods of the literature: support features and labels in, logits out; `METHODS` names them all."""

from __future__ import annotations

from tip_adapter.errors import InputError
from tip_adapter.methods.base import FewShotMethod
from tip_adapter.methods.gda import GDA
from tip_adapter.methods.tip_adapter import TipAdapter
from tip_adapter.methods.zero_shot import ZeroShot

__all__ = ["GDA", "METHODS", "FewShotMethod", "TipAdapter", "ZeroShot", "method_class"]

METHODS: dict[str, type[FewShotMethod]] = {
    "zero-shot": ZeroShot,
    "tip-adapter": TipAdapter,
    "gda": GDA,
}
"""Every method by the name that `ImageClassifier`, the command line and benchmarks use."""


def method_class(name: str) -> type[FewShotMethod]:
    """Look a method up by its name.

    Parameters
    ----------
    name : str
        One of `METHODS`.

    Returns
    -------
    type

    Raises
    ------
    InputError
        When there is none of that name.

    Examples
    --------
    >>> from tip_adapter.methods import method_class
    >>> method_class("tip-adapter").__name__
    'TipAdapter'
    """
    if name not in METHODS:
        raise InputError(f"Unknown method {name!r}: choose one of {', '.join(METHODS)}.")
    return METHODS[name]
