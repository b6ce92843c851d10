"""Tiny models with random weights in the true file formats."""

from __future__ import annotations

import json
from pathlib import Path

SIZE = 32
START, END = "<|startoftext|>", "<|endoftext|>"
CONTEXT = 24
LAYERS = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}


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


def write_clip(folder: Path) -> Path:
    """Write a CLIP with random weights, as `save_pretrained` does."""
    import torch
    from transformers import CLIPConfig, CLIPModel

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
