"""Encoder folders of strangers end in one line, or in features, and never in much memory."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tiny_onnx import DIM, SIZE, some_photos, write_encoder
from tip_adapter.encoders import load_encoder
from tip_adapter.errors import EncoderError

onnx = pytest.importorskip("onnx", reason="the extra export is not installed")

VIEWS = np.stack([np.resize(photo, (SIZE, SIZE, 3)) for photo in some_photos(3)])


@pytest.fixture
def folder(tmp_path):
    return write_encoder(tmp_path / "encoder")


def encoded(folder):
    encoder = load_encoder(folder)
    return encoder.encode_pixels(VIEWS), encoder.encode_texts(["red", "a photo"])


def change_json(folder, name, **values):
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


PREPROCESSOR = [
    ("size", {"shortest_edge": 10**9}),
    ("size", {"shortest_edge": None}),
    ("size", {"shortest_edge": "10"}),
    ("crop_size", 10**9),
    ("crop_size", True),
    ("crop_size", -8),
    ("crop_size", {"height": "8", "width": "8"}),
    ("image_mean", [float("nan")] * 3),
    ("image_mean", ["0.5"] * 3),
    ("image_mean", [0.5] * 4),
    ("image_mean", 0.5),
    ("image_std", [0.0, 0.5, 0.5]),
    ("image_std", [1e300] * 3),
    ("resample", []),
    ("rescale_factor", "1/255"),
    ("do_resize", {}),
    ("draft", 1),
]


@pytest.mark.parametrize(("name", "value"), PREPROCESSOR)
def test_settings_of_photos(folder, name, value):
    change_json(folder, "preprocessor_config.json", **{name: value})
    with pytest.raises(EncoderError, match=r"preprocessor_config\.json") as caught:
        load_encoder(folder)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("length", [10**9, 0, -1, "16", [16], True, None, 1e30])
def test_a_context_of_no_sense_is_not_taken(folder, length):
    change_json(folder, "config.json", model_type="siglip", text_config={"max_position_embeddings": length})
    change_json(folder, "tokenizer_config.json", model_max_length=length)
    encoder = load_encoder(folder, logit_scale=10.0)
    assert encoder.layout.text.context_length == 64
    assert encoder.encode_texts(["red"]).shape == (1, DIM)


@pytest.mark.parametrize("config", [{"text_config": "x"}, {"text_config": [1]}, {"model_type": ["clip"]}])
def test_a_config_of_other_kinds_is_harmless_or_refused(folder, config):
    change_json(folder, "config.json", **config)
    assert load_encoder(folder, logit_scale=10.0).encode_pixels(VIEWS).shape == (3, DIM)


NOTE = {
    "format_version": 2,
    "logit_scale": 10.0,
    "text": {"context_length": 16, "pad_token": "[PAD]", "pad_to_context": True, "clean": ""},
    "files": {},
}


@pytest.mark.parametrize(
    "change",
    [
        {"logit_scale": -1},
        {"logit_scale": "100"},
        {"text": NOTE["text"] | {"context_length": 10**9}},
        {"text": NOTE["text"] | {"pad_token": None}},
        {"text": "x"},
        {"files": {"onnx/vision_model.onnx": "../x"}},
        {"files": []},
        {"name": "lite"},
    ],
)
def test_the_record_of_an_export_is_checked(folder, change):
    (folder / "tip_adapter.json").write_text(json.dumps(NOTE | change))
    with pytest.raises(EncoderError, match=r"tip_adapter\.json"):
        load_encoder(folder)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "tokenizer_config.json", "tokenizer.json"])
@pytest.mark.parametrize(
    "content", [b"", b"[]", b"[" * 10**5, b"9" * 5000, b"\xff", b'{"a": "\\ud800"}', b" " * (1 << 25)]
)
def test_files_of_anything_else(folder, name, content):
    (folder / name).write_bytes(content)
    with pytest.raises(EncoderError, match=name) as caught:
        encoded(folder)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["onnx/vision_model.onnx", "onnx/text_model.onnx", "tokenizer.json"]),
    places=st.lists(st.integers(0, 10**6), min_size=1, max_size=4),
    cut=st.integers(1, 8),
)
def test_bits_flipped_and_files_cut(folder, name, places, cut):
    sound = (folder / name).read_bytes()
    damaged = bytearray(sound)
    for place in places:
        damaged[place % len(damaged)] ^= 1 << place % 8
    try:
        (folder / name).write_bytes(damaged[: len(damaged) * cut // 8])
        features = encoded(folder)
        assert [part.shape for part in features] == [(3, DIM), (2, DIM)]
    except EncoderError as error:
        assert "\n" not in str(error)  # noqa: PT017 - the other outcome is fine, too
    finally:
        (folder / name).write_bytes(sound)


def with_nodes(folder, *nodes, kind=None, **constants):
    """Let the features go through more nodes."""
    path = folder / "onnx" / "vision_model.onnx"
    model = onnx.load(path)
    graph, name = model.graph, model.graph.output[0].name
    for node in graph.node:
        node.output[:] = ["before" if output == name else output for output in node.output]
    graph.node.extend(nodes)
    graph.node[-1].output[:] = [name]
    graph.initializer.extend(onnx.numpy_helper.from_array(array, key) for key, array in constants.items())
    graph.output[0].type.tensor_type.ClearField("shape")
    if kind is not None:
        graph.output[0].type.tensor_type.elem_type = kind
    path.write_bytes(model.SerializeToString())


def node(operator, *inputs, **attributes):
    return onnx.helper.make_node(operator, ["before", *inputs], ["x"], **attributes)


OTHER_FEATURES = {
    "three axes": lambda: ([node("Unsqueeze", "axis")], {"axis": np.array([0])}),
    "one axis": lambda: ([node("ReduceMean", axes=[1], keepdims=0)], {}),
    "whole numbers": lambda: ([node("Cast", to=onnx.TensorProto.INT64)], {"kind": onnx.TensorProto.INT64}),
    "text": lambda: ([node("Cast", to=onnx.TensorProto.STRING)], {"kind": onnx.TensorProto.STRING}),
    "too many columns": lambda: ([node("Tile", "times")], {"times": np.array([1, 10**6])}),
}


@pytest.mark.parametrize("what", OTHER_FEATURES)
def test_graphs_that_give_something_else(folder, what):
    nodes, others = OTHER_FEATURES[what]()
    with_nodes(folder, *nodes, **others)
    with pytest.raises(EncoderError, match=r"vision_model\.onnx"):
        encoded(folder)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory where Linux keeps it")
@pytest.mark.parametrize("shape", [(1000, 1000, 1000), (10**9, 10**9)])
def test_a_graph_of_a_few_bytes_takes_no_memory(folder, shape):
    value = onnx.helper.make_tensor("value", onnx.TensorProto.FLOAT, [1], [1.0])
    large = onnx.helper.make_node("ConstantOfShape", ["shape"], ["large"], value=value)
    total = onnx.helper.make_node("ReduceSum", ["large"], ["total"], keepdims=0)
    with_nodes(folder, large, total, node("Add", "total"), shape=np.array(shape))
    code = (
        "import re, sys, numpy as np\n"
        "from pathlib import Path\n"
        "from tip_adapter.encoders import load_encoder\n"
        "from tip_adapter.errors import EncoderError\n"
        "try:\n"
        f"    load_encoder(sys.argv[1]).encode_pixels(np.zeros((1, {SIZE}, {SIZE}, 3), dtype=np.uint8))\n"
        "except EncoderError as error:\n"
        # Not ru_maxrss, which counts what the parent held when it started this process.
        r"    print(int(re.search(r'VmHWM:\s+(\d+)', Path('/proc/self/status').read_text())[1]) // 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1000
