"""Summarise results, with intervals: a row per data set, protocol, method and number of shots."""

from __future__ import annotations

import base64
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tip_adapter.bench.method_choice import group_of
from tip_adapter.bench.protocols import FAIR, TUNED
from tip_adapter.bench.records import Record
from tip_adapter.trust.metrics import wilson_interval

LEVEL = 0.95
HALVES = ("base_accuracy", "new_accuracy")


@dataclass(frozen=True, order=True)
class Setting:
    """What rows must share to be compared."""

    dataset: str
    """With the first digits of its fingerprint where there are several states of it."""
    encoder: str
    protocol: str

    @property
    def title(self) -> str:
        """For headings."""
        return f"{self.dataset}, {self.encoder}, protocol {self.protocol}"


@dataclass(frozen=True)
class Row:
    """A method at one number of shots; means over its runs."""

    setting: Setting
    method: str
    group: str
    shots: int
    n_runs: int
    accuracy: float
    low: float
    high: float
    """accuracy, low and high: fractions; the interval holds 95 %."""
    interval: Literal["seeds", "test images"]
    """What it is over: Student's t over support sets; or, where these do not differ, Wilson's over test images."""
    nll: float
    ece: float
    fit_seconds: float
    predict_seconds: float
    """fit_seconds and predict_seconds: medians."""
    trainable_parameters: int
    peak_memory_mb: float | None
    """The largest."""
    base_accuracy: float | None = None
    new_accuracy: float | None = None
    """base_accuracy and new_accuracy: under the protocol "base-to-new", of which `accuracy` is the harmonic mean."""

    @property
    def half(self) -> float:
        """Half the interval."""
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class Gap:
    """How much a method gains from the published tuning."""

    dataset: str
    encoder: str
    protocol: str
    method: str
    group: str
    """dataset, encoder, protocol, method and group: `protocol` is the one that tunes on a validation set."""
    shots: int
    n_pairs: int
    """shots and n_pairs: pairs of runs on the same support set."""
    gap: float
    low: float
    high: float
    """gap, low and high: accuracy under that protocol minus that under "fair", with its 95 % interval over support
    sets; without several, over test images."""
    interval: Literal["seeds", "test images"]


def settings_of(runs: Iterable[Record]) -> dict[tuple[str, str, str, str], Setting]:
    """Name the settings of runs, so that two states of a data set have two names."""
    keys = {tuple(str(run[key]) for key in ("dataset", "dataset_id", "encoder", "protocol")) for run in runs}
    states = defaultdict(set)
    for dataset, identity, encoder, _ in keys:
        states[dataset, encoder].add(identity)
    return {
        (dataset, identity, encoder, protocol): Setting(
            f"{dataset} #{identity}" if len(states[dataset, encoder]) > 1 else dataset, encoder, protocol
        )
        for dataset, identity, encoder, protocol in sorted(keys)
    }


def summarise(runs: Sequence[Record]) -> list[Row]:
    """Average runs over their support sets."""
    settings = settings_of(runs)
    groups = defaultdict(list)
    for run in runs:
        setting = settings[run["dataset"], run["dataset_id"], run["encoder"], run["protocol"]]
        groups[setting, run["method"], run["shots"]].append(run)
    return [_row(*key, groups[key]) for key in sorted(groups)]


def _row(setting: Setting, method: str, shots: int, runs: list[Record]) -> Row:
    accuracies = np.array([run["accuracy"] for run in runs])
    # As many right from every support set, be it all: their spread, which is none, says nothing about chance.
    over_images = len(set(accuracies.tolist())) == 1
    if over_images:
        n = runs[0]["n_test"]
        low, high = wilson_interval(round(runs[0]["accuracy"] * n), n)
    else:
        low, high = _t_interval(accuracies)
    memories = [run["peak_memory_mb"] for run in runs if run.get("peak_memory_mb") is not None]
    return Row(
        setting,
        method,
        group_of(method),
        shots,
        len(runs),
        float(accuracies.mean()),
        low,
        high,
        "test images" if over_images else "seeds",
        float(np.mean([run["nll"] for run in runs])),
        float(np.mean([run["ece"] for run in runs])),
        float(np.median([run["fit_seconds"] for run in runs])),
        float(np.median([run["predict_seconds"] for run in runs])),
        int(runs[0]["trainable_parameters"]),
        max(memories) if memories else None,
        *(float(np.mean([run[key] for run in runs])) if key in runs[0] else None for key in HALVES),
    )


def _t_interval(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> tuple[float, float]:
    """Student's t interval of a mean, cut to what an accuracy can be."""
    mean, half = float(values.mean()), _half_width(values)
    return max(0.0, mean - half), min(1.0, mean + half)


def _half_width(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    from scipy.special import stdtrit

    n = len(values)
    return float(stdtrit(n - 1, (1 + LEVEL) / 2) * values.std(ddof=1) / math.sqrt(n)) if n > 1 else 0.0


def _half_width_over_images(one: Record, other: Record) -> float:
    """Normal interval of a mean difference, photo by photo."""
    difference = _right(one).astype(np.float64) - _right(other)
    return float(1.96 * difference.std() / math.sqrt(len(difference)))


def _right(run: Record) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """Unpack which test photos were right."""
    return np.unpackbits(np.frombuffer(base64.b64decode(run["right"]), dtype=np.uint8), count=run["n_test"])


def gaps(runs: Sequence[Record]) -> list[Gap]:
    """Pair runs on the same support set under "fair" and under another protocol."""
    settings = settings_of(runs)
    found: dict[tuple[str, str, str, int], dict[int, dict[str, Record]]] = defaultdict(lambda: defaultdict(dict))
    for run in runs:
        setting = settings[run["dataset"], run["dataset_id"], run["encoder"], run["protocol"]]
        key = setting.dataset, setting.encoder, run["method"], run["shots"]
        found[key][run["seed"]][run["protocol"]] = run
    result = []
    tuned = sorted({run["protocol"] for run in runs} & set(TUNED))
    for (dataset, encoder, method, shots), by_seed in sorted(found.items()):
        for protocol in tuned:
            pairs = [(pair[protocol], pair[FAIR]) for pair in by_seed.values() if protocol in pair and FAIR in pair]
            if not pairs:
                continue
            values = np.array([paper["accuracy"] - fair["accuracy"] for paper, fair in pairs])
            mean = float(values.mean())
            over: Literal["seeds", "test images"] = "seeds" if len(pairs) > 1 else "test images"
            half = _half_width(values) if len(pairs) > 1 else _half_width_over_images(*pairs[0])
            ends = (mean - half, mean + half)
            group = group_of(method)
            result.append(Gap(dataset, encoder, protocol, method, group, shots, len(pairs), mean, *ends, over))
    return result
