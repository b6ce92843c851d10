"""Tiny models with random weights in the true file formats, and `lite` prepared once."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tip_adapter.encoders import export_encoder
from tip_adapter.locations import CACHE_VARIABLE

SIZE = 32
START, END = "<|startoftext|>", "<|endoftext|>"
CONTEXT = 24
LAYERS = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}


@pytest.fixture(scope="session", autouse=True)
def encoder_cache(tmp_path_factory: pytest.TempPathFactory):
    """Keep all that these tests prepare out of the user's own cache folder."""
    folder = tmp_path_factory.mktemp("cache")
    former = os.environ.get(CACHE_VARIABLE)
    os.environ[CACHE_VARIABLE] = str(folder)
    yield folder
    if former is None:
        del os.environ[CACHE_VARIABLE]
    else:
        os.environ[CACHE_VARIABLE] = former


@pytest.fixture(scope="session")
def prepared_lite(encoder_cache: Path) -> Path:
    """Directory of `lite`, prepared in half a minute for all tests of a run."""
    pytest.importorskip("efficientnet_lite_pytorch", reason="the extra lite is not installed")
    from tip_adapter.encoders.lite import prepare_lite

    return prepare_lite()


def write_tokenizer(folder: Path) -> dict[str, int]:
    from transformers import CLIPTokenizer

    letters = [chr(code) for code in range(33, 127)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "h a", "ha", "hat</w>", START, END]
    vocab = {token: index for index, token in enumerate(tokens) if " " not in token}
    vocab = {token: index for index, token in enumerate(vocab)}
    tokenizer = CLIPTokenizer(vocab, [("h", "a"), ("ha", "t</w>")], model_max_length=CONTEXT)
    tokenizer.save_pretrained(folder)
    return vocab


def write_preprocessor(folder: Path, **settings: object) -> None:
    config = {"resample": 3, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.25], **settings}
    (folder / "preprocessor_config.json").write_text(json.dumps(config))


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a CLIP with random weights, as `save_pretrained` writes it."""
    torch = pytest.importorskip("torch", reason="the extra torch is not installed")
    from transformers import CLIPConfig, CLIPModel

    folder = tmp_path_factory.mktemp("models") / "tiny clip"
    folder.mkdir()
    vocab = write_tokenizer(folder)
    ids = {"bos_token_id": vocab[START], "eos_token_id": vocab[END], "pad_token_id": vocab[END]}
    text = {**LAYERS, "vocab_size": len(vocab), "max_position_embeddings": CONTEXT, **ids}
    vision = {**LAYERS, "image_size": SIZE, "patch_size": 8}
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16, logit_scale_init_value=3.0))
    model.save_pretrained(folder)
    crop = {"height": SIZE, "width": SIZE}
    write_preprocessor(folder, size={"shortest_edge": SIZE}, do_center_crop=True, crop_size=crop)
    return folder


@pytest.fixture(scope="session")
def tiny_siglip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a SigLIP with random weights and a CLIP's tokenizer."""
    torch = pytest.importorskip("torch", reason="the extra torch is not installed")
    from transformers import SiglipConfig, SiglipModel

    folder = tmp_path_factory.mktemp("models") / "tiny-siglip"
    folder.mkdir()
    vocab = write_tokenizer(folder)
    text = {**LAYERS, "vocab_size": len(vocab), "max_position_embeddings": CONTEXT}
    torch.manual_seed(0)
    config = SiglipConfig(text_config=text, vision_config={**LAYERS, "image_size": SIZE, "patch_size": 8})
    SiglipModel(config).save_pretrained(folder)
    write_preprocessor(folder, size={"height": SIZE, "width": SIZE})
    return folder


@pytest.fixture(scope="session")
def clip_onnx(tiny_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny CLIP exported as an ONNX directory."""
    return export_encoder(f"huggingface:{tiny_clip}", tmp_path_factory.mktemp("exported") / "clip")
