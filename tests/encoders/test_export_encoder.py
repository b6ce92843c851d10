import json

import numpy as np
import pytest

from tip_adapter.encoders import export, export_encoder, load_encoder
from tip_adapter.encoders.export import export_towers
from tip_adapter.errors import EncoderError


def test_the_layout_is_transformers_js_s(clip_onnx, tiny_clip):
    names = {path.relative_to(clip_onnx).as_posix() for path in clip_onnx.rglob("*") if path.is_file()}
    assert names == {
        "onnx/vision_model.onnx",
        "onnx/text_model.onnx",
        "tokenizer.json",
        "tokenizer_config.json",
        "preprocessor_config.json",
        "config.json",
        "tip_adapter.json",
    }
    assert json.loads((clip_onnx / "config.json").read_text())["model_type"] == "clip"
    assert json.loads((clip_onnx / "tokenizer_config.json").read_text())["model_max_length"] == 24


def test_a_folder_that_exists_is_left_alone(clip_onnx, tmp_path):
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(EncoderError, match="not to exist yet"):
        export_encoder(clip_onnx, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]


def test_parents_are_made_where_they_can_be(clip_onnx, tmp_path):
    out = tmp_path / "not" / "there" / "yet"
    assert export_encoder(clip_onnx, out) == out
    assert [path.name for path in out.parent.iterdir()] == ["yet"]
    (tmp_path / "file").touch()
    with pytest.raises(EncoderError, match=r"out cannot be written: .*: choose another place"):
        export_encoder(clip_onnx, tmp_path / "file" / "out")


@pytest.mark.parametrize("tower", ["image", "text"])
def test_a_graph_that_differs_is_not_put_in_place(tower, tiny_clip, tmp_path, monkeypatch):
    encoder = load_encoder(f"huggingface:{tiny_clip}")
    write = export._write_graphs

    def write_then_change(source, folder):
        write(source, folder)
        projection = getattr(source, f"{tower}_tower").projection
        projection.weight.data[0, 0] += 0.05

    monkeypatch.setattr(export, "_write_graphs", write_then_change)
    with pytest.raises(EncoderError, match=f"ONNX {tower} tower.*nothing was written"):
        export_towers(encoder, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_an_interruption_leaves_nothing(tiny_clip, tmp_path, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "check_parity", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export_encoder(f"huggingface:{tiny_clip}", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_nothing_is_printed_and_torch_s_settings_stay(tiny_clip, tmp_path, capfd):
    import torch
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled(), torch.backends.mha.get_fastpath_enabled()
    export_encoder(f"huggingface:{tiny_clip}", tmp_path / "out")
    assert capfd.readouterr() == ("", "")
    after = logging.get_verbosity(), logging.is_progress_bar_enabled(), torch.backends.mha.get_fastpath_enabled()
    assert after == before


def test_a_given_logit_scale_is_recorded(clip_onnx, tmp_path):
    export_encoder(clip_onnx, tmp_path / "out", logit_scale=33)
    assert load_encoder(tmp_path / "out").logit_scale == 33


def test_a_copy_gives_the_same_features(clip_onnx, tmp_path):
    copied = load_encoder(export_encoder(clip_onnx, tmp_path / "out"))
    expected = load_encoder(clip_onnx).encode_texts(["a hat"])
    np.testing.assert_array_equal(copied.encode_texts(["a hat"]), expected)
