"""The tables of what left-out shots are worth: what they promise and choose, bursts, whether there are enough."""

from __future__ import annotations

from typing import Any

from robustness_tables import table

Figures = dict[str, Any]


def trust(figures: Figures) -> str:
    return "\n\n".join(part(figures) for part in (_calibration, _full, _unknown, _flipped))


def _calibration(figures: Figures) -> str:
    rows = []
    for name, draws in figures["calibration"].items():
        ece = [_mean_of(draws, key) for key in ("ece_before", "ece")]
        cells = [f"{_mean_of(draws, key):.1%}" for key in ("promised", "accuracy")] + [f"{ece[0]:.3f} → {ece[1]:.3f}"]
        for kind in ("lac", "aps", "lac_empty"):
            coverage, size = (_mean_of([row[kind] for row in draws], key) for key in ("coverage", "mean_size"))
            cells.append(f"{coverage:.1%}, {size:.2f}")
        empty, alike = [row["lac_empty"] for row in draws], "coverage_of_classes_alike"
        rows.append([name, *cells, f"{_mean_of(empty, alike):.1%}" if alike in empty[0] else "–"])
    sets = ["LAC: coverage at 90 %, mean size", "APS", "LAC, may be empty", "the same, classes counted alike"]
    return table(["set/method/shots", "promised", "accuracy", "test ECE", *sets], rows)


def _full(figures: Figures) -> str:
    rows = [
        [
            name,
            f"{_mean_of(draws, 'coverage'):.1%}",
            *(f"{_mean_of(draws, key):.2f}" for key in ("mean_size", "seconds_once", "ms_per_query")),
        ]
        for name, draws in figures["full"].items()
    ]
    return table(["full conformal sets, set/shots", "coverage at 90 %", "mean size", "s once", "ms a photo"], rows)


def _unknown(figures: Figures) -> str:
    keys = ("auroc", "auroc_zero_shot", "auroc_probability", "auroc_nearest", "false_alarms", "unknown_found")
    rows = [
        [
            name,
            *(f"{_mean_of(seeds, key):.3f}" for key in keys[:4]),
            *(f"{_mean_of(seeds, key):.1%}" for key in keys[4:]),
        ]
        for name, seeds in figures["unknown"].items()
    ]
    own = ["zero-shot softmax", "own softmax", "nearest shot"]
    return table(["set/method/shots", "AUROC", *own, "false alarms at 10 %", "unknown found"], rows)


def _flipped(figures: Figures) -> str:
    keys = ("found", "precision", "found_by_text", "precision_by_text")
    rows = [[name, *(f"{_mean_of(seeds, key):.1%}" for key in keys)] for name, seeds in figures["doctor"].items()]
    return table(["5 % of labels flipped", "found", "precision", "found by text alone", "its precision"], rows)


def _mean_of(rows: list[Figures], key: str) -> float:
    return sum(float(row[key]) for row in rows) / len(rows)


def _with_error(row: Figures) -> str:
    return f"{row['too high by']:+.1f} ± {row['standard error']:.1f}" if "too high by" in row else "–"


def bursts(figures: Figures) -> str:
    def told(value: float | None, digits: int) -> str:
        return "–" if value is None else f"{value:.{digits}f}"

    keys = ("test", "cross-validated", "coverage", "turned away")
    rows = [
        [row["jitter"], str(row["shots"]), row["groups_are"], f"{row['groups']:.0f}"]
        + [told(row[key], 1) for key in keys]
        + [told(row["ece"], 3), _with_error(row)]
        for row in figures["rows"]
    ]
    header = [
        "jitter",
        "photos",
        "frames are",
        "groups",
        "test",
        "cross-validated",
        "90 % sets cover",
        "turned away",
        "ECE",
        "cross-validated − test",
    ]
    said = (
        f"{figures['frames']} frames of each photo of a class, means of {figures['draws']} draws, in %. Frames are on "
        "their own (apart), or in groups that were found or given; “turned away” is the share of known photos at a "
        "wanted 10 %."
    )
    kept = dict.fromkeys(row["jitter"] for row in figures["rows"] if row.get("earlier"))
    said += f" Rows of {' and '.join(kept)} jitter are of an earlier state of the code." if kept else ""
    return f"{table(header, rows)}\n\n{said}"


def views(figures: Figures) -> str:
    rows = []
    for row in figures["rows"]:
        cells = [
            " → ".join(f"{row[how][place]:.{digits}f}" for how in ("means", "single"))
            for place, digits in ((1, 1), (0, 3))
        ]
        errors = [
            f"{row['change'][place]:+.{d}f} ± {row['standard error'][place]:.{d}f}" for place, d in ((1, 2), (0, 4))
        ]
        rows.append([f"`{row['method']}`", str(row["shots"]), cells[0], errors[0], cells[1], errors[1]])
    header = [
        "method",
        "shots",
        "accuracy, %",
        "change ± standard error",
        "loss, nats a photo",
        "change ± standard error",
    ]
    said = (
        f"`{figures['encoder']}`, keys the means of {figures['views']} views, {figures['draws']} draws: left-out shots "
        "asked about as means → as single views."
    )
    return f"{table(header, rows)}\n\n{said}"


def enough(figures: Figures) -> str:
    rows = []
    for name, row in figures["rows"].items():
        slope, low, high = row["slope"]
        verdicts = [row["verdicts"].get(verdict) for verdict in ("enough", "more would help", "too few to say")]
        rows.append(
            [
                name,
                " → ".join(_points(value) for value in row["in_all"]),
                f"{_points(row['foreseen'])} → {_points(row['gained'])}",
                f"{_points(slope)} ({_points(low)} to {_points(high)})",
                f"{row['rank']:.2f} of {row['highest_rank']:.2f}",
                f"{row['covered']:.0%}",
                *("–" if found is None else f"{found[0]:.0%}: {_points(found[1])}" for found in verdicts),
            ]
        )
    header = [
        "set/method/shots",
        "one more of every class: foreseen → gained",
        "one more of a class: foreseen → gained",
        "slope over classes",
        "rank correlation, of what can be seen",
        "recall in its interval",
        "classes with enough: share and gain",
        "more would help",
        "too few to say",
    ]
    said = (
        f"Gains in points of recall; {figures['draws']} draws of clothes, three of the others. Slope: of what single "
        "classes gain on what was foreseen of them, with its 95 % interval over draws. The highest correlation that "
        "could be seen follows from the gains on halves of the test photos."
    )
    return f"{table(header, rows)}\n\n{said}"


def _points(value: float) -> str:
    shown = f"{value:.1f}"
    return "0.0" if shown == "-0.0" else shown
