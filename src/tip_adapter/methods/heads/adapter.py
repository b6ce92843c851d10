"""A head with a small network before the zero-shot classifier."""

from __future__ import annotations

import dataclasses

import numpy as np

from tip_adapter.methods.heads.base import TextHead, unit
from tip_adapter.typing import Float32Array


@dataclasses.dataclass(frozen=True)
class AdapterHead(TextHead):
    """CLIP-Adapter's formula: ``s·norm(r·ReLU(ReLU(f·A₁ᵀ)·A₂ᵀ) + (1-r)·f)·Wᵀ``.

    Parameters
    ----------
    down : ndarray of shape (H, D), float32
        A₁.
    up : ndarray of shape (D, H), float32
        A₂.
    ratio : float
        r, between 0 (zero-shot) and 1.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.heads import AdapterHead
    >>> eye = np.eye(2, dtype=np.float32)
    >>> AdapterHead(2, eye, 10.0, down=eye[:1], up=eye[:, :1], ratio=0.5).logits(eye)
    array([[10.,  0.],
           [ 0., 10.]], dtype=float32)
    """

    down: Float32Array
    up: Float32Array
    ratio: float

    def logits(self, features: Float32Array) -> Float32Array:
        """Logits (B, C) of unit features (B, D)."""
        adapted = np.float32(self.ratio) * np.maximum(np.maximum(features @ self.down.T, 0) @ self.up.T, 0)
        adapted += np.float32(1 - self.ratio) * features
        return self.zero_shot_logits(unit(adapted))
