"""What a command costs before it works: medians of whole processes.

Usage: python benchmarks/startup.py ../shared/data/clothing [--repeats 9]

Two photos a class are fitted with `lite` first, which prepares that encoder where it is not yet.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from provenance import write_result


def median_seconds(command: list[str], repeats: int) -> float:
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds[1:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    program = str(Path(sys.executable).with_name("tip-adapter"))
    photos = sorted((arguments.folder / "test").rglob("*.jpg"))
    with tempfile.TemporaryDirectory() as folder:
        model = str(Path(folder) / "clothes.tip")
        fit = [program, "fit", str(arguments.folder / "train"), "--encoder", "lite", "--shots", "2", "-o", model]
        subprocess.run(fit, check=True, capture_output=True)
        empty = median_seconds([sys.executable, "-c", "import numpy"], arguments.repeats)
        bare = median_seconds([sys.executable, "-c", ""], arguments.repeats)
        figures = {
            "python, nothing": bare,
            "import numpy": empty,
            "import tip_adapter": median_seconds([sys.executable, "-c", "import tip_adapter"], arguments.repeats),
            "tip-adapter --help": median_seconds([program, "--help"], arguments.repeats),
        }
        # A store of its own for every run would hide nothing: each photo is asked for once, so each is encoded.
        seconds = []
        for photo in photos[: arguments.repeats]:
            copy = Path(folder) / "new.jpg"
            copy.write_bytes(photo.read_bytes() + time.perf_counter_ns().to_bytes(8, "little"))
            start = time.perf_counter()
            subprocess.run([program, "predict", model, str(copy)], check=True, capture_output=True)
            seconds.append(time.perf_counter() - start)
        figures["predict one new photo"] = float(np.median(seconds))
    for name, value in figures.items():
        print(f"{name}: {value:.3f} s")
    write_result("startup", figures)


if __name__ == "__main__":
    main()
