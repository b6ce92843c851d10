"""What a fitted method is: arrays and a formula from unit features (B, D) to logits (B, C).

A head needs NumPy alone. Estimators fit one, saved classifiers hold one, exports translate one, explanations take one
apart.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from tip_adapter.errors import InputError
from tip_adapter.methods.heads.adapter import AdapterHead
from tip_adapter.methods.heads.base import Head, softmax, zero_shot_logits
from tip_adapter.methods.heads.cache import CacheHead, ChannelCacheHead, NeighbourHead, TipXHead
from tip_adapter.methods.heads.linear import KernelHead, LinearHead
from tip_adapter.methods.heads.top_k import TopKCacheHead

__all__ = [
    "HEADS",
    "AdapterHead",
    "CacheHead",
    "ChannelCacheHead",
    "Head",
    "KernelHead",
    "LinearHead",
    "NeighbourHead",
    "TipXHead",
    "TopKCacheHead",
    "head_from_state",
    "head_state",
    "softmax",
    "zero_shot_logits",
]

HEADS: dict[str, type[Any]] = {
    "linear": LinearHead,
    "cache": CacheHead,
    "kernel": KernelHead,
    "tip-x": TipXHead,
    "channel-cache": ChannelCacheHead,
    "neighbour": NeighbourHead,
    "adapter": AdapterHead,
    "top-k-cache": TopKCacheHead,
}
"""Every formula that a saved classifier can hold, by the name it is saved under."""


def head_state(head: Head) -> tuple[str, dict[str, np.ndarray[Any, Any]], dict[str, Any]]:
    """Take a head apart for saving.

    Examples
    --------
    >>> from tip_adapter.methods.heads import LinearHead, head_state
    >>> head_state(LinearHead(3, None, 1.0))
    ('linear', {}, {'n_classes': 3, 'zero_shot_weights': None, 'logit_scale': 1.0, 'weights': None, 'bias': None})
    """
    kinds = [kind for kind, cls in HEADS.items() if type(head) is cls]
    if not kinds:
        raise InputError(f"Expected a head of one of the kinds {', '.join(HEADS)}, got {type(head).__name__}")
    fields = {field.name: getattr(head, field.name) for field in dataclasses.fields(head)}  # type: ignore[arg-type]
    arrays = {name: value for name, value in fields.items() if isinstance(value, np.ndarray)}
    return kinds[0], arrays, {name: value for name, value in fields.items() if name not in arrays}


def head_from_state(kind: str, arrays: Mapping[str, np.ndarray[Any, Any]], parameters: Mapping[str, Any]) -> Head:
    """Put a head together again; the inverse of `head_state`.

    Examples
    --------
    >>> from tip_adapter.methods.heads import head_from_state
    >>> head_from_state("linear", {}, {"n_classes": 3, "zero_shot_weights": None, "logit_scale": 1.0})
    LinearHead(n_classes=3, zero_shot_weights=None, logit_scale=1.0, weights=None, bias=None)
    """
    if kind not in HEADS:
        raise InputError(f"Unknown kind of head {kind!r}: this version knows {', '.join(HEADS)}")
    try:
        head: Head = HEADS[kind](**arrays, **parameters)
    except TypeError as error:
        raise InputError(f"The saved head of kind {kind!r} has not the fields this version expects: {error}") from error
    return head
