"""A CLIP of the size of ViT-B/32 with random weights, as a folder of transformers and as ONNX towers: for timings."""

from __future__ import annotations

import json
from pathlib import Path

from tip_adapter.encoders import export_encoder
from tip_adapter.libraries import import_library

START, END = "<|startoftext|>", "<|endoftext|>"
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def random_clip(folder: Path) -> tuple[Path, Path]:
    """Make both in `folder`, unless they are there: the torch model, and its ONNX towers."""
    model, towers = folder / "torch", folder / "onnx-towers"
    if not towers.is_dir():
        model.mkdir(parents=True, exist_ok=True)
        _write_model(model)
        export_encoder(f"huggingface:{model}", towers)
    return model, towers


def _write_model(folder: Path) -> None:
    import torch

    transformers = import_library("transformers")
    vocabulary = _write_tokenizer(folder)
    ids = {"bos_token_id": vocabulary[START], "eos_token_id": vocabulary[END], "pad_token_id": vocabulary[END]}
    torch.manual_seed(0)
    # All sizes but the vocabulary's are the defaults of transformers, which are those of ViT-B/32.
    config = transformers.CLIPConfig(text_config={"vocab_size": len(vocabulary), **ids}, logit_scale_init_value=4.6052)
    transformers.CLIPModel(config).save_pretrained(folder)
    side = {"height": 224, "width": 224}
    settings = {"size": {"shortest_edge": 224}, "do_center_crop": True, "crop_size": side, "resample": 3}
    content = settings | {"image_mean": MEAN, "image_std": STD}
    (folder / "preprocessor_config.json").write_text(json.dumps(content), encoding="utf-8")


def _write_tokenizer(folder: Path) -> dict[str, int]:
    """Letters alone: enough to turn any text into some tokens."""
    letters = [chr(code) for code in range(33, 127)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), START, END]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    import_library("transformers").CLIPTokenizer(vocabulary, [], model_max_length=77).save_pretrained(folder)
    return vocabulary
