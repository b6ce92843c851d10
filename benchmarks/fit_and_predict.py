"""Commands with `lite` on photos of clothes, as one types them: whole processes, from start to end.

Usage: python benchmarks/fit_and_predict.py ../shared/data/clothing [--repeats 5]

`lite` is prepared beforehand, in a cache folder of its own. 10 classes × 16 photos.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from provenance import write_result

TARGETS = {
    "fit, 10 views, empty store": 45.0,
    "fit, 1 view, empty store": 8.0,
    "fit, 10 views, warm store": 2.5,
    "fit, 1 view, warm store": 2.5,
    "predict one new photo": 1.2,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    photos = sorted((arguments.folder / "test").rglob("*.jpg"))
    seconds: dict[str, list[float]] = {name: [] for name in TARGETS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Modules are compiled, as pip leaves them, whatever the shell forbids.
        environment = os.environ | {
            "TIP_ADAPTER_CACHE": str(folder / "cache"),
            "PYTHONPYCACHEPREFIX": str(folder / "bytecode"),
            "PYTHONDONTWRITEBYTECODE": "",
        }

        def timed(*command: str) -> float:
            start = time.perf_counter()
            program = [sys.executable, "-m", "tip_adapter", *command]
            subprocess.run(program, check=True, capture_output=True, env=environment)
            return time.perf_counter() - start

        model = str(folder / "clothes.tip")

        def fit(views: int) -> float:
            data = str(arguments.folder / "train")
            return timed("fit", data, "-e", "lite", "--shots", "16", "--views", str(views), "-o", model)

        fit(1)  # prepares lite, and compiles the modules
        timed("predict", model, str(photos[0]))
        for round_number in range(arguments.repeats):
            for views in (1, 10):
                for file in (folder / "cache").glob("features.sqlite3*"):
                    file.unlink()
                plural = "s" if views > 1 else ""
                seconds[f"fit, {views} view{plural}, empty store"].append(fit(views))
                seconds[f"fit, {views} view{plural}, warm store"].append(fit(views))
            photo = photos[round_number * len(photos) // arguments.repeats]
            seconds["predict one new photo"].append(timed("predict", model, str(photo)))
    figures = {name: float(np.median(values)) for name, values in seconds.items()}
    for name, value in figures.items():
        print(f"{name}: {value:.2f} s (target {TARGETS[name]} s)")
    write_result("fit_and_predict", {"median_seconds": figures, "targets": TARGETS, "all_seconds": seconds})


if __name__ == "__main__":
    main()
