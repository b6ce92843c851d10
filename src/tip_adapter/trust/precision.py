"""Measure on labelled photos how often an int8 encoder changes a prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter.data.decoding import ImageSource
from tip_adapter.errors import EncoderError
from tip_adapter.features.extraction import extract_features
from tip_adapter.methods.heads import zero_shot_logits
from tip_adapter.methods.heads.affinity import Cache, affinity, class_mass
from tip_adapter.trust.figures import percent
from tip_adapter.typing import Float32Array, FloatArray, IntArray

if TYPE_CHECKING:
    from tip_adapter.encoders.base import BaseEncoder
    from tip_adapter.features.store import FeatureStore
    from tip_adapter.progress import Progress

MAX_FLIPPED = 0.05
"""Share of the shots that int8 may name another class for, by default."""

_MAX_SHOTS = 128  # in full precision they take some seconds
_ALPHA, _BETA = 1.0, 5.5  # the paper's


@dataclass(frozen=True)
class PrecisionReport:
    """How features of 8-bit weights compare with those of full precision."""

    shots: int
    """Photos that were encoded both ways."""
    mean_cosine: float
    lowest_cosine: float
    """mean_cosine and lowest_cosine: between the two features of a photo."""
    flipped: int
    """For how many of them the class that text and the other photos give is another one. Accuracy would hide those that
    are wrong in another way than before."""

    def __str__(self) -> str:
        """One sentence of it."""
        return (
            f"int8 against fp32 on {self.shots} shots: cosine {self.mean_cosine:.4f} "
            f"(lowest {self.lowest_cosine:.4f}), {self.flipped} prediction{'' if self.flipped == 1 else 's'} changed"
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def guard_precision(
    encoder: BaseEncoder,
    images: Sequence[ImageSource],
    labels: IntArray,
    zero_shot_weights: Float32Array | None,
    *,
    n_classes: int,
    exact: BaseEncoder | None = None,
    max_flipped: float = MAX_FLIPPED,
    store: FeatureStore | None = None,
    progress: Progress | None = None,
) -> PrecisionReport:
    """Encode shots with 8-bit weights and in full precision, `exact`, and compare features and predictions.

    The prediction for a shot is Tip-Adapter's from the class texts and all the *other* shots, with keys and query of
    the same precision: what the two classifiers would say about a new photo.

    Shapes: `labels` (N,), `zero_shot_weights` (C, D).
    """
    chosen = np.unique(np.linspace(0, len(labels) - 1, min(len(labels), _MAX_SHOTS)).round().astype(np.intp))
    photos, numbers = [images[index] for index in chosen], labels[chosen]
    quick, full = (
        extract_features(one, photos, store=store, progress=progress).features.unit
        for one in (encoder, exact or encoder.in_full_precision())
    )
    scale = encoder.logit_scale if exact is None else exact.logit_scale
    named = [
        left_out_predictions(rows, numbers, zero_shot_weights, logit_scale=scale, n_classes=n_classes)
        for rows in (quick, full)
    ]
    cosines = np.einsum("nd,nd->n", quick.astype(np.float64), full)
    report = PrecisionReport(
        len(photos), float(cosines.mean()), float(cosines.min()), int((named[0] != named[1]).sum())
    )
    if report.flipped > max_flipped * report.shots:
        raise EncoderError(
            f"Expected precision int8 to change at most {percent(max_flipped)} of the predictions, got {report}: "
            "use precision fp32, or allow more"
        )
    return report


def left_out_predictions(
    features: Float32Array,
    labels: IntArray,
    zero_shot_weights: Float32Array | None,
    *,
    logit_scale: float,
    n_classes: int,
) -> IntArray:
    """Name the class of every shot from the class texts and the other shots, as Tip-Adapter with α = 1 and β = 5.5.

    Shapes: `features` (N, D), `labels` (N,), `zero_shot_weights` (C, D) → (N,).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.trust.precision import left_out_predictions
    >>> rows = np.array([[1, 0], [0.8, 0.6], [0, 1], [0.6, 0.8]], dtype=np.float32)
    >>> left_out_predictions(rows, np.array([0, 0, 1, 1]), None, logit_scale=20.0, n_classes=2)
    array([0, 1, 1, 0])
    """
    cache = Cache.build(features, labels, n_classes)
    values = affinity(features, cache.keys, _BETA)
    values[cache.order, np.arange(len(features))] = 0  # its own key
    logits: FloatArray = zero_shot_logits(features, zero_shot_weights, logit_scale, n_classes)
    named: IntArray = (logits + _ALPHA * class_mass(values, cache)).argmax(axis=1)
    return named
