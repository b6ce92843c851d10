"""`auto` against the best training-free method and zero-shot, on draws it was not designed on.

Usage: python benchmarks/auto.py FOLDER        FOLDER holds stanford_cars.npz and caltech60.npz

Shots of each class are drawn from the largest support set: the sets as given, other numbers of shots, unequal numbers,
random parts of the classes, and no text. The best method is the one with the highest test accuracy, chosen after the
fact, so that it is no method and `auto` can seldom reach it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from provenance import write_result
from tip_adapter.methods import METHODS
from tip_adapter.methods.selection.weight import nll_and_accuracy

RIVALS = ("zero-shot", "tip-adapter", "gda", "proker", "tip-x", "ape", "prototype", "knn")
SEEDS = (0, 1, 2)


def draw(labels: np.ndarray, shots: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows of so many shots of every class."""
    rows = [rng.permutation(np.flatnonzero(labels == c))[:count] for c, count in enumerate(shots)]
    return np.concatenate(rows)


def cases(data: Any) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray, bool]]:
    """Name, support features and labels, classes kept, and whether there is text."""
    everything = np.arange(len(data["zero_shot_weights"]))
    for shots in (1, 2, 4, 8, 16):
        X, y = data[f"support_{shots}_features"].astype(np.float32), data[f"support_{shots}_labels"].astype(int)
        yield f"{shots} shots, as given", X, y, everything, True
    X, y = data["support_16_features"].astype(np.float32), data["support_16_labels"].astype(int)
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        for shots in (2, 3, 5, 8, 12):
            rows = draw(y, np.full(len(everything), shots), rng)
            yield f"{shots} shots, drawn", X[rows], y[rows], everything, True
        rows = draw(y, rng.integers(1, 17, len(everything)), rng)
        yield "1 to 16 shots, unequal", X[rows], y[rows], everything, True
        for shots in (4, 16):
            yield f"{shots} shots, 20 of the classes", *part(X, y, 20, shots, rng), True
        rows = draw(y, np.full(len(everything), 4), rng)
        yield "4 shots, no text", X[rows], y[rows], everything, False
        rows = draw(y, rng.choice([2, 16], len(everything)), rng)
        yield "2 or 16 shots, unequal", X[rows], y[rows], everything, True
        for shots in (4, 8, 16):
            yield f"{shots} shots, 5 of the classes", *part(X, y, 5, shots, rng), True


def part(
    X: np.ndarray, y: np.ndarray, n_classes: int, shots: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shots of a few of the classes, their labels, and the classes kept."""
    everything = np.arange(y.max() + 1)
    rows = draw(y, np.full(len(everything), shots), rng)
    kept = np.sort(rng.choice(everything, n_classes, replace=False))
    rows = rows[np.isin(y[rows], kept)]
    return X[rows], y[rows], kept


def measure(data: Any, case: tuple[str, np.ndarray, np.ndarray, np.ndarray, bool]) -> dict[str, Any]:
    name, X, y, kept, with_text = case
    test = np.isin(data["test_labels"], kept)
    queries = data["test_features"][test].astype(np.float32)
    truth = np.searchsorted(kept, data["test_labels"][test])
    weights = data["zero_shot_weights"][kept] if with_text else None
    rivals = [rival for rival in RIVALS if with_text or not (METHODS[rival].needs_text or rival == "zero-shot")]
    accuracy, chosen = {}, ""
    for rival in ("auto", *rivals):
        method = METHODS[rival](zero_shot_weights=weights).fit(X, np.searchsorted(kept, y))
        accuracy[rival] = 100 * nll_and_accuracy(method.logits(queries).astype(np.float64), truth)[1]
        chosen = chosen or " ".join(f"{w:.2f}" for w in method.search_.weights)
    best = max(rivals, key=accuracy.__getitem__)
    return {
        "case": name,
        "chosen": chosen,
        "accuracy": accuracy,
        "best": best,
        "to_best": accuracy["auto"] - accuracy[best],
        "to_zero_shot": accuracy["auto"] - accuracy["zero-shot"] if with_text else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    start, rows = time.perf_counter(), []
    for path in sorted(arguments.folder.glob("*.npz")):
        with np.load(path, allow_pickle=False) as data:
            for case in cases(data):
                row = {"set": path.stem, **measure(data, case)}
                rows.append(row)
                print(
                    f"{row['set']:14} {row['case']:30} auto {row['accuracy']['auto']:6.2f} ({row['chosen']}); best "
                    f"{row['accuracy'][row['best']]:6.2f} ({row['best']}), {row['to_best']:+.2f}",
                    flush=True,
                )
    several = [row for row in rows if not row["case"].startswith("1 shots")]
    worst = min(several, key=lambda row: row["to_best"])
    text = [row["to_zero_shot"] for row in rows if row["to_zero_shot"] is not None]
    summary = {
        "cases": len(rows),
        "mean_to_best": float(np.mean([row["to_best"] for row in several])),
        "worst_to_best": worst["to_best"],
        "within_half_a_point": float(np.mean([row["to_best"] >= -0.5 for row in several])),
        "worst_to_zero_shot": min(text),
    }
    print(json.dumps(summary, indent=2))
    write_result("auto", {**summary, "seconds": time.perf_counter() - start, "rows": rows})


if __name__ == "__main__":
    main()
