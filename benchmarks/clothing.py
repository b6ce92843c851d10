"""`tip-adapter fit` and `evaluate` on real photos of clothes, with `lite-fast`, 16 shots, several seeds.

Usage: python benchmarks/clothing.py ../shared/data/clothing [--views 1]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from provenance import write_result


def command(*arguments: object) -> dict[str, float]:
    words = [sys.executable, "-m", "tip_adapter", *map(str, arguments), "--json"]
    return json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--views", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--method", default="tip-adapter")
    arguments = parser.parse_args()
    rows = []
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder) / "clothes.tip"
            names = arguments.folder / "class_names.json"
            options = ["--shots", 16, "--encoder", "lite-fast", "--seed", seed, "--views", arguments.views]
            options += ["--method", arguments.method]
            command("fit", arguments.folder / "train", "--class-texts", names, *options, "-o", model)
            rows.append(command("evaluate", model, arguments.folder / "test"))
        row = rows[-1]
        print(
            f"seed {seed}: {row['accuracy']:.1%}, zero-shot {row['zero_shot_accuracy']:.1%}, "
            f"shots alone {row['cache_accuracy']:.1%}, n = {row['n']}"
        )
    accuracies = np.array([row["accuracy"] for row in rows])
    error = accuracies.std(ddof=1) / np.sqrt(len(rows))
    print(f"mean {accuracies.mean():.1%} ± {error:.1%} (standard error over seeds)")
    keys = ("accuracy", "accuracy_interval", "zero_shot_accuracy", "cache_accuracy", "n", "ece", "nll")
    figures = {"mean_accuracy": float(accuracies.mean()), "standard_error": float(error)}
    figures |= {"seeds": [{key: row[key] for key in keys} for row in rows]}
    write_result(f"clothing_{arguments.method}_{arguments.views}_views", figures)


if __name__ == "__main__":
    main()
