"""open_clip itself is large and often absent, so a small module with its interface stands in for it."""

import re
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from tip_adapter.encoders import export_encoder, load_encoder
from tip_adapter.encoders.open_clip_config import preprocessing_of
from tip_adapter.errors import EncoderError

torch = pytest.importorskip("torch", reason="the extra torch is not installed")
CONTEXT = 20
TEXTS = ["a hat", "It's 3 RED hats!", "so many words " * 30]


class BytePairs:
    """As open_clip's SimpleTokenizer: token ids, the end token last, then zeros."""

    def __init__(self):
        letters = [chr(code) for code in range(33, 127)]
        tokens = [
            *letters,
            *(f"{letter}</w>" for letter in letters),
            "ha",
            "hat</w>",
            "<start_of_text>",
            "<end_of_text>",
        ]
        self.encoder = {token: index for index, token in enumerate(tokens)}
        self.bpe_ranks = {("h", "a"): 0, ("ha", "t</w>"): 1}
        self.sot_token_id, self.eot_token_id = len(tokens) - 2, len(tokens) - 1
        self.context_length = CONTEXT

    def pieces(self, text):
        for word in re.findall(r"'s|'t|'re|'ve|'m|'ll|'d|[a-z]+|[0-9]|[^\sa-z0-9]+", text.lower()):
            yield from ["hat</w>"] if word == "hat" else self.merged(word)

    def merged(self, word):
        parts = [*word[:-1], f"{word[-1]}</w>"]
        for left, right in self.bpe_ranks:
            joined = []
            for part in parts:
                joined[-1:] = (
                    [left + right] if joined and joined[-1] == left and part == right else [*joined[-1:], part]
                )
            parts = joined
        return parts

    def __call__(self, texts):
        ids = torch.zeros(len(texts), CONTEXT, dtype=torch.long)
        for row, text in enumerate(texts):
            found = [self.sot_token_id, *(self.encoder[piece] for piece in self.pieces(text)), self.eot_token_id]
            found = found[:CONTEXT]
            found[-1] = self.eot_token_id
            ids[row, : len(found)] = torch.tensor(found)
        return ids


class Model(torch.nn.Module):
    """As open_clip's CLIP: causal text transformer read at the end token."""

    def __init__(self):
        super().__init__()
        self.visual = torch.nn.Conv2d(3, 16, 8, 8)
        self.visual.preprocess_cfg = {"size": (32, 32), "mode": "RGB", "mean": (0.5,) * 3, "std": (0.25,) * 3}
        self.visual.preprocess_cfg |= {"interpolation": "bicubic", "resize_mode": "shortest", "fill_color": 0}
        self.token_embedding = torch.nn.Embedding(200, 16)
        self.positions = torch.nn.Parameter(torch.randn(CONTEXT, 16))
        self.attention = torch.nn.MultiheadAttention(16, 2, batch_first=True)
        self.register_buffer("mask", torch.full((CONTEXT, CONTEXT), float("-inf")).triu(1), persistent=False)
        self.logit_scale = torch.nn.Parameter(torch.tensor(4.0))

    def encode_image(self, image, normalize=False):
        return self.visual(image).mean(dim=(2, 3))

    def encode_text(self, text, normalize=False):
        states = self.token_embedding(text) + self.positions
        states = self.attention(states, states, states, need_weights=False, attn_mask=self.mask)[0]
        return states[torch.arange(text.shape[0]), text.argmax(dim=-1)]


@pytest.fixture
def open_clip(monkeypatch):
    module = ModuleType("open_clip")
    module.tokenizer = BytePairs()
    module.list_pretrained = lambda: [("ViT-B-16", "openai"), ("ViT-B-16", "laion2b"), ("RN50", "openai")]
    module.get_tokenizer = lambda architecture: module.tokenizer
    module.get_model_preprocess_cfg = lambda model: model.visual.preprocess_cfg

    def create_model(architecture, *, pretrained):
        torch.manual_seed(0)
        return Model()

    module.create_model = create_model
    monkeypatch.setitem(sys.modules, "open_clip", module)
    return module


def test_it_encodes_as_open_clip_does(open_clip):
    encoder = load_encoder("open-clip:ViT-B-16/laion2b")
    model = open_clip.create_model("ViT-B-16", pretrained="laion2b").eval()
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    with torch.no_grad():
        images = model.encode_image(torch.from_numpy((pixels / 255 - 0.5) / 0.25).permute(0, 3, 1, 2).float())
        texts = model.encode_text(open_clip.tokenizer(TEXTS))
    np.testing.assert_allclose(encoder.encode_pixels(pixels), images.numpy(), atol=1e-5)
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), texts.numpy(), atol=1e-5)
    assert encoder.logit_scale == pytest.approx(np.exp(4.0))
    again = load_encoder("open-clip:ViT-B-16/laion2b")
    assert (again.image_id, again.text_id) == (encoder.image_id, encoder.text_id)


def test_its_export_needs_no_open_clip(open_clip, tmp_path, monkeypatch):
    encoder = load_encoder("open-clip:ViT-B-16/openai")
    directory = export_encoder("open-clip:ViT-B-16/openai", tmp_path / "out")
    monkeypatch.setitem(sys.modules, "open_clip", None)
    exported = load_encoder(directory)
    np.testing.assert_allclose(exported.encode_texts(TEXTS), encoder.encode_texts(TEXTS), atol=1e-4)


def test_a_tokenizer_that_drops_punctuation_is_exported_so(open_clip, tmp_path):
    plain = BytePairs.__call__
    strip = str.maketrans("", "", "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")

    class Canonical(BytePairs):
        def __call__(self, texts):
            return plain(self, [text.translate(strip) for text in texts])

    open_clip.tokenizer = Canonical()
    exported = load_encoder(export_encoder("open-clip:RN50/openai", tmp_path / "out"))
    np.testing.assert_allclose(*exported.encode_texts(["it's a hat!", "its a hat"]), atol=1e-5)


def test_a_tokenizer_without_translation_works_but_is_not_exported(open_clip, tmp_path):
    class Backwards(BytePairs):
        def pieces(self, text):
            return reversed(list(super().pieces(text)))

    open_clip.tokenizer = Backwards()
    assert load_encoder("open-clip:RN50/openai").encode_texts(["a hat"]).shape == (1, 16)
    with pytest.raises(EncoderError, match=r"cannot be written as a tokenizer\.json"):
        export_encoder("open-clip:RN50/openai", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_unknown_pairs_list_the_known_ones(open_clip):
    with pytest.raises(EncoderError, match="ViT-B-16 has laion2b, openai"):
        load_encoder("open-clip:ViT-B-16/nothing")
    with pytest.raises(EncoderError, match="choose one of RN50, ViT-B-16"):
        load_encoder("open-clip:ViT-Z/openai")
    with pytest.raises(EncoderError, match="ViT-B-16 has"):
        load_encoder("open-clip:ViT-B-16")  # without weights, open_clip would give random ones


def test_a_failed_download_names_the_local_alternatives(open_clip):
    def create_model(architecture, *, pretrained):
        raise RuntimeError("no\nnetwork")

    open_clip.create_model = create_model
    with pytest.raises(EncoderError, match=r"\(no network\). Offline\? Choose the encoder lite"):
        load_encoder("open-clip:RN50/openai")


def test_preprocessing_is_translated_or_refused():
    squash = preprocessing_of({"size": 224, "resize_mode": "squash", "interpolation": "bilinear"}, "x")
    assert (squash.size, squash.resize, squash.interpolation) == (224, None, "bilinear")
    assert squash.mean[0] == pytest.approx(0.48145466)
    for settings in ({"size": (224, 200)}, {"size": 224, "resize_mode": "longest"}):
        with pytest.raises(EncoderError, match="square RGB views"):
            preprocessing_of(settings, "x")
    with pytest.raises(EncoderError, match="got 'sharpen'"):
        preprocessing_of({"size": 224, "sharpen": True}, "x")
    with pytest.raises(EncoderError, match="another way"):
        preprocessing_of({"size": 224, "interpolation": "random"}, "x")


def test_a_wrapped_tokenizer_of_transformers_is_taken_out(open_clip, tiny_clip, tmp_path):
    from transformers import CLIPTokenizer

    wrapped = CLIPTokenizer.from_pretrained(tiny_clip)

    class Wrapper(SimpleNamespace):
        def __call__(self, texts):
            return self.tokenizer(
                texts, return_tensors="pt", max_length=CONTEXT, padding="max_length", truncation=True
            ).input_ids

    open_clip.tokenizer = Wrapper(tokenizer=wrapped, context_length=CONTEXT)
    encoder = load_encoder("open-clip:RN50/openai")
    exported = load_encoder(export_encoder("open-clip:RN50/openai", tmp_path / "out"))
    np.testing.assert_allclose(exported.encode_texts(TEXTS), encoder.encode_texts(TEXTS), atol=1e-4)
