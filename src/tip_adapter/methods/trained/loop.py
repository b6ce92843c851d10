"""The training loop of every trained method."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter.errors import InputError, TrainingError, TrainingWarning, warn
from tip_adapter.libraries import require_extra
from tip_adapter.storage.arrays import load_arrays, save_arrays
from tip_adapter.storage.escaping import reason_of
from tip_adapter.storage.strict_json import parse_json
from tip_adapter.typing import StrPath

if TYPE_CHECKING:
    import torch

TrainingProgress = Callable[[int, int, float], None]
"""Called after every step with the steps done, the steps in all, and the loss."""

RISE = 3.0
"""A loss that ends so many times above its beginning (or above 1, where it began below) was not minimised."""

FILE_FORMAT = "tip-adapter training 1"


@dataclass(frozen=True)
class Schedule:
    """How long to train, and how fast: a warm-up, then a cosine from the learning rate to 0, step by step.

    Parameters
    ----------
    epochs : int
        Passes over the training set, warm-up included.
    batch_size : int
        Shots per step.
    learning_rate : float
        The rate after the warm-up.
    warmup_epochs : int, default=0
    warmup_rate : float or None, default=1e-5
        The rate during the warm-up; None for one that grows linearly up to the learning rate.

    Raises
    ------
    InputError
        When a number is out of range.

    Examples
    --------
    >>> from tip_adapter.methods.trained.loop import Schedule
    >>> schedule = Schedule(epochs=3, batch_size=4, learning_rate=0.1, warmup_epochs=1)
    >>> [round(schedule.rate(step, steps_per_epoch=2), 5) for step in range(6)]
    [1e-05, 1e-05, 0.1, 0.08536, 0.05, 0.01464]
    """

    epochs: int
    batch_size: int
    learning_rate: float
    warmup_epochs: int = 0
    warmup_rate: float | None = 1e-5

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"Expected {name} to be at least 1, got {getattr(self, name)}")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise InputError(f"Expected learning_rate to be above 0, got {self.learning_rate}")

    def steps(self, n_items: int) -> int:
        """Steps in all."""
        return self.epochs * -(-n_items // self.batch_size)

    def rate(self, step: int, steps_per_epoch: int) -> float:
        """Learning rate of one step."""
        # With a single epoch there is nothing left after a warm-up.
        warmup = min(self.warmup_epochs, self.epochs - 1) * steps_per_epoch
        if step < warmup:
            return self.learning_rate * (step + 1) / (warmup + 1) if self.warmup_rate is None else self.warmup_rate
        total = self.epochs * steps_per_epoch - warmup
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / total))


@dataclass(frozen=True)
class TrainingRun:
    """How a training went.

    Attributes
    ----------
    losses : tuple of float
        Mean loss of every epoch.
    epochs : int
        How many were asked for; fewer were done when `interrupted`.
    interrupted : bool
    seconds : float
    """

    losses: tuple[float, ...]
    epochs: int
    interrupted: bool
    seconds: float


def require_torch() -> None:
    """Say how to install torch where it is missing, and load all of it that training needs."""
    torch = require_extra("torch", "torch")
    # The first optimizer imports for a second. An interruption that a training outlives must not leave half of that.
    torch.optim.SGD([torch.zeros(1)])


def checked_seed(random_state: Any) -> int:
    """Turn scikit-learn's `random_state` into a seed.

    Examples
    --------
    >>> from tip_adapter.methods.trained.loop import checked_seed
    >>> checked_seed(7)
    7
    """
    if isinstance(random_state, int | np.integer) and random_state >= 0:
        return int(random_state)
    if random_state is None:
        return int(np.random.default_rng().integers(2**31))
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**31))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31))
    raise InputError(f"Expected random_state to be an integer of at least 0, a generator or None, got {random_state!r}")


def train(
    loss_of: Callable[[torch.Tensor, torch.Generator], torch.Tensor],
    optimizer: torch.optim.Optimizer,
    n_items: int,
    schedule: Schedule,
    *,
    seed: int,
    keep_interrupted: bool = True,
    progress: TrainingProgress | None = None,
    checkpoint: StrPath | None = None,
    checkpoint_every_s: float = 0.0,
    describes: Mapping[str, Any] | None = None,
) -> TrainingRun:
    """Minimise a loss over shuffled batches; the state after the last epoch is kept, never one chosen on test data.

    Parameters
    ----------
    loss_of : callable
        Gets the rows of a batch, a tensor (B,), and a generator for whatever else is random; returns the mean loss.
    optimizer : torch.optim.Optimizer
        Holds the parameters to train, which change in place.
    n_items : int
        N, size of the training set.
    schedule : Schedule
    seed : int
        The order of every epoch depends on it and on the number of the epoch alone.
    keep_interrupted : bool, default=True
        After Ctrl-C, keep the state after the last finished epoch, with a `TrainingWarning`. False passes the
        interruption on.
    progress : callable, optional
        See `TrainingProgress`.
    checkpoint : path, optional
        A file written after every epoch. When it is there already, training goes on from it, to the same result.
    checkpoint_every_s : float, default=0
        Seconds that must have passed since the last writing, where the file is large and epochs are short.
    describes : mapping, optional
        What else the run depends on (JSON can hold it); a checkpoint of another run is refused.

    Returns
    -------
    TrainingRun

    Raises
    ------
    TrainingError
        When the loss becomes NaN or infinite, ends far above where it began, or the checkpoint is of another run.
    KeyboardInterrupt
        When interrupted before the first epoch is over: there is nothing to keep.

    Examples
    --------
    >>> import torch
    >>> from tip_adapter.methods.trained.loop import Schedule, train
    >>> slope = torch.zeros(1, requires_grad=True)
    >>> x = torch.arange(4.0)
    >>> schedule = Schedule(epochs=50, batch_size=2, learning_rate=0.1)
    >>> optimizer = torch.optim.SGD([slope])
    >>> run = train(lambda rows, _: ((slope * x[rows] - 3 * x[rows]) ** 2).mean(), optimizer, 4, schedule, seed=0)
    >>> round(slope.item(), 3), len(run.losses)
    (3.0, 50)
    """
    loop = _Loop(loss_of, optimizer, n_items, schedule, seed, progress)
    store = _Checkpoint(Path(checkpoint), loop.key(describes or {})) if checkpoint is not None else None
    started = time.perf_counter()
    losses = store.restore(loop) if store else []
    saved = started
    before = loop.state()
    interrupted = False
    try:
        for epoch in range(len(losses), schedule.epochs):
            loss = loop.epoch(epoch)
            # The three belong together, so that an interruption in between leaves a state that was reached.
            before, losses = loop.state(), [*losses, loss]
            if store and time.perf_counter() - saved >= checkpoint_every_s:
                store.save(loop, losses)
                saved = time.perf_counter()
    except KeyboardInterrupt:
        if not losses or not keep_interrupted:
            raise
        loop.reset(before)
        interrupted = True
        warn(
            f"Training was interrupted: what {len(losses)} of {schedule.epochs} epochs reached is kept",
            TrainingWarning,
        )
    loop.check_not_risen(losses)
    return TrainingRun(tuple(losses), schedule.epochs, interrupted, time.perf_counter() - started)


@dataclass
class _Loop:
    loss_of: Callable[[torch.Tensor, torch.Generator], torch.Tensor]
    optimizer: torch.optim.Optimizer
    n_items: int
    schedule: Schedule
    seed: int
    progress: TrainingProgress | None
    first_loss: float | None = None

    @property
    def parameters(self) -> list[torch.Tensor]:
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def epoch(self, epoch: int) -> float:
        """Train for one epoch and return its mean loss."""
        import torch

        # A generator per epoch, so that a resumed run draws what it would have drawn.
        seed = int(np.random.SeedSequence([self.seed, epoch]).generate_state(1)[0])
        generator = torch.Generator().manual_seed(seed)
        steps = -(-self.n_items // self.schedule.batch_size)
        total = 0.0
        order = torch.randperm(self.n_items, generator=generator)
        for number, rows in enumerate(torch.split(order, self.schedule.batch_size)):
            step = epoch * steps + number
            rate = self.schedule.rate(step, steps)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            loss = self._step(rows, generator, epoch)
            total += loss * len(rows)
            if self.progress:
                self.progress(step + 1, steps * self.schedule.epochs, loss)
        self._check_finite(epoch)
        return total / self.n_items

    def _step(self, rows: torch.Tensor, generator: torch.Generator, epoch: int) -> float:
        self.optimizer.zero_grad()
        loss = self.loss_of(rows, generator)
        value = float(loss.detach())
        if not math.isfinite(value):
            self._diverged(f"the loss was {value}", epoch)
        if self.first_loss is None and epoch == 0:
            self.first_loss = value
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return value

    def _check_finite(self, epoch: int) -> None:
        if not all(bool(parameter.detach().isfinite().all()) for parameter in self.parameters):
            self._diverged("a parameter was no finite number", epoch)

    def check_not_risen(self, losses: list[float]) -> None:
        """Refuse a training that made things much worse without ever overflowing."""
        first = losses[0] if self.first_loss is None else self.first_loss
        if losses[-1] > RISE * max(first, 1.0):
            self._diverged(f"the loss rose from {first:.3g} to {losses[-1]:.3g}", len(losses) - 1)

    def _diverged(self, what: str, epoch: int) -> None:
        raise TrainingError(
            f"Training diverged: {what} in epoch {epoch + 1} of {self.schedule.epochs}; nothing was kept: choose a "
            f"learning_rate below {self.schedule.learning_rate:g}"
        )

    def state(self) -> list[torch.Tensor]:
        return [parameter.detach().clone() for parameter in self.parameters]

    def reset(self, state: list[torch.Tensor]) -> None:
        for parameter, value in zip(self.parameters, state, strict=True):
            parameter.data.copy_(value)

    def key(self, describes: Mapping[str, Any]) -> str:
        """Hash of what the result depends on, as far as the loop and its caller can tell."""
        shapes = [list(parameter.shape) for parameter in self.parameters]
        content = [
            asdict(self.schedule),
            self.seed,
            self.n_items,
            shapes,
            type(self.optimizer).__name__,
            dict(describes),
        ]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass
class _Checkpoint:
    path: Path
    key: str

    def save(self, loop: _Loop, losses: list[float]) -> None:
        arrays = {f"parameter.{i}": _numpy(parameter) for i, parameter in enumerate(loop.parameters)}
        for i, parameter in enumerate(loop.parameters):
            for name, value in loop.optimizer.state.get(parameter, {}).items():
                if value is not None:
                    arrays[f"optimizer.{i}.{name}"] = _numpy(value)
        metadata = {"format": FILE_FORMAT, "run": self.key, "losses": json.dumps(losses)}
        save_arrays(self.path, arrays, metadata)

    def restore(self, loop: _Loop) -> list[float]:
        import torch

        if not self.path.exists():
            return []
        arrays, metadata = load_arrays(self.path)
        if metadata.get("format") != FILE_FORMAT or metadata.get("run") != self.key:
            raise TrainingError(
                f"Expected a checkpoint of this training, got one with other data or settings: remove {self.path} or "
                "name another file"
            )
        try:
            loop.reset([torch.from_numpy(arrays[f"parameter.{i}"]) for i in range(len(loop.parameters))])
            for name, array in arrays.items():
                kind, index, *rest = name.split(".", 2)
                if kind == "optimizer":
                    parameter, value = loop.parameters[int(index)], torch.from_numpy(array.copy())
                    if value.shape == parameter.shape:
                        # In the parameter's order of memory (channels last, for one): fused optimizers rely on it.
                        value = torch.empty_like(parameter, requires_grad=False).copy_(value)
                    loop.optimizer.state[parameter][rest[0]] = value
            return [float(loss) for loss in parse_json(metadata["losses"])]
        except (LookupError, TypeError, ValueError, RuntimeError) as error:
            raise TrainingError(
                f"Expected a checkpoint as it was saved, got a damaged one ({reason_of(error)}): remove {self.path}"
            ) from error


def _numpy(value: Any) -> np.ndarray[Any, Any]:
    """Copy, since memory that training goes on to change must not reach the file."""
    return np.array(value.detach().cpu().contiguous().numpy() if hasattr(value, "detach") else value)
