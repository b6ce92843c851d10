"""The towers of `lite-fast` as torch modules, for training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tip_adapter.encoders.lite import LITE_LOGIT_SCALE, graphs, preprocessing_of, sources
from tip_adapter.encoders.lite.folded import folded_features
from tip_adapter.encoders.torch_encoder import TorchEncoder
from tip_adapter.libraries import require_extra

_KEY_DIM = 384


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
        affinity = torch.softmax(graphs.SHARPNESS * sentences @ self.keys.T, dim=1)
        return nn.functional.normalize(affinity @ self.values, dim=1)


def embed_sentences(language_model: nn.Module, inputs_embeds: Tensor, attention_mask: Tensor) -> Tensor:
    """Return unit sentence embeddings (T, 384): the mean of the last hidden states over the tokens of the mask."""
    hidden = language_model(inputs_embeds=inputs_embeds, attention_mask=attention_mask).last_hidden_state
    weights = attention_mask.unsqueeze(-1).to(hidden.dtype)
    return nn.functional.normalize((hidden * weights).sum(dim=1) / weights.sum(dim=1), dim=1)


def load_lite_torch() -> TorchEncoder:
    """Return `lite-fast` on torch, with the same features as on ONNX Runtime within rounding."""
    rows = graphs.class_rows(sources.image_weights(0))
    keys, values = (torch.from_numpy(array) for array in (sources.keys(), rows))
    return TorchEncoder(
        "lite-fast",
        LiteImageTower(load_network(0)),
        LiteTextTower(_language_model(), keys, values),
        sources.tokenizer(),
        preprocessing_of(0),
        logit_scale=LITE_LOGIT_SCALE,
        text_inputs=("input_ids", "attention_mask"),
    )


def load_network(number: int) -> Any:
    """Return EfficientNet-Lite0, 1 or 2 as a torch module."""
    architecture = require_extra("efficientnet_lite_pytorch", "torch")
    network = architecture.EfficientNet.from_name(f"efficientnet-lite{number}")  # from_pretrained would download
    state = network.state_dict()
    for name, flat in sources.image_weights(number).items():
        shape = state[name].shape
        # TensorFlow's order of axes: (height, width, in, out), and (in, out).
        stored = torch.from_numpy(flat).reshape(*shape[2:], *shape[:2][::-1])
        state[name] = stored.permute(3, 2, 0, 1) if len(shape) == 4 else stored.T if len(shape) == 2 else stored
    network.load_state_dict(state)
    return network.eval()


def _language_model() -> Any:
    """Return the BERT of all-MiniLM-L6-v2."""
    transformers = require_extra("transformers", "torch")
    # Plain attention, so that a trace for ONNX keeps the mask for every length.
    config = transformers.BertConfig(
        hidden_size=_KEY_DIM, num_hidden_layers=6, intermediate_size=4 * _KEY_DIM, attn_implementation="eager"
    )
    model = transformers.BertModel(config, add_pooling_layer=False)
    weights = sources.text_weights()
    model.load_state_dict({name: torch.from_numpy(weights[name]) for name in model.state_dict()})
    return model.eval()
