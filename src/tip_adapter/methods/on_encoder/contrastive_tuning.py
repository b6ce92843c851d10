"""Tune both towers of an encoder to match photos and their captions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter.methods.on_encoder.photo_views import PhotoRows
from tip_adapter.methods.trained.loop import Schedule, TrainingProgress, TrainingRun, train
from tip_adapter.typing import Float32Array, IntArray, StrPath

if TYPE_CHECKING:
    import torch

    from tip_adapter.encoders.trainable import TrainableEncoder

CHECKPOINT_EVERY_S = 30.0
"""A checkpoint of both towers and their moments takes a second to write, as long as an epoch of few shots."""

_IMAGES_PER_RUN = 32


def contrastive_loss(
    image_features: torch.Tensor, text_features: torch.Tensor, captions: torch.Tensor, logit_scale: float
) -> torch.Tensor:
    r"""Contrastive loss of CLIP's pretraining, which FLYP fine-tunes with.

    With f images and t their captions, both B unit rows, and s the logit scale:
    :math:`-\\frac{1}{2B}\\sum_i \\big(\\log\\frac{e^{s f_i t_i}}{\\sum_j e^{s f_i t_j}} +
    \\log\\frac{e^{s f_i t_i}}{\\sum_j e^{s f_j t_i}}\\big)`. Other images of the same class count as negatives, as in
    FLYP: where they share their caption, the best that can be reached is an equal share for each of them.

    Shapes: `image_features` (B, D), `text_features` (U, D), `captions` (B,).

    References
    ----------
    Goyal et al., "Finetune like you pretrain: Improved finetuning of zero-shot vision models", CVPR 2023, equation 2.

    Examples
    --------
    >>> import torch
    >>> from tip_adapter.methods.on_encoder.contrastive_tuning import contrastive_loss
    >>> round(contrastive_loss(torch.eye(2), torch.eye(2), torch.tensor([0, 1]), 1.0).item(), 4)
    0.3133
    """
    import torch
    from torch.nn.functional import cross_entropy

    logits = logit_scale * (image_features @ text_features.T)[:, captions]
    own = torch.arange(len(logits))
    return (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2


@dataclass(frozen=True)
class TunedTowers:
    """A tuned encoder, and where its parameters came from and went.

    Attributes
    ----------
    encoder : TrainableEncoder
        With the parameters of the end of the training, until `average` sets others.
    parameters : list of torch.nn.Parameter
        Those that were tuned.
    start, end : list of torch.Tensor
        Their values before and after: θ₀ and θ₁.
    run : TrainingRun
    """

    encoder: TrainableEncoder
    parameters: list[torch.nn.Parameter]
    start: list[torch.Tensor]
    end: list[torch.Tensor]
    run: TrainingRun

    def average(self, wise_weight: float) -> None:
        """Set every parameter to ``(1 - w)·θ₀ + w·θ₁``, WiSE-FT's average in the space of weights.

        References
        ----------
        Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022, equation 1.
        """
        for parameter, start, end in zip(self.parameters, self.start, self.end, strict=True):
            parameter.data.copy_(end if wise_weight == 1 else start.lerp(end, wise_weight))


def tune(
    encoder: TrainableEncoder,
    photos: PhotoRows,
    labels: IntArray,
    captions: Sequence[Sequence[str]],
    schedule: Schedule,
    *,
    logit_scale: float,
    weight_decay: float,
    seed: int,
    final: bool = True,
    progress: TrainingProgress | None = None,
    checkpoint: StrPath | None = None,
    describes: Mapping[str, Any] | None = None,
) -> TunedTowers:
    """Tune a copy of both towers with AdamW.

    Every step draws a view of each photo of its batch, and one caption for each class in it. With `final`, Ctrl-C keeps
    what the last finished epoch reached. The rest is as in `train`.

    Shapes: `labels` (N,), `captions` C sequences.
    """
    import torch
    from torch.nn.functional import normalize

    twin = encoder.tunable_copy()
    parameters = twin.trainable_parameters()
    start = [parameter.detach().clone() for parameter in parameters]
    n_views = photos.photos.views.shape[1]

    def loss_of(rows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        numbers = torch.randint(n_views, rows.shape, generator=generator)
        pixels = torch.from_numpy(photos.drawn(rows.tolist(), numbers.tolist()))
        present, which = np.unique(labels[rows.numpy()], return_inverse=True)
        draws = torch.rand(len(present), generator=generator).tolist()
        texts = [captions[c][int(draw * len(captions[c]))] for c, draw in zip(present, draws, strict=True)]
        image_features, text_features = twin.encode_pixels(pixels), twin.encode_texts(texts)
        return contrastive_loss(
            normalize(image_features, dim=1), normalize(text_features, dim=1), torch.from_numpy(which), logit_scale
        )

    optimizer = torch.optim.AdamW(parameters, weight_decay=weight_decay, fused=True)
    run = train(
        loss_of,
        optimizer,
        len(photos),
        schedule,
        seed=seed,
        keep_interrupted=final,
        progress=progress,
        checkpoint=checkpoint,
        checkpoint_every_s=CHECKPOINT_EVERY_S,
        describes=describes,
    )
    for parameter in parameters:
        parameter.grad = None  # as large as the towers, and of no more use
    end = [parameter.detach().clone() for parameter in parameters]
    return TunedTowers(twin, parameters, start, end, run)


def class_logits(
    encoder: TrainableEncoder, photos: PhotoRows, captions: Sequence[Sequence[str]], logit_scale: float
) -> Float32Array:
    """Zero-shot logits of the middles of photos, the towers being what they are now.

    Shapes: → (N, C).
    """
    import torch
    from torch.nn.functional import normalize

    with torch.no_grad():
        means = [normalize(encoder.encode_texts(list(texts)), dim=1).mean(dim=0) for texts in captions]
        weights = normalize(torch.stack(means), dim=1)
        rows = []
        for first in range(0, len(photos), _IMAGES_PER_RUN):
            pixels = torch.from_numpy(photos.centers(slice(first, first + _IMAGES_PER_RUN)))
            rows.append(normalize(encoder.encode_pixels(pixels), dim=1) @ weights.T)
    return np.asarray(logit_scale * torch.cat(rows).numpy(), dtype=np.float32)
