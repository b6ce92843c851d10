"""Full fine-tuning: an encoder whose two towers are tuned to photos and class texts."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from tip_adapter.data.decoding import ImageSource
from tip_adapter.encoders.trainable import TrainableEncoder
from tip_adapter.errors import InputError
from tip_adapter.methods.inputs import as_labels, given_or_auto
from tip_adapter.methods.on_encoder.encoder_tuning import EncoderTuning, LabelledPhotos
from tip_adapter.methods.on_encoder.photo_views import cut_views
from tip_adapter.methods.on_encoder.rate_choice import RateChoice
from tip_adapter.methods.on_encoder.tuning_task import Apart, TuningTask
from tip_adapter.methods.support_set import FitCall
from tip_adapter.methods.trained.loop import Schedule, checked_seed

RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3)
ONE_SHOT_RATE = 1e-5
MANY_SHOTS = 8
FEW_SHOTS_EPOCHS, MANY_SHOTS_EPOCHS = 20, 10


class FullFineTuning(EncoderTuning):
    """Full fine-tuning as FLYP does it, then WiSE-FT: both towers are trained, ``θ = (1-w)·θ₀ + w·θ₁``.

    The loss is that of the pretraining, between photos and captions of their class; classes are then told apart by
    their texts, as in zero-shot classification: ``s·f·Wᵀ`` with both f and W from the tuned towers. So this method
    takes *photos*, not features, and what it gives is an encoder: `export_encoder` writes it as an ONNX directory for
    `ImageClassifier`.

    Parameters
    ----------
    zero_shot_weights : array-like of shape (C, D), optional
        Only their number matters: the tuned towers compute their own.
    class_names : sequence of str, optional
        Names of the classes.
    templates : str or sequence of str, default="ensemble"
        What makes captions of texts; see `tip_adapter.features.prompts.TEMPLATES`.
    wise_weight : float, default=0.5
        w, from 0 (the encoder as it was) to 1 (without averaging); `at_wise_weight` gives others afterwards. WiSE-FT
        recommends 0.5 for photos that may differ from the shots. On photos of the same kind 1 can be better: 85.2 %
        against 81.5 % with `lite-fast` on ten classes of clothes, 16 shots.
    learning_rate : float or "auto", default="auto"
        Of AdamW, after a linear warm-up of one epoch; then a cosine to 0. "auto" trains on three quarters of the shots
        with rates of `rates`, from the largest down until it gets worse, for half of the epochs, and takes the one
        whose averaged towers give the rest the best likelihood (with a validation set: trains on all shots, and takes
        the best accuracy on it). With one shot per class, and no validation set: FLYP's 1e-5.
    rates : sequence of float, default=(1e-5, 3e-5, 1e-4, 3e-4, 1e-3)
        FLYP's 1e-5 is meant for vision transformers and long training; `lite-fast` wants 3e-4 at 16 shots.
    epochs : int or "auto", default="auto"
        "auto" takes 20 with less than 8 shots per class, else 10.
    batch_size : int, default=32
        Shots per step.
    weight_decay : float, default=0.1
        Of AdamW.
    views : int, default=8
        Random crops cut of each photo, one of which is drawn in an epoch. They are kept as pixels, ``N·V·S²·3`` bytes:
        in memory up to 512 MB, in a temporary file beyond.
    logit_scale : float, optional
        s; by default the encoder's own. It is not trained.
    random_state : int, generator or None, default=0
        Seed of views, captions, held-out shots and the order of photos.

    Attributes
    ----------
    encoder_ : TorchEncoder
        The tuned and averaged encoder.
    head_ : LinearHead
        Zero-shot weights of its text tower.
    learning_rate_, epochs_ : float, int
        What was chosen.
    search_ : RateChoice
        From what evidence.
    training_ : TrainingRun
        Loss of every epoch, and whether Ctrl-C ended it early: the last finished epoch is kept then.
    trainable_parameters_ : int

    Notes
    -----
    Batch normalisation stays in evaluation mode: few shots make poor statistics. The 1,000 keys and values of the text
    tower of `lite-fast` are no parameters and stay. Other photos of the same class in a batch count as negatives, as in
    FLYP; a step draws one caption for each class. Memory: the towers' parameters five times over (values, gradients,
    two moments, the last epoch; more with a checkpoint), and the activations of a batch: for `lite-fast` 4 GB in all
    with batches of 32 photos, less with smaller ones.

    References
    ----------
    Goyal et al., "Finetune like you pretrain", CVPR 2023, section 3. Wortsman et al., "Robust fine-tuning of zero-shot
    models", CVPR 2022, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods import FullFineTuning
    >>> photos = [np.full((40, 40, 3), shade, dtype=np.uint8) for shade in (30, 220)]
    >>> FullFineTuning().fit(photos, ["night", "day"], encoder="fake")
    Traceback (most recent call last):
    tip_adapter.errors.EncoderError: The encoder fake gives no gradients, which training it or its prompts needs: ...
    """

    wise_weight: float = 0.5
    learning_rate: float | Literal["auto"] = "auto"
    rates: Sequence[float] = RATES
    epochs: int | Literal["auto"] = "auto"
    batch_size: int = 32
    weight_decay: float = 0.1
    views: int = 8

    def _check_parameters(self) -> None:
        if not 0 <= self.wise_weight <= 1:
            raise InputError(f"Expected wise_weight from 0 to 1, got {self.wise_weight}")

    def _tune(
        self, encoder: TrainableEncoder, shots: LabelledPhotos, apart: LabelledPhotos | None, call: FitCall
    ) -> None:
        (photos, labels), seed = shots, checked_seed(self.random_state)
        most = int(np.bincount(labels).max())
        schedule = Schedule(self._epochs(most), self.batch_size, self._given_rate() or 1.0, 1, warmup_rate=None)
        task = TuningTask(
            encoder,
            self._prompts,
            cut_views(photos, encoder.preprocessing, self.views, seed),
            labels,
            encoder.logit_scale if self.logit_scale is None else float(self.logit_scale),
            float(self.weight_decay),
            float(self.wise_weight),
            seed,
            call.checkpoint,
            call.progress,
        )
        validation = None if apart is None else self._photos_apart(*apart, encoder)
        schedule = replace(schedule, learning_rate=self._chosen_rate(task, schedule, validation))
        self._towers = task.run(schedule)
        self.training_ = self._towers.run
        self.trainable_parameters_ = sum(parameter.numel() for parameter in self._towers.parameters)
        self._average(float(self.wise_weight), task.logit_scale)

    def at_wise_weight(self, wise_weight: float) -> Self:
        """Average the same training with another weight; nothing is trained again.

        Parameters
        ----------
        wise_weight : float
            From 0 (the encoder as it was) to 1 (the end of the training).

        Returns
        -------
        FullFineTuning
            A fitted copy.
        """
        check_is_fitted(self, "head_")
        if not 0 <= wise_weight <= 1:
            raise InputError(f"Expected wise_weight from 0 to 1, got {wise_weight}")
        other = copy.copy(self)
        other.wise_weight = wise_weight
        other._towers = copy.deepcopy(self._towers)
        other._average(float(wise_weight), self.encoder_.logit_scale)
        return other

    def _average(self, wise_weight: float, logit_scale: float) -> None:
        self._towers.average(wise_weight)
        tuned = self._towers.encoder
        self._classify_with(tuned.as_encoder(f"{tuned.name}, fine-tuned"), logit_scale)

    def _chosen_rate(self, task: TuningTask, schedule: Schedule, apart: Apart | None) -> float:
        given = self._given_rate()
        if given is None:
            short = replace(schedule, epochs=max(1, schedule.epochs // 2))
            self.search_ = task.choose_rate(self.rates, short, apart, ONE_SHOT_RATE)
        else:
            self.search_ = RateChoice(given, {}, f"learning rate {given:g}, as given")
        self.learning_rate_, self.epochs_ = self.search_.rate, schedule.epochs
        return self.learning_rate_

    def _given_rate(self) -> float | None:
        if self.learning_rate == "auto":
            if not self.rates or min(self.rates) <= 0:
                raise InputError(f"Expected learning rates above 0 to choose from, got {list(self.rates)}")
            return None
        return given_or_auto("learning_rate", self.learning_rate)

    def _epochs(self, shots: int) -> int:
        if self.epochs == "auto":
            return MANY_SHOTS_EPOCHS if shots >= MANY_SHOTS else FEW_SHOTS_EPOCHS
        if not isinstance(self.epochs, int | np.integer):
            raise InputError(f"Expected epochs as a number or 'auto', got {self.epochs!r}")
        return int(self.epochs)

    def _photos_apart(self, X: Sequence[ImageSource], y: Any, encoder: TrainableEncoder) -> Apart:
        X = self._listed_photos(X)
        names, known = np.asarray(as_labels(y)), self.classes_.tolist()
        unknown = sorted(set(names.tolist()) - set(known))
        if unknown or len(names) != len(X):
            got = f"{unknown[0]!r} among the labels" if unknown else f"{len(names)} labels"
            raise InputError(f"Expected a known class for each of {len(X)} validation photos, got {got}")
        photos = cut_views(X, encoder.preprocessing, 1, 0)
        return Apart(photos, np.searchsorted(self.classes_, names).astype(np.intp))
