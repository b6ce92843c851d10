"""Compare exported ONNX models with the Python classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from tip_adapter.data.decoding import ImageSource, load_image
from tip_adapter.encoders import Encoder
from tip_adapter.errors import TipAdapterError
from tip_adapter.export.inputs import feeds_of
from tip_adapter.libraries import import_library
from tip_adapter.methods.heads import Head, softmax
from tip_adapter.methods.heads.base import unit
from tip_adapter.storage.escaping import reason_of
from tip_adapter.typing import Float32Array, FloatArray, UInt8Array

LOGIT_TOLERANCE = 1e-3
HALF_TOLERANCE = 5e-2
"""For towers in half precision, whose operators ONNX Runtime fuses in other ways in a larger graph."""

RELATIVE_LOGIT_TOLERANCE = 1e-5
"""Of the largest logit: where logits are above 100, float32 cannot keep to `LOGIT_TOLERANCE`."""

_BATCH = 8


@dataclass(frozen=True)
class Parity:
    """How an exported graph compares with the Python classifier."""

    samples: int
    """Photos, or features, that both were asked about."""
    source: str
    """Where they come from."""
    max_logit_difference: float
    max_probability_difference: float
    """max_logit_difference and max_probability_difference: largest absolute difference over all samples and classes."""
    same_top_class: int
    """For how many samples both name the same class first."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def views_of(encoder: Encoder, photos: Sequence[ImageSource]) -> UInt8Array:
    """Middle views of photos, as the classifier makes them; of noise where there is no photo."""
    preprocessing = encoder.preprocessing
    if not photos:
        return np.random.default_rng(0).integers(0, 256, (_BATCH, *preprocessing.view_shape), dtype=np.uint8)
    min_side = preprocessing.min_side()
    return np.stack([preprocessing.center_view(load_image(photo, min_side=min_side)) for photo in photos])


def check_classifier(
    model: bytes,
    encoder: Encoder,
    head: Head,
    *,
    temperature: float,
    pixels: UInt8Array,
    source: str,
    one_at_a_time: bool = False,
    tolerance: float = LOGIT_TOLERANCE,
) -> Parity:
    """Compare a merged graph with encoder and head, in batches of several sizes, or one view at a time."""
    session = _session(model, "classifier.onnx")
    batches = [pixels[index : index + 1] for index in range(len(pixels))] if one_at_a_time else _batches(pixels)
    features = np.concatenate([encoder.encode_pixels(part) for part in batches])
    found = [_run(session, feeds_of(encoder.preprocessing, part), "classifier.onnx") for part in batches]
    return _compare("classifier.onnx", found, head, features, temperature, source, tolerance)


def check_head(model: bytes, head: Head, *, temperature: float, features: Float32Array, source: str) -> Parity:
    """Compare the graph of a head with the head."""
    session = _session(model, "head.onnx")
    found = [_run(session, {"features": part}, "head.onnx") for part in _batches(features)]
    return _compare("head.onnx", found, head, features, temperature, source)


def _batches(rows: Any) -> list[Any]:
    """One row alone first, so that a graph that only works for one batch size is found out."""
    cuts = [0, 1, *range(_BATCH, len(rows), _BATCH), len(rows)]
    return [rows[start:end] for start, end in pairwise(cuts) if end > start]


def _session(model: bytes, name: str) -> Any:
    onnxruntime = import_library("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what matters is raised as well
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no common base but Exception
        raise _unusable(name, error) from error


def _run(session: Any, feeds: dict[str, Any], file: str) -> tuple[Float32Array, Float32Array]:
    try:
        logits, probabilities = session.run(["logits", "probabilities"], feeds)
    except Exception as error:  # as above
        raise _unusable(file, error) from error
    return logits, probabilities


def _unusable(name: str, error: Exception) -> TipAdapterError:
    reason = reason_of(error, longest=300)
    return TipAdapterError(
        f"Expected {name} to run in ONNX Runtime, got {reason}: nothing was written; "
        "update onnxruntime, or export the encoder again"
    )


def _compare(
    name: str,
    found: list[tuple[Float32Array, Float32Array]],
    head: Head,
    features: Float32Array,
    temperature: float,
    source: str,
    tolerance: float = LOGIT_TOLERANCE,
) -> Parity:
    logits, probabilities = (np.concatenate(parts) for parts in zip(*found, strict=True))
    expected = head.logits(unit(features))
    likely = softmax(expected / temperature)
    parity = Parity(
        samples=len(expected),
        source=source,
        max_logit_difference=_largest(logits - expected),
        max_probability_difference=_largest(probabilities - likely),
        same_top_class=int((logits.argmax(axis=1) == expected.argmax(axis=1)).sum()),
    )
    logit_limit = max(tolerance, RELATIVE_LOGIT_TOLERANCE * _largest(expected))
    for what, difference, limit in (
        ("logits", parity.max_logit_difference, logit_limit),
        ("probabilities", parity.max_probability_difference, tolerance),
    ):
        if not difference <= limit:  # NaN fails, too
            raise TipAdapterError(
                f"Expected {name} to give the {what} of the Python classifier within {limit:.2g} on {source}, "
                f"got a difference of {difference:.2g}: nothing was written, please report it"
            )
    return parity


def _largest(differences: FloatArray) -> float:
    return float(np.abs(differences).max())
