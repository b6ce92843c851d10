"""Models of transformers as torch modules that give plain feature tensors."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from tip_adapter.encoders.pooling import pooled, pooling_of


class ImageTower(nn.Module):
    """The image half, projection included.

    Parameters
    ----------
    model : transformers.CLIPModel or transformers.SiglipModel
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.vision_model = model.vision_model
        self.projection = getattr(model, "visual_projection", nn.Identity())  # SigLIP has none

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Encode (B, 3, S, S) into un-normalised features (B, D)."""
        features: Tensor = self.projection(self.vision_model(pixel_values=pixel_values).pooler_output)
        return features


class VisionTower(nn.Module):
    """A model of photos alone: its pooled output, else what `pooling_of` says.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Such as DINOv2.
    n_patches : int or None
        Of a view.
    """

    def __init__(self, model: Any, n_patches: int | None) -> None:
        super().__init__()
        self.model = model
        self.n_patches = n_patches

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Encode (B, 3, S, S) into un-normalised features (B, D)."""
        found = self.model(pixel_values=pixel_values)
        pooler: Tensor | None = getattr(found, "pooler_output", None)
        if pooler is not None:
            return pooler.flatten(1)
        hidden: Tensor = found.last_hidden_state
        features: Tensor = pooled(hidden, pooling_of(tuple(hidden.shape), self.n_patches))
        return features


class TextTower(nn.Module):
    """The text half, projection included.

    Neither kind of model needs the attention mask: CLIP's attention is causal and ends at the end token, SigLIP was
    trained with its padding in sight.

    Parameters
    ----------
    model : transformers.CLIPModel or transformers.SiglipModel
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.text_model = model.text_model
        self.projection = getattr(model, "text_projection", nn.Identity())

    def forward(self, input_ids: Tensor) -> Tensor:
        """Encode token ids (T, L) into un-normalised features (T, D)."""
        features: Tensor = self.projection(self.text_model(input_ids=input_ids).pooler_output)
        return features

    def embed_tokens(self, input_ids: Tensor) -> Tensor:
        """Look up the input embeddings (T, L, E) of token ids (T, L), without positions."""
        embedded: Tensor = self.text_model.get_input_embeddings()(input_ids)
        return embedded

    def forward_embeddings(self, inputs_embeds: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Encode input embeddings (T, L, E), which prompt tuning may have learned, into features (T, D).

        Shapes: `inputs_embeds` (T, L, E), `input_ids` (T, L), `attention_mask` (T, L) → (T, D).
        """
        # transformers' own forward builds the causal mask and finds the end token, from ids only; so it gets ids, and
        # what it looks up for them is replaced.
        lookup = self.text_model.get_input_embeddings()
        hook = lookup.register_forward_hook(lambda *_: inputs_embeds)
        try:
            return self.forward(input_ids)
        finally:
            hook.remove()
