"""Describe what a search for α and β found, and whether the class texts help."""

from __future__ import annotations

import numpy as np

from tip_adapter.methods.heads import CacheHead, zero_shot_logits
from tip_adapter.model.few_shot_model import FewShotModel
from tip_adapter.trust.class_texts import doubt_texts
from tip_adapter.typing import FloatArray


def search_in_words(model: FewShotModel) -> str:
    """Say what the chosen α and β of Tip-Adapter mean for these photos."""
    head = model.head
    if not isinstance(head, CacheHead):
        raise TypeError(f"Expected a model of tip-adapter, got {model.method.name}")
    summary = f"Tip-Adapter's search: {model.method.chosen['summary']}"
    if head.alpha == 0:
        return f"{summary}."
    affinities = _affinities_to_others(head)
    text = zero_shot_logits(head.keys, head.zero_shot_weights, head.logit_scale, head.n_classes)
    weight = head.alpha * _spread(affinities @ _class_shares(head)) / max(_spread(text), 1e-9)
    # As many shots as would share in the affinities alike.
    asked = float((affinities.sum(axis=1) ** 2 / (affinities**2).sum(axis=1)).mean())
    n_shots = len(head.keys)
    who = f"all {n_shots} shots have a say" if asked > 0.8 * n_shots else f"about {asked:.0f} of {n_shots} shots decide"
    return f"{summary}. The shots weigh {weight:.1f} times as much as the texts, and {who} in a prediction."


def texts_in_words(model: FewShotModel) -> str | None:
    """Say what the shots have against the class texts; None where they tell the classes apart."""
    features, labels = model.shots.features.unit, model.shots.labels
    doubts = doubt_texts(model.class_names, model.class_texts, model.zero_shot_weights, features, labels)
    return f"The texts help little here: {doubts}" if doubts else None


def _spread(logits: FloatArray) -> float:
    """How far apart the logits of a photo are, on average."""
    return float(logits.std(axis=1).mean())


def _affinities_to_others(head: CacheHead) -> FloatArray:
    """Affinities (N, N) of every shot to the others, as if it had not been seen."""
    affinities = np.exp(-head.beta * (1 - (head.keys @ head.keys.T).astype(np.float64)))
    np.fill_diagonal(affinities, 0)
    return affinities


def _class_shares(head: CacheHead) -> FloatArray:
    """One-hot labels (N, C), with the same sum for every class."""
    one_hot = np.eye(head.n_classes)[head.labels]
    counts = one_hot.sum(axis=0)
    return np.asarray(one_hot * (counts.mean() / np.maximum(counts, 1)))
