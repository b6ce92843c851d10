"""Build the towers of `lite` as ONNX graphs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tip_adapter.typing import Float32Array

SHARPNESS = 10.0
_OPSET, _IR_VERSION = 17, 8
_FLOAT = 1  # onnx.TensorProto.FLOAT
_TEXT_DIM, _LAYERS, _HEADS = 384, 6, 12
_NORM_EPS = 1e-3
_STRIDES = (1, 2, 2, 2, 1, 2, 1)  # of the first block of every stage


class _Network:
    """The nodes and weights of a graph in the making."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def constant(self, name: str, values: NDArray[Any]) -> str:
        from onnx import numpy_helper

        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output


def class_rows(weights: Mapping[str, Float32Array]) -> Float32Array:
    """Return the rows of the image tower's classifier (1000, 1280), centred and of unit length."""
    rows = np.ascontiguousarray(weights["_fc.weight"].reshape(-1, len(weights["_fc.bias"])).T, dtype=np.float64)
    # Sums over the first axis add in the order of the rows, on every processor: all machines get the same graph.
    columns = np.ascontiguousarray((rows - rows.sum(axis=0) / len(rows)).T)
    return np.ascontiguousarray((columns / np.sqrt((columns**2).sum(axis=0))).T, dtype=np.float32)


def image_graph(weights: Mapping[str, Float32Array], size: int, repeats: Sequence[int]) -> Any:
    """Return an EfficientNet-Lite up to its pooled feature, with normalisation folded into the convolutions."""
    network = _Network()
    network.constant("zero", np.array(0, dtype=np.float32))
    network.constant("six", np.array(6, dtype=np.float32))
    x = _convolution(network, weights, "pixel_values", ("_conv_stem", "_bn0"), kernel=3, stride=2)
    firsts = [(place == 0, stride) for stride, n in zip(_STRIDES, repeats, strict=True) for place in range(n)]
    for index, (first, stride) in enumerate(firsts):
        x = _block(network, weights, x, f"_blocks.{index}.", stride=stride if first else 1, skips=not first)
    x = _convolution(network, weights, x, ("_conv_head", "_bn1"))
    network.add("Flatten", [network.add("GlobalAveragePool", [x], "pooled")], "image_embeds")
    dim = len(weights["_bn1.weight"])
    return _model(network, {"pixel_values": ["batch", 3, size, size]}, {"image_embeds": ["batch", dim]})


def _block(
    network: _Network, weights: Mapping[str, Float32Array], inputs: str, prefix: str, *, stride: int, skips: bool
) -> str:
    """Expand, convolve each channel by itself, project; the input is added where shapes allow."""
    x = inputs
    if f"{prefix}_expand_conv.weight" in weights:
        x = _convolution(network, weights, x, (f"{prefix}_expand_conv", f"{prefix}_bn0"))
    channels = len(weights[f"{prefix}_bn1.weight"])
    kernel = math.isqrt(len(weights[f"{prefix}_depthwise_conv.weight"]) // channels)
    depthwise = (f"{prefix}_depthwise_conv", f"{prefix}_bn1")
    x = _convolution(network, weights, x, depthwise, kernel=kernel, stride=stride, groups=channels)
    x = _convolution(network, weights, x, (f"{prefix}_project_conv", f"{prefix}_bn2"), clip=False)
    return network.add("Add", [x, inputs], f"{prefix}sum") if skips else x


def _convolution(
    network: _Network,
    weights: Mapping[str, Float32Array],
    inputs: str,
    names: tuple[str, str],
    *,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    clip: bool = True,
) -> str:
    """Add a convolution with its normalisation: γ/σ goes into the weights, β - μγ/σ becomes the bias."""
    convolution, norm = names
    gain, shift, mean, variance = (
        weights[f"{norm}.{part}"].astype(np.float64) for part in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gain / np.sqrt(variance + _NORM_EPS)
    filters = weights[f"{convolution}.weight"].reshape(kernel, kernel, -1, len(gain)) * scale
    arguments = [
        inputs,
        network.constant(f"{convolution}.weight", filters.astype(np.float32).transpose(3, 2, 0, 1)),
        network.constant(f"{convolution}.bias", (shift - mean * scale).astype(np.float32)),
    ]
    # SAME_UPPER pads as TensorFlow does, where the network was trained.
    x = network.add("Conv", arguments, convolution, auto_pad="SAME_UPPER", strides=[stride, stride], group=groups)
    return network.add("Clip", [x, "zero", "six"], f"{convolution}.clipped") if clip else x


def text_graph(weights: Mapping[str, Float32Array], keys: Float32Array, values: Sequence[Float32Array]) -> Any:
    """Return a cache model over sentence embeddings: text → softmax(10 cos(text, keys)) · values, of unit length.

    With the values of several networks it is several cache models that read a text once; each fills its part of the
    feature, and all have the same say.

    Shapes: `keys` (1000, 384), `values` (1000, 1280).
    """
    network = _Network()
    sentences = _sentences(network, weights)
    cosines = network.add("MatMul", [sentences, network.constant("keys", np.float32(SHARPNESS) * keys.T)], "cosines")
    affinity = network.add("Softmax", [cosines], "affinity", axis=-1)
    parts = []
    for part, rows in enumerate(values):
        mixed = network.add("MatMul", [affinity, network.constant(f"values.{part}", rows)], f"mixed.{part}")
        parts.append(network.add("LpNormalization", [mixed], f"unit.{part}", axis=-1, p=2))
    share = network.constant("share", np.array(1 / math.sqrt(len(parts)), np.float32))
    network.add("Mul", [network.add("Concat", parts, "parts", axis=-1), share], "text_embeds")
    tokens = ["batch", "length"]
    inputs = {"input_ids": tokens, "attention_mask": tokens}
    return _model(network, inputs, {"text_embeds": ["batch", sum(rows.shape[1] for rows in values)]})


def sentence_graph(weights: Mapping[str, Float32Array]) -> Any:
    """Return all-MiniLM-L6-v2 alone, from token ids and mask (T, L) to unit ``sentences`` (T, 384)."""
    network = _Network()
    _sentences(network, weights)
    tokens = ["batch", "length"]
    return _model(network, {"input_ids": tokens, "attention_mask": tokens}, {"sentences": ["batch", _TEXT_DIM]})


def _sentences(network: _Network, weights: Mapping[str, Float32Array]) -> str:
    """Add the transformer and the unit mean of its last states over the tokens of the mask."""
    mask = network.add("Cast", ["attention_mask"], "mask", to=_FLOAT)
    x = _token_embeddings(network, weights)
    blocked = network.add("Sub", [mask, network.constant("one", np.array(1, np.float32))], "absent")
    blocked = network.add("Mul", [blocked, network.constant("far", np.array(1e9, np.float32))], "blocked")
    blocked = network.add(
        "Unsqueeze", [blocked, network.constant("heads_and_queries", np.array([1, 2]))], "blocked_keys"
    )
    for layer in range(_LAYERS):
        x = _transformer_block(network, weights, x, blocked, f"encoder.layer.{layer}.")
    column = network.add("Unsqueeze", [mask, network.constant("last_axis", np.array([-1]))], "mask_column")
    total = network.add(
        "ReduceSum",
        [network.add("Mul", [x, column], "tokens"), network.constant("token_axis", np.array([1]))],
        "total",
        keepdims=0,
    )
    return network.add("LpNormalization", [total], "sentences", axis=-1, p=2)


def _token_embeddings(network: _Network, weights: Mapping[str, Float32Array]) -> str:
    """Add embeddings of words and positions; a text is one segment, whose embedding joins the positions'."""
    words = network.constant("words", weights["embeddings.word_embeddings.weight"])
    segment = weights["embeddings.token_type_embeddings.weight"][0]
    positions = network.constant("positions", weights["embeddings.position_embeddings.weight"] + segment)
    length = network.add("Shape", ["input_ids"], "length", start=1, end=2)
    first, rows = (network.constant(name, np.array([0])) for name in ("first", "rows"))
    positions = network.add("Slice", [positions, first, length, rows], "positions_here")
    summed = network.add("Add", [network.add("Gather", [words, "input_ids"], "word_rows"), positions], "embedded")
    return _layer_norm(network, weights, summed, "embeddings.LayerNorm")


def _transformer_block(
    network: _Network, weights: Mapping[str, Float32Array], x: str, blocked: str, prefix: str
) -> str:
    """Add self-attention and the two linear layers of BERT, each with its residual and normalisation."""
    query, key, value = (
        _heads(network, _linear(network, weights, x, f"{prefix}attention.self.{name}"), transposed=name == "key")
        for name in ("query", "key", "value")
    )
    scores = network.add("MatMul", [query, key], f"{prefix}scores")
    scale = network.constant(f"{prefix}scale", np.array(1 / math.sqrt(_TEXT_DIM // _HEADS), np.float32))
    scores = network.add("Mul", [scores, scale], f"{prefix}scaled")
    attention = network.add("Softmax", [network.add("Add", [scores, blocked], f"{prefix}masked")], f"{prefix}attention")
    mixed = network.add("MatMul", [attention, value], f"{prefix}mixed")
    mixed = network.add("Transpose", [mixed], f"{prefix}joined", perm=[0, 2, 1, 3])
    shape = network.constant(f"{prefix}shape", np.array([0, 0, _TEXT_DIM]))
    mixed = network.add("Reshape", [mixed, shape], f"{prefix}flat")
    out = _linear(network, weights, mixed, f"{prefix}attention.output.dense")
    x = network.add("Add", [out, x], f"{prefix}attended")
    x = _layer_norm(network, weights, x, f"{prefix}attention.output.LayerNorm")
    hidden = _gelu(network, _linear(network, weights, x, f"{prefix}intermediate.dense"))
    x = network.add("Add", [_linear(network, weights, hidden, f"{prefix}output.dense"), x], f"{prefix}out")
    return _layer_norm(network, weights, x, f"{prefix}output.LayerNorm")


def _linear(network: _Network, weights: Mapping[str, Float32Array], x: str, name: str) -> str:
    matrix = network.constant(f"{name}.weight", weights[f"{name}.weight"].T)
    bias = network.constant(f"{name}.bias", weights[f"{name}.bias"])
    return network.add("Add", [network.add("MatMul", [x, matrix], f"{name}.product"), bias], name)


def _heads(network: _Network, x: str, *, transposed: bool) -> str:
    shape = network.constant(f"{x}.shape", np.array([0, 0, _HEADS, _TEXT_DIM // _HEADS]))
    split = network.add("Reshape", [x, shape], f"{x}.split")
    return network.add("Transpose", [split], f"{x}.heads", perm=[0, 2, 3, 1] if transposed else [0, 2, 1, 3])


def _layer_norm(network: _Network, weights: Mapping[str, Float32Array], x: str, name: str) -> str:
    gain, shift = (network.constant(f"{name}.{part}", weights[f"{name}.{part}"]) for part in ("weight", "bias"))
    return network.add("LayerNormalization", [x, gain, shift], name, axis=-1, epsilon=1e-12)


def _gelu(network: _Network, x: str) -> str:
    """Add x·(1 + erf(x/√2))/2."""
    root, one, half = (
        network.constant(f"{x}.{name}", np.array(value, np.float32))
        for name, value in (("root", math.sqrt(2)), ("one", 1.0), ("half", 0.5))
    )
    erf = network.add("Erf", [network.add("Div", [x, root], f"{x}.scaled")], f"{x}.erf")
    doubled = network.add("Mul", [x, network.add("Add", [erf, one], f"{x}.shifted")], f"{x}.doubled")
    return network.add("Mul", [doubled, half], f"{x}.gelu")


def _model(network: _Network, inputs: Mapping[str, list[Any]], outputs: Mapping[str, list[Any]]) -> Any:
    from onnx import TensorProto, helper

    def described(shapes: Mapping[str, list[Any]]) -> list[Any]:
        kinds = {"pixel_values": TensorProto.FLOAT, "input_ids": TensorProto.INT64, "attention_mask": TensorProto.INT64}
        return [
            helper.make_tensor_value_info(name, kinds.get(name, TensorProto.FLOAT), shape)
            for name, shape in shapes.items()
        ]

    graph = helper.make_graph(network.nodes, "lite", described(inputs), described(outputs), network.weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
