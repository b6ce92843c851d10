"""What static int8 would do to `lite`: its speed, its features, and the predictions that it changes.

Usage: python benchmarks/lite_int8.py ../shared/data/clothing [--seeds 5] [--settings NAME …]

Both networks are quantised with onnxruntime (QDQ, weights per channel), calibrated on the shots alone; `auto` is fitted
to 16 shots a class in both precisions and asked about photos that neither has seen.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import platform
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from lite import Photos, clothing
from provenance import write_result
from tip_adapter.data.decoding import load_image
from tip_adapter.data.sampling import shots_at_most
from tip_adapter.encoders import load_encoder
from tip_adapter.encoders.onnx import OnnxEncoder
from tip_adapter.encoders.onnx_tower import OnnxTower
from tip_adapter.encoders.precision import eight_bit_products_are_exact
from tip_adapter.features.prompts import zero_shot_weights
from tip_adapter.libraries import import_library
from tip_adapter.model.fitting import fit_method, make_estimator
from tip_adapter.trust.precision import MAX_FLIPPED, left_out_predictions

onnxruntime, quantization = import_library("onnxruntime"), import_library("onnxruntime.quantization")

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


class Views(quantization.CalibrationDataReader):  # type: ignore[misc]
    """Normalised views, one at a time."""

    def __init__(self, name: str, views: np.ndarray) -> None:
        self.feeds = iter([{name: views[row : row + 1]} for row in range(len(views))])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next feed."""
        return next(self.feeds, None)


def quantised(tower: OnnxTower, views: np.ndarray, setting: Setting, path: Path, kept: list[str]) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        quantization.quantize_static(
            tower.path,
            path,
            Views(tower.input, views[: setting.calibrated_on]),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            weight_type=quantization.QuantType.QInt8,
            activation_type=quantization.QuantType.QUInt8,
            op_types_to_quantize=["Conv", "Add", "Clip"],
            nodes_to_exclude=kept,
            calibrate_method=quantization.CalibrationMethod[setting.method],
        )
    if setting.corrected:
        correct_biases(tower, path, views[: setting.calibrated_on : 2])


def convolutions(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    return [node for node in graph.node if node.op_type == "Conv"]


def activations(model: onnx.ModelProto, names: list[str], feed: str, views: np.ndarray) -> Iterator[list[np.ndarray]]:
    """Values of some tensors for one view after another, without any optimisation of the graph."""
    shown = onnx.ModelProto.FromString(model.SerializeToString())
    have = {output.name for output in shown.graph.output}
    shown.graph.output.extend(onnx.helper.make_tensor_value_info(name, 1, None) for name in names if name not in have)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 2
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for row in range(len(views)):
        yield session.run(names, {feed: views[row : row + 1]})


def correct_biases(tower: OnnxTower, path: Path, views: np.ndarray) -> None:
    """Move biases by the mean that rounding weights and inputs adds to each channel; what padding adds is left out."""
    model = onnx.load(path)
    constants = {constant.name: numpy_helper.to_array(constant) for constant in model.graph.initializer}
    makers = {output: node for node in model.graph.node for output in node.output}
    exact = convolutions(onnx.load(tower.path).graph)
    exact_constants = {one.name: numpy_helper.to_array(one) for one in onnx.load(tower.path).graph.initializer}
    eight = {node.name: node for node in convolutions(model.graph) if node.input[1] in makers}
    steps = {name: [constants[part] for part in makers[node.input[0]].input[1:]] for name, node in eight.items()}
    means: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name in eight}
    for values in activations(onnx.load(tower.path), [node.input[0] for node in exact], tower.input, views):
        for node, value in zip(exact, values, strict=True):
            if node.name in eight:
                step, zero = steps[node.name]
                rounded = (np.clip(np.round(value / step) + zero, 0, 255) - zero) * step
                means[node.name].append((value.mean(axis=(0, 2, 3)), rounded.mean(axis=(0, 2, 3))))
    for node in exact:
        if node.name not in eight:
            continue
        whole, scales = (constants[part] for part in makers[eight[node.name].input[1]].input[:2])
        rounded_weights = whole * scales.reshape(-1, 1, 1, 1)
        before, after = np.mean(means[node.name], axis=0)
        added = through(rounded_weights, after) - through(exact_constants[node.input[1]], before)
        maker = makers[eight[node.name].input[2]]
        bias = next(one for one in model.graph.initializer if one.name == maker.input[0])
        moved = constants[bias.name] - np.round(added / constants[maker.input[1]])
        bias.CopyFrom(numpy_helper.from_array(moved.astype(np.int32), bias.name))
    onnx.save(model, path)


def through(weights: np.ndarray, channels: np.ndarray) -> np.ndarray:
    """What a convolution makes of channels that are the same everywhere."""
    sums = weights.sum(axis=(2, 3))
    return sums[:, 0] * channels if sums.shape[1] == 1 and len(channels) == len(sums) else sums @ channels


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
