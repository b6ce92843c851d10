"""Recall of classes with 0, 1, 2, or 4 shots beside classes with 16, and of the same classes where all have as few.

Usage: python benchmarks/scarce_classes.py ../shared/data [--methods zero-shot,tip-adapter,gda,proker,auto]

Every fifth class is scarce, another fifth with every seed. "added" is what `add_class` and `add_shots` give: the method
is fitted without the scarce classes, and what it chose is held when they come. Clothes with `lite`, Caltech and Cars
with CLIP ViT-B/32.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from provenance import write_result
from tip_adapter.data.sampling import sample_shots
from tip_adapter.methods import METHODS
from tip_adapter.methods.base import FewShotMethod
from trust import Data, load_all

COUNTS, MANY, SEEDS, EVERY = (0, 1, 2, 4), 16, 3, 5


def supports(data: Data, scarce: np.ndarray, count: int, seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """Rows of the shots: the scarce classes beside others with many, and all classes as scarce."""
    drawn = sample_shots(data.support_labels, MANY, random_state=seed)
    order = np.random.default_rng(seed).permutation(drawn)
    few = np.concatenate([order[data.support_labels[order] == c][:count] for c in range(len(data.weights))])
    of_scarce = np.isin(data.support_labels[drawn], scarce)
    yield "beside many", np.concatenate([drawn[~of_scarce], few[np.isin(data.support_labels[few], scarce)]])
    if count:
        yield "all as few", few


def added(name: str, data: Data, rows: np.ndarray, scarce: np.ndarray) -> FewShotMethod:
    """Fit without the scarce classes, then take them in without choosing anything again."""
    others = np.setdiff1d(np.arange(len(data.weights)), scarce)
    known = rows[np.isin(data.support_labels[rows], others)]
    first = METHODS[name](data.weights[others], logit_scale=data.scale)
    held = first.fit(data.support[known], np.searchsorted(others, data.support_labels[known])).held_parameters()
    second = METHODS[name](data.weights, logit_scale=data.scale, **held)
    return second.fit(data.support[rows], data.support_labels[rows])


def figures_of(method: FewShotMethod, data: Data, scarce: np.ndarray) -> dict[str, float]:
    """Recall of the scarce classes and of the others, how often a scarce class is named, and accuracy, in percent."""
    named = method.logits(data.queries).argmax(axis=1)
    right, is_scarce = named == data.labels, np.isin(data.labels, scarce)
    recalls = [right[data.labels == c].mean() for c in np.unique(data.labels)]
    kept = np.isin(np.unique(data.labels), scarce)
    return {
        "recall": 100 * float(np.mean(np.array(recalls)[kept])),
        "recall of the others": 100 * float(np.mean(np.array(recalls)[~kept])),
        "named / there": float(np.isin(named, scarce).sum() / is_scarce.sum()),
        "accuracy": 100 * float(right.mean()),
    }


def measure(data: Data, name: str, count: int, seed: int) -> Iterator[tuple[str, dict[str, float]]]:
    scarce = np.arange(seed % EVERY, len(data.weights), EVERY)
    for where, rows in supports(data, scarce, count, seed):
        method = METHODS[name](data.weights, logit_scale=data.scale)
        method.fit(data.support[rows], data.support_labels[rows])
        yield where, figures_of(method, data, scarce)
        if where == "beside many" and name != "zero-shot":
            yield "added", figures_of(added(name, data, rows, scarce), data, scarce)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--methods", default="zero-shot,tip-adapter,auto")
    parser.add_argument("--data", help="one of the data sets alone; nothing is written then")
    arguments = parser.parse_args()
    found: dict[str, Any] = {}
    for data in load_all(arguments.folder, "lite"):
        if arguments.data not in (None, data.name):
            continue
        found[data.name] = {}
        for name in arguments.methods.split(","):
            for count in COUNTS:
                means: dict[str, list[dict[str, float]]] = {}
                for seed in range(SEEDS):
                    for where, row in measure(data, name, count, seed):
                        means.setdefault(where, []).append(row)
                shown = {
                    where: {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
                    for where, rows in means.items()
                }
                found[data.name].setdefault(name, {})[str(count)] = shown
                told = (
                    f"{where}: recall {row['recall']:.1f}, others {row['recall of the others']:.1f}, "
                    f"named {row['named / there']:.2f}, accuracy {row['accuracy']:.1f}"
                    for where, row in shown.items()
                )
                print(f"{data.name} {name} {count}: {'; '.join(told)}", flush=True)
    if arguments.data is None:
        write_result("scarce_classes", {"many": MANY, "seeds": SEEDS, "sets": found})


if __name__ == "__main__":
    main()
