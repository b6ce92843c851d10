"""Compare methods for a paper: one fair protocol, a table for LaTeX, and differences set by set.

python examples/compare_methods.py photos/ comparison/ --ours gda --baselines tip-adapter,zero-shot --shots 1,4,16

`photos/` is a data set as `tip-adapter bench` takes it, or a file of features. In `comparison/` are the usual tables,
every run as JSON, and `table.tex`; `tip-adapter bench --report-only --output comparison/` draws the figures. Methods
are compared on the same support sets, so that their difference is known better than either accuracy: its 95 % interval
(Student's t) is printed for every baseline.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtrit

from tip_adapter import bench

parser = argparse.ArgumentParser(description="Compare methods for a paper.")
parser.add_argument("data", help="labelled photos, or a file of features (.npz)")
parser.add_argument("output", type=Path, help="a folder for the results; what is there already is not measured again")
parser.add_argument("--ours", default="gda")
parser.add_argument("--baselines", default="tip-adapter,zero-shot")
parser.add_argument("--shots", default="1,2,4,8,16")
parser.add_argument("--seeds", type=int, default=3, help="support sets for each number of shots")
parser.add_argument("--encoder", default="lite")


def accuracies(runs: list[dict[str, Any]], method: str, shots: int) -> dict[int, float]:
    """The accuracy of a method in %, by support set."""
    return {run["seed"]: 100 * run["accuracy"] for run in runs if (run["method"], run["shots"]) == (method, shots)}


def with_interval(values: Iterable[float]) -> tuple[float, float]:
    """The mean, and half of its 95 % interval over support sets."""
    found = np.array(list(values))
    half = stdtrit(len(found) - 1, 0.975) * found.std(ddof=1) / np.sqrt(len(found)) if len(found) > 1 else np.nan
    return float(found.mean()), float(half)


def main() -> None:
    """Measure, and write the table."""
    given = parser.parse_args()
    shots = [int(number) for number in given.shots.split(",")]
    methods = [given.ours, *given.baselines.split(",")]
    result = bench.run(
        [given.data],
        given.output,
        methods=methods,
        shots=shots,
        n_seeds=given.seeds,
        encoder=given.encoder,
        figures=False,
    )
    runs = [dict(run) for run in result.records if run["status"] == "done"]
    lines = [r"\begin{tabular}{l" + "r" * len(shots) + "}", " & ".join(["shots", *map(str, shots)]) + r" \\ \hline"]
    for method in methods:
        cells = [with_interval(accuracies(runs, method, number).values()) for number in shots]
        lines.append(" & ".join([method, *(rf"${mean:.1f} \pm {half:.1f}$" for mean, half in cells)]) + r" \\")
    (given.output / "table.tex").write_text("\n".join([*lines, r"\end{tabular}", ""]), encoding="utf-8")
    for method in methods[1:]:
        for number in shots:
            ours, theirs = (accuracies(runs, name, number) for name in (given.ours, method))
            gain, half = with_interval(ours[seed] - theirs[seed] for seed in ours.keys() & theirs.keys())
            print(f"{given.ours} over {method}, {number} shots: {gain:+.1f} ± {half:.1f} points")
    print(f"{len(runs)} runs: {given.output / 'table.tex'}, table.md, table.csv, runs/")


if __name__ == "__main__":  # runs are processes, which import this file again
    main()
