"""What methods trained on features share: batches of features, or of several views of each shot, and folds."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np

from tip_adapter.errors import InputError, TrainingWarning, warn
from tip_adapter.methods.base import FewShotMethod
from tip_adapter.methods.heads.base import without_text
from tip_adapter.methods.selection.folds import support_folds
from tip_adapter.methods.support_set import FitCall, SupportSet
from tip_adapter.methods.trained.loop import Schedule, TrainingProgress, TrainingRun, checked_seed, require_torch, train
from tip_adapter.typing import Float32Array, IntArray

if TYPE_CHECKING:
    import torch

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class TrainingSet:
    """Shots as tensors.

    Attributes
    ----------
    features : ndarray of shape (N, D), float32
        Unit rows, one per shot.
    labels : ndarray of shape (N,), integers in [0, C)
    views : ndarray of shape (N, V, D), float32
        Unit rows to draw from, one view of every shot an epoch.
    """

    features: Float32Array
    labels: IntArray
    views: Float32Array

    def subset(self, rows: IntArray) -> TrainingSet:
        """Keep some of the shots."""
        return TrainingSet(self.features[rows], self.labels[rows], self.views[rows])

    def batches(self) -> Callable[[torch.Tensor, torch.Generator], tuple[torch.Tensor, torch.Tensor]]:
        """Give a function from the rows of a batch to its features (B, D), one random view each, and labels (B,)."""
        import torch

        views, labels = torch.from_numpy(self.views), torch.from_numpy(self.labels)
        n_views = views.shape[1]

        def batch(rows: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
            drawn = torch.randint(n_views, rows.shape, generator=generator) if n_views > 1 else torch.zeros_like(rows)
            return views[rows, drawn], labels[rows]

        return batch


@dataclass(frozen=True)
class Fold:
    """One fold of a support set: shots to train on, and shots to ask about.

    Attributes
    ----------
    kept, scored : ndarray of int
        Rows of the support set. A shot whose class has none left is in neither.
    """

    kept: IntArray
    scored: IntArray


def folds_of(support: SupportSet, max_folds: int) -> list[Fold]:
    """Split a support set so that about one in `max_folds` shots of every class is left out at once."""
    folds = support_folds(support.features, support.labels, max_folds, support.groups)
    result = []
    for fold in range(int(folds.max()) + 1):
        kept = np.flatnonzero(folds != fold)
        out = np.flatnonzero(folds == fold)
        scored = out[np.isin(support.labels[out], support.labels[kept])]
        if len(scored):
            result.append(Fold(kept, scored))
    return result


def text_logits(
    features: torch.Tensor, zero_shot_weights: Float32Array | None, logit_scale: float, n_classes: int
) -> torch.Tensor:
    """Zero-shot logits as those of the heads, with gradients with respect to features.

    Shapes: `features` (B, D), `zero_shot_weights` (C, D) → (B, C).

    Examples
    --------
    >>> import numpy as np, torch
    >>> from tip_adapter.methods.trained.base import text_logits
    >>> text_logits(torch.eye(2), np.eye(2, dtype=np.float32), 10.0, 2).tolist()
    [[10.0, 0.0], [0.0, 10.0]]
    """
    import torch

    if zero_shot_weights is None:
        return torch.zeros(len(features), n_classes)
    missing = torch.from_numpy(without_text(zero_shot_weights))
    logits = logit_scale * features @ torch.from_numpy(np.nan_to_num(zero_shot_weights)).T
    if not missing.any():
        return logits
    known = logits[:, ~missing]
    prior = torch.logsumexp(known, dim=1, keepdim=True) - np.log(known.shape[1])
    return torch.where(missing, prior, logits)


@dataclass
class Trainings:
    """The trainings of one fit, counted together; Ctrl-C ends one early where the fit is a call of `fit`."""

    schedule: Schedule
    seed: int
    call: FitCall | None
    steps: int = 0
    """Of all trainings, where there are several."""
    done: int = 0
    """Steps of the trainings that are over."""

    def plan(self, sizes: Sequence[int]) -> None:
        """Announce how many trainings there will be, by the shots of each, so that progress is of them all."""
        self.steps = sum(self.schedule.steps(size) for size in sizes)

    def run(
        self,
        loss_of: Callable[[torch.Tensor, torch.Generator], torch.Tensor],
        optimizer: torch.optim.Optimizer,
        n_items: int,
        *,
        final: bool,
        describes: Mapping[str, Any] | None = None,
    ) -> TrainingRun:
        """Run the one training loop; `final` is the training on all shots, the others are of a cross-validation."""
        run = train(
            loss_of,
            optimizer,
            n_items,
            self.schedule,
            seed=self.seed,
            keep_interrupted=final and self.call is not None,
            progress=self._counted(),
            checkpoint=self.call.checkpoint if final and self.call else None,
            describes=describes,
        )
        self.done += self.schedule.steps(n_items)
        return run

    def until_interrupted(self, work: Callable[[_Item], _Result], items: Sequence[_Item], choice: str) -> list[_Result]:
        """Try things to choose from; Ctrl-C ends that, and the training of what is best so far begins."""
        results: list[_Result] = []
        try:
            for item in items:
                results.append(work(item))
        except KeyboardInterrupt:
            if self.call is None:
                raise
            warn(
                f"The choice of {choice} was interrupted after {len(results)} of {len(items)} trainings: it rests on "
                "those, and the final training begins (interrupt again to end it early)",
                TrainingWarning,
            )
        return results

    def _counted(self) -> TrainingProgress | None:
        progress, before = None if self.call is None else self.call.progress, self.done
        if progress is None:
            return None
        return lambda done, total, loss: progress(before + done, max(self.steps, before + total), loss)


class TrainedMethod(FewShotMethod):
    """Base of the methods that train on features with torch; a fitted one predicts without it.

    Attributes
    ----------
    trainable_parameters_ : int
        How many numbers were trained.
    training_ : TrainingRun
        Loss of every epoch, seconds, and whether Ctrl-C ended it early.
    """

    trains = True
    needs_torch = True
    takes_views = True

    random_state: Any = 0

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        validation: tuple[Any, Any] | None = None,
        views: Any = None,
        groups: Any = None,
        queries: Any = None,
        progress: TrainingProgress | None = None,
    ) -> Self:
        """Train on the support set; Ctrl-C keeps what the last finished epoch reached, and says so.

        Parameters
        ----------
        X, y, validation, groups, queries, progress : see `FewShotMethod.fit`
        views : array-like or tensor of shape (N, V, D), optional
            Features of augmented views of each shot; one of each is drawn per epoch. By default `X` itself.

        Returns
        -------
        self

        Raises
        ------
        FeatureError, InputError
            As for every method.
        TrainingError
            When training diverges.
        MissingExtraError
            When torch is not installed.
        """
        require_torch()
        return self._fitted(X, y, validation, FitCall(progress), views=views, groups=groups, queries=queries)

    def _training_set(self, support: SupportSet) -> TrainingSet:
        views = support.features[:, None] if support.views is None else support.views
        return TrainingSet(support.features, support.labels, views)

    def _trainings(self, support: SupportSet, schedule: Schedule) -> Trainings:
        return Trainings(schedule, checked_seed(self.random_state), support.call)

    def _train(
        self,
        trainings: Trainings,
        loss_of: Callable[[torch.Tensor, torch.Generator], torch.Tensor],
        optimizer: torch.optim.Optimizer,
        n_items: int,
        *,
        final: bool,
        describes: Mapping[str, Any] | None = None,
    ) -> None:
        """Train; the `final` training is the one that the fitted method tells of."""
        run = trainings.run(loss_of, optimizer, n_items, final=final, describes=describes)
        if final:
            self.training_ = run
            self.trainable_parameters_ = sum(
                tensor.numel() for group in optimizer.param_groups for tensor in group["params"]
            )

    @abstractmethod
    def _fit_head(self, support: SupportSet) -> Any: ...


def require_text_for_all(support: SupportSet, method: str) -> Float32Array:
    """Return the zero-shot weights, all of them known.

    Shapes: → (C, D).
    """
    weights = support.zero_shot_weights
    if weights is None or np.isnan(weights).any():
        raise InputError(f"{method} needs texts for every class, got some without: give them class texts")
    return weights
