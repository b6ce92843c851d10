"""Load an encoder's towers as torch modules that gradients flow through."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from tip_adapter.data.preprocessing import Preprocessing
from tip_adapter.encoders.base import Encoder
from tip_adapter.encoders.tokenizer import Tokenizer
from tip_adapter.encoders.torch_encoder import TorchEncoder
from tip_adapter.errors import EncoderError
from tip_adapter.libraries import require_extra
from tip_adapter.typing import StrPath

if TYPE_CHECKING:
    import torch

_WHAT_WORKS = "lite-fast, huggingface:owner/name, or huggingface:/a/folder"


@runtime_checkable
class PromptTower(Protocol):
    """A text tower that also takes input embeddings, which prompt tuning learns, in the place of token ids."""

    def embed_tokens(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Look up the input embeddings (T, L, E) of token ids (T, L)."""
        ...

    def forward_embeddings(
        self, inputs_embeds: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> torch.Tensor:
        """Encode input embeddings (T, L, E) into features (T, D); the ids only tell where a text ends."""
        ...


class TrainableEncoder:
    """Both towers of an encoder on torch, with gradients: what prompt tuning and full fine-tuning work on.

    Its features are those of the regular encoder of the same name, within rounding. Nothing is trainable at first;
    `tunable_copy` gives towers to change.

    Parameters
    ----------
    encoder : TorchEncoder

    Attributes
    ----------
    name, image_id, text_id, dim, logit_scale, preprocessing
        As of `Encoder`.
    image_tower, text_tower : torch.nn.Module
        In evaluation mode, batch normalisation included: its statistics are those of the pretraining.
    tokenizer : Tokenizer
    """

    def __init__(self, encoder: TorchEncoder) -> None:
        if encoder.text_tower is None or encoder.tokenizer is None:
            raise EncoderError(
                f"The encoder {encoder.name} has no text tower, which training needs: choose {_WHAT_WORKS}"
            )
        self._encoder, self._text_tower, self._tokenizer = encoder, encoder.text_tower, encoder.tokenizer
        for tower in (encoder.image_tower, encoder.text_tower):
            tower.requires_grad_(False)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} dim={self.dim}>"

    @property
    def name(self) -> str:
        """What `load_trainable_encoder` was asked for."""
        return self._encoder.name

    @property
    def image_id(self) -> str:
        """Identity of the features of photos."""
        return self._encoder.image_id

    @property
    def text_id(self) -> str:
        """Identity of the features of texts."""
        return self._encoder.text_id

    @property
    def dim(self) -> int:
        """D, the length of a feature."""
        return self._encoder.dim

    @property
    def logit_scale(self) -> float:
        """What cosine similarities are multiplied by."""
        return self._encoder.logit_scale

    @property
    def preprocessing(self) -> Preprocessing:
        """How photos become views."""
        return self._encoder.preprocessing

    @property
    def tokenizer(self) -> Tokenizer:
        """How texts become token ids."""
        return self._tokenizer

    @property
    def image_tower(self) -> torch.nn.Module:
        """Views to features."""
        return self._encoder.image_tower

    @property
    def text_tower(self) -> torch.nn.Module:
        """Token ids to features."""
        return self._text_tower

    @property
    def prompt_tower(self) -> PromptTower:
        """The text tower, as one that takes input embeddings."""
        tower = self.text_tower
        if not isinstance(tower, PromptTower):
            raise EncoderError(f"The text tower of {self.name} takes no input embeddings: choose {_WHAT_WORKS}")
        return tower

    def encode_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """Encode views with gradients.

        Shapes: `pixels` (B, S, S, 3) → (B, D).
        """
        import torch

        mean, std = (
            torch.tensor(values, dtype=torch.float64) for values in (self.preprocessing.mean, self.preprocessing.std)
        )
        # The permuted view is in channels-last order already, which convolutions on a CPU are fastest with.
        inputs = (pixels.float() * (1 / (255 * std)).float() - (mean / std).float()).permute(0, 3, 1, 2)
        features: torch.Tensor = self.image_tower(inputs)
        return features

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Encode T texts with gradients into features (T, D), not normalised."""
        features: torch.Tensor = self.text_tower(*self._encoder.text_arguments(texts))
        return features

    def tunable_copy(self) -> TrainableEncoder:
        """Copy both towers; in the copy, all parameters are trainable."""
        twin = TrainableEncoder(copy.deepcopy(self._encoder))
        for tower in (twin.image_tower, twin.text_tower):
            tower.requires_grad_(True)
        # Weights of convolutions in the order of the pixels save a conversion in every layer of every step.
        import torch

        twin.image_tower.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return twin

    def trainable_parameters(self) -> list[torch.nn.Parameter]:
        """List the parameters that are trainable and that features depend on; a classifier head left over is not."""
        import torch

        tried = [
            parameter
            for tower in (self.image_tower, self.text_tower)
            for parameter in tower.parameters()
            if parameter.requires_grad
        ]
        if not tried:
            return []
        size = self.preprocessing.size
        features = self.encode_pixels(torch.zeros(1, size, size, 3, dtype=torch.uint8)), self.encode_texts(["a"])
        total = torch.cat(features).sum()
        gradients = torch.autograd.grad(total, tried, allow_unused=True)
        return [parameter for parameter, gradient in zip(tried, gradients, strict=True) if gradient is not None]

    def as_encoder(self, name: str) -> TorchEncoder:
        """Give what the towers are now as a regular encoder, with the identity of its weights."""
        source = self._encoder
        return TorchEncoder(
            name,
            source.image_tower,
            source.text_tower,
            source.tokenizer,
            source.preprocessing,
            logit_scale=source.logit_scale,
            text_inputs=source.text_inputs,
            architecture=source.architecture,
            config=source.config,
        )


def load_trainable_encoder(encoder: StrPath | Encoder | TrainableEncoder) -> TrainableEncoder:
    """Load the towers of an encoder on torch, so that gradients flow through them.

    Parameters
    ----------
    encoder : str, path, Encoder or TrainableEncoder
        ``lite-fast``; ``huggingface:`` and a repository or a folder. An encoder stands for its name, if it is one of
        these.

    Examples
    --------
    >>> from tip_adapter.encoders.trainable import load_trainable_encoder
    >>> load_trainable_encoder("fake")
    Traceback (most recent call last):
    tip_adapter.errors.EncoderError: The encoder fake gives no gradients, which training it or its prompts needs: ...
    """
    if isinstance(encoder, TrainableEncoder):
        return encoder
    if not isinstance(encoder, str | os.PathLike):
        return _from_encoder(encoder)
    name = os.fspath(encoder)
    if name == "lite-fast":
        for module in ("torch", "transformers", "efficientnet_lite_pytorch"):
            require_extra(module, "torch")
        from tip_adapter.encoders.lite.torch_towers import load_lite_torch

        return TrainableEncoder(load_lite_torch())
    if name.startswith("huggingface:"):
        from tip_adapter.encoders.huggingface import load_huggingface

        return TrainableEncoder(load_huggingface(name))
    raise _no_gradients(name)


def _from_encoder(encoder: Encoder) -> TrainableEncoder:
    if isinstance(encoder, TorchEncoder):
        return TrainableEncoder(copy.deepcopy(encoder))  # what is done to the towers is done to a copy
    if encoder.name != "lite-fast":
        raise _no_gradients(encoder.name)
    from tip_adapter.encoders.parity import check_parity

    trainable = load_trainable_encoder(encoder.name)
    check_parity(trainable._encoder, encoder, "it is not the one that the installed packages bring")
    return trainable


def _no_gradients(name: str) -> EncoderError:
    return EncoderError(
        f"The encoder {name} gives no gradients, which training it or its prompts needs: choose {_WHAT_WORKS}"
    )
