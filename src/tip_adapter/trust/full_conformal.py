"""Full conformal sets of a cache model: every shot calibrates, and none is held out.

A photo joins the shots as each class in turn. Every photo of the two together is then scored by the others, so that
photo and shots are treated alike, and if the shots were drawn like the photo its rank among them is uniform.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tip_adapter.errors import InputError
from tip_adapter.methods.heads import CacheHead, zero_shot_logits
from tip_adapter.methods.heads.affinity import affinity, class_mass
from tip_adapter.trust.conformal import check_enough
from tip_adapter.typing import BoolArray, Float32Array, FloatArray, IntArray

MOST_NUMBERS = 50_000_000
"""Shots times classes, of which a few arrays of float64 are held: beyond it they take gigabytes."""

CHUNK = 2_000_000
"""Affinities computed at a time."""


@dataclass(frozen=True, eq=False)
class FullConformal:
    """What the shots of a cache model say of each other, to which a photo is added in O(N) for each class.

    Notes
    -----
    Logits are those of `CacheHead` over the temperature, each shot left out of its own. Whatever is held, α, β, the
    text weight and the temperature, has to be chosen apart from the shots for the guarantee to be exact.

    References
    ----------
    Silva-Rodríguez et al., "Full Conformal Adaptation of Medical Vision-Language Models", IPMI 2025 (arXiv 2506.06076).
    Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World", 2005, chapter 2.
    """

    head: CacheHead
    temperature: float
    counts: IntArray
    """(C,): shots of every class."""
    text: FloatArray
    sums: FloatArray
    """text and sums: (N, C): zero-shot logits of every shot, and its affinities to the other shots of every class,
    summed."""
    own: FloatArray
    """(N,): logit of every shot's class, from the others."""
    rest: FloatArray
    """(N, C): log of the summed powers of all logits but that of a class."""

    @classmethod
    def of(cls, head: CacheHead, temperature: float = 1.0) -> FullConformal:
        """Let the shots of a cache model answer for each other, once for all photos.

        Examples
        --------
        >>> import numpy as np
        >>> from tip_adapter.methods.heads import CacheHead
        >>> from tip_adapter.trust.full_conformal import FullConformal
        >>> keys, labels = np.eye(2, dtype=np.float32)[[0, 0, 1, 1]], np.array([0, 0, 1, 1])
        >>> head = CacheHead(2, None, 1.0, keys=keys, labels=labels, alpha=1.0, beta=5.0)
        >>> FullConformal.of(head).p_values(keys[:1]).round(2)
        array([[1. , 0.2]])
        """
        counts = np.bincount(head.labels, minlength=head.n_classes)
        if counts.min() == 0:
            raise InputError(f"Full conformal sets need a shot of every class, got none of {int((counts == 0).sum())}")
        if len(head.labels) * head.n_classes > MOST_NUMBERS:
            raise InputError(
                f"Full conformal sets compare every shot with every class, and {len(head.labels)} shots of "
                f"{head.n_classes} classes are too many: calibrate with photos apart from the shots"
            )
        rows, labels = np.arange(len(head.labels)), head.labels
        text = zero_shot_logits(head.keys, head.zero_shot_weights, head.logit_scale, head.n_classes).astype(np.float64)
        sums = np.empty(text.shape)
        for part in _chunks(len(rows), len(rows)):
            values = affinity(head.keys[part], head.keys, head.beta).astype(np.float64)
            values[np.arange(len(values)), rows[part]] = 0.0
            sums[part] = class_mass(values[:, head.cache.order], head.cache)
        sums /= _weights(head, counts)  # class_mass has weighed them
        logits = text + head.alpha * sums * _weights(head, np.maximum(counts - _is_own(labels, head.n_classes), 1))
        logits /= temperature
        return cls(head, temperature, counts, text, sums, logits[rows, labels], _log_rest(logits))

    def p_values(self, features: Float32Array) -> FloatArray:
        """Share of shots and photo that fit no better than the photo does, as each class.

        Shapes: `features` (B, D) → (B, C), multiples of 1 / (N + 1).
        """
        head, labels = self.head, self.head.labels
        text = zero_shot_logits(features, head.zero_shot_weights, head.logit_scale, head.n_classes)
        mass = class_mass(affinity(features, head.cache.keys, head.beta).astype(np.float64), head.cache)
        logits = (text + head.alpha * mass) / self.temperature
        fits = logits - np.logaddexp.reduce(logits, axis=1)[:, None]
        own = _is_own(labels, head.n_classes)
        weights = head.alpha * _weights(head, self.counts + 1 - own)
        result = np.empty(fits.shape)
        for row, near in enumerate(affinity(features, head.keys, head.beta).astype(np.float64)):
            joined = (self.text + weights * (self.sums + near[:, None])) / self.temperature
            shots = np.where(own, joined, self.own[:, None]) - np.logaddexp(self.rest, joined)
            result[row] = ((shots <= fits[row]).sum(axis=0) + 1) / (len(labels) + 1)
        return result

    def sets(self, features: Float32Array, coverage: float) -> BoolArray:
        """Take the classes as which a photo is not among the worst 1 - coverage.

        Shapes: `features` (B, D) → (B, C).
        """
        check_enough(len(self.own), coverage)
        inside: BoolArray = self.p_values(features) > 1 - coverage + 1e-9
        return inside


def _is_own(labels: IntArray, n_classes: int) -> BoolArray:
    """Which class each shot is of, (N, C)."""
    owned: BoolArray = labels[:, None] == np.arange(n_classes)
    return owned


def _weights(head: CacheHead, counts: IntArray) -> FloatArray:
    """What a key of each class counts, where N keys are left of shots and photo."""
    if not head.balanced:
        return np.ones(counts.shape)
    weights: FloatArray = len(head.labels) / (head.n_classes * counts)
    return weights


def _log_rest(logits: FloatArray) -> FloatArray:
    """Log of the sum of the powers of all logits but each; taking away the largest would leave rounding alone."""
    rows, top = np.arange(len(logits)), logits.argmax(axis=1)
    highest = logits[rows, top]
    powers = np.exp(logits - highest[:, None])
    rest = powers.sum(axis=1)[:, None] - powers
    powers[rows, top] = 0.0
    rest[rows, top] = powers.sum(axis=1)
    result: FloatArray = np.log(np.maximum(rest, np.finfo(np.float64).tiny)) + highest[:, None]
    return result


def _chunks(n_rows: int, width: int) -> Iterator[slice]:
    size = max(1, CHUNK // max(1, width))
    return (slice(start, start + size) for start in range(0, n_rows, size))
