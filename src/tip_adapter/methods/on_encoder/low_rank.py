"""Low-rank changes of the attention of an encoder's towers, trained and merged into the weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from torch.utils.checkpoint import checkpoint

from tip_adapter.encoders.trainable import TrainableEncoder
from tip_adapter.errors import EncoderError
from tip_adapter.methods.on_encoder.photo_views import PhotoViews
from tip_adapter.methods.trained.loop import Schedule, TrainingProgress, TrainingRun, train
from tip_adapter.typing import IntArray, StrPath

ATTENTION = {"q_proj", "k_proj", "v_proj", "query", "key", "value"}
"""What transformers calls the linear layers that make queries, keys and values."""

MOMENTS = (0.9, 0.999)
CHECKPOINT_EVERY_S = 30.0

_IMAGES_PER_RUN = 32
_TEXTS_PER_CHUNK = 64
"""More prompts than this go through the text tower in chunks, each computed twice, so that memory stays bounded."""


class LowRankLinear(nn.Module):
    """A frozen linear layer plus ``scaling · B A dropout(x)``, of which A and B are trained.

    Parameters
    ----------
    linear : torch.nn.Linear
    rank : int
    scaling, dropout : float
    generator : torch.Generator
        Of A; B begins with zeros, so that at first nothing changes.
    """

    def __init__(
        self, linear: nn.Linear, rank: int, scaling: float, dropout: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.linear, self.scaling, self.dropout = linear, scaling, dropout
        bound = 1 / math.sqrt(linear.in_features)
        self.down = nn.Parameter(torch.empty(rank, linear.in_features).uniform_(-bound, bound, generator=generator))
        self.up = nn.Parameter(torch.zeros(linear.out_features, rank))
        self.draws: torch.Generator | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply the changed layer, with dropout on the change while there are draws for it."""
        kept = inputs
        if self.draws is not None and self.dropout > 0:
            mask = torch.rand(inputs.shape, generator=self.draws) >= self.dropout
            kept = inputs * mask / (1 - self.dropout)
        changed: Tensor = self.linear(inputs) + self.scaling * (kept @ self.down.T) @ self.up.T
        return changed

    def merged(self) -> nn.Linear:
        """Give the plain layer that does the same without dropout."""
        with torch.no_grad():
            self.linear.weight += self.scaling * self.up @ self.down
        return self.linear


@dataclass(frozen=True)
class LowRankTowers:
    """A copy of an encoder whose attention is changed.

    Attributes
    ----------
    encoder : TrainableEncoder
    image_layers, text_layers : tuple of LowRankLinear
        Empty for a tower without attention, which stays as it is.
    """

    encoder: TrainableEncoder
    image_layers: tuple[LowRankLinear, ...]
    text_layers: tuple[LowRankLinear, ...]

    @classmethod
    def of(cls, encoder: TrainableEncoder, rank: int, alpha: float, dropout: float, seed: int) -> LowRankTowers:
        """Put low-rank changes beside every query, key and value of both towers."""
        twin = encoder.tunable_copy()
        generator = torch.Generator().manual_seed(seed)
        layers = []
        for tower in (twin.image_tower, twin.text_tower):
            tower.requires_grad_(False)
            found = [(name, module) for name, module in tower.named_modules() if _is_attention(module, name)]
            scaling = alpha / math.sqrt(rank)
            wide = [(name, LowRankLinear(linear, rank, scaling, dropout, generator)) for name, linear in found]
            for name, layer in wide:
                _replace(tower, name, layer)
            layers.append(tuple(layer for _, layer in wide))
        if not any(layers):
            raise EncoderError(
                f"The towers of {encoder.name} have no attention with linear layers named "
                f"{', '.join(sorted(ATTENTION))}, which low-rank changes go beside: choose an encoder of transformers"
            )
        return cls(twin, *layers)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """List what is trained."""
        return [one for layer in (*self.image_layers, *self.text_layers) for one in (layer.down, layer.up)]

    def merge(self) -> TrainableEncoder:
        """Give the encoder with the changes in its weights."""
        for tower in (self.encoder.image_tower, self.encoder.text_tower):
            for name, module in list(tower.named_modules()):
                if isinstance(module, LowRankLinear):
                    _replace(tower, name, module.merged())
        return self.encoder


@dataclass(frozen=True)
class LowRankTask:
    """Photos and prompts to train on.

    Attributes
    ----------
    towers : LowRankTowers
    photos : PhotoViews
        N shots.
    labels : ndarray of shape (N,), integers in [0, C)
    prompts : sequence of C sequences of str
    logit_scale, weight_decay : float
    """

    towers: LowRankTowers
    photos: PhotoViews
    labels: IntArray
    prompts: Sequence[Sequence[str]]
    logit_scale: float
    weight_decay: float

    def train(
        self,
        schedule: Schedule,
        seed: int,
        progress: TrainingProgress | None = None,
        checkpoint: StrPath | None = None,
        describes: Mapping[str, Any] | None = None,
    ) -> TrainingRun:
        """Minimise the cross-entropy of the photos' classes by their prompts.

        A tower without attention does not change, so what it says of the photos is computed once.
        """
        frozen = None if self.towers.image_layers else self._features_of_views()
        known, n_views = torch.from_numpy(self.labels), self.photos.views.shape[1]

        def loss_of(rows: Tensor, generator: torch.Generator) -> Tensor:
            numbers = torch.randint(n_views, rows.shape, generator=generator)
            if frozen is None:
                pixels = torch.from_numpy(self.photos.views[rows.numpy(), numbers.numpy()])
                with _Dropout(self.towers.image_layers, generator):
                    features = normalize(self.towers.encoder.encode_pixels(pixels), dim=1)
            else:
                features = frozen[rows, numbers]
            return cross_entropy(self.logit_scale * features @ self._class_features(generator).T, known[rows])

        optimizer = torch.optim.AdamW(self.towers.parameters, weight_decay=self.weight_decay, betas=MOMENTS)
        return train(
            loss_of,
            optimizer,
            len(self.labels),
            schedule,
            seed=seed,
            progress=progress,
            checkpoint=checkpoint,
            checkpoint_every_s=CHECKPOINT_EVERY_S,
            describes=describes,
        )

    def _class_features(self, generator: torch.Generator) -> Tensor:
        """Unit means (C, D) of the features of every class's prompts."""
        texts = [prompt for row in self.prompts for prompt in row]
        owners = torch.tensor([number for number, row in enumerate(self.prompts) for _ in row])
        parts = []
        for first in range(0, len(texts), _TEXTS_PER_CHUNK):
            chunk = texts[first : first + _TEXTS_PER_CHUNK]
            seed = int(torch.randint(2**31, (1,), generator=generator))
            if len(texts) <= _TEXTS_PER_CHUNK:
                parts.append(self._text_features(chunk, seed))
            else:
                parts.append(checkpoint(self._text_features, chunk, seed, use_reentrant=False))
        features = torch.cat(parts)
        return normalize(features.new_zeros(len(self.prompts), features.shape[1]).index_add(0, owners, features), dim=1)

    def _text_features(self, texts: list[str], seed: int) -> Tensor:
        # A seed, not a generator: what is computed twice has to drop the same.
        with _Dropout(self.towers.text_layers, torch.Generator().manual_seed(seed)):
            return normalize(self.towers.encoder.encode_texts(texts), dim=1)

    def _features_of_views(self) -> Tensor:
        """Unit rows (N, V, D) of a tower that stays as it is."""
        pixels = torch.from_numpy(np.ascontiguousarray(self.photos.views.reshape(-1, *self.photos.views.shape[2:])))
        with torch.no_grad():
            parts = [self.towers.encoder.encode_pixels(part) for part in torch.split(pixels, _IMAGES_PER_RUN)]
        return normalize(torch.cat(parts), dim=1).reshape(*self.photos.views.shape[:2], -1)


class _Dropout:
    """Give layers draws for their dropout, within a `with`."""

    def __init__(self, layers: Sequence[LowRankLinear], generator: torch.Generator) -> None:
        self.layers, self.generator = layers, generator

    def __enter__(self) -> None:
        for layer in self.layers:
            layer.draws = self.generator

    def __exit__(self, *error: object) -> None:
        for layer in self.layers:
            layer.draws = None


def _is_attention(module: nn.Module, name: str) -> TypeGuard[nn.Linear]:
    return name.rpartition(".")[2] in ATTENTION and isinstance(module, nn.Linear)


def _replace(tower: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(tower.get_submodule(parent), last, layer)
