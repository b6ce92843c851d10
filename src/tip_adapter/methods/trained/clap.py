"""CLAP: a linear probe that stays near the class texts where they do well."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tip_adapter.methods.heads import LinearHead, softmax
from tip_adapter.methods.support_set import SupportSet
from tip_adapter.methods.trained.base import TrainedMethod
from tip_adapter.methods.trained.loop import Schedule
from tip_adapter.methods.trained.residuals import TEXT_NORM, residual_head, residual_logits
from tip_adapter.typing import FloatArray

if TYPE_CHECKING:
    import torch


class CLAP(TrainedMethod):
    """Class-adaptive linear probe, ``s·f·norm(w)ᵀ`` with ``w`` held near the text features ``t = 10·W``.

    ``w`` starts at t and minimises cross-entropy ``+ mean_c λ_c·‖w_c - t_c‖²``, where λ_c is the mean zero-shot
    probability of class c on its own shots: the better the text knows a class, the less its prototype may move. There
    is nothing to search. As in the official code, the text features have a length of about 10.

    Parameters
    ----------
    zero_shot_weights : array-like of shape (C, D)
        W, class text features; a class without text (a row of NaN) starts from its prior and learns from its shots.
    class_names : sequence of str, optional
        Names of the rows of `zero_shot_weights`.
    logit_scale : float, default=100.0
        s, the inverse temperature the encoder was trained with.
    epochs : int, default=300
        The first is a warm-up at 1e-5.
    learning_rate : float, default=0.1
        Of SGD with momentum .9, a cosine from it to 0.
    batch_size : int, default=256
        Shots per step.
    random_state : int, generator or None, default=0
        Seed of the order of the shots.

    Attributes
    ----------
    constraints_ : ndarray of shape (C,)
        λ; 1 for classes without shots, which therefore do not move.
    trainable_parameters_ : int
        C·D.
    training_ : TrainingRun

    References
    ----------
    Silva-Rodríguez et al., "A Closer Look at the Few-Shot Adaptation of Large Vision-Language Models", CVPR 2024,
    equations 8 and 9.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods import CLAP
    >>> texts = np.eye(2, 8, dtype=np.float32)
    >>> method = CLAP(texts, class_names=["hat", "cap"], epochs=5).fit(texts, ["hat", "cap"])
    >>> method.predict(texts).tolist(), method.constraints_.round(2).tolist()
    (['hat', 'cap'], [1.0, 1.0])
    """

    needs_text = True

    epochs: int = 300
    learning_rate: float = 0.1
    batch_size: int = 256

    def _fit_head(self, support: SupportSet) -> LinearHead:
        import torch
        from torch.nn.functional import cross_entropy

        shots = self._training_set(support)
        self.constraints_ = class_constraints(support)
        constraints = torch.from_numpy(self.constraints_).float()
        moves = torch.zeros(support.n_classes, support.features.shape[1], requires_grad=True)
        batch = shots.batches()

        def loss_of(rows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            features, labels = batch(rows, generator)
            penalty = (constraints * moves.square().sum(dim=1)).mean()
            return cross_entropy(residual_logits(features, moves / TEXT_NORM, support), labels) + penalty

        schedule = Schedule(self.epochs, self.batch_size, self.learning_rate, warmup_epochs=1)
        optimizer = torch.optim.SGD([moves], momentum=0.9)
        self._train(self._trainings(support, schedule), loss_of, optimizer, len(shots.labels), final=True)
        return residual_head(moves.detach().numpy() / TEXT_NORM, support)


def class_constraints(support: SupportSet) -> FloatArray:
    """Compute λ: every class's mean zero-shot probability on its own shots.

    Shapes: → (C,).
    """
    own = softmax(support.text_logits)[np.arange(len(support.labels)), support.labels]
    sums = np.bincount(support.labels, weights=own, minlength=support.n_classes)
    return np.divide(sums, support.counts, out=np.ones(support.n_classes), where=support.counts > 0)
