"""TaskRes: a residual learned on the text feature of every class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from tip_adapter.methods.heads import LinearHead
from tip_adapter.methods.support_set import SupportSet
from tip_adapter.methods.trained.base import TrainedMethod
from tip_adapter.methods.trained.loop import Schedule
from tip_adapter.methods.trained.residuals import TEXT_NORM, residual_head, residual_logits

if TYPE_CHECKING:
    import torch


class TaskRes(TrainedMethod):
    """Task residuals, ``s·f·norm(W + αX/10)ᵀ`` with X learned.

    X starts at 0 and is added, as in the official code, to text features of length about 10: hence the 10, so that
    learning rates are comparable.

    Parameters
    ----------
    zero_shot_weights : array-like of shape (C, D)
        W, class text features; a class without text (a row of NaN) starts from its prior and learns from its shots.
    class_names : sequence of str, optional
        Names of the rows of `zero_shot_weights`.
    alpha : float, default=0.5
        α, scale of the residual. The paper uses .5, and 1 for Flowers.
    logit_scale : float, default=100.0
        s, the inverse temperature the encoder was trained with.
    epochs : int or "auto", default="auto"
        "auto" is the paper's 100 with up to 4 shots per class, and 200 with more. The first is a warm-up at 1e-5.
    learning_rate : float, default=2e-3
        Of Adam, a cosine from it to 0.
    weight_decay : float, default=0
        Of Adam, on X. The official recipe's 5e-4 costs accuracy where there are many shots.
    batch_size : int, default=256
        Shots per step.
    random_state : int, generator or None, default=0
        Seed of the order of the shots.

    Attributes
    ----------
    epochs_ : int
    trainable_parameters_ : int
        C·D.
    training_ : TrainingRun

    References
    ----------
    Yu et al., "Task Residual for Tuning Vision-Language Models", CVPR 2023, equation 4.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods import TaskRes
    >>> texts = np.eye(2, 8, dtype=np.float32)
    >>> method = TaskRes(texts, class_names=["hat", "cap"], epochs=5).fit(texts, ["hat", "cap"])
    >>> method.predict(texts).tolist(), method.trainable_parameters_
    (['hat', 'cap'], 16)
    """

    needs_text = True

    alpha: float = 0.5
    epochs: int | Literal["auto"] = "auto"
    learning_rate: float = 2e-3
    weight_decay: float = 0.0
    batch_size: int = 256

    def _fit_head(self, support: SupportSet) -> LinearHead:
        import torch
        from torch.nn.functional import cross_entropy

        shots = self._training_set(support)
        residuals = torch.zeros(support.n_classes, support.features.shape[1], requires_grad=True)
        batch, scale = shots.batches(), self.alpha / TEXT_NORM

        def loss_of(rows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            features, labels = batch(rows, generator)
            return cross_entropy(residual_logits(features, scale * residuals, support), labels)

        self.epochs_ = (100 if support.counts.max() <= 4 else 200) if self.epochs == "auto" else self.epochs
        schedule = Schedule(self.epochs_, self.batch_size, self.learning_rate, warmup_epochs=1)
        optimizer = torch.optim.Adam([residuals], weight_decay=self.weight_decay)
        self._train(self._trainings(support, schedule), loss_of, optimizer, len(shots.labels), final=True)
        return residual_head(scale * residuals.detach().numpy(), support)
