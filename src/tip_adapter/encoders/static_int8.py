"""Quantise the image tower of a convolutional network to int8, calibrated on views of photos."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter.encoders.onnx_tower import OnnxTower
from tip_adapter.encoders.precision import quiet_logging
from tip_adapter.errors import EncoderError
from tip_adapter.libraries import import_library, require_extra
from tip_adapter.processors import usable_processors
from tip_adapter.storage.escaping import reason_of
from tip_adapter.typing import Float32Array, FloatArray

if TYPE_CHECKING:
    import onnx

_OPERATORS = ["Conv", "Add", "Clip"]


def quantise(
    tower: OnnxTower,
    views: Float32Array,
    target: Path,
    *,
    method: str = "MinMax",
    kept: Sequence[str] | None = None,
    corrected: bool = True,
) -> None:
    """Write an image tower whose convolutions multiply bytes, with scales from views of photos.

    Weights have a scale for each output, activations one for each tensor. The first and the last convolution stay as
    they are, as is usual: the one reads pixels, the other makes the feature.

    Shapes: `views` (N, 3, S, S), normalised.

    Parameters
    ----------
    method : {"MinMax", "Percentile"}
        How ranges follow from what the views give.
    kept : sequence of str, optional
        Names of the convolutions that stay in float. Default: the first and the last.
    corrected : bool
        Move biases by the mean that rounding adds to each channel.

    References
    ----------
    Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference", 2018. Nagel et al., "Data-Free
    Quantization Through Weight Equalization and Bias Correction", ICCV 2019, section 4.2.
    """
    require_extra("onnx", "export")
    import onnx

    quantization = import_library("onnxruntime.quantization")
    exact = _named(onnx.load(tower.path))
    nodes = convolutions(exact.graph)
    if len(nodes) < 3:
        raise EncoderError(
            f"Expected a network of convolutions in {tower.path}, got {len(nodes)} of them: --precision int8 of fit is "
            "for transformers, and needs no photos"
        )
    try:
        with contextlib.redirect_stdout(io.StringIO()), quiet_logging():
            quantization.quantize_static(
                onnx.ModelProto.FromString(exact.SerializeToString()),  # it is emptied
                target,
                _reader(quantization, tower.input, views),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                weight_type=quantization.QuantType.QInt8,
                activation_type=quantization.QuantType.QUInt8,
                op_types_to_quantize=_OPERATORS,
                nodes_to_exclude=[nodes[0].name, nodes[-1].name] if kept is None else list(kept),
                calibrate_method=quantization.CalibrationMethod[method],
            )
    except OSError:
        raise
    except Exception as error:  # the quantiser raises whatever it meets
        reason = reason_of(error, longest=300)
        raise EncoderError(f"The tower {tower.path} cannot be quantised ({reason}): use it as it is") from error
    if corrected:
        _correct_biases(exact, target, tower.input, views)


def convolutions(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """All convolutions of a graph, in its order."""
    return [node for node in graph.node if node.op_type == "Conv"]


def activations(
    model: onnx.ModelProto, names: Sequence[str], feed: str, views: Float32Array
) -> Iterator[list[FloatArray]]:
    """Values of some tensors for one view after another, the graph run as it is written."""
    import onnx

    shown = onnx.ModelProto.FromString(model.SerializeToString())
    have = {output.name for output in shown.graph.output}
    shown.graph.output.extend(onnx.helper.make_tensor_value_info(name, 1, None) for name in names if name not in have)
    onnxruntime = import_library("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, usable_processors()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for row in range(len(views)):
        yield session.run(list(names), {feed: views[row : row + 1]})


def _named(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give every node a name of its own, by which it is found again in the quantised graph."""
    names = [node.name for node in model.graph.node]
    if "" in names or len(set(names)) < len(names):
        for number, node in enumerate(model.graph.node):
            node.name = f"node_{number}"
    return model


def _reader(quantization: Any, name: str, views: Float32Array) -> Any:
    class Views(quantization.CalibrationDataReader):  # type: ignore[misc]
        feeds = iter([{name: views[row : row + 1]} for row in range(len(views))])

        def get_next(self) -> dict[str, Float32Array] | None:
            return next(self.feeds, None)

    return Views()


def _correct_biases(exact: onnx.ModelProto, path: Path, feed: str, views: Float32Array) -> None:
    """Take from each bias what rounding weights and inputs adds to the mean of its channel; padding is left out."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(path)
    before, after = (
        {one.name: numpy_helper.to_array(one) for one in graph.graph.initializer} for graph in (exact, model)
    )
    makers = {output: node for node in model.graph.node for output in node.output}
    with_bias = (node for node in convolutions(model.graph) if len(node.input) > 2)
    rounded = {node.name: node for node in with_bias if node.input[1] in makers}
    nodes = [node for node in convolutions(exact.graph) if node.name in rounded]
    steps = [[after[part] for part in makers[rounded[node.name].input[0]].input[1:]] for node in nodes]
    means = _channel_means(activations(exact, [node.input[0] for node in nodes], feed, views), steps)
    stored = {one.name: one for one in model.graph.initializer}
    for node, (mean, rounded_mean) in zip(nodes, means, strict=True):
        weights, bias = (makers[rounded[node.name].input[place]] for place in (1, 2))
        whole, scales = (after[part] for part in weights.input[:2])
        added = _through(whole * scales.reshape(-1, 1, 1, 1), rounded_mean) - _through(before[node.input[1]], mean)
        name, scale = bias.input[:2]
        moved = after[name] - np.round(added / after[scale])
        stored[name].CopyFrom(numpy_helper.from_array(moved.astype(np.int32), name))
    onnx.save(model, path)


def _channel_means(
    values_of_views: Iterator[list[FloatArray]], steps: Sequence[Sequence[Any]]
) -> list[tuple[FloatArray, FloatArray]]:
    """Of the input of each convolution the mean of every channel, as it is and rounded as `steps` say."""
    found: list[list[FloatArray]] = [[] for _ in steps]
    for values in values_of_views:
        for means, value, (step, zero) in zip(found, values, steps, strict=True):
            rounded = (np.clip(np.round(value / step) + zero, 0, 255) - zero) * step
            means.append(np.stack([one.mean(axis=(0, 2, 3), dtype=np.float64) for one in (value, rounded)]))
    averaged = [np.mean(means, axis=0) for means in found]
    return [(mean[0], mean[1]) for mean in averaged]


def _through(weights: FloatArray, channels: FloatArray) -> FloatArray:
    """What a convolution makes of channels that are the same everywhere; with one input each where it is depthwise."""
    sums = weights.sum(axis=(2, 3))
    result: FloatArray = sums[:, 0] * channels if sums.shape[1] == 1 and len(channels) == len(sums) else sums @ channels
    return result
