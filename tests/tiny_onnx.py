"""A tiny encoder built operator by operator, and photos for it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx

SIZE, DIM, WORDS = 8, 12, ("red", "green", "blue", "photo")


def write_graph(path: Path, node_specs, constants, inputs, output: str, *, opset: int = 17) -> None:
    """Write nodes (operator, inputs, output, attributes) as an ONNX file."""
    from onnx import TensorProto, helper, numpy_helper

    kinds = {
        "pixel_values": (TensorProto.FLOAT, ["batch", 3, SIZE, SIZE]),
        "input_ids": (TensorProto.INT64, ["b", "l"]),
    }
    nodes = [helper.make_node(kind, ins, [out], **attributes) for kind, ins, out, attributes in node_specs]
    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info(name, *kinds[name]) for name in inputs],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", DIM])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)


def write_encoder(directory: Path, *, opset: int = 17, seed: int = 0) -> Path:
    """An ONNX directory: pixels through one dense layer, texts by the mean of their words' rows."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    rng = np.random.default_rng(seed)
    (directory / "onnx").mkdir(parents=True)
    dense = rng.normal(size=(3 * SIZE * SIZE, DIM)).astype(np.float32)
    write_graph(
        directory / "onnx" / "vision_model.onnx",
        [("Flatten", ["pixel_values"], "flat", {"axis": 1}), ("MatMul", ["flat", "dense"], "image_embeds", {})],
        {"dense": dense},
        ["pixel_values"],
        "image_embeds",
        opset=opset,
    )
    table = rng.normal(size=(len(WORDS) + 1, DIM)).astype(np.float32)
    write_graph(
        directory / "onnx" / "text_model.onnx",
        [
            ("Gather", ["table", "input_ids"], "rows", {}),
            ("ReduceMean", ["rows"], "text_embeds", {"axes": [1], "keepdims": 0}),
        ],
        {"table": table},
        ["input_ids"],
        "text_embeds",
    )
    vocabulary = {word: index for index, word in enumerate((*WORDS, "[PAD]"))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="photo"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(directory / "tokenizer.json"))
    half = [0.4, 0.5, 0.6]
    config = {"size": {"shortest_edge": SIZE + 2}, "crop_size": SIZE, "do_center_crop": True, "resample": 3}
    (directory / "preprocessor_config.json").write_text(json.dumps(config | {"image_mean": half, "image_std": half}))
    (directory / "config.json").write_text(json.dumps({"model_type": "clip"}))
    (directory / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 16, "pad_token": "[PAD]"}))
    return directory


def some_photos(count: int, seed: int = 0) -> list[np.ndarray]:
    """Noise around one colour per photo, red, green and blue in turn."""
    rng = np.random.default_rng(seed)
    base = 200 * np.eye(3)[np.arange(count) % 3]
    return [(colour + rng.integers(0, 56, (20, 16, 3))).astype(np.uint8) for colour in base]
