"""The official comparisons: `tip-adapter bench` on photos of clothes, or on published CLIP features; resumable.

Usage: python benchmarks/comparison.py clothing ../shared/data/clothing [--methods all]
       python benchmarks/comparison.py clip ../shared/data/clip-vit-b32
Single runs are kept in benchmarks/runs/, so that a second call goes on where the first ended; tables, figures and one
small file of all runs are copied to benchmarks/results/comparison_…/.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
FILES = ("table.md", "table.csv", "runs.jsonl")


def options_of(name: str, data: Path) -> list[str]:
    if name == "clothing":
        names = str(data / "class_names.json")
        return [str(data), "--encoder", "lite-fast", "--class-texts", names, "--protocol", "fair", "--methods", "all"]
    files = [str(data / f"{one}.npz") for one in ("stanford_cars", "caltech60")]
    return [*files, "--protocol", "fair,paper,paper-few", "--methods", "default"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=("clothing", "clip"))
    parser.add_argument("data", type=Path)
    parser.add_argument("--methods", help="Only these, such as training-free.")
    parser.add_argument("--protocol", help="Only these, such as fair.")
    parser.add_argument("--seeds", type=int, default=3)
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
    results.mkdir(parents=True, exist_ok=True)
    for old in results.glob("*.png"):
        old.unlink()
    for path in [*(runs / name for name in FILES), *sorted(runs.glob("*.png"))]:
        shutil.copyfile(path, results / path.name)
    print(f"written: {results}")
    sys.exit(code)


if __name__ == "__main__":
    main()
