"""The automatic search against the published procedure: a grid of 200 β × 20 α, everything recomputed at each point.

Usage: python benchmarks/search.py ../shared/data/clip-vit-b32 [--fraction 0.1]

The grid is the one of the paper's code: β from .1 to 7 in 200 steps, α from .1 to 3 in 20 steps. On caltech60 both look
at the validation split; the grid is run whole. On Stanford Cars both leave shots out in turn; there only a fraction of
the grid points, evenly spread, is timed, and the time is scaled.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from provenance import write_result
from tip_adapter.methods.heads import zero_shot_logits
from tip_adapter.methods.selection.cache_search import search
from tip_adapter.methods.selection.folds import support_folds

GRID = [(step * (7 - 0.1) / 200 + 0.1, other * (3 - 0.1) / 20 + 0.1) for step in range(200) for other in range(20)]


def point(queries: np.ndarray, labels: np.ndarray, text: np.ndarray, keys: np.ndarray, one_hot: np.ndarray) -> Callable:
    def accuracy(beta: float, alpha: float) -> float:
        affinity = queries @ keys.T
        cache_logits = np.exp(-beta + beta * affinity) @ one_hot
        return float(np.mean((text + alpha * cache_logits).argmax(axis=1) == labels))

    return accuracy


def timed(work: Callable[[], object], repeats: int) -> tuple[float, object]:
    seconds, result = [], None
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds)), result


def load(path: Path) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        data = {key: file[key] for key in file.files}
    weights = data["zero_shot_weights"]
    keys, labels = data["support_16_features"].astype(np.float32), data["support_16_labels"].astype(np.intp)
    return data, weights, keys, labels, zero_shot_logits(keys, weights, 100.0, len(weights))


def with_validation(folder: Path) -> dict[str, float]:
    data, weights, keys, labels, text = load(folder / "caltech60.npz")
    queries, truth = data["validation_features"].astype(np.float32), data["validation_labels"].astype(np.intp)
    query_text = zero_shot_logits(queries, weights, 100.0, len(weights))
    one_hot = np.eye(len(weights), dtype=np.float32)[labels]
    accuracy = point(queries, truth, query_text, keys, one_hot)
    grid_seconds, best = timed(lambda: max(accuracy(beta, alpha) for beta, alpha in GRID), 1)
    ours_seconds, found = timed(lambda: search(keys, labels, text, validation=(queries, truth, query_text)), 5)
    return {
        "grid_s": grid_seconds,
        "ours_s": ours_seconds,
        "factor": grid_seconds / ours_seconds,
        "grid_accuracy": 100 * float(best),
        "ours_accuracy": 100 * found.accuracy,
    }


def from_support(folder: Path, fraction: float) -> dict[str, float]:
    _, weights, keys, labels, text = load(folder / "stanford_cars.npz")
    folds = support_folds(keys, labels)
    one_hot = np.eye(len(weights), dtype=np.float32)[labels]
    parts = [
        point(
            keys[folds == fold], labels[folds == fold], text[folds == fold], keys[folds != fold], one_hot[folds != fold]
        )
        for fold in range(folds.max() + 1)
    ]
    step = max(1, round(1 / fraction))
    points = GRID[::step]
    seconds, _ = timed(lambda: [np.mean([part(beta, alpha) for part in parts]) for beta, alpha in points], 1)
    grid_seconds = seconds * len(GRID) / len(points)
    ours_seconds, _ = timed(lambda: search(keys, labels, text), 5)
    figures = {"grid_s": grid_seconds, "ours_s": ours_seconds, "factor": grid_seconds / ours_seconds}
    return figures | {"grid_points_timed": len(points), "grid_points": len(GRID)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fraction", type=float, default=0.05)
    arguments = parser.parse_args()
    figures = {"caltech60, validation split": with_validation(arguments.folder)}
    figures["stanford_cars, support only"] = from_support(arguments.folder, arguments.fraction)
    for name, row in figures.items():
        print(name + ": " + ", ".join(f"{key} {value:.4g}" for key, value in row.items()))
    write_result("search", figures)


if __name__ == "__main__":
    main()
