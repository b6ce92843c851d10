"""Export a convolutional encoder in int8, calibrated on labelled photos and first compared on them."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tip_adapter.data.dataset import ImageDataset
from tip_adapter.data.decoding import load_image
from tip_adapter.data.sampling import sample_shots
from tip_adapter.encoders import load_encoder
from tip_adapter.encoders.base import BaseEncoder
from tip_adapter.encoders.export import eight_bit_copy
from tip_adapter.encoders.joined import JoinedEncoder
from tip_adapter.encoders.lite import LiteEncoder, single_networks
from tip_adapter.encoders.onnx import OnnxEncoder
from tip_adapter.encoders.precision import eight_bit_products_are_exact
from tip_adapter.errors import EncoderError
from tip_adapter.features.prompts import texts_for, zero_shot_weights
from tip_adapter.trust.precision import MAX_FLIPPED, PrecisionReport, guard_precision
from tip_adapter.typing import StrPath, UInt8Array

COMPARED, CALIBRATED_ON, TIMED, ROUNDS = 160, 40, 16, 5
"""Photos on which predictions are compared, those of them that calibrate and that are timed, and how often."""


@dataclass(frozen=True)
class EightBitExport:
    """An encoder of int8 that was written.

    Attributes
    ----------
    encoder : str
        What `load_encoder` takes: the folder, or the folders of several members.
    report : PrecisionReport
        What changed on the photos.
    times_as_fast : float
        As the encoder it was made from, on this machine.
    """

    encoder: str
    report: PrecisionReport
    times_as_fast: float


def export_eight_bit(
    encoder_name: str, out_dir: StrPath, photos: ImageDataset, *, max_flipped: float = MAX_FLIPPED
) -> EightBitExport:
    """Write image towers of int8, calibrated on labelled photos, and refuse where these change too many predictions."""
    exact = load_encoder(encoder_name)
    members = _members(exact)
    if not eight_bit_products_are_exact():
        raise EncoderError("This processor cannot multiply 8-bit numbers exactly (it lacks VNNI): use fp32")
    n_classes = len(photos.class_names)
    rows = sample_shots(photos.labels, math.ceil(COMPARED / n_classes), random_state=0, at_most=True)
    paths, labels = [photos.paths[row] for row in rows], photos.labels[rows]
    some = [load_image(paths[row]) for row in np.unique(np.linspace(0, len(rows) - 1, CALIBRATED_ON).astype(int))]
    views = [np.stack([member.preprocessing.center_view(image) for image in some]) for member in members]
    weights = zero_shot_weights(exact, texts_for(photos.class_names, None)) if exact.has_text_tower else None
    with eight_bit_copy(members, views, out_dir) as places:
        loaded = [OnnxEncoder(place) for place in places]
        quick = loaded[0] if len(loaded) == 1 else JoinedEncoder(str(out_dir), loaded)
        report = guard_precision(
            quick, paths, labels, weights, exact=exact, n_classes=n_classes, max_flipped=max_flipped
        )
        timed = np.stack([exact.preprocessing.center_view(image) for image in some[:TIMED]])
        faster = _times_as_fast(quick, exact, timed)
    folders = [Path(out_dir, place.name) for place in places] if len(places) > 1 else [Path(out_dir)]
    return EightBitExport("+".join(map(str, folders)), report, faster)


def _members(encoder: BaseEncoder) -> list[OnnxEncoder]:
    """The ONNX folders that an encoder is made of."""
    if isinstance(encoder, LiteEncoder):
        return single_networks(encoder.name)
    members = []
    for member in encoder.towers if isinstance(encoder, JoinedEncoder) else (encoder,):
        if not isinstance(member, OnnxEncoder):
            raise EncoderError(f"Expected an ONNX folder to export in int8, got {member.name}: export it in fp32 first")
        members.append(member)
    return members


def _times_as_fast(quick: BaseEncoder, exact: BaseEncoder, pixels: UInt8Array) -> float:
    """Time both in turns: the median of the ratios, after a round that warms up."""
    ratios = []
    for _ in range(ROUNDS + 1):
        seconds = []
        for encoder in (exact, quick):
            start = time.perf_counter()
            encoder.encode_pixels(pixels)
            seconds.append(time.perf_counter() - start)
        ratios.append(seconds[0] / seconds[1])
    return float(np.median(ratios[1:]))
