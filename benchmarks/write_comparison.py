"""Write the tables of the official comparisons into docs/methods.md and README.md.

Usage: python benchmarks/write_comparison.py
Reads benchmarks/results/comparison_…/table.csv, which benchmarks/comparison.py writes; only what stands between the
markers is rewritten.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

FOLDER = Path(__file__).parent
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
COMPARISONS = ("clothing", "clip")
COMMANDS = {
    "clothing": "python benchmarks/comparison.py clothing ../shared/data/clothing",
    "clip": "python benchmarks/comparison.py clip ../shared/data/clip-vit-b32",
}
MISSION = ("zero-shot", "coop", "clip-adapter", "full-fine-tuning", "full-fine-tuning:wise_weight=1")
MISSION += ("tip-adapter", "tip-adapter-f", "gda", "auto")
TITLES = {
    "zero-shot": "zero-shot",
    "coop": "prompt tuning (CoOp)",
    "clip-adapter": "CLIP-Adapter",
    "full-fine-tuning": "full fine-tuning (FLYP, WiSE-FT)",
    "full-fine-tuning:wise_weight=1": "full fine-tuning (FLYP)",
    "tip-adapter": "Tip-Adapter",
    "tip-adapter-f": "Tip-Adapter-F",
    "gda": "GDA",
    "auto": "`auto` (default)",
}

Line = dict[str, str]


def lines_of(name: str) -> list[Line]:
    path = FOLDER / "results" / f"comparison_{name}" / "table.csv"
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def by_method(lines: list[Line]) -> dict[str, dict[int, Line]]:
    found: dict[str, dict[int, Line]] = defaultdict(dict)
    for line in lines:
        found[line["method"]][int(line["shots"])] = line
    return found


def accuracy(line: Line | None) -> str:
    if line is None:
        return "–"
    half = (float(line["accuracy_high"]) - float(line["accuracy_low"])) / 2
    return f"{float(line['accuracy']):.1f} ± {half:.1f}"


def seconds(line: Line) -> str:
    value = float(line["fit_seconds"])
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def table(header: list[str], rows: list[list[str]]) -> str:
    right = ["---"] + ["---:"] * (len(header) - 1)
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, right, *rows])


def setting(lines: list[Line]) -> str:
    """One table: methods down, the most accurate at the most shots first; shots across."""
    methods = by_method(lines)
    shots = sorted({int(line["shots"]) for line in lines})
    last = {name: found[max(found)] for name, found in methods.items()}
    rows = []
    for name in sorted(methods, key=lambda name: -float(last[name]["accuracy"])):
        cells = [accuracy(methods[name].get(number)) for number in shots]
        rows.append([f"`{name}`", *cells, seconds(last[name]), f"{int(last[name]['trainable_parameters']):,}"])
    header = ["method", *(f"{number} shot{'s' * (number != 1)}" for number in shots), "fit s", "parameters"]
    return table(header, rows)


def results() -> str:
    """Every setting of both comparisons."""
    parts = [
        "Test accuracy in % ± half of a 95 % interval; seconds of fitting and trained parameters are those at the most"
        " shots. Tables with likelihood, calibration error and memory, figures, and every single run:"
        " [clothing](../benchmarks/results/comparison_clothing/table.md),"
        " [CLIP features](../benchmarks/results/comparison_clip/table.md).",
    ]
    for name in COMPARISONS:
        settings: dict[tuple[str, ...], list[Line]] = defaultdict(list)
        for line in lines_of(name):
            settings[line["dataset"], line["encoder"], line["protocol"]].append(line)
        for (dataset, encoder, protocol), lines in settings.items():
            title = f"### {dataset}, {encoder}, protocol “{protocol}”" if encoder else f"### {dataset}, “{protocol}”"
            parts.append(f"{title}\n\n`{COMMANDS[name]}`\n\n{setting(lines)}")
    return "\n\n".join(parts)


def mission() -> str:
    """The table of the README: what adapting costs and brings, on photos of clothes."""
    methods = by_method(lines_of("clothing"))
    rows = []
    for name in MISSION:
        if found := methods.get(name):
            most = found[max(found)]
            cells = [accuracy(found.get(number)) for number in (1, 4, 16)]
            trained = f"{int(most['trainable_parameters']):,}" if int(most["trainable_parameters"]) else "none"
            rows.append([TITLES[name], trained, f"{seconds(most)} s", *cells])
    return table(["", "trained parameters", "fit, 16 shots", "1 shot", "4 shots", "16 shots"], rows)


def rewrite(path: Path, content: str) -> None:
    before, rest = path.read_text(encoding="utf-8").split(BEGIN)
    path.write_text(f"{before}{BEGIN}\n\n{content}\n\n{END}{rest.split(END)[1]}", encoding="utf-8")
    print(f"written: {path.name}")


def main() -> None:
    rewrite(FOLDER.parent / "docs" / "methods.md", results())
    rewrite(FOLDER.parent / "README.md", mission())


if __name__ == "__main__":
    main()
