"""TDA: two caches that are filled by the test photos, one after the other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tip_adapter.errors import InputError
from tip_adapter.methods.base import FewShotMethod
from tip_adapter.methods.heads import softmax, zero_shot_logits
from tip_adapter.methods.inputs import given_or_auto
from tip_adapter.methods.support_set import SupportSet
from tip_adapter.typing import BoolArray, Float32Array, FloatArray

UNSURE = (0.2, 0.5)
"""Entropies, as shares of log₂ C, between which a photo goes into the negative cache."""

LEAST_PROBABILITY = 0.03
"""Classes that a photo of the negative cache makes likelier than this are what it speaks against."""

NEGATIVE_ALPHA, NEGATIVE_BETA, NEGATIVE_CAPACITY = 0.117, 1.0, 2


class TDA(FewShotMethod):
    """TDA, ``s·f·Wᵀ + α·A(f, F₊)·Y₊ - .117·A(f, F₋)·Y₋``: a stream of photos answered one after the other.

    ``F₊`` are, of every class, the photos so far that the texts took for it with the least entropy; ``F₋`` those whose
    entropy is neither small nor large, and ``Y₋`` marks the classes they may be of: a photo like them is less likely
    one of these. ``A`` is Tip-Adapter's affinity.

    At test time: an answer depends on the photos before it, so this belongs in no table with methods that answer each
    photo for itself. It learns from no shots; they only name the classes.

    Parameters
    ----------
    zero_shot_weights : array-like of shape (C, D)
        W, class text features; a row of NaN for a class without text. Required.
    class_names : sequence of str, optional
        Names of the rows of `zero_shot_weights`.
    alpha : float, default=2.0
        α, weight of the positive cache. 2 is the official code's for ImageNet; it is 1 to 5 for other sets.
    beta : float, default=5.0
        β, sharpness of the positive cache's affinity.
    capacity : int, default=3
        Photos of every class in the positive cache.
    logit_scale : float, default=100.0
        s, the inverse temperature the encoder was trained with.
    random_state : int, generator or None, default=0
        Seed of the order in which the photos of one call come; None takes them as they are.

    Notes
    -----
    Each call begins with empty caches. As in the official code the entropy, in nats, is compared with log₂ C, and a
    photo is in the caches when it is answered.

    References
    ----------
    Karmanov et al., "Efficient Test-Time Adaptation of Vision-Language Models", CVPR 2024, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.transductive.tda import TDA
    >>> texts = np.eye(2, dtype=np.float32)
    >>> method = TDA(texts, class_names=["hat", "cap"]).fit(texts, ["hat", "cap"])
    >>> method.predict([[0.8, 0.6], [0.6, 0.8]]).tolist()
    ['hat', 'cap']
    """

    needs_text = True
    transductive = True

    alpha: float = 2.0
    beta: float = 5.0
    capacity: int = 3
    random_state: Any = 0

    def _fit_head(self, support: SupportSet) -> _StreamHead:
        alpha, beta = given_or_auto("alpha", self.alpha), given_or_auto("beta", self.beta)
        if alpha is None or beta is None:
            raise InputError("Expected alpha and beta as numbers that are at least 0, got 'auto'")
        if not isinstance(self.capacity, int | np.integer) or self.capacity < 1:
            raise InputError(f"Expected capacity as a whole number that is at least 1, got {self.capacity!r}")
        return _StreamHead(support, alpha, beta, int(self.capacity), self.random_state)


@dataclass(frozen=True)
class _StreamHead:
    """Answers to photos, one after the other."""

    support: SupportSet
    alpha: float
    beta: float
    capacity: int
    random_state: Any

    def logits(self, features: Float32Array) -> Float32Array:
        """Logits (B, C) of unit features (B, D), which come in the order of the seed."""
        support, n = self.support, len(features)
        text = zero_shot_logits(features, support.zero_shot_weights, support.logit_scale, support.n_classes)
        probabilities = softmax(text)
        entropies = -np.sum(probabilities * np.log(np.maximum(probabilities, 1e-300)), axis=1)
        unsure = entropies / np.log2(support.n_classes)
        marked = (probabilities > LEAST_PROBABILITY) & (probabilities < 1.0)
        one_hot = np.eye(support.n_classes, dtype=bool)
        positive = _Cache(support.n_classes, features.shape[1], self.capacity)
        negative = _Cache(support.n_classes, features.shape[1], NEGATIVE_CAPACITY)
        order = np.arange(n) if self.random_state is None else np.random.default_rng(self.random_state).permutation(n)
        result = text.copy()
        for row in order:
            feature, named = features[row], int(text[row].argmax())
            positive.offer(named, feature, entropies[row], one_hot[named])
            if UNSURE[0] < unsure[row] < UNSURE[1]:
                negative.offer(named, feature, entropies[row], marked[row])
            result[row] += self.alpha * positive.logits(feature, self.beta)
            result[row] -= NEGATIVE_ALPHA * negative.logits(feature, NEGATIVE_BETA)
        return result


@dataclass
class _Cache:
    """The photos of every class with the least entropy, as many as there is room for.

    Attributes
    ----------
    n_classes, dim, capacity : int
    keys : ndarray of shape (C · capacity, D), float32
        Of them the first `filled` hold photos.
    values : ndarray of shape (C · capacity, C), float32
    """

    n_classes: int
    dim: int
    capacity: int
    filled: int = 0
    keys: Float32Array = field(init=False)
    values: Float32Array = field(init=False)
    places: dict[int, list[tuple[float, int]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.keys = np.zeros((self.n_classes * self.capacity, self.dim), dtype=np.float32)
        self.values = np.zeros((self.n_classes * self.capacity, self.n_classes), dtype=np.float32)

    def offer(self, named: int, feature: Float32Array, entropy: float, value: BoolArray) -> None:
        """Keep a photo if its class has room, or one of more entropy."""
        kept = self.places.setdefault(named, [])
        if len(kept) < self.capacity:
            place, self.filled = self.filled, self.filled + 1
        elif entropy < kept[-1][0]:
            place = kept.pop()[1]
        else:
            return
        kept.append((float(entropy), place))
        kept.sort()
        self.keys[place], self.values[place] = feature, value

    def logits(self, feature: Float32Array, beta: float) -> FloatArray:
        """Affinities with what is kept, summed up by its values, (C,)."""
        affinities = np.exp(-beta * (1.0 - self.keys[: self.filled] @ feature))
        logits: FloatArray = affinities @ self.values[: self.filled]
        return logits
