"""A fitted head, and the graph of an encoder's image tower, go in; one checked ONNX model of both comes out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter.data.preprocessing import Preprocessing
from tip_adapter.errors import EncoderError, InputError, require_extra
from tip_adapter.escaping import reason_of
from tip_adapter.export.graph import DEFAULT_OPSET, MIN_OPSET, GraphBuilder
from tip_adapter.export.heads import head_graph

if TYPE_CHECKING:
    import onnx

__all__ = ["classifier_model", "head_model", "serialized", "set_metadata"]

_MAX_BYTES = 2**31 - 1  # protobuf's limit for one message
_IR_VERSION = 8  # what runtimes since 2021 read


def head_model(head: Any, dim: int, *, temperature: float = 1.0) -> onnx.ModelProto:
    """Write a head as an ONNX model, from its arrays alone.

    Parameters
    ----------
    head : Head
        Of a class in `tip_adapter.heads.HEADS`.
    dim : int
        D, the length of a feature.
    temperature : float, default=1.0
        What the logits are divided by before they become probabilities.

    Returns
    -------
    onnx.ModelProto
        Input ``features`` (B, D) float32 of any length: the graph normalises them. Outputs ``logits`` and
        ``probabilities`` (B, C) float32.

    Raises
    ------
    InputError
        When the head has no ONNX form.
    MissingExtraError
        When the package onnx is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.export import head_model
    >>> from tip_adapter.heads import LinearHead
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


def classifier_model(
    image_graph: Path,
    output: str,
    preprocessing: Preprocessing,
    head: Any,
    *,
    temperature: float = 1.0,
) -> onnx.ModelProto:
    """Join normalisation, an encoder's image tower and a head into one ONNX model.

    Parameters
    ----------
    image_graph : pathlib.Path
        With the input ``pixel_values`` (B, 3, S, S).
    output : str
        Name of the output that holds the features (B, D).
    preprocessing : Preprocessing
        Whose normalisation goes in front.
    head : Head
    temperature : float, default=1.0

    Returns
    -------
    onnx.ModelProto
        Input ``pixels`` (B, S, S, 3) uint8, resized and cropped. Outputs ``logits`` and ``probabilities`` (B, C).

    Raises
    ------
    InputError
        When the head has no ONNX form.
    EncoderError
        When the graph cannot be read, or its operators are too old.
    MissingExtraError
        When the package onnx is not installed.
    """
    require_extra("onnx", "export")
    from onnx import TensorProto, helper

    model = _read(image_graph)
    builder = GraphBuilder(_opset(model))
    _append_normalization(builder, preprocessing, "pixels", "pixel_values")
    front = len(builder.nodes)
    _append_head(builder, head, output, temperature)
    size = preprocessing.size
    graph = helper.make_graph(
        [*builder.nodes[:front], *model.graph.node, *builder.nodes[front:]],
        "tip_adapter_classifier",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", size, size, 3])],
        _outputs(head.n_classes),
        [*model.graph.initializer, *builder.initializers],
        value_info=model.graph.value_info,
    )
    model.graph.CopyFrom(graph)
    return _described(model)


def serialized(model: onnx.ModelProto) -> bytes:
    """Turn a model into the bytes of an .onnx file.

    Parameters
    ----------
    model : onnx.ModelProto

    Returns
    -------
    bytes

    Raises
    ------
    InputError
        When it is larger than such a file can be.
    """
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


def _append_normalization(builder: GraphBuilder, preprocessing: Preprocessing, pixels: str, output: str) -> None:
    """`Preprocessing.normalize` as operators, with the same two constants per channel."""
    mean, std = (
        np.array(values, dtype=np.float64).reshape(3, 1, 1) for values in (preprocessing.mean, preprocessing.std)
    )
    values = builder.add("Cast", builder.add("Transpose", pixels, perm=[0, 3, 1, 2]), to=1)
    scaled = builder.add("Mul", values, builder.constant((1 / (255 * std)).astype(np.float32)))
    builder.add("Sub", scaled, builder.constant((mean / std).astype(np.float32)), output=output)


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


def _read(path: Path) -> onnx.ModelProto:
    import onnx

    try:
        model = onnx.load(path)
        if _opset(model) < MIN_OPSET:
            from onnx import version_converter

            model = version_converter.convert_version(model, MIN_OPSET)
    except Exception as error:  # protobuf, the converter and the file system each raise their own
        reason = reason_of(error)
        raise EncoderError(
            f"Expected {path} to be an ONNX graph with operators of version {MIN_OPSET} or newer, got: {reason}: "
            "export the encoder again (tip-adapter export-encoder)"
        ) from error
    return model


def _opset(model: onnx.ModelProto) -> int:
    return next(int(opset.version) for opset in model.opset_import if opset.domain in ("", "ai.onnx"))


def _described(model: onnx.ModelProto) -> onnx.ModelProto:
    from importlib.metadata import version

    model.producer_name, model.producer_version = "tip-adapter", version("tip-adapter")
    model.doc_string = "A few-shot image classifier: logits and probabilities of the classes in the metadata"
    return model
