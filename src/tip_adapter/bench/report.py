"""Write the tables, the file of all runs and the figures of a folder of results."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tip_adapter.bench.figures import draw_figures
from tip_adapter.bench.protocols import FAIR, LEAST_SEEDS
from tip_adapter.bench.records import Record, Records, load_records, write_collection
from tip_adapter.bench.summary import Gap, Row, Setting, gaps, settings_of, summarise
from tip_adapter.errors import MissingExtraError
from tip_adapter.storage.atomic import write_file
from tip_adapter.storage.escaping import for_markdown
from tip_adapter.storage.tables import write_table
from tip_adapter.typing import StrPath

COLUMNS = ("NLL", "ECE", "fit s", "predict s", "parameters", "peak MB")

EXPLANATION = """\
Accuracy in % ± half of a 95 % interval: over support sets (Student's t), or, marked \\*, over the test images
(Wilson), where there is one support set or all give as many right answers. NLL, ECE, seconds, trained parameters and
peak memory are those at the most shots. Seconds are of one thread, on features that are there already; methods
marked † work on the encoder itself, with all cores, and encode the photos within these seconds. Memory is what the
process needed at its peak beyond libraries and features.

Protocol **fair**: hyper-parameters come from the support set alone. Protocol **paper**: each method's published tuning
on the validation split. Protocol **paper-few**: the same on min(K, 4) more training photos per class. Protocol
**as-it-comes**: as fair, with K photos a class on average, unequal as in life. Protocol **base-to-new**: as fair, with
shots of the first half of the classes alone; the harmonic mean of the accuracies on either half, told apart from its
own classes (base / new). Protocol **transductive**: methods that see all test photos together, without their labels,
which compare with each other alone. The test labels are never looked at."""

GAPS = "Accuracy under the named protocol minus “fair” on the same support sets, in points; intervals as above."


@dataclass(frozen=True)
class Overview:
    """A table of one setting."""

    setting: Setting
    header: list[str]
    cells: list[list[str]]
    """The most accurate method first."""


@dataclass(frozen=True)
class Report:
    """What a folder of results says."""

    rows: list[Row]
    records: Records
    files: tuple[Path, ...]
    """What was written."""
    notes: tuple[str, ...] = ()


def write_report(folder: StrPath, *, figures: bool = True) -> Report:
    """Write table.md, table.csv, runs.jsonl and the figures of a folder of results.

    Parameters
    ----------
    folder : path-like
    figures : bool, default=True
        Draw figures, where matplotlib is installed.

    Raises
    ------
    InputError
        When there are no results.
    """
    folder = Path(folder)
    records = load_records(folder)
    rows = summarise(records.done)
    files = [folder / "table.csv", folder / "table.md", folder / "runs.jsonl"]
    notes = _notes(records)
    write_table(files[0], [_flat(row) for row in rows])
    write_collection(files[2], records.runs)
    drawn: list[Path] = []
    if figures and rows:
        try:
            drawn = draw_figures(folder, rows, gaps(records.done))
        except MissingExtraError as error:
            notes.append(f"no figures: {error}")
    write_file(files[1], _markdown(records, rows, drawn, notes).encode())
    return Report(rows, records, (*files, *drawn), tuple(notes))


def overviews(rows: Sequence[Row]) -> list[Overview]:
    """Lay out a table per setting: a method a line, its accuracy by shots, and what it costs at the most shots."""
    by_setting: dict[Setting, dict[str, dict[int, Row]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        by_setting[row.setting][row.method][row.shots] = row
    result = []
    for setting in sorted(by_setting):
        methods = by_setting[setting]
        shots = sorted({number for found in methods.values() for number in found})
        header = ["method", *(f"{number} shot{'s' * (number != 1)}" for number in shots), *COLUMNS]
        lines = sorted(methods.values(), key=_rank)
        result.append(Overview(setting, header, [_line(found, shots) for found in lines]))
    return result


def _rank(found: dict[int, Row]) -> tuple[float, ...]:
    last = found[max(found)]
    return (-max(found), -round(last.accuracy, 5), round(last.nll, 4))


def _line(found: dict[int, Row], shots: Sequence[int]) -> list[str]:
    last = found[max(found)]
    name = last.method + (" †" if last.group == "on-encoder" else "")
    accuracies = [_accuracy(found[number]) if number in found else "–" for number in shots]
    memory = "–" if last.peak_memory_mb is None else f"{last.peak_memory_mb:.0f}"
    costs = [_seconds(last.fit_seconds), _seconds(last.predict_seconds), f"{last.trainable_parameters:,}", memory]
    return [name, *accuracies, f"{last.nll:.3f}", f"{last.ece:.3f}", *costs]


def _accuracy(row: Row) -> str:
    shown = f"{100 * row.accuracy:.1f} ± {100 * row.half:.1f}{'*' * (row.interval == 'test images')}"
    if row.base_accuracy is None or row.new_accuracy is None:
        return shown
    return f"{shown} ({100 * row.base_accuracy:.1f} / {100 * row.new_accuracy:.1f})"


def _seconds(value: float) -> str:
    return f"{value:.3f}" if value < 1 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _flat(row: Row) -> dict[str, str | int | float | None]:
    """One line of the CSV file; percentages for accuracies alone."""
    return {
        "dataset": row.setting.dataset,
        "encoder": row.setting.encoder,
        "protocol": row.setting.protocol,
        "method": row.method,
        "group": row.group,
        "shots": row.shots,
        "runs": row.n_runs,
        "accuracy": round(100 * row.accuracy, 3),
        "accuracy_low": round(100 * row.low, 3),
        "accuracy_high": round(100 * row.high, 3),
        "interval_over": row.interval,
        "nll": round(row.nll, 5),
        "ece": round(row.ece, 5),
        "fit_seconds": round(row.fit_seconds, 5),
        "predict_seconds": round(row.predict_seconds, 5),
        "trainable_parameters": row.trainable_parameters,
        "peak_memory_mb": None if row.peak_memory_mb is None else round(row.peak_memory_mb, 1),
        "base_accuracy": None if row.base_accuracy is None else round(100 * row.base_accuracy, 3),
        "new_accuracy": None if row.new_accuracy is None else round(100 * row.new_accuracy, 3),
    }


def _notes(records: Records) -> list[str]:
    notes = []
    if records.others:
        name, reason = records.others[0]
        notes.append(f"{len(records.others)} files are left out of the tables; the first: {name} {reason}")
    codes = {run.get("code") for run in records.done}
    if len(codes) > 1:
        counts = Counter(run.get("code") for run in records.done)
        listed = ", ".join(f"{count} by {code}" for code, count in counts.most_common())
        notes.append(f"runs were made by {len(codes)} states of the code ({listed}); make them again with --redo")
    machines = {str(sorted(run["machine"].items())) for run in records.done}
    if len(machines) > 1:
        notes.append(f"runs were made on {len(machines)} kinds of machines, so their seconds do not compare")
    return notes + _few_seeds(records)


def _few_seeds(records: Records) -> list[str]:
    """Say where the protocol fair asks for more support sets than there are, though more are possible."""
    seeds = defaultdict(set)
    for run in records.done:
        if run["protocol"] == FAIR and not run.get("one_support_set"):
            seeds[run["dataset"], run["encoder"], run["shots"]].add(run["seed"])
    fewest = min(map(len, seeds.values()), default=LEAST_SEEDS)
    if fewest >= LEAST_SEEDS:
        return []
    sets = f"{fewest} support set{'s' * (fewest != 1)}"
    return [f"{sets} per number of shots: the protocol fair asks for at least {LEAST_SEEDS} (--seeds {LEAST_SEEDS})"]


def _markdown(records: Records, rows: Sequence[Row], figures: Sequence[Path], notes: Sequence[str]) -> str:
    parts = ["# Comparison", EXPLANATION]
    parts += [f"> {for_markdown(note)}" for note in notes]
    settings = settings_of(records.runs)
    for overview in overviews(rows):
        parts += [
            f"## {for_markdown(overview.setting.title)}",
            _table(overview),
            _facts(records, settings, overview.setting),
        ]
    if found := gaps(records.done):
        parts += ["## Paper minus fair", GAPS, _gap_table(found)]
    parts += [f"![{path.stem.replace('-', ' ')}]({path.name})" for path in figures if path.suffix == ".png"]
    for title, runs in (("Not applicable", records.not_applicable), ("Failed", records.failed)):
        if runs:
            parts += [f"## {title}", "\n".join(f"- {for_markdown(line)}" for line in reasons(runs))]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(overview: Overview) -> str:
    best = _best(overview)
    lines = [overview.header, ["---"] + ["---:"] * (len(overview.header) - 1)]
    for index, cells in enumerate(overview.cells):
        plain = [for_markdown(cell) for cell in cells]
        lines.append([f"**{cell}**" if (index, column) in best else cell for column, cell in enumerate(plain)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _gap_table(found: Sequence[Gap]) -> str:
    """Points that tuning on the validation split adds, a method a line."""
    shots = sorted({gap.shots for gap in found})
    lines: dict[tuple[str, str], dict[int, Gap]] = defaultdict(dict)
    for gap in found:
        lines[f"{gap.dataset}, {gap.encoder}, {gap.protocol}", gap.method][gap.shots] = gap
    header = ["data", "method", *(f"{number} shot{'s' * (number != 1)}" for number in shots), "mean"]
    table = [header, ["---", "---", *["---:"] * (len(shots) + 1)]]
    for (data, method), gap_at in lines.items():
        cells = [_points(gap_at[number]) if number in gap_at else "–" for number in shots]
        table.append(
            [
                for_markdown(data),
                for_markdown(method),
                *cells,
                f"{100 * np.mean([gap.gap for gap in gap_at.values()]):+z.2f}",
            ]
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in table)


def _points(gap: Gap) -> str:
    half = 100 * (gap.high - gap.low) / 2
    return f"{100 * gap.gap:+z.2f} ± {half:.2f}" + "\\*" * (gap.interval == "test images")


def _best(overview: Overview) -> set[tuple[int, int]]:
    """Cells with the highest accuracy of their column."""
    found = set()
    for column in range(1, len(overview.header) - len(COLUMNS)):
        values = [cells[column].split(" ")[0] for cells in overview.cells]
        numbers = np.array([float(value) if value != "–" else -1.0 for value in values])
        found |= {(int(index), column) for index in np.flatnonzero(numbers == numbers.max())}
    return found


def _facts(records: Records, settings: dict[tuple[str, str, str, str], Setting], setting: Setting) -> str:
    """What all runs of a setting share."""
    runs = [
        run
        for run in records.done
        if settings[run["dataset"], run["dataset_id"], run["encoder"], run["protocol"]] == setting
    ]
    first, seeds = runs[0], sorted({run["seed"] for run in runs})
    machine, versions = first["machine"], first["versions"]
    facts = [
        f"{first['n_classes']} classes, {first['n_test']} test images, seeds {', '.join(map(str, seeds))}",
        f"{first['n_validation']} validation images" if first["n_validation"] else "",
        f"{len(first['templates'])} templates, {first['views']} view(s) per shot" if first.get("templates") else "",
        f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}",
        ", ".join(f"{package} {number}" for package, number in versions.items()),
    ]
    return "; ".join(fact for fact in facts if fact) + "."


def reasons(runs: Sequence[Record]) -> list[str]:
    """Say why runs have no figures, each reason once, with the runs it holds for."""
    grouped: dict[tuple[str, str, str], dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    for run in runs:
        shots = grouped[run["dataset"], run["protocol"], run["reason"]][run["method"]]
        if run["shots"] is not None:
            shots.add(run["shots"])
    lines = []
    for (dataset, protocol, reason), methods in sorted(grouped.items()):
        named = [
            f"{method} ({', '.join(map(str, sorted(shots)))} shots)" if shots else method
            for method, shots in sorted(methods.items())
        ]
        lines.append(f"{dataset}, {protocol}: {', '.join(named)}: {reason}")
    return lines
