"""Join the image towers of an encoder and a fitted head into one ONNX model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter.data.preprocessing import Preprocessing
from tip_adapter.encoders.pooling import FIRST_TOKEN, MEAN_OF_PLACES, MEAN_OF_TOKENS
from tip_adapter.errors import EncoderError, InputError
from tip_adapter.export.graph import DEFAULT_OPSET, MIN_OPSET, GraphBuilder
from tip_adapter.export.heads import head_graph
from tip_adapter.libraries import require_extra
from tip_adapter.storage.escaping import reason_of

if TYPE_CHECKING:
    import onnx

_MAX_BYTES = 2**31 - 1  # protobuf's limit for one message
_IR_VERSION = 8  # what runtimes since 2021 read


def head_model(head: Any, dim: int, *, temperature: float = 1.0) -> onnx.ModelProto:
    """Write a head as an ONNX model, from its arrays alone.

    Input ``features`` (B, D) float32 of any length: the graph normalises them. Outputs ``logits`` and ``probabilities``
    (B, C) float32; the logits are divided by the temperature before they become probabilities.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.export import head_model
    >>> from tip_adapter.methods.heads import LinearHead
    >>> model = head_model(LinearHead(2, np.eye(2, dtype=np.float32), 10.0), dim=2)
    >>> [value.name for value in model.graph.output]
    ['logits', 'probabilities']
    """
    require_extra("onnx", "export")
    from onnx import TensorProto, helper

    builder = GraphBuilder()
    _append_head(builder, head, "features", temperature)
    graph = helper.make_graph(
        builder.nodes,
        "tip_adapter_head",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", dim])],
        _outputs(head.n_classes),
        builder.initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", DEFAULT_OPSET)], ir_version=_IR_VERSION)
    return _described(model)


@dataclass(frozen=True)
class ImageGraph:
    """An image tower on its way into a classifier."""

    path: Path
    """Of a graph with the input ``pixel_values`` (B, 3, S, S), or another one of that shape."""
    pixel_values: str
    output: str
    """pixel_values and output: names of that input, and of the output that holds the features (B, D)."""
    preprocessing: Preprocessing
    """Whose normalisation goes in front."""
    pixels: str = "pixels"
    """Name of the classifier's input that the tower looks at; towers may share one."""
    share: float = 1.0
    """What the tower's unit features are multiplied by, before those of all towers stand side by side."""
    pooling: str = ""
    """How features of parts become one: see `tip_adapter.encoders.pooling`."""
    one_by_one: bool = False
    """Whether the graph takes one view a run."""
    half: bool = False
    """Whether it calculates in half precision."""


def classifier_model(towers: Sequence[ImageGraph], head: Any, *, temperature: float = 1.0) -> onnx.ModelProto:
    """Join normalisation, an encoder's image towers and a head into one ONNX model."""
    require_extra("onnx", "export")
    from onnx import TensorProto, compose, helper

    graphs = _with_one_opset([_read(tower.path) for tower in towers])
    prefixes = [f"tower{number}." for number in range(1, 1 + len(graphs))]
    graphs = [compose.add_prefix(graph, prefix) for graph, prefix in zip(graphs, prefixes, strict=True)]
    builder = GraphBuilder(_opset(graphs[0]))
    for tower, prefix in zip(towers, prefixes, strict=True):
        name = prefix + tower.pixel_values
        _append_normalization(builder, tower.preprocessing, tower.pixels, name, half=tower.half)
    front = len(builder.nodes)
    features = []
    for tower, graph, prefix in zip(towers, graphs, prefixes, strict=True):
        output = prefix + tower.output
        half = _is_half(graph.graph.output, output)
        features.append(_pooled(builder, builder.cast(output, np.float32) if half else output, tower.pooling))
    _append_head(builder, head, _side_by_side(builder, features, [tower.share for tower in towers]), temperature)
    batch = 1 if any(tower.one_by_one for tower in towers) else "batch"
    sizes = {tower.pixels: tower.preprocessing.size for tower in towers}
    whole_graph = helper.make_graph(
        [*builder.nodes[:front], *(node for model in graphs for node in model.graph.node), *builder.nodes[front:]],
        "tip_adapter_classifier",
        [
            helper.make_tensor_value_info(name, TensorProto.UINT8, [batch, size, size, 3])
            for name, size in sizes.items()
        ],
        _outputs(head.n_classes),
        [*(weights for model in graphs for weights in model.graph.initializer), *builder.initializers],
        value_info=[value for model in graphs for value in model.graph.value_info],
    )
    whole = graphs[0]
    for other in graphs[1:]:
        whole.functions.extend(other.functions)
        known = {opset.domain for opset in whole.opset_import}
        whole.opset_import.extend(opset for opset in other.opset_import if opset.domain not in known)
        whole.ir_version = max(whole.ir_version, other.ir_version)
    whole.graph.CopyFrom(whole_graph)
    return _described(whole)


def serialized(model: onnx.ModelProto) -> bytes:
    """Turn a model into the bytes of an .onnx file."""
    size = model.ByteSize()
    if not 0 < size <= _MAX_BYTES:
        raise InputError(
            f"Expected encoder and head to fit into one ONNX file of 2 GiB, got {size / 2**30:.1f} GiB: "
            "choose a smaller encoder, or fewer shots"
        )
    data: bytes = model.SerializeToString()
    return data


def set_metadata(model: onnx.ModelProto, metadata: dict[str, str]) -> None:
    """Write texts into a model's metadata, instead of what is there."""
    from onnx import helper

    del model.metadata_props[:]
    helper.set_model_props(model, metadata)


def _is_half(values: Sequence[onnx.ValueInfoProto], name: str) -> bool:
    from onnx import TensorProto

    kinds = {value.name: value.type.tensor_type.elem_type for value in values}
    return bool(kinds.get(name) == TensorProto.FLOAT16)


def _append_normalization(
    builder: GraphBuilder, preprocessing: Preprocessing, pixels: str, output: str, *, half: bool
) -> None:
    """`Preprocessing.normalize` as operators, with the same two constants per channel."""
    mean, std = (
        np.array(values, dtype=np.float64).reshape(3, 1, 1) for values in (preprocessing.mean, preprocessing.std)
    )
    values = builder.add("Cast", builder.add("Transpose", pixels, perm=[0, 3, 1, 2]), to=1)
    scaled = builder.add("Mul", values, builder.constant((1 / (255 * std)).astype(np.float32)))
    shift = builder.constant((mean / std).astype(np.float32))
    if half:
        builder.add("Cast", builder.add("Sub", scaled, shift), to=10, output=output)
    else:
        builder.add("Sub", scaled, shift, output=output)


def _pooled(builder: GraphBuilder, features: str, pooling: str) -> str:
    """`pooling.pooled` as operators."""
    if pooling == FIRST_TOKEN:
        return builder.add("Gather", features, builder.constant(np.array(0)), axis=1)
    for axis in {MEAN_OF_TOKENS: (1,), MEAN_OF_PLACES: (3, 2)}.get(pooling, ()):
        features = builder.mean(features, axis)
    return features


def _side_by_side(builder: GraphBuilder, features: list[str], shares: list[float]) -> str:
    """Join the features of several towers as `JoinedEncoder` does; those of one stay as they are."""
    if len(features) == 1:
        return features[0]
    parts = [
        builder.add("Mul", builder.unit_rows(name), builder.constant(np.float32(share)))
        for name, share in zip(features, shares, strict=True)
    ]
    return builder.add("Concat", *parts, axis=-1)


def _append_head(builder: GraphBuilder, head: Any, features: str, temperature: float) -> None:
    logits = head_graph(builder, head, builder.unit_rows(features))
    logits = builder.add("Identity", logits, output="logits")
    if temperature != 1.0:
        logits = builder.add("Div", logits, builder.constant(np.float32(temperature)))
    builder.add("Softmax", logits, output="probabilities", axis=-1)


def _outputs(n_classes: int) -> list[onnx.ValueInfoProto]:
    from onnx import TensorProto, helper

    return [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", n_classes])
        for name in ("logits", "probabilities")
    ]


def _with_one_opset(models: list[onnx.ModelProto]) -> list[onnx.ModelProto]:
    """Bring all graphs to the newest operators among theirs."""
    newest = max(map(_opset, models))
    return [_converted(model, newest, "a member of the encoder") for model in models]


def _read(path: Path) -> onnx.ModelProto:
    import onnx

    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf and the file system each raise their own
        raise _unusable(path, error) from error
    return _converted(model, max(MIN_OPSET, _opset(model)), path)


def _converted(model: onnx.ModelProto, opset: int, name: Path | str) -> onnx.ModelProto:
    if _opset(model) == opset:
        return model
    from onnx import version_converter

    try:
        return version_converter.convert_version(model, opset)
    except Exception as error:  # the converter raises whatever it meets
        raise _unusable(name, error) from error


def _unusable(name: Path | str, error: Exception) -> EncoderError:
    return EncoderError(
        f"Expected {name} to be an ONNX graph with operators of version {MIN_OPSET} or newer, got: {reason_of(error)}: "
        "export the encoder again (tip-adapter export-encoder)"
    )


def _opset(model: onnx.ModelProto) -> int:
    return next(int(opset.version) for opset in model.opset_import if opset.domain in ("", "ai.onnx"))


def _described(model: onnx.ModelProto) -> onnx.ModelProto:
    from importlib.metadata import version

    model.producer_name, model.producer_version = "tip-adapter", version("tip-adapter")
    model.doc_string = "A few-shot image classifier: logits and probabilities of the classes in the metadata"
    return model
