"""Pool an image tower's token features into one feature."""

from __future__ import annotations

from typing import Any

FIRST_TOKEN, MEAN_OF_TOKENS, MEAN_OF_PLACES = "first token", "mean of tokens", "mean of places"


def pooling_of(shape: tuple[int, ...], n_patches: int | None) -> str:
    """Tell how features are pooled.

    The class token, which stands first, sums up a view in the DINO family and in other vision transformers; without
    one, the mean over all patches does, and over all places of a network of convolutions.

    Examples
    --------
    >>> from tip_adapter.encoders.pooling import pooling_of
    >>> pooling_of((1, 257, 384), 256), pooling_of((1, 49, 768), None), pooling_of((1, 512), None)
    ('first token', 'mean of tokens', '')
    """
    if len(shape) == 4:
        return MEAN_OF_PLACES
    if len(shape) != 3:
        return ""
    tokens = shape[1]
    only_patches = tokens == n_patches if n_patches is not None else round(tokens**0.5) ** 2 == tokens
    return MEAN_OF_TOKENS if only_patches else FIRST_TOKEN


def pooled(features: Any, pooling: str) -> Any:
    """Pool arrays, or torch's tensors, by one of the rules."""
    if pooling == FIRST_TOKEN:
        return features[:, 0]
    if pooling == MEAN_OF_TOKENS:
        return features.mean(1)
    return features.mean((2, 3)) if pooling == MEAN_OF_PLACES else features
