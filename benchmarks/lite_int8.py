"""What static int8 does to `lite`: its speed, its features, and the predictions that it changes.

Usage: python benchmarks/lite_int8.py ../shared/data/clothing [--seeds 5] [--settings NAME …]

Both networks are quantised with onnxruntime (QDQ, weights per channel), calibrated on the shots alone; `auto` is fitted
to 16 shots a class in both precisions and asked about photos that neither has seen. "edges in float, corrected" is what
`tip-adapter export-encoder --int8-photos` writes.
"""

from __future__ import annotations

import argparse
import logging
import platform
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from lite import Photos, clothing
from provenance import write_result
from tip_adapter.data.decoding import load_image
from tip_adapter.data.sampling import shots_at_most
from tip_adapter.encoders import load_encoder
from tip_adapter.encoders.onnx import OnnxEncoder
from tip_adapter.encoders.onnx_tower import OnnxTower
from tip_adapter.encoders.precision import eight_bit_products_are_exact
from tip_adapter.encoders.static_int8 import activations, convolutions, quantise
from tip_adapter.features.prompts import zero_shot_weights
from tip_adapter.model.fitting import fit_method, make_estimator
from tip_adapter.trust.precision import MAX_FLIPPED, left_out_predictions

SHOTS = 16
MOST_FLIPPED, LEAST_SPEED = 2.0, 1.3  # in %, and × float: what would make int8 worth offering
FLOAT_SHARE = 0.1  # of the convolutions, the noisiest
TIMED, ROUNDS = 16, 4


@dataclass(frozen=True)
class Setting:
    """How a network is quantised."""

    method: str = "MinMax"
    corrected: bool = False
    """Biases make up for the mean that rounding adds to each channel, over the calibration photos."""
    kept: str = "none"
    """Convolutions in float: none, the first and the last (edges), or the noisiest on eight of the shots."""
    calibrated_on: int = 40
    """Photos; the histograms of the other methods hold all activations in memory."""


SETTINGS = {
    "min-max, corrected": Setting(corrected=True),
    "noisiest tenth in float, corrected": Setting(corrected=True, kept="noisiest"),
    "edges in float, corrected": Setting(corrected=True, kept="edges"),
    "percentile, corrected": Setting("Percentile", corrected=True, calibrated_on=16),
    "min-max": Setting(),
}


def quantised(tower: OnnxTower, views: np.ndarray, setting: Setting, path: Path, kept: list[str]) -> None:
    some = views[: setting.calibrated_on]
    quantise(tower, some, path, method=setting.method, kept=kept, corrected=setting.corrected)


def kept_in_float(tower: OnnxTower, views: np.ndarray, setting: Setting, path: Path) -> list[str]:
    nodes = convolutions(onnx.load(tower.path).graph)
    if setting.kept == "edges":
        return [nodes[0].name, nodes[-1].name]
    if setting.kept == "noisiest":
        quantised(tower, views, Setting(), path, [])
        ratios = signal_to_noise(tower, path, views[:8])
        return sorted(ratios, key=lambda name: ratios[name])[: round(FLOAT_SHARE * len(ratios))]
    return []


def signal_to_noise(tower: OnnxTower, path: Path, views: np.ndarray) -> dict[str, float]:
    """Of every convolution, power of its output over that of the error made up to there, in the worst of the shots."""
    exact, eight = onnx.load(tower.path), onnx.load(path)
    names = [node.name for node in convolutions(exact.graph)]
    outputs = [{node.name: node.output[0] for node in convolutions(model.graph)} for model in (exact, eight)]
    runs = (
        activations(model, [output[name] for name in names], tower.input, views)
        for model, output in zip((exact, eight), outputs, strict=True)
    )
    ratios = [
        [float((value**2).mean() / ((value - other) ** 2).mean()) for value, other in zip(*pair, strict=True)]
        for pair in zip(*runs, strict=True)
    ]
    return dict(zip(names, np.min(ratios, axis=0).tolist(), strict=True))


class Network:
    """One member of `lite`: its views of all photos, and features of them in float."""

    def __init__(self, encoder: OnnxEncoder, photos: Photos) -> None:
        self.encoder, self.tower = encoder, encoder.image_tower
        view = encoder.preprocessing.center_view
        self.known, self.asked = (
            np.stack([view(load_image(photo)) for photo in part]) for part in (photos.known, photos.asked)
        )

    def features(self, tower: OnnxTower, pixels: np.ndarray) -> np.ndarray:
        """Unit features, one photo a run and one thread each, as the encoder does."""

        def inputs_of(views: np.ndarray) -> dict[str, np.ndarray]:
            return {tower.input: self.encoder.preprocessing.normalize(views)}

        found = tower.run_in_parallel(pixels, 1, inputs_of).astype(np.float64)
        return found / np.linalg.norm(found, axis=1, keepdims=True)


def side_by_side(parts: list[np.ndarray]) -> np.ndarray:
    return (np.concatenate(parts, axis=1) / np.sqrt(len(parts))).astype(np.float32)


def speed(networks: list[Network], towers: list[OnnxTower]) -> float:
    """How many times as fast as float, in turns: the median of the rounds."""
    ratios = []
    for _ in range(ROUNDS):
        seconds = []
        for chosen in ([network.tower for network in networks], towers):
            start = time.perf_counter()
            for network, tower in zip(networks, chosen, strict=True):
                network.features(tower, network.asked[:TIMED])
            seconds.append(time.perf_counter() - start)
        ratios.append(seconds[0] / seconds[1])
    return float(np.median(ratios[1:]))  # the first warms up


@dataclass(frozen=True)
class Figures:
    """One setting on one draw of shots."""

    speed: float
    cosine: float
    lowest_cosine: float
    flipped: float
    accuracy: float
    float_accuracy: float
    guard_flipped: float
    seconds_to_make: float


def trial(
    networks: list[Network],
    exact: tuple[np.ndarray, np.ndarray],
    photos: Photos,
    weights: np.ndarray,
    scale: float,
    setting: Setting,
    seed: int,
    folder: Path,
) -> Figures:
    names = [str(index) for index in range(len(weights))]
    rows = shots_at_most(photos.labels, SHOTS, random_state=seed, class_names=names)
    order = np.random.default_rng(seed).permutation(rows)  # for calibration: of every class
    rows = rows[np.argsort(photos.labels[rows], kind="stable")]
    start, towers = time.perf_counter(), []
    for number, network in enumerate(networks):
        views, path = network.encoder.preprocessing.normalize(network.known[order]), folder / f"{seed}-{number}.onnx"
        quantised(network.tower, views, setting, path, kept_in_float(network.tower, views, setting, path))
        towers.append(OnnxTower(path, (network.tower.input,), (network.tower.output,)))
    seconds = time.perf_counter() - start
    pairs = list(zip(networks, towers, strict=True))
    shots = side_by_side([network.features(tower, network.known[rows]) for network, tower in pairs])
    asked = side_by_side([network.features(tower, network.asked) for network, tower in pairs])
    named, guarded = [], []
    for known, questions in ((exact[0][rows], exact[1]), (shots, asked)):
        head, _ = fit_method(make_estimator("auto", {}), known, photos.labels[rows], weights, scale)
        named.append(head.logits(questions).argmax(axis=1))
        guarded.append(
            left_out_predictions(known, photos.labels[rows], weights, logit_scale=scale, n_classes=len(weights))
        )
    cosines = np.einsum("nd,nd->n", asked.astype(np.float64), exact[1])
    right = [100 * float((answers == photos.answers).mean()) for answers in named]
    flipped, guard = (100 * float((first != second).mean()) for first, second in (named, guarded))
    return Figures(
        speed(networks, towers),
        float(cosines.mean()),
        float(cosines.min()),
        flipped,
        right[1],
        right[0],
        guard,
        seconds,
    )


def summary(trials: list[Figures]) -> dict[str, float]:
    """Means over the seeds, and half the width of a 95 % interval of the flips: Student's t."""
    from scipy.stats import t

    found = {name: float(np.mean([asdict(one)[name] for one in trials])) for name in asdict(trials[0])}
    flips = [one.flipped for one in trials]
    half = float(t.ppf(0.975, len(flips) - 1) * np.std(flips, ddof=1) / np.sqrt(len(flips))) if len(flips) > 1 else 0.0
    return found | {"flipped_half_interval": half}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    photos, encoder = clothing(arguments.folder), load_encoder("lite")
    weights, scale = zero_shot_weights(encoder, photos.texts), encoder.logit_scale
    networks = [Network(tower, photos) for tower in encoder.towers]
    exact = tuple(
        side_by_side([one.features(one.tower, getattr(one, part)) for one in networks]) for part in ("known", "asked")
    )
    figures: dict[str, Any] = {}
    facts = {
        "machine": platform.machine(),
        "exact_8_bit_products": eight_bit_products_are_exact(),
        "targets": {"most_flipped": MOST_FLIPPED, "least_speed": LEAST_SPEED, "guard": 100 * MAX_FLIPPED},
    }
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.settings:
            trials = [
                trial(networks, exact, photos, weights, scale, SETTINGS[name], seed, Path(folder))
                for seed in range(arguments.seeds)
            ]
            found = summary(trials)
            worth = found["flipped"] + found["flipped_half_interval"] <= MOST_FLIPPED and found["speed"] >= LEAST_SPEED
            figures[name] = {"mean": found, "worth_offering": worth, "trials": [asdict(one) for one in trials]}
            print(name, {key: round(value, 4) for key, value in found.items()}, flush=True)
            write_result("lite_int8", {"settings": figures} | facts)


if __name__ == "__main__":
    main()
