"""Accuracy where the photos to label are chosen by `tip-adapter next`, or at random.

Usage: python benchmarks/next_photos.py ../shared/data [--encoder lite-fast] [--seeds 5]

Begins with one shot a class; in each of five rounds 10 of the training photos (or one a class, where there are more)
are labelled. Intervals are 95 % bootstrap intervals of the difference, paired by seed. Clothes with the encoder given,
Caltech and Cars with CLIP ViT-B/32.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from provenance import write_result
from tip_adapter.data.sampling import sample_shots
from tip_adapter.methods import METHODS
from tip_adapter.methods.heads import softmax
from tip_adapter.trust.unlabelled import next_to_label
from trust import Data, load_all

ROUNDS, FEWEST = 5, 10


def curve(data: Data, method: str, seed: int, *, chosen: bool) -> list[float]:
    """Accuracy in percent before the first round and after each."""
    labelled = list(sample_shots(data.support_labels, 1, random_state=seed))
    count, random, found = max(FEWEST, len(data.weights)), np.random.default_rng(seed), []
    for number in range(ROUNDS + 1):
        fitted = METHODS[method](data.weights, logit_scale=data.scale)
        fitted.fit(data.support[labelled], data.support_labels[labelled])
        found.append(100 * float((fitted.logits(data.queries).argmax(axis=1) == data.labels).mean()))
        if number == ROUNDS:
            return found
        pool = np.setdiff1d(np.arange(len(data.support_labels)), labelled)
        rows = random.permutation(len(pool))[:count]
        if chosen:
            probabilities = softmax(fitted.logits(data.support[pool]).astype(np.float64))
            rows = next_to_label(data.support[pool], probabilities, data.support[labelled], count)
        labelled += pool[rows].tolist()
    return found


def interval(gains: np.ndarray) -> list[float]:
    random = np.random.default_rng(0)
    means = gains[random.integers(0, len(gains), (10_000, len(gains)))].mean(axis=1)
    return [float(bound) for bound in np.quantile(means, (0.025, 0.975))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--encoder", default="lite-fast")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--methods", default="tip-adapter,auto")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for data in load_all(arguments.folder, arguments.encoder):
        for method in arguments.methods.split(","):
            if method == "auto" and len(data.weights) > 100:
                continue  # minutes a fit in every round
            seeds = range(arguments.seeds)
            drawn = np.array([curve(data, method, seed, chosen=False) for seed in seeds])
            chosen = np.array([curve(data, method, seed, chosen=True) for seed in seeds])
            gains = chosen - drawn
            row = {
                "set": data.name,
                "method": method,
                "photos a round": max(FEWEST, len(data.weights)),
                "random": drawn.mean(axis=0).tolist(),
                "chosen": chosen.mean(axis=0).tolist(),
                "gain": gains[:, 1:].mean(axis=0).tolist(),
                "gain intervals": [interval(gains[:, number]) for number in range(1, ROUNDS + 1)],
                "mean gain": float(gains[:, 1:].mean()),
                "mean gain interval": interval(gains[:, 1:].mean(axis=1)),
            }
            rows.append(row)
            print(data.name, method, np.round(row["gain"], 1), "mean", round(row["mean gain"], 2), flush=True)
    write_result("next_photos", {"encoder": arguments.encoder, "seeds": arguments.seeds, "rows": rows})


if __name__ == "__main__":
    main()
