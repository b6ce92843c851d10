"""Convolutions in int8 are calibrated on photos, and put in place only where predictions stay as they are."""

import json

import numpy as np
import onnx
import pytest
from PIL import Image

from tiny_onnx import DIM, some_photos, write_encoder, write_graph
from tip_adapter.data import load_dataset
from tip_adapter.encoders import load_encoder
from tip_adapter.encoders.onnx import OnnxEncoder
from tip_adapter.encoders.precision import eight_bit_products_are_exact
from tip_adapter.encoders.static_int8 import activations, convolutions, quantise
from tip_adapter.errors import EncoderError
from tip_adapter.trust.eight_bit_export import export_eight_bit

pytestmark = pytest.mark.skipif(
    not eight_bit_products_are_exact(), reason="this processor cannot multiply bytes exactly"
)
WIDTH = 16


@pytest.fixture
def convolutional(tmp_path):
    """An ONNX folder whose image tower is four convolutions, one of them depthwise."""
    folder, rng = write_encoder(tmp_path / "towers"), np.random.default_rng(0)

    def weights(*shape):
        return (rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    constants = {"first": weights(WIDTH, 3, 3, 3), "each": weights(WIDTH, 1, 3, 3), "all": weights(WIDTH, WIDTH, 1, 1)}
    constants |= {"last": weights(DIM, WIDTH, 1, 1), "low": np.float32(0), "high": np.float32(6)}
    constants |= {f"{name} bias": weights(len(constants[name]), 1)[:, 0] for name in ("first", "each", "all", "last")}
    pads = {"pads": [1, 1, 1, 1]}
    nodes = [
        ("Conv", ["pixel_values", "first", "first bias"], "a", pads),
        ("Clip", ["a", "low", "high"], "b", {}),
        ("Conv", ["b", "each", "each bias"], "c", {**pads, "group": WIDTH}),
        ("Clip", ["c", "low", "high"], "d", {}),
        ("Conv", ["d", "all", "all bias"], "e", {}),
        ("Add", ["b", "e"], "f", {}),
        ("Conv", ["f", "last", "last bias"], "g", {}),
        ("GlobalAveragePool", ["g"], "h", {}),
        ("Flatten", ["h"], "image_embeds", {}),
    ]
    write_graph(folder / "onnx" / "vision_model.onnx", nodes, constants, ["pixel_values"], "image_embeds")
    return folder


@pytest.fixture
def photos(tmp_path):
    """Photos of three colours, which the tower tells apart."""
    for number, photo in enumerate(some_photos(30)):
        path = tmp_path / "photos" / ("red", "green", "blue")[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo).save(path)
    return load_dataset(tmp_path / "photos")


def some_views(encoder, count=24):
    return np.stack([encoder.preprocessing.center_view(Image.fromarray(photo)) for photo in some_photos(count, seed=1)])


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_features_are_nearly_the_same_however_many_photos_there_are(convolutional, photos, tmp_path):
    made = export_eight_bit(str(convolutional), tmp_path / "int8", photos)
    exact, quick = load_encoder(str(convolutional)), load_encoder(made.encoder)
    views = some_views(exact)
    together = quick.encode_pixels(views)
    assert (unit(together) * unit(exact.encode_pixels(views))).sum(axis=1).min() > 0.99
    assert not np.array_equal(together, exact.encode_pixels(views))
    np.testing.assert_array_equal(together, np.concatenate([quick.encode_pixels(view[None]) for view in views]))
    assert (quick.image_id != exact.image_id, quick.text_id) == (True, exact.text_id)
    assert made.report.shots == 30
    assert made.report.mean_cosine > 0.99
    assert json.loads((tmp_path / "int8" / "tip_adapter.json").read_text())["precision"] == "int8"


def test_biases_make_up_for_the_mean_that_rounding_adds(convolutional, tmp_path):
    encoder = OnnxEncoder(convolutional, logit_scale=20.0)
    views = encoder.preprocessing.normalize(some_views(encoder))
    exact = onnx.load(encoder.image_tower.path)

    def mean_outputs(model):
        names = [node.output[0] for node in convolutions(model.graph)]
        outputs = zip(*activations(model, names, "pixel_values", views), strict=True)
        return [np.mean(values, axis=(0, 1, 3, 4)) for values in outputs]

    errors = []
    for corrected in (False, True):
        quantise(encoder.image_tower, views, tmp_path / "q.onnx", kept=(), corrected=corrected)
        means = mean_outputs(onnx.load(tmp_path / "q.onnx"))
        errors.append(sum(np.abs(one - other).mean() for one, other in zip(means, mean_outputs(exact), strict=True)))
    assert errors[1] < 0.8 * errors[0]


def test_the_first_and_the_last_convolution_stay_in_float(convolutional, tmp_path):
    encoder = OnnxEncoder(convolutional, logit_scale=20.0)
    quantise(encoder.image_tower, encoder.preprocessing.normalize(some_views(encoder)), tmp_path / "q.onnx")
    nodes = convolutions(onnx.load(tmp_path / "q.onnx").graph)
    assert ["DequantizeLinear" in node.input[1] for node in nodes] == [False, True, True, False]


def test_what_has_no_convolutions_is_refused(convolutional, photos, tmp_path):
    other = write_encoder(tmp_path / "other", seed=3)
    with pytest.raises(EncoderError, match=r"network of convolutions in .*other.*, got 0 of them"):
        export_eight_bit(f"{convolutional}+{other}", tmp_path / "int8", photos)
    assert not (tmp_path / "int8").exists()


def test_lite_is_two_folders_that_read_texts_as_it_does(photos, tmp_path):
    made = export_eight_bit("lite", tmp_path / "int8", photos, max_flipped=1.0)
    assert made.encoder == f"{tmp_path / 'int8' / 'lite0'}+{tmp_path / 'int8' / 'lite2'}"
    exact, quick = load_encoder("lite"), load_encoder(made.encoder)
    texts = ["a photo of a hat", "a photo of shoes"]
    np.testing.assert_allclose(unit(quick.encode_texts(texts)), unit(exact.encode_texts(texts)), atol=1e-5)
    assert quick.logit_scale == pytest.approx(exact.logit_scale)


def test_too_many_changed_predictions_are_refused_and_nothing_is_written(convolutional, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "tip_adapter.trust.precision.left_out_predictions", lambda rows, *_, **__: np.arange(len(rows)) + rows[0, 0]
    )
    with pytest.raises(EncoderError, match=r"at most 5\.0 % of the predictions, got .* 30 predictions changed"):
        export_eight_bit(str(convolutional), tmp_path / "int8", photos)
    assert [path.name for path in tmp_path.iterdir() if "int8" in path.name] == []


def test_other_encoders_are_refused_with_what_to_do(photos, tmp_path):
    with pytest.raises(EncoderError, match="Expected an ONNX folder to export in int8, got fake"):
        export_eight_bit("fake", tmp_path / "int8", photos)


def test_processors_that_overflow_neither_make_nor_load_it(convolutional, photos, tmp_path, monkeypatch):
    made = export_eight_bit(str(convolutional), tmp_path / "int8", photos)
    for module in ("trust.eight_bit_export", "encoders.onnx"):
        monkeypatch.setattr(f"tip_adapter.{module}.eight_bit_products_are_exact", lambda: False)
    with pytest.raises(EncoderError, match="needs a processor that multiplies 8-bit numbers exactly"):
        load_encoder(made.encoder)
    with pytest.raises(EncoderError, match="cannot multiply 8-bit numbers exactly"):
        export_eight_bit(str(convolutional), tmp_path / "again", photos)


def test_the_command_writes_it_and_says_what_changed(run, convolutional, photos, tmp_path):
    source, target = tmp_path / "photos", tmp_path / "int8"
    code, out, err = run("export-encoder", convolutional, "-o", target, "--int8-photos", source)
    assert code == 0
    assert out.startswith("int8 against fp32 on 30 shots: cosine ")
    assert f"saved: {target}" in out
    code, out, err = run("export-encoder", convolutional, "-o", target, "--int8-photos", source)
    assert (code, out) == (5, "")
    assert "not to exist yet" in err
    code, out, _ = run("export-encoder", convolutional, "-o", tmp_path / "b", "--int8-photos", source, "--json")
    assert json.loads(out)["encoder"] == str(tmp_path / "b")
    code, out, err = run("export-encoder", convolutional, "-o", tmp_path / "c", "--int8-photos", tmp_path / "none")
    assert (code, out) == (3, "")
    assert "none" in err
