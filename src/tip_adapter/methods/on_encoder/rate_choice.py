"""Choose a learning rate by short trainings scored on held-out photos."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tip_adapter.errors import TrainingError
from tip_adapter.storage.atomic import write_file
from tip_adapter.storage.json_files import read_json
from tip_adapter.typing import IntArray

FILE_FORMAT = "tip-adapter learning rates 1"


@dataclass(frozen=True)
class RateChoice:
    """A learning rate, and the evidence for it.

    Attributes
    ----------
    rate : float
    scores : dict of float to float
        Of every rate tried, the loss on the photos apart, smaller being better; infinite where training diverged.
        Empty where nothing was tried.
    summary : str
    """

    rate: float
    scores: dict[float, float]
    summary: str


def held_out_shots(labels: IntArray, seed: int) -> tuple[IntArray, IntArray]:
    """Split shots: a quarter of each class, at least one, is held out; a class with a single shot keeps it.

    Shapes: `labels` (N,).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.on_encoder.rate_choice import held_out_shots
    >>> kept, held_out = held_out_shots(np.array([0, 0, 0, 0, 1, 1, 2]), seed=0)
    >>> len(kept), np.array([0, 0, 0, 0, 1, 1, 2])[held_out].tolist()
    (5, [0, 1])
    """
    rng = np.random.default_rng([seed, 1])
    out: list[int] = []
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        if len(rows) > 1:
            out.extend(rows[: max(1, len(rows) // 4)].tolist())
    held_out = np.sort(np.array(out, dtype=np.intp))
    return np.setdiff1d(np.arange(len(labels)), held_out), held_out


def choose_rate(
    rates: Sequence[float],
    loss_of: Callable[[float], float],
    *,
    evidence: str,
    notes: Path | None = None,
    key: str = "",
) -> RateChoice:
    """Try rates from the largest down, until one is worse than the best so far.

    Examples
    --------
    >>> from tip_adapter.methods.on_encoder.rate_choice import choose_rate
    >>> choose_rate([1, 2, 3, 4], lambda rate: abs(rate - 3), evidence="an example").scores
    {4: 1, 3: 0, 2: 1}
    """
    scores = _read_notes(notes, key)
    for rate in sorted(rates, reverse=True):
        if rate not in scores:
            try:
                scores[rate] = loss_of(rate)
            except TrainingError:
                scores[rate] = math.inf
            _write_notes(notes, key, scores)
        if scores[rate] > min(scores.values()):
            break
    best = min(scores, key=scores.__getitem__)
    if not math.isfinite(scores[best]):
        tried = ", ".join(f"{rate:g}" for rate in scores)
        raise TrainingError(f"Training diverged with all learning rates ({tried}): give a smaller learning_rate")
    told = ", ".join(f"{rate:g}: {score:.3f}" for rate, score in sorted(scores.items()))
    return RateChoice(best, scores, f"learning rate {best:g} by {evidence} ({told})")


def _read_notes(notes: Path | None, key: str) -> dict[float, float]:
    if notes is None or not notes.exists():
        return {}
    try:
        content = read_json(notes)
        same = content["format"] == FILE_FORMAT and content["run"] == key
        scores = {float(rate): math.inf if loss is None else float(loss) for rate, loss in content["losses"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        same, scores = False, {}
    if not same:
        raise TrainingError(
            f"Expected the checkpoint of this training, got another: remove {notes} or name another checkpoint file"
        )
    return scores


def _write_notes(notes: Path | None, key: str, scores: dict[float, float]) -> None:
    if notes is None:
        return
    losses = {repr(rate): loss if math.isfinite(loss) else None for rate, loss in scores.items()}
    content = {"format": FILE_FORMAT, "run": key, "losses": losses}
    write_file(notes, (json.dumps(content, indent=2) + "\n").encode())
