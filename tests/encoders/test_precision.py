import base64
import hashlib
import json
import shutil

import numpy as np
import pytest

from tip_adapter.encoders import load_encoder, precision
from tip_adapter.errors import EncoderError, EncoderWarning, MissingExtraError


def some_pixels(count, size=32):
    return np.random.default_rng(count).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TIP_ADAPTER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def without_vnni(monkeypatch):
    monkeypatch.setattr("tip_adapter.encoders.onnx.eight_bit_products_are_exact", lambda: False)


needs_vnni = pytest.mark.skipif(
    not precision.eight_bit_products_are_exact(), reason="this processor cannot multiply bytes exactly"
)


@needs_vnni
def test_features_are_nearly_the_same_and_never_mixed(clip_onnx):
    exact, quick = load_encoder(clip_onnx), load_encoder(clip_onnx, precision="int8")
    pixels = some_pixels(6)
    expected, found = unit(exact.encode_pixels(pixels)), unit(quick.encode_pixels(pixels))
    assert (expected * found).sum(axis=1).min() > 0.99
    assert np.abs(expected - found).max() > 1e-6  # it is another tower
    assert quick.image_id != exact.image_id
    assert quick.precision == "int8"
    np.testing.assert_array_equal(quick.encode_texts(["a hat"]), exact.encode_texts(["a hat"]))


@needs_vnni
def test_a_feature_does_not_depend_on_the_other_photos(clip_onnx):
    encoder = load_encoder(clip_onnx, precision="int8")
    pixels = some_pixels(5)
    pixels[2] = 255  # an outlier, which would widen the common scale
    alone = np.concatenate([encoder.encode_pixels(pixels[i : i + 1]) for i in range(5)])
    np.testing.assert_array_equal(encoder.encode_pixels(pixels), alone)


@needs_vnni
def test_the_tower_is_made_once_and_checked(clip_onnx, cache, monkeypatch, capfd):
    first = load_encoder(clip_onnx, precision="int8")
    assert "once" in capfd.readouterr().err
    (folder,) = (cache / "encoders").iterdir()  # and no temporary one beside it
    monkeypatch.setattr(precision, "_quantize", lambda *_: pytest.fail("quantised twice"))
    assert load_encoder(clip_onnx, precision="int8").image_id == first.image_id
    with (folder / "vision_model.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(EncoderError, match=f"SHA-256 differs: delete {folder}"):
        load_encoder(clip_onnx, precision="int8")
    (folder / "int8.json").write_text("{")
    with pytest.raises(EncoderError, match=f"SHA-256 differs: delete {folder}"):
        load_encoder(clip_onnx, precision="int8")


@needs_vnni
def test_a_failure_leaves_nothing(clip_onnx, cache, monkeypatch):
    def fail(*_, **__):
        raise ValueError("no such\noperator")

    monkeypatch.setattr("onnxruntime.quantization.quantize_dynamic", fail)
    with pytest.raises(EncoderError, match=r"cannot be quantised \(no such operator\): use precision fp32"):
        load_encoder(clip_onnx, precision="int8")
    assert list((cache / "encoders").iterdir()) == []


@needs_vnni
def test_making_it_needs_onnx_and_using_it_does_not(clip_onnx, cache, monkeypatch):
    import sys

    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "onnx", None)
        with pytest.raises(MissingExtraError, match=r"\.\[export\]"):
            load_encoder(clip_onnx, precision="int8")
    load_encoder(clip_onnx, precision="int8")
    monkeypatch.setitem(sys.modules, "onnx", None)
    load_encoder(clip_onnx, precision="int8")


def test_convolutions_are_refused(tmp_path, cache):
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.zeros((8, 3, 3, 3), dtype=np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        "tower",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["b", 8, 6, 6])],
        [weights],
    )
    onnx.save(helper.make_model(graph), tmp_path / "vision_model.onnx")
    with pytest.raises(
        EncoderError, match=r"a transformer for precision int8, got convolutions .*: export the encoder in int8"
    ):
        precision.eight_bit_tower(tmp_path / "vision_model.onnx")
    assert not (cache / "encoders").exists()


@pytest.mark.usefixtures("without_vnni")
def test_a_processor_without_vnni_gets_fp32_and_is_told(clip_onnx):
    with pytest.warns(EncoderWarning, match=r"lacks VNNI.* runs in fp32"):
        encoder = load_encoder(clip_onnx, precision="int8")
    exact = load_encoder(clip_onnx)
    assert (encoder.image_id, encoder.precision) == (exact.image_id, "fp32")
    np.testing.assert_array_equal(encoder.encode_pixels(some_pixels(2)), exact.encode_pixels(some_pixels(2)))


def test_unknown_precisions_list_the_valid_ones(clip_onnx):
    with pytest.raises(EncoderError, match=r"Unknown precision 'int4' .*choose one of fp32, int8"):
        load_encoder(clip_onnx, precision="int4")
    with pytest.raises(EncoderError, match=r"has no precision 'int8', only fp32: int8 needs .*export-encoder"):
        load_encoder("fake", precision="int8")


def test_the_probe_is_the_product_that_it_says():
    from onnx import ModelProto, numpy_helper

    graph = ModelProto.FromString(base64.b64decode(precision._PROBE)).graph
    assert [node.op_type for node in graph.node] == ["MatMulInteger"]
    np.testing.assert_array_equal(numpy_helper.to_array(graph.initializer[0]), np.full((4, 1), 127, dtype=np.int8))


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("location", ["../weights.bin", "/etc/passwd", "weights.bin", "x" * 300])
def test_weights_in_other_files_are_refused(clip_onnx, tmp_path, location, recorded):
    import onnx
    from onnx.external_data_helper import set_external_data

    copy = shutil.copytree(clip_onnx, tmp_path / "copy")
    path = copy / "onnx" / "vision_model.onnx"
    model = onnx.load(path)
    (copy / "onnx" / "weights.bin").write_bytes(model.graph.initializer[0].raw_data)
    set_external_data(model.graph.initializer[0], location)
    model.graph.initializer[0].ClearField("raw_data")
    path.write_bytes(model.SerializeToString())
    note = copy / "tip_adapter.json"
    content = json.loads(note.read_text())
    content["files"]["onnx/vision_model.onnx"] = hashlib.sha256(path.read_bytes()).hexdigest()
    note.write_text(json.dumps(content)) if recorded else note.unlink()
    with pytest.raises(EncoderError, match=r"beside it in vision_model.onnx_data, got '(\.\./w|/etc|weights|.*xxx)"):
        load_encoder(copy)


@needs_vnni
def test_an_exported_transformer_rounds_as_the_encoder_does(clip_onnx):
    """Another fusion of operators would change last digits, and 8-bit rounding makes much of them."""
    import onnxruntime

    from tip_adapter.export.models import ImageGraph, classifier_model, serialized
    from tip_adapter.methods.heads import LinearHead

    encoder = load_encoder(clip_onnx, precision="int8")
    tower, head = encoder.image_tower, LinearHead(encoder.dim, np.eye(encoder.dim, dtype=np.float32), 100.0)
    merged = serialized(
        classifier_model([ImageGraph(tower.path, tower.input, tower.output, encoder.preprocessing)], head)
    )
    session = onnxruntime.InferenceSession(merged, providers=["CPUExecutionProvider"])
    pixels = some_pixels(6)
    found = [session.run(["logits"], {"pixels": pixels[i : i + 1]})[0] for i in range(6)]
    np.testing.assert_allclose(np.concatenate(found), 100 * unit(encoder.encode_pixels(pixels)), atol=1e-3)
