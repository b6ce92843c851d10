"""One fine-tuning: the towers tuned to all or some of the shots, with a chosen learning rate."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from tip_adapter.encoders.trainable import TrainableEncoder
from tip_adapter.methods.on_encoder.contrastive_tuning import TunedTowers, class_logits, tune
from tip_adapter.methods.on_encoder.photo_views import PhotoViews
from tip_adapter.methods.on_encoder.rate_choice import RateChoice, choose_rate, held_out_shots
from tip_adapter.methods.selection.weight import nll_and_accuracy
from tip_adapter.methods.trained.loop import Schedule, TrainingProgress
from tip_adapter.typing import IntArray, StrPath


@dataclass(frozen=True)
class Apart:
    """Photos apart from the shots, and their labels."""

    photos: PhotoViews
    labels: IntArray


@dataclass(frozen=True)
class TuningTask:
    """An encoder, photos and captions, and how to tune the one to the others.

    Attributes
    ----------
    encoder : TrainableEncoder
    captions : sequence of C sequences of str
    photos : PhotoViews
        N shots.
    labels : ndarray of shape (N,), integers in [0, C)
    logit_scale, weight_decay, wise_weight : float
    seed : int
    checkpoint : path, optional
    progress : callable, optional
    """

    encoder: TrainableEncoder
    captions: Sequence[Sequence[str]]
    photos: PhotoViews
    labels: IntArray
    logit_scale: float
    weight_decay: float
    wise_weight: float
    seed: int
    checkpoint: StrPath | None = None
    progress: TrainingProgress | None = None

    @cached_property
    def digest(self) -> str:
        """What a checkpoint tells trainings apart by, besides their schedules."""
        views = self.photos.views.shape[1]
        numbers = [self.logit_scale, self.weight_decay, self.wise_weight, self.seed, views]
        encoder = [self.encoder.image_id, self.encoder.text_id]
        content = [encoder, self.captions, self.photos.digest, self.labels.tolist(), numbers]
        return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()

    def run(self, schedule: Schedule, rows: IntArray | None = None, *, done: int = 0, total: int = 0) -> TunedTowers:
        """Train on all shots, with the checkpoint, or on some, for a choice, which Ctrl-C ends.

        Progress counts `done` and `total` steps of other trainings as well.
        """
        final = rows is None
        kept = np.arange(len(self.labels)) if rows is None else rows

        def progress(step: int, steps: int, loss: float) -> None:
            if self.progress:
                self.progress(done + step, max(total, done + steps), loss)

        return tune(
            self.encoder,
            self.photos.subset(kept),
            self.labels[kept],
            self.captions,
            schedule,
            logit_scale=self.logit_scale,
            weight_decay=self.weight_decay,
            seed=self.seed,
            final=final,
            progress=progress,
            checkpoint=self.checkpoint if final else None,
            describes={"method": "full-fine-tuning", "task": self.digest},
        )

    def choose_rate(
        self, rates: Sequence[float], schedule: Schedule, apart: Apart | None, default: float
    ) -> RateChoice:
        """Choose the learning rate in short trainings, by accuracy on photos apart or likelihood on held-out shots."""
        kept, held_out = held_out_shots(self.labels, self.seed)
        if apart is not None:
            evidence, kept = f"the error on {len(apart.labels)} validation photos", np.arange(len(self.labels))
        elif len(held_out):
            evidence = f"the negative log-likelihood of {len(held_out)} held-out shots"
        else:
            return RateChoice(default, {}, f"learning rate {default:g}, the default with one shot per class")
        steps = schedule.epochs * -(-len(kept) // schedule.batch_size)
        begun = 0

        def loss_of(rate: float) -> float:
            nonlocal begun
            done, begun = steps * begun, begun + 1
            towers = self.run(replace(schedule, learning_rate=rate), kept, done=done, total=steps * len(rates))
            towers.average(self.wise_weight)
            if apart is not None:
                logits, labels = self._logits(towers, apart.photos, np.arange(len(apart.labels))), apart.labels
                return 1 - nll_and_accuracy(logits, labels)[1]
            logits, labels = self._logits(towers, self.photos, held_out), self.labels[held_out]
            return nll_and_accuracy(logits, labels)[0]

        notes = None if self.checkpoint is None else Path(f"{self.checkpoint}.rates.json")
        key = json.dumps([self.digest, schedule.epochs, schedule.batch_size, evidence, list(rates)])
        if apart is not None:
            key += apart.photos.digest
        return choose_rate(rates, loss_of, evidence=evidence, notes=notes, key=hashlib.sha256(key.encode()).hexdigest())

    def _logits(self, towers: TunedTowers, photos: PhotoViews, rows: IntArray) -> np.ndarray:
        return class_logits(towers.encoder, photos.subset(rows), self.captions, self.logit_scale)
