"""Residuals learned on class prototypes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tip_adapter.methods.heads import LinearHead
from tip_adapter.methods.heads.base import unit, without_text
from tip_adapter.methods.support_set import SupportSet
from tip_adapter.methods.trained.base import text_logits
from tip_adapter.typing import FloatArray

if TYPE_CHECKING:
    import torch

TEXT_NORM = 10.0
"""TaskRes and CLAP change CLIP's *un-normalised* text features, which are about 10 long, and normalise the result;
their learning rates are meant for that length."""


def residual_logits(features: torch.Tensor, residuals: torch.Tensor, support: SupportSet) -> torch.Tensor:
    """Logits ``s·f·norm(W + R)ᵀ``; a class without text gets its zero-shot logit plus ``s·f·Rᵀ``.

    Shapes: `features` (B, D), `residuals` (C, D) → (B, C).
    """
    import torch

    weights = support.zero_shot_weights
    if weights is None:
        return support.logit_scale * features @ residuals.T
    prototypes = torch.nn.functional.normalize(torch.from_numpy(np.nan_to_num(weights)) + residuals, dim=1)
    logits = support.logit_scale * features @ prototypes.T
    missing = torch.from_numpy(without_text(weights))
    if not missing.any():
        return logits
    base = text_logits(features, weights, support.logit_scale, support.n_classes)
    return torch.where(missing, base + support.logit_scale * features @ residuals.T, logits)


def residual_head(residuals: FloatArray, support: SupportSet) -> LinearHead:
    """Give the head of the same formula.

    Shapes: `residuals` (C, D).
    """
    change = residuals.astype(np.float64)
    if support.zero_shot_weights is not None:
        weights = support.zero_shot_weights.astype(np.float64)
        known = ~without_text(weights)
        change[known] = unit(weights[known] + change[known]) - weights[known]
    return LinearHead(
        support.n_classes,
        support.zero_shot_weights,
        support.logit_scale,
        weights=(support.logit_scale * change).astype(np.float32),
    )
