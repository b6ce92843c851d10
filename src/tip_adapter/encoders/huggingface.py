"""Load CLIPs, SigLIPs and vision models of Hugging Face as encoders on torch."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tip_adapter.data.preprocessing import Preprocessing
from tip_adapter.encoders.hub import HubPlace, cached, fetch, not_here
from tip_adapter.encoders.layout import read_config, usual_text_settings
from tip_adapter.encoders.open_clip_config import CLIP_LOGIT_SCALE
from tip_adapter.encoders.tokenizer import TextTokenizer
from tip_adapter.encoders.torch_encoder import TorchEncoder, quiet_transformers
from tip_adapter.errors import EncoderError
from tip_adapter.libraries import import_library, require_extra
from tip_adapter.storage.escaping import reason_of

_MODEL_TYPES = ("clip", "siglip")
_SMALL_FILES = ("*.json", "merges.txt", "vocab.txt", "*.model")
_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")  # the second only where there is none of the first


def load_huggingface(name: str, *, logit_scale: float | None = None, download: bool = True) -> TorchEncoder:
    """Load a CLIP, a SigLIP, or a model of photos alone (DINO, ViT, ConvNeXT …) with transformers."""
    for module in ("torch", "transformers"):
        require_extra(module, "torch")
    directory = _directory_of(name, download)
    config = read_config(directory / "config.json")
    reads_texts = config.get("model_type") in _MODEL_TYPES
    if not reads_texts and not _looks_at_photos_alone(config):
        kinds = ", ".join(_MODEL_TYPES)
        raise EncoderError(
            f"Expected {name} to be a model of type {kinds}, or one of photos alone, got {config.get('model_type')!r}"
        )
    preprocessing = Preprocessing.from_preprocessor_config(read_config(directory / "preprocessor_config.json"))
    from tip_adapter.encoders.huggingface_towers import ImageTower, TextTower, VisionTower

    if not reads_texts:
        tower = VisionTower(_load_model(directory, name), _patches(config, preprocessing.size))
        scale = CLIP_LOGIT_SCALE if logit_scale is None else logit_scale
        return TorchEncoder(name, tower, None, None, preprocessing, logit_scale=scale, config=config)
    model, tokenizer_json = _load_model(directory, name), _read_tokenizer(directory, name)
    settings = usual_text_settings(directory, config)
    return TorchEncoder(
        name,
        ImageTower(model),
        TextTower(model),
        TextTokenizer(tokenizer_json, settings, source=f"the tokenizer of {name}"),
        preprocessing,
        logit_scale=math.exp(float(model.logit_scale.detach())) if logit_scale is None else logit_scale,
        config=config,
    )


def _directory_of(name: str, download: bool) -> Path:
    source = name.removeprefix("huggingface:")
    directory = Path(os.path.expanduser(source))
    if os.path.isdir(directory):
        return directory
    if directory.is_absolute() or source.startswith((".", "~")):
        raise EncoderError(f"Expected a folder with a model at {source}, found none: check the path")
    place = HubPlace.parse(source)
    if whole := cached(place, (*_SMALL_FILES, *_WEIGHTS), _has_weights):
        return whole
    if not download:
        raise not_here(name)
    for weights in _WEIGHTS:
        directory = fetch(place, (*_SMALL_FILES, weights))
        if _has_weights(directory):
            return directory
    raise EncoderError(f"Expected {source} to have weights for torch, found neither {' nor '.join(_WEIGHTS)}")


def _has_weights(directory: Path) -> bool:
    return any(any(directory.glob(pattern)) for pattern in _WEIGHTS)


def _looks_at_photos_alone(config: Mapping[str, Any]) -> bool:
    return "text_config" not in config and "vocab_size" not in config and isinstance(config.get("model_type"), str)


def _patches(config: Mapping[str, Any], size: int) -> int | None:
    patch = config.get("patch_size")
    return (size // patch) ** 2 if isinstance(patch, int) and patch > 0 else None


def _load_model(directory: Path, name: str) -> Any:
    import torch

    transformers = import_library("transformers")
    try:
        with quiet_transformers():
            model, report = transformers.AutoModel.from_pretrained(
                directory,
                local_files_only=True,
                dtype=torch.float32,
                attn_implementation="eager",
                output_loading_info=True,
            )
    except Exception as error:  # of damaged files: OSError, ValueError, KeyError, SafetensorError …
        reason = reason_of(error)
        raise EncoderError(f"Could not load {name} with transformers: {reason}") from error
    # transformers would go on with random numbers; a pooler that was not saved is one that nobody uses.
    lacking = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if len(lacking) < len(report["missing_keys"]):
        model.pooler = None
    if lacking:
        missing = ", ".join(lacking[:3])
        raise EncoderError(
            f"Expected the weights of {name} to be complete, but {missing} … are missing: fetch it again"
        )
    return model.eval()


def _read_tokenizer(directory: Path, name: str) -> str:
    try:
        with quiet_transformers():
            return _tokenizer_json(directory)
    except Exception as error:  # as above
        raise EncoderError(f"Could not load the tokenizer of {name}: {reason_of(error)}") from error


def _tokenizer_json(directory: Path) -> str:
    path = directory / "tokenizer.json"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    # Older repositories of CLIP have vocab.json and merges.txt only.
    tokenizer = import_library("transformers").AutoTokenizer.from_pretrained(directory, local_files_only=True)
    return str(tokenizer.backend_tokenizer.to_str())
