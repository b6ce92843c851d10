"""The official comparisons: `tip-adapter bench` on photos of clothes, or on published CLIP features; resumable.

Usage: python benchmarks/comparison.py clothing ../shared/data/clothing [--methods all]
       python benchmarks/comparison.py clip ../shared/data/clip-vit-b32
Single runs are kept in benchmarks/runs/, so that a second call goes on where the first ended; tables, figures and one
small file of all runs are copied to benchmarks/results/comparison_…/. With --keep the rows of that file whose methods
are not run now stay: training takes hours, and its code changes seldom.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from PIL import Image

from tip_adapter.bench.records import load_records, write_record

HERE = Path(__file__).parent
SAME = 1e-4
"""Difference in nats that rounding makes at the most."""

FILES = ("table.md", "table.csv", "runs.jsonl")


def options_of(name: str, data: Path) -> list[str]:
    if name == "clothing":
        names = str(data / "class_names.json")
        return [str(data), "--encoder", "lite-fast", "--class-texts", names, "--protocol", "fair", "--methods", "all"]
    files = [str(data / f"{one}.npz") for one in ("stanford_cars", "caltech60")]
    return [*files, "--protocol", "fair,paper,paper-few", "--methods", "default"]


def zero_shot_losses(runs: list[dict[str, Any]]) -> dict[tuple[str, str], float]:
    """Likelihood loss of the texts alone on the test photos of every data set and protocol."""
    measured = (run for run in runs if run["method"] == "zero-shot" and "nll" in run)
    return {(run["dataset"], run["protocol"]): run["nll"] for run in measured}


def keep_former(runs: Path, results: Path) -> int:
    """Put former runs of methods that were not run now beside those that were, where the data are the same.

    Features may differ in rounding, and with them the id of the data: the same are those on which texts do the same.
    """
    now, former = load_records(runs).runs, load_records(results).runs
    ids = {run["dataset"]: run["dataset_id"] for run in now}
    methods = {(run["dataset"], run["protocol"], run["method"]) for run in now}
    before, after = zero_shot_losses(former), zero_shot_losses(now)
    same = {key for key in before.keys() & after.keys() if abs(before[key] - after[key]) < SAME}
    kept = [
        run
        for run in former
        if ("nll" not in run or (run["dataset"], run["protocol"]) in same)
        and (run["dataset"], run["protocol"], run["method"]) not in methods
    ]
    for number, run in enumerate(kept):
        write_record(runs / "runs" / "former" / f"{number}.json", run | {"dataset_id": ids[run["dataset"]]})
    return len(kept)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=("clothing", "clip"))
    parser.add_argument("data", type=Path)
    parser.add_argument("--methods", help="Only these, such as training-free.")
    parser.add_argument("--protocol", help="Only these, such as fair.")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--keep", action="store_true", help="Keep former runs of methods that are not run now.")
    arguments = parser.parse_args()
    runs, results = HERE / "runs" / arguments.name, HERE / "results" / f"comparison_{arguments.name}"
    options = [*options_of(arguments.name, arguments.data), "--shots", "1,2,4,8,16", "--seeds", str(arguments.seeds)]
    for name in ("methods", "protocol"):
        if getattr(arguments, name):
            options[options.index(f"--{name}") + 1] = getattr(arguments, name)
    command = ["bench", *options, "--output", str(runs)]
    print(f"tip-adapter {shlex.join(command)}", flush=True)
    start = time.perf_counter()
    code = subprocess.run([sys.executable, "-m", "tip_adapter", *command]).returncode
    print(f"{time.perf_counter() - start:.0f} s, exit code {code}")
    if not (runs / "table.md").exists():
        sys.exit(code or 1)
    if arguments.keep:
        print(f"{keep_former(runs, results)} former runs kept")
        words = [sys.executable, "-m", "tip_adapter", "bench", "--report-only", "--output", str(runs)]
        code = subprocess.run(words).returncode or code
    results.mkdir(parents=True, exist_ok=True)
    for old in results.glob("*.png"):
        old.unlink()
    for name in FILES:
        shutil.copyfile(runs / name, results / name)
    for path in runs.glob("*.png"):
        with Image.open(path) as picture:  # 256 colours take a third
            picture.convert("RGB").quantize(256).save(results / path.name, optimize=True)
    print(f"written: {results}")
    sys.exit(code)


if __name__ == "__main__":
    main()
