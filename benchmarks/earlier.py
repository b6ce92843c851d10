"""`auto` as it is beside `auto` as it was at an earlier commit: the same features, true texts and draws.

Usage: python benchmarks/earlier.py ../shared/data COMMIT [--draws 5] [--sets stanford_cars caltech60 clothing]

The sets and draws of `outsiders.py`, four times as many of sets with at most 100 classes. The package of
that commit is taken from git into a temporary folder, and both are fitted by the same lines in a process of their own.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
SHOTS = ("1", "2", "4", "8", "16")
FIT = """
import sys, numpy as np
from tip_adapter.methods import METHODS
given, answers = np.load(sys.argv[1], allow_pickle=False), []
for rows in (given[name] for name in given.files if name.startswith("rows")):
    method = METHODS["auto"](given["weights"], logit_scale=float(given["scale"]))
    answers.append(method.fit(given["pool"][rows], given["labels"][rows]).logits(given["queries"]).argmax(axis=1))
np.save(sys.argv[2], answers)
"""


def answers_of(source: Path, given: Path) -> np.ndarray:
    """Classes (draws, B) that the package in a folder names for the queries."""
    told = given.with_suffix(".npy")
    environment = os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", FIT, str(given), str(told)], env=environment, check=True)
    answers: np.ndarray = np.load(told)
    return answers


def main() -> None:
    from outsiders import draw, interval, load
    from provenance import write_result

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("commit")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--sets", nargs="+", default=["stanford_cars", "caltech60", "clothing"])
    options, rows = parser.parse_args(), []
    archive = subprocess.run(["git", "archive", options.commit, "src"], cwd=ROOT, check=True, stdout=subprocess.PIPE)
    with tempfile.TemporaryDirectory() as temporary:
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as packed:
            packed.extractall(temporary, filter="data")
        for data in (load(name, options.folder) for name in options.sets):
            for shots in SHOTS:
                whole = shots == "16" and len(data.pool) == 16 * len(data.weights)  # drawn in one way alone
                count = options.draws * (1 if len(data.weights) > 100 else 4)  # of few photos more draws are needed
                draws = [draw(data, shots, seed) for seed in range(1 if whole else count)]
                given = Path(temporary) / "given.npz"
                features = {"pool": data.pool, "labels": data.pool_labels, "queries": data.queries}
                numbered = {f"rows{number}": drawn for number, drawn in enumerate(draws)}
                np.savez(given, weights=data.weights, scale=data.scale, **features, **numbered)
                sources = Path(temporary) / "src", ROOT / "src"
                before, now = ((answers_of(source, given) == data.labels).astype(float) for source in sources)
                low, high = interval((now - before).mean(axis=0))
                found = {"before": 100 * float(before.mean()), "now": 100 * float(now.mean()), "low": low, "high": high}
                rows.append({"set": data.name, "shots": shots, "draws": len(draws), **found})
                print(rows[-1], flush=True)
    gain = float(np.mean([row["now"] - row["before"] for row in rows]))
    write_result("earlier", {"commit": options.commit, "rows": rows, "gain": gain})


if __name__ == "__main__":
    main()
