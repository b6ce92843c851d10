"""Tip-Adapter on real CLIP features: the published fixed α and β, and α and β chosen from the shots alone.

Usage: python benchmarks/published_features.py ../shared/data/clip-vit-b32
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from provenance import write_result
from tip_adapter.methods.heads import zero_shot_logits
from tip_adapter.methods.heads.affinity import Cache, mass_from_cosines
from tip_adapter.methods.selection.cache_search import search
from tip_adapter.methods.selection.line_search import best_accuracy_alpha
from tip_adapter.trust.metrics import bootstrap_interval

SHOTS = (1, 2, 4, 8, 16)
ORACLE_BETAS = np.geomspace(0.125, 128, 41)


def right(text: np.ndarray, mass: np.ndarray, alpha: float, labels: np.ndarray) -> np.ndarray:
    return (text + alpha * mass).argmax(axis=1) == labels


def measure(data: dict[str, np.ndarray], shots: int) -> dict[str, float | list[float] | str]:
    weights, labels = data["zero_shot_weights"], data["test_labels"]
    queries, keys = data["test_features"].astype(np.float32), data[f"support_{shots}_features"].astype(np.float32)
    support_labels = data[f"support_{shots}_labels"].astype(np.intp)
    text = zero_shot_logits(queries, weights, 100.0, len(weights))
    cache = Cache.build(keys, support_labels, len(weights))
    cosines = queries @ cache.keys.T
    found = search(keys, support_labels, zero_shot_logits(keys, weights, 100.0, len(weights)))
    auto = right(text, mass_from_cosines(cosines, cache, found.beta), found.alpha, labels)
    oracle = max(
        best_accuracy_alpha(text, mass_from_cosines(cosines, cache, float(beta)), labels)[1] for beta in ORACLE_BETAS
    )
    return {
        "zero_shot": 100 * float(np.mean(text.argmax(axis=1) == labels)),
        "fixed": 100 * float(right(text, mass_from_cosines(cosines, cache, 5.5), 1.0, labels).mean()),
        "auto": 100 * float(auto.mean()),
        "auto_interval": [100 * end for end in bootstrap_interval(auto)],
        "oracle": 100 * oracle,
        "alpha": found.alpha,
        "beta": found.beta,
        "rule": found.rule,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    figures: dict[str, object] = {}
    gaps = []
    print("data          shots  zero-shot   fixed    auto (95 % interval)     oracle   gap")
    for name in ("stanford_cars", "caltech60"):
        with np.load(folder / f"{name}.npz", allow_pickle=False) as file:
            data = {key: file[key] for key in file.files}
        for shots in SHOTS:
            row = measure(data, shots)
            figures[f"{name}/{shots}"] = row
            gap = row["oracle"] - row["auto"]
            gaps += [gap] if shots > 1 else []
            low, high = row["auto_interval"]
            print(
                f"{name:13} {shots:5}  {row['zero_shot']:9.2f}  {row['fixed']:6.2f}  {row['auto']:6.2f} "
                f"({low:.2f} to {high:.2f})  {row['oracle']:7.2f}  {gap:5.2f}"
            )
    figures["mean_gap_2_to_16_shots"] = float(np.mean(gaps))
    print(f"mean gap to the test-label oracle over 2 to 16 shots of both sets: {np.mean(gaps):.2f} points")
    write_result("published_features", figures)


if __name__ == "__main__":
    main()
