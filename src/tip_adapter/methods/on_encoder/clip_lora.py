"""CLIP-LoRA: low-rank changes of the attention of both towers, trained on photos and prompts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Literal

import numpy as np

from tip_adapter.encoders.trainable import TrainableEncoder
from tip_adapter.errors import InputError
from tip_adapter.methods.on_encoder.encoder_tuning import EncoderTuning, LabelledPhotos
from tip_adapter.methods.on_encoder.photo_views import cut_views
from tip_adapter.methods.support_set import FitCall
from tip_adapter.methods.trained.loop import Schedule, checked_seed

ITERATIONS_PER_SHOT = 500


class CLIPLoRA(EncoderTuning):
    """CLIP-LoRA, ``s·f·Wᵀ`` with f and W from towers whose queries, keys and values are changed by ``B·A`` of low rank.

    All other parameters stay. Like full fine-tuning it takes *photos*, not features, and gives an encoder: the changes
    are merged into the weights, and `export_encoder` writes them as an ONNX directory for `ImageClassifier`. A tower
    without attention, such as the image tower of `lite-fast`, stays as it is.

    Parameters
    ----------
    zero_shot_weights : array-like of shape (C, D), optional
        Only their number matters: the tuned towers compute their own.
    class_names : sequence of str, optional
        Names of the classes.
    templates : str or sequence of str, default="photo"
        What makes prompts of texts; the paper trains with one, and with more a step takes longer.
    rank : int, default=2
        Of B·A.
    alpha : float, default=1.0
        α; the change is ``α/√rank · B·A``, as in the official code.
    dropout : float, default=0.25
        Share of the inputs of A that a step leaves out.
    learning_rate : float, default=2e-4
        Of AdamW, a cosine from it to 0.
    iterations : int or "auto", default="auto"
        Steps, rounded up to whole epochs. "auto" is the paper's 500 times the shots per class.
    batch_size : int, default=32
        Shots per step.
    weight_decay : float, default=0.01
        Of AdamW.
    views : int, default=8
        Random crops cut of each photo, one of which is drawn in an epoch.
    logit_scale : float, optional
        s; by default the encoder's own. It is not trained.
    random_state : int, generator or None, default=0
        Seed of views, A, dropout and the order of photos.

    Attributes
    ----------
    encoder_ : TorchEncoder
        The tuned encoder, its changes merged.
    head_ : LinearHead
        Zero-shot weights of its text tower.
    training_ : TrainingRun
        Loss of every epoch, and whether Ctrl-C ended it early: the last finished epoch is kept then.
    trainable_parameters_ : int

    Notes
    -----
    Nothing is chosen, so a validation set makes no difference. The cosine ends at 0, in the official code at 1e-6. The
    recipe is meant for CLIP on a graphics card: a step takes a pass through both towers forth and back, of which there
    are 8,000 at 16 shots.

    References
    ----------
    Zanella and Ben Ayed, "Low-Rank Few-Shot Adaptation of Vision-Language Models", CVPR Workshops 2024, section 4.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods import CLIPLoRA
    >>> photos = [np.full((40, 40, 3), shade, dtype=np.uint8) for shade in (30, 220)]
    >>> CLIPLoRA().fit(photos, ["night", "day"], encoder="fake")
    Traceback (most recent call last):
    tip_adapter.errors.EncoderError: The encoder fake gives no gradients, which training it or its prompts needs: ...
    """

    templates: str | Sequence[str] = "photo"
    rank: int = 2
    alpha: float = 1.0
    dropout: float = 0.25
    learning_rate: float = 2e-4
    iterations: int | Literal["auto"] = "auto"
    batch_size: int = 32
    weight_decay: float = 0.01
    views: int = 8

    def _tune(
        self, encoder: TrainableEncoder, shots: LabelledPhotos, apart: LabelledPhotos | None, call: FitCall
    ) -> None:
        from tip_adapter.methods.on_encoder.low_rank import LowRankTask, LowRankTowers

        (photos, labels), prompts, seed = shots, self._prompts, checked_seed(self.random_state)
        schedule = self._schedule(len(labels), int(np.bincount(labels).max()))
        scale = encoder.logit_scale if self.logit_scale is None else float(self.logit_scale)
        towers = LowRankTowers.of(encoder, self.rank, float(self.alpha), float(self.dropout), seed)
        rows = cut_views(photos, encoder.preprocessing, self.views, seed)
        numbers = [self.rank, self.alpha, self.dropout, self.weight_decay, self.views, scale]
        content = [encoder.image_id, encoder.text_id, prompts, rows.digest, labels.tolist(), numbers]
        task = LowRankTask(towers, rows, labels, prompts, scale, float(self.weight_decay))
        self.training_ = task.train(
            schedule,
            seed,
            call.progress,
            call.checkpoint,
            {"method": "clip-lora", "task": hashlib.sha256(json.dumps(content).encode()).hexdigest()},
        )
        self.trainable_parameters_ = sum(parameter.numel() for parameter in towers.parameters)
        self._classify_with(towers.merge().as_encoder(f"{encoder.name}, with low-rank changes"), scale)

    def _schedule(self, n_shots: int, most: int) -> Schedule:
        iterations = ITERATIONS_PER_SHOT * most if self.iterations == "auto" else self.iterations
        if not isinstance(iterations, int | np.integer) or iterations < 1:
            raise InputError(f"Expected iterations as a whole number of at least 1, or 'auto', got {iterations!r}")
        steps = -(-n_shots // self.batch_size)
        return Schedule(-(-int(iterations) // steps), self.batch_size, self.learning_rate)

    def _check_parameters(self) -> None:
        if not isinstance(self.rank, int | np.integer) or self.rank < 1:
            raise InputError(f"Expected rank as a whole number of at least 1, got {self.rank!r}")
        if not 0 <= self.dropout < 1:
            raise InputError(f"Expected dropout from 0 to less than 1, got {self.dropout!r}")
        if self.batch_size < 1:
            raise InputError(f"Expected batch_size to be at least 1, got {self.batch_size}")
