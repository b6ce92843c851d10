"""The two towers of an open_clip model as torch modules."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class ImageTower(nn.Module):
    """The image half.

    Parameters
    ----------
    model : torch.nn.Module
        With ``encode_image``.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Encode (B, 3, S, S) into un-normalised features (B, D)."""
        features: Tensor = self.model.encode_image(pixel_values)
        return features


class TextTower(nn.Module):
    """The text half.

    Parameters
    ----------
    model : torch.nn.Module
        With ``encode_text``.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> Tensor:
        """Encode token ids (T, context length) into un-normalised features (T, D)."""
        features: Tensor = self.model.encode_text(input_ids)
        return features
