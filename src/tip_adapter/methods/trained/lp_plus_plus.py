"""LP++: a linear probe blended with the class texts."""

from __future__ import annotations

import time

import numpy as np

from tip_adapter.errors import InputError, TrainingError, TrainingWarning, warn
from tip_adapter.methods.base import FewShotMethod
from tip_adapter.methods.heads import LinearHead, softmax
from tip_adapter.methods.support_set import SupportSet
from tip_adapter.methods.trained.base import require_text_for_all
from tip_adapter.methods.trained.loop import TrainingRun
from tip_adapter.typing import Float32Array

MOMENTUM = 0.9
ALPHA_EVERY = 10
"""α moves once in so many iterations, w in each."""


class LPPlusPlus(FewShotMethod):
    """LP++, ``f·(w_c + α_c·t_c)`` with w and α learned by block-wise gradient descent on the mean cross-entropy.

    Nothing is searched: w starts at the class means times K, the mean number of shots, and all α at
    ``2.5·s·mean_c(mean of f·t_c over the class's shots)``, which is the paper's ``250·…`` for CLIP. The step sizes come
    from bounds on the curvature: ``4N/λ_max(FᵀF)`` for w and ``N/(4·max_c Σᵢ(fᵢ·t_c)²)`` for α. It needs no torch.

    Parameters
    ----------
    zero_shot_weights : array-like of shape (C, D)
        Class text features t, of all classes.
    class_names : sequence of str, optional
        Names of the rows of `zero_shot_weights`.
    logit_scale : float, default=100.0
        s, the inverse temperature the encoder was trained with.
    iterations : int, default=300
        All shots at once each; the last one is kept.

    Attributes
    ----------
    alpha_ : ndarray of shape (C,)
        α.
    trainable_parameters_ : int
        C·(D + 1).
    training_ : TrainingRun

    Notes
    -----
    As in the official code w starts at sums over shots (with unequal shots, here, at as many for every class), moves
    with momentum .9, and α moves once in ten iterations. That code keeps the best iteration on a validation split, adds
    up α's gradients over all iterations, and has a bias that starts at random; here the last iteration and the current
    gradient count, and there is no bias, as in the paper's equation.

    References
    ----------
    Huang et al., "LP++: A Surprisingly Strong Linear Probe for Few-Shot CLIP", CVPR 2024, equation 2 and section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods import LPPlusPlus
    >>> texts = np.eye(2, 8, dtype=np.float32)
    >>> method = LPPlusPlus(texts, class_names=["hat", "cap"], iterations=20).fit(texts, ["hat", "cap"])
    >>> method.predict(texts).tolist(), method.trainable_parameters_
    (['hat', 'cap'], 18)
    """

    needs_text = True
    trains = True

    iterations: int = 300

    def _fit_head(self, support: SupportSet) -> LinearHead:
        if self.iterations < 1:
            raise InputError(f"Expected iterations to be at least 1, got {self.iterations}")
        texts = require_text_for_all(support, "LP++")
        weights, alpha = self._descend(support, texts)
        self.alpha_ = alpha
        self.trainable_parameters_ = weights.size + alpha.size
        return LinearHead(
            support.n_classes,
            texts,
            support.logit_scale,
            weights=weights + (alpha[:, None] - support.logit_scale) * texts,
        )

    def _descend(self, support: SupportSet, texts: Float32Array) -> tuple[Float32Array, Float32Array]:
        cosines = support.features @ texts.T
        weights = _first_weights(support)
        alpha = np.full(len(texts), _first_alpha(support, cosines), dtype=np.float32)
        weight_step, alpha_step = step_sizes(support.features, cosines)
        velocity: Float32Array = np.zeros_like(weights)
        losses, started = [], time.perf_counter()
        try:
            for iteration in range(1, self.iterations + 1):
                loss, by_weights, by_alpha = probe_gradients(support, cosines, weights, alpha)
                if not np.isfinite(loss):
                    raise TrainingError(
                        f"LP++ diverged in iteration {iteration}: the loss was {loss}; nothing was kept"
                    )
                velocity = np.float32(MOMENTUM) * velocity + by_weights
                # Whole new arrays, so that an interruption leaves those of the iteration before.
                weights = weights - weight_step * velocity
                if iteration % ALPHA_EVERY == 0:
                    alpha = alpha - alpha_step * by_alpha
                losses.append(loss)
                if support.call and support.call.progress:
                    support.call.progress(iteration, self.iterations, loss)
        except KeyboardInterrupt:
            if not losses or support.call is None:
                raise
            warn(
                f"Training was interrupted: what {len(losses)} of {self.iterations} iterations reached is kept",
                TrainingWarning,
            )
        interrupted, seconds = len(losses) < self.iterations, time.perf_counter() - started
        self.training_ = TrainingRun(tuple(losses), self.iterations, interrupted, seconds)
        return weights, alpha


def _first_weights(support: SupportSet) -> Float32Array:
    """Class means times the mean number of shots; 0 for a class without any."""
    sums = np.zeros((support.n_classes, support.features.shape[1]))
    np.add.at(sums, support.labels, support.features)
    counts = support.counts
    weights: Float32Array = (sums * (counts[counts > 0].mean() / np.maximum(counts, 1))[:, None]).astype(np.float32)
    return weights


def _first_alpha(support: SupportSet, cosines: Float32Array) -> float:
    own = cosines[np.arange(len(support.labels)), support.labels]
    sums = np.bincount(support.labels, weights=own, minlength=support.n_classes)
    present = support.counts > 0
    return max(0.0, 2.5 * support.logit_scale * float(np.mean(sums[present] / support.counts[present])))


def step_sizes(features: Float32Array, cosines: Float32Array) -> tuple[np.float32, np.float32]:
    """Step sizes of w and α, from bounds on the curvature of the loss.

    Shapes: `features` (N, D), `cosines` (N, C).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.trained.lp_plus_plus import step_sizes
    >>> [float(step) for step in step_sizes(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32))]
    [8.0, 0.5]
    """
    gram = features.T @ features if len(features) > features.shape[1] else features @ features.T
    largest = float(np.linalg.eigvalsh(gram.astype(np.float64))[-1])
    squares = float(np.square(cosines).sum(axis=0).max())
    return np.float32(4 * len(features) / largest), np.float32(len(features) / (4 * max(squares, 1e-12)))


def probe_gradients(
    support: SupportSet, cosines: Float32Array, weights: Float32Array, alpha: Float32Array
) -> tuple[float, Float32Array, Float32Array]:
    """Mean cross-entropy of ``f·(w_c + α_c·t_c)``, and its gradients.

    Shapes: `cosines` (N, C), `weights` (C, D), `alpha` (C,) → (C, D).
    """
    rows = np.arange(len(support.labels))
    errors = softmax(support.features @ weights.T + alpha * cosines)
    loss = -float(np.mean(np.log(np.maximum(errors[rows, support.labels], 1e-300))))
    errors[rows, support.labels] -= 1
    slopes = (errors / len(rows)).astype(np.float32)
    return loss, slopes.T @ support.features, np.einsum("nc,nc->c", slopes, cosines)
