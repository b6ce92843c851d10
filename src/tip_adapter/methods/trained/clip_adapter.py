"""CLIP-Adapter: a two-layer network that adapts image features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from tip_adapter.errors import InputError
from tip_adapter.methods.heads import AdapterHead
from tip_adapter.methods.inputs import given_or_auto
from tip_adapter.methods.selection.weight import nll_and_accuracy
from tip_adapter.methods.support_set import SupportSet
from tip_adapter.methods.trained.base import TrainedMethod, Trainings, TrainingSet, folds_of, text_logits
from tip_adapter.methods.trained.loop import Schedule
from tip_adapter.typing import Float32Array

if TYPE_CHECKING:
    import torch

RATIOS = (0.2, 0.4, 0.6, 0.8)
PAPER_RATIO = 0.2
REDUCTION = 4


class CLIPAdapter(TrainedMethod):
    """CLIP-Adapter, ``s·norm(r·ReLU(ReLU(f·A₁ᵀ)·A₂ᵀ) + (1-r)·f)·Wᵀ`` with A₁ of shape (D/4, D).

    Parameters
    ----------
    zero_shot_weights : array-like of shape (C, D)
        W, class text features; a row of NaN for a class without text.
    class_names : sequence of str, optional
        Names of the rows of `zero_shot_weights`.
    residual_ratio : float or "auto", default="auto"
        r, how much the network counts against the original feature, between 0 and 1. "auto" takes the one of .2, .4, .6
        and .8 with the best likelihood on left-out shots (with a validation set: the best accuracy on it, as the paper
        does); with one shot per class .2, the paper's.
    logit_scale : float, default=100.0
        s, the inverse temperature the encoder was trained with.
    epochs : int, default=50
        Passes over the shots.
    learning_rate : float, default=1e-3
        Of AdamW (weight decay .01), a cosine from it to 0.
    batch_size : int, default=256
        Shots per step.
    max_folds : int, default=3
        How many folds, at most, `residual_ratio` is chosen on.
    random_state : int, generator or None, default=0
        Seed of the first weights and of the order of the shots.

    Attributes
    ----------
    residual_ratio_ : float
        What was chosen.
    ratio_scores_ : dict of float to float
        Of every ratio tried, the negative log-likelihood on left-out shots, or one minus the accuracy on the validation
        set; empty where nothing was tried.
    trainable_parameters_ : int
        D²/2.
    training_ : TrainingRun

    Notes
    -----
    The paper trains for 200 epochs at a learning rate of 1e-5, with r searched per data set. On precomputed features
    AdamW at 1e-3 gets as far in 50 epochs.

    References
    ----------
    Gao et al., "CLIP-Adapter: Better Vision-Language Models with Feature Adapters", IJCV 2024, equations 5 to 7.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods import CLIPAdapter
    >>> texts = np.eye(2, 8, dtype=np.float32)
    >>> method = CLIPAdapter(texts, class_names=["hat", "cap"], epochs=5).fit(texts, ["hat", "cap"])
    >>> method.predict(texts).tolist(), method.residual_ratio_, method.trainable_parameters_
    (['hat', 'cap'], 0.2, 32)
    """

    needs_text = True

    residual_ratio: float | Literal["auto"] = "auto"
    epochs: int = 50
    learning_rate: float = 1e-3
    batch_size: int = 256
    max_folds: int = 3

    def _fit_head(self, support: SupportSet) -> AdapterHead:
        ratio = given_or_auto("residual_ratio", self.residual_ratio)
        if ratio is not None and ratio > 1:
            raise InputError(f"Expected residual_ratio between 0 and 1, or 'auto', got {ratio}")
        trainings, shots = self._trainings(support, self._schedule()), self._training_set(support)
        self.ratio_scores_: dict[float, float] = {}
        if ratio is None:
            choose = self._validation_errors if support.validation else self._left_out_losses
            self.ratio_scores_ = choose(support, shots, trainings)
            ratio = min(self.ratio_scores_, key=self.ratio_scores_.__getitem__, default=PAPER_RATIO)
        self.residual_ratio_ = ratio
        return self._train_head(support, shots, trainings, ratio, final=True)

    def _left_out_losses(self, support: SupportSet, shots: TrainingSet, trainings: Trainings) -> dict[float, float]:
        """Negative log-likelihood of the left-out shots, by ratio."""
        folds = folds_of(support, self.max_folds)
        trainings.plan([*(len(fold.kept) for fold in folds for _ in RATIOS), len(shots.labels)])

        def ask(item: tuple[float, int]) -> Float32Array:
            ratio, fold = item[0], folds[item[1]]
            head = self._train_head(support, shots.subset(fold.kept), trainings, ratio, final=False)
            return head.logits(support.asked[fold.scored])

        items = [(ratio, index) for ratio in RATIOS for index in range(len(folds))]
        answers = trainings.until_interrupted(ask, items, "residual_ratio")
        labels = shots.labels[np.concatenate([fold.scored for fold in folds])] if folds else shots.labels
        # A ratio that an interruption left some folds of untried is not compared.
        whole = [answers[start : start + len(folds)] for start in range(0, len(answers), max(len(folds), 1))]
        return {
            ratio: nll_and_accuracy(np.concatenate(parts), labels)[0]
            for ratio, parts in zip(RATIOS, whole, strict=False)
            if len(parts) == len(folds)
        }

    def _validation_errors(self, support: SupportSet, shots: TrainingSet, trainings: Trainings) -> dict[float, float]:
        """One minus the accuracy on the validation set, by ratio."""
        features, labels = support.validation or (support.features, support.labels)
        trainings.plan([len(shots.labels)] * (len(RATIOS) + 1))

        def error(ratio: float) -> float:
            head = self._train_head(support, shots, trainings, ratio, final=False)
            return 1 - nll_and_accuracy(head.logits(features), labels)[1]

        return dict(zip(RATIOS, trainings.until_interrupted(error, RATIOS, "residual_ratio"), strict=False))

    def _schedule(self) -> Schedule:
        return Schedule(self.epochs, self.batch_size, self.learning_rate)

    def _train_head(
        self, support: SupportSet, shots: TrainingSet, trainings: Trainings, ratio: float, *, final: bool
    ) -> AdapterHead:
        import torch
        from torch.nn.functional import cross_entropy

        down, up = _first_weights(shots.features.shape[1], trainings.seed)
        batch = shots.batches()

        def loss_of(rows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            features, labels = batch(rows, generator)
            adapted = adapt(features, down, up, ratio)
            logits = text_logits(adapted, support.zero_shot_weights, support.logit_scale, support.n_classes)
            return cross_entropy(logits, labels)

        optimizer = torch.optim.AdamW([down, up], weight_decay=0.01)
        self._train(trainings, loss_of, optimizer, len(shots.labels), final=final)
        return AdapterHead(
            support.n_classes,
            support.zero_shot_weights,
            support.logit_scale,
            down=down.detach().numpy(),
            up=up.detach().numpy(),
            ratio=ratio,
        )


def adapt(features: torch.Tensor, down: torch.Tensor, up: torch.Tensor, ratio: float) -> torch.Tensor:
    """Mix features with what the network makes of them, and normalise.

    Shapes: `features` (B, D), `down` (H, D), `up` (D, H) → (B, D).
    """
    import torch

    changed = torch.relu(torch.relu(features @ down.T) @ up.T)
    return torch.nn.functional.normalize(ratio * changed + (1 - ratio) * features, dim=1)


def _first_weights(dim: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw both layers from the uniform distribution that is torch's own for linear layers."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    hidden = max(1, dim // REDUCTION)
    layers = []
    for shape in ((hidden, dim), (dim, hidden)):
        bound = shape[1] ** -0.5
        layers.append(torch.empty(shape).uniform_(-bound, bound, generator=generator).requires_grad_())
    return layers[0], layers[1]
