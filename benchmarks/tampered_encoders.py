"""Encoder folders whose files are damaged, lie, or ask for too much."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tampered_values import changed_places, odd_contents, text_of
from tip_adapter import ImageClassifier
from tip_adapter.encoders.layout import METADATA_VERSION

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # a tiny encoder, built operator by operator
from tiny_onnx import DIM, SIZE, some_photos, write_encoder

JSON_FILES = ("config.json", "preprocessor_config.json", "tokenizer_config.json", "tokenizer.json", "tip_adapter.json")
Case = tuple[str, Callable[[Path], None]]


def sound_encoder(folder: Path) -> Path:
    """An encoder as an export writes it."""
    write_encoder(folder)
    files = ("onnx/vision_model.onnx", "onnx/text_model.onnx", "tokenizer.json")
    hashes = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files}
    text = {"context_length": 16, "pad_token": "[PAD]", "pad_to_context": False, "clean": ""}
    note = {"format_version": METADATA_VERSION, "logit_scale": 100.0, "text": text, "files": hashes}
    (folder / "tip_adapter.json").write_text(json.dumps(note))
    return folder


def use(folder: Path) -> None:
    """Fit and predict with an encoder; raises where the output is not sane."""
    photos = some_photos(9)
    classifier = ImageClassifier(folder, "tip-adapter", store=None, views=2).fit(photos, ["red", "green", "blue"] * 3)
    probabilities = classifier.predict_proba(photos)
    if not (np.isfinite(probabilities).all() and np.allclose(probabilities.sum(axis=1), 1)):
        raise AssertionError("probabilities that are none")


def cases_of(source: Path) -> Iterator[Case]:
    """Everything that is done to a folder; nothing at first."""
    yield "as it was", partial(shutil.copytree, source)
    for name in JSON_FILES:
        content = json.loads((source / name).read_text())
        for what, new in changed_places(content):
            yield f"{name}: {what}", partial(with_file, source, name, text_of(new).encode("utf-8", "surrogatepass"))
    for name in (*JSON_FILES, "onnx/vision_model.onnx", "onnx/text_model.onnx"):
        for what, data in odd_contents((source / name).read_bytes()):
            yield f"{name}: {what}", partial(with_file, source, name, data)
    for name, changes in (("vision_model", VISION), ("text_model", TEXT), ("vision_model", ANY), ("text_model", ANY)):
        for what, change in changes.items():
            yield f"{name}: {what}", partial(with_graph, source, f"onnx/{name}.onnx", change)


def with_file(source: Path, name: str, data: bytes | None, folder: Path) -> None:
    """A copy of an encoder with another file in it; no note of ours, which would tell padding and length."""
    shutil.copytree(source, folder)
    if name != "tip_adapter.json":
        (folder / "tip_adapter.json").unlink()
    (folder / name).unlink() if data is None else (folder / name).write_bytes(data)


def with_graph(source: Path, name: str, change: Callable[[Any], None], folder: Path) -> None:
    """A copy of an encoder with a graph that was changed."""
    model = onnx.load(source / name)
    change(model)
    with_file(source, name, model.SerializeToString(), folder)


def appended(*nodes: Any, constants: dict[str, np.ndarray] | None = None) -> Callable[[Any], None]:
    """Let the graph's output go through more nodes, from "before" to "after"."""

    def change(model: Any) -> None:
        graph = model.graph
        name = graph.output[0].name
        for node in graph.node:
            node.output[:] = ["before" if output == name else output for output in node.output]
        graph.node.extend(onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes)
        for node in graph.node:
            node.output[:] = [name if output == "after" else output for output in node.output]
        graph.initializer.extend(numpy_helper.from_array(array, key) for key, array in (constants or {}).items())

    return change


def with_shape(*shape: Any) -> Callable[[Any], None]:
    """Another declared shape of the output."""

    def change(model: Any) -> None:
        output = model.graph.output[0]
        output.CopyFrom(helper.make_tensor_value_info(output.name, TensorProto.FLOAT, shape))

    return change


def with_dims(dims: list[int]) -> Callable[[Any], None]:
    """Weights that say to have another shape than their bytes."""

    def change(model: Any) -> None:
        model.graph.initializer[0].dims[:] = dims

    return change


def cast(kind: int) -> Callable[[Any], None]:
    """Features of another type."""

    def change(model: Any) -> None:
        appended(helper.make_node("Cast", ["before"], ["after"], to=kind))(model)
        model.graph.output[0].type.tensor_type.elem_type = kind

    return change


def node(kind: str, *inputs: str, **attributes: Any) -> Any:
    """A node from "before" and others to "after"."""
    return helper.make_node(kind, ["before", *inputs], ["after"], **attributes)


def filled(*shape: int) -> tuple[Any, Any, dict[str, np.ndarray]]:
    """Nodes that add the sum of a large tensor of ones."""
    value = helper.make_tensor("value", TensorProto.FLOAT, [1], [1.0])
    large = helper.make_node("ConstantOfShape", ["large shape"], ["large"], value=value)
    total = helper.make_node("ReduceSum", ["large"], ["total"], keepdims=0)
    return large, total, {"large shape": np.array(shape, dtype=np.int64)}


def bomb(*shape: int) -> Callable[[Any], None]:
    """A graph that computes a tensor of this shape."""
    large, total, constants = filled(*shape)
    return appended(large, total, node("Add", "total"), constants=constants)


def looping(model: Any) -> None:
    """A loop that has no end to speak of."""
    names = ("step", TensorProto.INT64, []), ("go on", TensorProto.BOOL, [])
    inputs = [helper.make_tensor_value_info(*each) for each in names]
    body = helper.make_graph(
        [helper.make_node("Identity", ["go on"], ["still"])],
        "body",
        inputs,
        [helper.make_tensor_value_info("still", TensorProto.BOOL, [])],
    )
    loop = helper.make_node("Loop", ["many", "yes"], [], body=body)
    constants = {"many": np.array(2**62), "yes": np.array(True)}
    appended(loop, node("Identity"), constants=constants)(model)


def elsewhere(location: str) -> Callable[[Any], None]:
    """Weights in another file of this machine."""

    def change(model: Any) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)

    return change


def nested(model: Any) -> None:
    """Branches in branches."""
    body = helper.make_graph([], "leaf", [], [])
    for depth in range(12):
        branch = helper.make_node("If", ["yes"], [], then_branch=body, else_branch=body if depth < 2 else None)
        body = helper.make_graph([branch], f"level {depth}", [], [])
    model.graph.node.extend(body.node)


ANY: dict[str, Callable[[Any], None]] = {
    "no nodes": lambda model: model.graph.ClearField("node"),
    "no output": lambda model: model.graph.ClearField("output"),
    "no input": lambda model: model.graph.ClearField("input"),
    "no weights": lambda model: model.graph.ClearField("initializer"),
    "no operators known": lambda model: model.ClearField("opset_import"),
    "operators of the year 3000": lambda model: setattr(model.opset_import[0], "version", 10_000),
    "a newer format": lambda model: setattr(model, "ir_version", 10_000),
    "another domain": lambda model: setattr(model.graph.node[0], "domain", "somebody.else"),
    "an unknown operator": lambda model: setattr(model.graph.node[0], "op_type", "NoSuchThing"),
    "a cycle": lambda model: model.graph.node[0].input.__setitem__(0, model.graph.output[0].name),
    "a file of the machine": elsewhere("/etc/passwd"),
    "a file above": elsewhere("../tokenizer.json"),
    "a file beside": elsewhere("text_model.onnx"),
    "its own file": elsewhere("vision_model.onnx_data"),
    "weights said to be large": with_dims([10**9, 10**9]),
    "weights said to be negative": with_dims([-1, 12]),
    "weights of no shape": with_dims([]),
    "a fixed batch": with_shape(1, DIM),
    "another width said": with_shape("batch", DIM + 1),
    "a width of a thousand million said": with_shape("batch", 10**9),
    "three axes said": with_shape("batch", 1, DIM),
    "no shape said": with_shape(),
    "a feature of a cell": appended(node("ReduceMean", axes=[1], keepdims=1)),
    "a vector": appended(node("ReduceMean", axes=[1], keepdims=0)),
    "a number": appended(node("ReduceMean", keepdims=0)),
    "three axes": appended(node("Unsqueeze", "axis"), constants={"axis": np.array([0])}),
    "no rows": appended(
        node("Slice", "none", "none", "axis"), constants={"none": np.array([0]), "axis": np.array([0])}
    ),
    "no columns": appended(
        node("Slice", "none", "none", "one"), constants={"none": np.array([0]), "one": np.array([1])}
    ),
    "rows twice": appended(node("Concat", "before", axis=0)),
    "the mean row alone": appended(node("ReduceMean", axes=[0], keepdims=1)),
    "not a number": appended(node("Mul", "nan"), constants={"nan": np.array(np.nan, dtype=np.float32)}),
    "infinity": appended(node("Mul", "inf"), constants={"inf": np.array(np.inf, dtype=np.float32)}),
    "zeros": appended(node("Mul", "zero"), constants={"zero": np.array(0, dtype=np.float32)}),
    "large numbers": appended(node("Mul", "large"), constants={"large": np.array(3e38, dtype=np.float32)}),
    "integers": cast(TensorProto.INT64),
    "text": cast(TensorProto.STRING),
    "double precision": cast(TensorProto.DOUBLE),
    "half precision": cast(TensorProto.FLOAT16),
    "truth values": cast(TensorProto.BOOL),
    "a sequence": appended(helper.make_node("SequenceConstruct", ["before"], ["after"])),
    "another width": appended(node("Concat", "before", axis=1)),
    "4 GB": bomb(1000, 1000, 1000),
    "400 GB": bomb(100_000, 1000, 1000),
    "4 EB": bomb(10**9, 10**9),
    "a width of a thousand million": appended(
        node("Tile", "times"), constants={"times": np.array([1, 10**8], dtype=np.int64)}
    ),
    "a loop": looping,
    "branches": nested,
}
VISION: dict[str, Callable[[Any], None]] = {
    "another size": lambda model: setattr(model.graph.input[0].type.tensor_type.shape.dim[2], "dim_value", SIZE + 1),
    "photos as bytes": lambda model: setattr(model.graph.input[0].type.tensor_type, "elem_type", TensorProto.UINT8),
    "one more input": lambda model: model.graph.input.add(name="another").CopyFrom(
        helper.make_tensor_value_info("another", TensorProto.FLOAT, [1])
    ),
    "the output called otherwise": lambda model: setattr(model.graph.output[0], "name", "another"),
}
TEXT: dict[str, Callable[[Any], None]] = {
    "tokens as numbers": lambda model: setattr(model.graph.input[0].type.tensor_type, "elem_type", TensorProto.FLOAT),
    "few words": lambda model: model.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(np.zeros((1, DIM), dtype=np.float32), model.graph.initializer[0].name)
    ),
}
