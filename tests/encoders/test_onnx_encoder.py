import hashlib
import json
import shutil

import numpy as np
import pytest

from tip_adapter.encoders import Encoder, export_encoder, load_encoder
from tip_adapter.encoders.tokenizer import TextSettings, TextTokenizer
from tip_adapter.errors import EncoderError

TEXTS = ["a hat", "", "red photo of a hat, of course", "so many hats " * 50, "Hat!"]


def some_pixels(count: int, size: int = 32):
    return np.random.default_rng(count).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


@pytest.fixture
def directory(clip_onnx, tmp_path):
    """A copy to damage, without what our export recorded."""
    copy = shutil.copytree(clip_onnx, tmp_path / "copy")
    (copy / "tip_adapter.json").unlink()
    return copy


@pytest.fixture(scope="module")
def clip_torch(tiny_clip):
    import transformers

    return transformers.CLIPModel.from_pretrained(tiny_clip).eval()


def test_images_are_encoded_as_transformers_does(clip_onnx, clip_torch):
    import torch

    encoder = load_encoder(clip_onnx)
    assert isinstance(encoder, Encoder)
    pixels = some_pixels(5)
    inputs = torch.from_numpy((pixels / 255 - [0.4, 0.5, 0.6]) / [0.2, 0.3, 0.25]).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        expected = clip_torch.get_image_features(pixel_values=inputs).pooler_output.numpy()
    np.testing.assert_allclose(encoder.encode_pixels(pixels), expected, atol=1e-4)


def test_texts_are_encoded_as_transformers_does(clip_onnx, clip_torch, tiny_clip):
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_clip)
    tokens = tokenizer(TEXTS, padding="max_length", truncation=True, max_length=24, return_tensors="pt")
    with torch.no_grad():
        expected = clip_torch.get_text_features(**tokens).pooler_output.numpy()
    found = load_encoder(clip_onnx).encode_texts(TEXTS)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.abs(found[0] - found[2]).max() > 0.1  # so that the comparison means something


def test_siglip_pads_to_its_context(tiny_siglip, tmp_path):
    import torch
    import transformers

    exported = load_encoder(export_encoder(f"huggingface:{tiny_siglip}", tmp_path / "siglip"))
    model = transformers.SiglipModel.from_pretrained(tiny_siglip).eval()
    tokenizer = transformers.CLIPTokenizer.from_pretrained(tiny_siglip)
    tokens = tokenizer(TEXTS, padding="max_length", truncation=True, max_length=24, return_tensors="pt")
    with torch.no_grad():
        expected = model.get_text_features(input_ids=tokens.input_ids).pooler_output.numpy()
    np.testing.assert_allclose(exported.encode_texts(TEXTS), expected, atol=1e-4)
    assert exported.preprocessing.resize is None
    assert exported.logit_scale == pytest.approx(model.logit_scale.exp().item())


def test_batch_size_does_not_matter(clip_onnx):
    encoder = load_encoder(clip_onnx)
    pixels, texts = some_pixels(7), [f"{word} hat" for word in "abcdefg"] * 6 + TEXTS
    alone = np.concatenate([encoder.encode_pixels(pixels[i : i + 1]) for i in range(7)])
    np.testing.assert_allclose(encoder.encode_pixels(pixels), alone, atol=1e-5)
    alone = np.concatenate([encoder.encode_texts([text]) for text in texts])
    np.testing.assert_allclose(encoder.encode_texts(texts), alone, atol=1e-5)


def test_a_long_text_is_cut_and_keeps_its_end_token(clip_onnx):
    tokenizer = load_encoder(clip_onnx).layout.tokenizer()
    ids, mask = tokenizer(["hat", "h" * 500])
    start, end = ids[0, 0], ids[0, mask[0].sum() - 1]
    assert ids.dtype == np.int64
    assert ids.shape == (2, 24)
    assert start != end
    assert (ids[1, 0], ids[1, -1]) == (start, end)
    assert mask[1].all()


def test_padding_to_the_context_and_lower_case_are_settings(clip_onnx):
    content = (clip_onnx / "tokenizer.json").read_text()
    upper = content.replace('{"type":"Lowercase"}', '{"type":"NFC"}').replace('"type": "Lowercase"', '"type": "NFC"')
    assert upper != content
    settings = TextSettings(24, "<|endoftext|>", pad_to_context=True)
    ids, _ = TextTokenizer(upper, settings)(["HAT", "hat"])
    assert ids.shape == (2, 24)
    assert not np.array_equal(ids[0], ids[1])
    lowered = TextTokenizer(upper, TextSettings(24, "<|endoftext|>", pad_to_context=True, clean="lower"))
    np.testing.assert_array_equal(*lowered(["HAT", "hat"])[0])


def test_identity_moves_with_the_folder(clip_onnx, tmp_path):
    encoder = load_encoder(clip_onnx)
    assert encoder.logit_scale == pytest.approx(np.exp(3.0))
    copied = load_encoder(export_encoder(clip_onnx, tmp_path / "moved"))
    assert (copied.image_id, copied.text_id) == (encoder.image_id, encoder.text_id)
    assert (copied.name, copied.logit_scale) == (str(tmp_path / "moved"), encoder.logit_scale)


@pytest.mark.parametrize("recorded", [True, False])
def test_another_tower_is_another_encoder_whatever_the_folder_says(clip_onnx, tmp_path, recorded):
    copy = shutil.copytree(clip_onnx, tmp_path / "copy")
    graph = copy / "onnx" / "vision_model.onnx"
    edit_graph(graph, lambda graph: permute_outputs(graph))
    note = copy / "tip_adapter.json"
    if recorded:
        content = json.loads(note.read_text())
        content["files"]["onnx/vision_model.onnx"] = hashlib.sha256(graph.read_bytes()).hexdigest()
        note.write_text(json.dumps(content))
    else:
        note.unlink()
    honest, other = load_encoder(clip_onnx), load_encoder(copy)
    assert not np.allclose(honest.encode_pixels(some_pixels(2)), other.encode_pixels(some_pixels(2)))
    assert other.image_id != honest.image_id
    assert other.text_id == honest.text_id


def permute_outputs(graph):
    from onnx import helper, numpy_helper

    name = graph.output[0].name
    for node in graph.node:
        node.output[:] = ["before" if output == name else output for output in node.output]
    graph.initializer.append(numpy_helper.from_array(np.arange(16)[::-1].copy(), "order"))
    graph.node.append(helper.make_node("Gather", ["before", "order"], [name], axis=1))


def test_what_claims_an_identity_is_refused(clip_onnx, tmp_path):
    copy = shutil.copytree(clip_onnx, tmp_path / "copy")
    note = copy / "tip_adapter.json"
    note.write_text(json.dumps({**json.loads(note.read_text()), "weights_id": "a" * 64}))
    with pytest.raises(EncoderError, match="unknown name"):
        load_encoder(copy)


@pytest.mark.parametrize("tower", ["vision_model", "text_model"])
def test_a_tower_that_changes_before_it_is_opened_is_noticed(clip_onnx, tmp_path, tower):
    copy = shutil.copytree(clip_onnx, tmp_path / "copy")
    encoder = load_encoder(copy)
    with (copy / "onnx" / f"{tower}.onnx").open("ab") as file:
        file.write(b"\x0a\x00")  # an empty field more: still the same graph
    with pytest.raises(EncoderError, match="to stay as it is while it is used"):
        encoder.encode_texts(["a"]) if tower == "text_model" else encoder.encode_pixels(some_pixels(9))


def test_a_foreign_directory_is_hashed_and_takes_clip_s_scale(directory):
    encoder = load_encoder(directory)
    assert encoder.logit_scale == 100
    assert load_encoder(directory, logit_scale=50).logit_scale == 50
    assert encoder.name == str(directory)
    with (directory / "tokenizer.json").open("a") as file:
        file.write(" ")
    assert load_encoder(directory).text_id != encoder.text_id


def test_an_export_that_was_changed_is_refused(clip_onnx, tmp_path):
    copy = shutil.copytree(clip_onnx, tmp_path / "copy")
    with (copy / "onnx" / "text_model.onnx").open("ab") as file:
        file.write(b"\x0a\x00")
    with pytest.raises(EncoderError, match=r"text_model\.onnx to be the file that was exported"):
        load_encoder(copy)


def test_an_export_of_a_newer_format_is_refused(clip_onnx, tmp_path):
    copy = shutil.copytree(clip_onnx, tmp_path / "copy")
    path = copy / "tip_adapter.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": 4}))
    with pytest.raises(EncoderError, match="of format 3, got 4: update"):
        load_encoder(copy)


@pytest.mark.parametrize(
    "name", ["onnx/vision_model.onnx", "onnx/text_model.onnx", "tokenizer.json", "preprocessor_config.json"]
)
def test_a_missing_file_is_named(directory, name):
    (directory / name).unlink()
    with pytest.raises(EncoderError, match=f"{name}, found none"):
        load_encoder(directory)


@pytest.mark.parametrize("content", [b"", b"no graph", None])
@pytest.mark.parametrize("tower", ["vision_model", "text_model"])
def test_a_damaged_graph_is_named_and_prints_nothing(directory, tower, content, capfd):
    path = directory / "onnx" / f"{tower}.onnx"
    path.write_bytes(path.read_bytes()[:-999] if content is None else content)
    with pytest.raises(EncoderError, match=rf"{tower}.onnx to be a whole ONNX graph") as caught:
        load_encoder(directory).encode_texts(["a hat"])
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["tokenizer.json", "preprocessor_config.json", "config.json"])
def test_a_damaged_side_file_is_named(directory, name):
    (directory / name).write_text("{")
    with pytest.raises(EncoderError, match=name):
        load_encoder(directory).encode_texts(["a hat"])


def test_an_unknown_logit_scale_is_asked_for(directory):
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**config, "model_type": "siglip"}))
    assert load_encoder(directory).logit_scale == 115
    (directory / "config.json").write_text(json.dumps({**config, "model_type": "unheard-of"}))
    with pytest.raises(EncoderError, match="pass logit_scale="):
        load_encoder(directory)
    assert load_encoder(directory, logit_scale=112).logit_scale == 112


def test_without_configs_the_context_and_padding_are_asked_for(directory):
    (directory / "config.json").unlink()
    path = directory / "tokenizer_config.json"
    path.write_text(json.dumps({"model_max_length": 1e30}))
    with pytest.raises(EncoderError, match="model_max_length"):
        load_encoder(directory)
    path.write_text(json.dumps({"model_max_length": 24}))
    with pytest.raises(EncoderError, match="pad_token"):
        load_encoder(directory)
    path.write_text(json.dumps({"model_max_length": 24, "pad_token": {"content": "no such"}}))
    with pytest.raises(EncoderError, match="padding token 'no such'"):
        load_encoder(directory, logit_scale=1).encode_texts(["a"])


def edit_graph(path, change):
    import onnx

    model = onnx.load(path)
    change(model.graph)
    onnx.save(model, path)


def rename(nodes, graph, new):
    old = nodes[0].name
    nodes[0].name = new
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]


def test_wrong_inputs_and_outputs_are_listed(directory):
    path = directory / "onnx" / "vision_model.onnx"
    edit_graph(path, lambda graph: rename(graph.output, graph, "last_hidden_state"))
    with pytest.raises(EncoderError, match=r"vision_model.onnx to have an output .*got \['last_hidden_state'\]"):
        load_encoder(directory)
    edit_graph(path, lambda graph: rename(graph.output, graph, "image_embeds"))
    edit_graph(path, lambda graph: rename(graph.input, graph, "pixels"))
    with pytest.raises(EncoderError, match=r"one input pixel_values or image .*, got \['pixels'\]"):
        load_encoder(directory)


def test_clip_s_pooled_output_is_not_taken_for_its_feature(directory):
    edit_graph(directory / "onnx/vision_model.onnx", lambda graph: rename(graph.output, graph, "pooler_output"))
    with pytest.raises(EncoderError, match="to have an output"):
        load_encoder(directory)


def test_a_fixed_batch_size_is_refused(directory):
    def fix(graph):
        graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2

    edit_graph(directory / "onnx" / "vision_model.onnx", fix)
    with pytest.raises(EncoderError, match="batches of any size, got 2"):
        load_encoder(directory)


def test_views_of_another_size_than_the_graph_s_are_refused(directory):
    config = json.loads((directory / "preprocessor_config.json").read_text())
    config |= {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}}
    (directory / "preprocessor_config.json").write_text(json.dumps(config))
    with pytest.raises(EncoderError, match=r"pixel_values of shape \(batch, 3, 64, 64\)"):
        load_encoder(directory)


def test_towers_of_different_models_are_told_apart(directory, tiny_siglip, tmp_path):
    other = export_encoder(f"huggingface:{tiny_siglip}", tmp_path / "siglip")
    shutil.copy(other / "onnx" / "text_model.onnx", directory / "onnx" / "text_model.onnx")
    with pytest.raises(EncoderError, match=r"text features of 16 dimensions.*got 32"):
        load_encoder(directory).encode_texts(["a hat"])


def test_missing_external_data_is_named(directory):
    import onnx

    path = directory / "onnx" / "vision_model.onnx"
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="vision_model.onnx_data", size_threshold=0)
    features = load_encoder(directory).encode_pixels(some_pixels(2))
    assert features.shape == (2, 16)
    identity = load_encoder(directory).image_id
    data = directory / "onnx" / "vision_model.onnx_data"
    data.write_bytes(data.read_bytes()[:-1] + b"?")
    assert load_encoder(directory).image_id != identity
    data.unlink()
    with pytest.raises(EncoderError, match=r"vision_model\.onnx_data"):
        load_encoder(directory)
