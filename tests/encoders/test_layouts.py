"""Encoders as people publish them: small random models in the true layouts, against torch."""

import json

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")
pytest.importorskip("onnx", reason="the extra export is not installed")

import onnx
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from tiny_onnx import some_photos
from tip_adapter import ImageClassifier
from tip_adapter.encoders import export_encoder, load_encoder
from tip_adapter.encoders.export import _exporter_warnings
from tip_adapter.errors import EncoderError
from tip_adapter.export import export_classifier

SIDE, DIM, CONTEXT = 8, 12, 10
TEXTS = ["red", "Green, photo!", "blue blue blue blue blue blue blue blue blue blue blue blue"]
WORDS = ("red", "green", "blue", "photo", "Green", ",", "!", "[PAD]")
MODEL = {"embed_dim": DIM, "vision_cfg": {"image_size": SIDE}, "text_cfg": {"context_length": CONTEXT}}


class Eye(torch.nn.Module):
    """Patches of 4 × 4 to tokens, a class token first where that is wanted; or places; or one feature."""

    def __init__(self, gives: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.gives = gives
        self.patches = torch.nn.Conv2d(3, DIM, 4, 4)
        self.token = torch.nn.Parameter(torch.randn(DIM))
        self.last = torch.nn.Linear(4 * DIM, DIM)

    def forward(self, image):
        places = self.patches(image.to(self.token.dtype))
        if self.gives == "places":
            return places
        tokens = places.flatten(2).transpose(1, 2)
        if self.gives == "patches":
            return tokens
        if self.gives == "tokens":
            first = (self.token + tokens.mean(1)).unsqueeze(1)
            return torch.cat([first, tokens], dim=1)
        return torch.nn.functional.normalize(self.last(tokens.flatten(1)), dim=1)


class Reader(torch.nn.Module):
    """The mean of all tokens, padding in sight."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.words = torch.nn.Embedding(len(WORDS), DIM)

    def forward(self, text):
        return self.words(text).mean(1)


def write_graph(module, path, name, output, *, kind=None, batch=True):
    path.parent.mkdir(parents=True, exist_ok=True)
    sample = torch.zeros(1, 3, SIDE, SIDE) if kind is None else torch.zeros(1, CONTEXT, dtype=kind)
    if next(module.parameters()).dtype == torch.float16:
        sample = sample.half() if kind is None else sample
    axes = {name: {0: "batch"}, output: {0: "batch"}} if batch else None
    with torch.no_grad(), _exporter_warnings():
        torch.onnx.export(
            module.eval(), (sample,), str(path), input_names=[name], output_names=[output], dynamic_axes=axes,
            opset_version=17, dynamo=False,
        )  # fmt: skip


def write_tokenizer(folder, **config):
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="photo"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": "[PAD]"} | config))


def immich(folder, *, text_options=None, **model):
    """Two folders, open_clip's configs, one row a run, numbers of tokens in 32 bits."""
    write_graph(Eye("feature"), folder / "visual" / "model.onnx", "image", "embedding", batch=False)
    write_graph(Reader(), folder / "textual" / "model.onnx", "text", "embedding", kind=torch.int32, batch=False)
    write_tokenizer(folder / "textual")
    preprocess = {"size": [SIDE, SIDE], "mode": "RGB", "mean": [0, 0, 0], "std": [1, 1, 1], "resize_mode": "shortest"}
    (folder / "visual" / "preprocess_cfg.json").write_text(json.dumps(preprocess | {"fill_color": 0}))
    config = MODEL | model | {"text_cfg": MODEL["text_cfg"] | (text_options or {})}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def expected_texts(texts, words_of=str.split):
    known = {word: index for index, word in enumerate(WORDS)}
    rows = [[known[word] for word in words_of(text)][:CONTEXT] for text in texts]
    ids = torch.tensor([row + [known["[PAD]"]] * (CONTEXT - len(row)) for row in rows])
    with torch.no_grad():
        return Reader()(ids).numpy()


def some_pixels(count=3):
    return np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


def expected_images(gives, pixels, pool=lambda features: features):
    inputs = torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255)
    with torch.no_grad():
        return pool(Eye(gives)(inputs)).numpy()


def test_two_folders_with_open_clip_s_config(tmp_path):
    encoder = load_encoder(immich(tmp_path / "vit"))
    assert (encoder.dim, encoder.logit_scale, encoder.preprocessing.resize) == (DIM, 100.0, SIDE)
    pixels = some_pixels()
    np.testing.assert_allclose(encoder.encode_pixels(pixels), expected_images("feature", pixels), atol=1e-5)
    texts = ["red", "Green , photo !", TEXTS[2]]
    np.testing.assert_allclose(encoder.encode_texts(texts), expected_texts(texts), atol=1e-5)


def test_texts_are_cleaned_as_the_config_says(tmp_path):
    folder = immich(
        tmp_path / "siglip", text_options={"tokenizer_kwargs": {"clean": "canonicalize"}}, init_logit_bias=-10
    )
    encoder = load_encoder(folder)
    assert encoder.logit_scale == 115
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), expected_texts(["red", "green photo", TEXTS[2]]), atol=1e-5)
    immich(tmp_path / "odd", text_options={"tokenizer_kwargs": {"strip_sep_token": True}})
    with pytest.raises(EncoderError, match=r"to clean texts by one of .*, got \{'strip_sep_token': True\}"):
        load_encoder(tmp_path / "odd")


def test_it_moves_as_a_whole(tmp_path):
    encoder = load_encoder(immich(tmp_path / "vit"))
    copied = load_encoder(export_encoder(tmp_path / "vit", tmp_path / "copy"))
    assert (copied.image_id, copied.text_id) == (encoder.image_id, encoder.text_id)


def test_two_files_with_open_clip_s_config(tmp_path):
    folder = tmp_path / "flat"
    write_graph(Eye("feature"), folder / "visual.onnx", "input", "output_image")
    write_graph(Reader(), folder / "text.onnx", "input", "text_embedding", kind=torch.int64)
    write_tokenizer(folder)
    preprocess = {"size": SIDE, "interpolation": "bilinear", "resize_mode": "squash"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": MODEL, "preprocess_cfg": preprocess}))
    with pytest.raises(EncoderError, match=r"got \['output_image'\]"):
        load_encoder(folder)
    write_graph(Eye("feature"), folder / "visual.onnx", "input", "image_embedding")
    encoder = load_encoder(folder)
    assert (encoder.preprocessing.resize, encoder.preprocessing.interpolation) == (None, "bilinear")
    assert encoder.encode_texts(["red"]).shape == (1, DIM)


def image_only(folder, gives, *, half=False, config=None, output="last_hidden_state", name="model.onnx"):
    eye = Eye(gives).half() if half else Eye(gives)
    write_graph(eye, folder / name, "pixel_values", output)
    plain = {"size": {"height": SIDE, "width": SIDE}, "do_normalize": False, "resample": 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(plain))
    (folder / "config.json").write_text(json.dumps(config or {"model_type": "dinov2", "patch_size": 4}))
    return folder


@pytest.mark.parametrize(
    ("gives", "pool"),
    [
        ("tokens", lambda features: features[:, 0]),
        ("patches", lambda features: features.mean(1)),
        ("places", lambda features: features.mean((2, 3))),
        ("feature", lambda features: features),
    ],
)
def test_encoders_of_photos_alone_are_pooled_by_the_rule(tmp_path, gives, pool):
    pixels = some_pixels()
    for name in ("model.onnx", "onnx/model.onnx"):
        encoder = load_encoder(image_only(tmp_path / name.replace("/", "-"), gives, name=name))
        assert (encoder.dim, encoder.has_text_tower) == (DIM, False)
        np.testing.assert_allclose(encoder.encode_pixels(pixels), expected_images(gives, pixels, pool), atol=1e-5)


@pytest.mark.parametrize("gives", ["tokens", "patches", "places"])
def test_they_join_one_that_reads_texts_and_are_exported_with_it(tmp_path, gives):
    name = f"{immich(tmp_path / 'vit')}+{image_only(tmp_path / 'dino', gives)}"
    photos, labels = some_photos(12), ["red", "green", "blue"] * 4
    classifier = ImageClassifier(name, "tip-adapter", store=None).fit(photos, labels)
    assert not classifier.model_.zero_shot_weights[:, DIM:].any()
    report = export_classifier(classifier, tmp_path / "out", samples=photos)
    assert report.classifier.same_top_class == 12
    about = json.loads((tmp_path / "out" / "classifier.json").read_text())
    assert about["input"].endswith("one a run, B = 1")


def test_alone_they_learn_from_shots_and_say_what_they_cannot(tmp_path):
    folder = image_only(tmp_path / "dino", "tokens")
    photos, labels = some_photos(12), ["red", "green", "blue"] * 4
    classifier = ImageClassifier(folder, store=None).fit(photos, labels)
    assert classifier.predict(some_photos(6, seed=3)) == ["red", "green", "blue"] * 2
    copied = load_encoder(export_encoder(folder, tmp_path / "copy"))
    assert copied.image_id == classifier.encoder.image_id
    with pytest.raises(EncoderError, match="has no text tower: name one that reads texts"):
        copied.encode_texts(["red"])


def test_half_precision_gives_nearly_the_same(tmp_path):
    pixels = some_pixels()
    encoder = load_encoder(image_only(tmp_path / "half", "tokens", half=True, name="onnx/model_fp16.onnx"))
    found = encoder.encode_pixels(pixels)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected_images("tokens", pixels, lambda features: features[:, 0]), atol=5e-3)
    classifier = ImageClassifier(encoder, "gda", store=None).fit(some_photos(12), ["red", "green", "blue"] * 4)
    assert export_classifier(classifier, tmp_path / "out", samples=some_photos(6)).classifier.same_top_class == 6


def test_a_text_tower_of_one_length_gets_that_length(tmp_path):
    """Where the files would leave the padding to the batch, as for CLIP."""
    folder = tmp_path / "clip"
    write_graph(Eye("feature"), folder / "onnx" / "vision_model.onnx", "pixel_values", "image_embeds")
    write_graph(Reader(), folder / "onnx" / "text_model.onnx", "input_ids", "text_embeds", kind=torch.int64)
    write_tokenizer(folder, model_max_length=CONTEXT)
    plain = {"size": {"height": SIDE, "width": SIDE}, "do_normalize": False}
    (folder / "preprocessor_config.json").write_text(json.dumps(plain))
    (folder / "config.json").write_text(json.dumps({"model_type": "clip"}))
    np.testing.assert_allclose(load_encoder(folder).encode_texts(["red"]), expected_texts(["red"]), atol=1e-5)
    write_tokenizer(folder, model_max_length=CONTEXT + 1)
    with pytest.raises(EncoderError, match=rf"input_ids of shape \(batch, {CONTEXT + 1}\)"):
        load_encoder(folder).encode_texts(["red"])


def test_a_graph_of_both_halves_is_no_encoder_of_photos(tmp_path):
    folder = image_only(tmp_path / "both", "feature", output="logits")
    with pytest.raises(EncoderError, match=r"to have an output .*, got \['logits'\]"):
        load_encoder(folder)
    graph = onnx.load(folder / "model.onnx")
    extra = onnx.helper.make_tensor_value_info("input_ids", onnx.TensorProto.INT64, ["batch", 4])
    graph.graph.input.append(extra)
    onnx.save(graph, folder / "model.onnx")
    with pytest.raises(EncoderError, match=r"to have one input pixel_values .*got \['input_ids', 'pixel_values'\]"):
        load_encoder(folder)


def test_vision_models_of_transformers(tmp_path):
    from transformers import ConvNextV2Config, ConvNextV2Model, Dinov2Config, Dinov2Model, ViTConfig, ViTModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    built = {
        "dino": Dinov2Model(Dinov2Config(**sizes)),
        "vit": ViTModel(ViTConfig(**sizes, intermediate_size=16), add_pooling_layer=False),
        "convnext": ConvNextV2Model(ConvNextV2Config(hidden_sizes=[8, 8, 8, 16], depths=[1, 1, 1, 1], image_size=32)),
    }
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 3}
    for name, model in built.items():
        model.save_pretrained(tmp_path / name)
        settings = {"size": {"height": 32, "width": 32}} | half
        (tmp_path / name / "preprocessor_config.json").write_text(json.dumps(settings))
        encoder = load_encoder(f"huggingface:{tmp_path / name}")
        inputs = torch.from_numpy(encoder.preprocessing.normalize(pixels))
        with torch.no_grad():
            found = model.eval()(inputs)
        expected = found.last_hidden_state[:, 0] if name == "vit" else found.pooler_output
        np.testing.assert_allclose(encoder.encode_pixels(pixels), expected.numpy(), atol=1e-4)
        exported = load_encoder(export_encoder(f"huggingface:{tmp_path / name}", tmp_path / f"{name}-onnx"))
        assert (exported.has_text_tower, exported.dim) == (False, 16)
        np.testing.assert_allclose(exported.encode_pixels(pixels), expected.numpy(), atol=1e-4)
