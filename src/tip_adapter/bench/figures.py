"""Plot a comparison: accuracy against shots, against seconds of fitting, and between protocols."""

from __future__ import annotations

import math
import re
import textwrap
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tip_adapter.bench.summary import Gap, Row, Setting
from tip_adapter.libraries import require_extra
from tip_adapter.report.pictures import save_figure
from tip_adapter.storage.escaping import for_terminal, shortened

# Okabe and Ito's colours, which people with any kind of colour vision tell apart; shapes say the same again.
COLORS = {"training-free": "#0072B2", "trained": "#D55E00", "on-encoder": "#009E73", "transductive": "#CC79A7"}
MARKERS = {"training-free": "o", "trained": "s", "on-encoder": "D", "transductive": "^"}
NAMES = {
    "training-free": "without training",
    "trained": "trained on features",
    "on-encoder": "trained through the encoder",
    "transductive": "sees the test photos together",
}
INK, FAINT, GRID = "#222222", "#c8c8c8", "#ececec"
BASELINE = "zero-shot"
COLUMNS = 5
LETTERS_PER_INCH, INCHES_PER_LINE = 12, 0.17
"""Of titles."""

Curves = dict[str, list[Row]]


def draw_figures(folder: Path, rows: Sequence[Row], gaps: Sequence[Gap]) -> list[Path]:
    """Draw all figures that the rows allow, each as .png and .svg."""
    require_extra("matplotlib.figure", "plot")
    by_setting: dict[Setting, list[Row]] = defaultdict(list)
    for row in rows:
        by_setting[row.setting].append(row)
    written = []
    for setting, found in by_setting.items():
        name = _file_name(f"{setting.dataset}-{setting.encoder}-{setting.protocol}")
        if len({row.shots for row in found}) > 1:
            written += _save(folder, f"accuracy-{name}", _accuracy_figure(setting, _curves(found)))
        written += _save(folder, f"seconds-{name}", _seconds_figure(setting, found))
    by_data: dict[Setting, list[Gap]] = defaultdict(list)
    for gap in gaps:
        by_data[Setting(gap.dataset, gap.encoder, gap.protocol)].append(gap)
    for setting, found_gaps in by_data.items():
        name = _file_name(f"{setting.dataset}-{setting.encoder}-{setting.protocol}")
        written += _save(folder, f"gap-{name}", _gap_figure(setting, found_gaps))
    return written


def _curves(rows: Sequence[Row]) -> Curves:
    """Rows of every method by shots, the most accurate method first."""
    curves: Curves = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.shots):
        curves[row.method].append(row)
    return dict(sorted(curves.items(), key=lambda item: (-item[1][-1].shots, -item[1][-1].accuracy)))


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def _title(figure: Any, text: str) -> None:
    """Put a title above all panels, in as many lines as it takes: few panels make a narrow figure."""
    lines = textwrap.wrap(for_terminal(text), int(figure.get_figwidth() * LETTERS_PER_INCH))
    figure.set_figheight(figure.get_figheight() + INCHES_PER_LINE * (len(lines) - 1))
    figure.suptitle("\n".join(lines), fontsize=9.5, color=INK, parse_math=False)


def _plain(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#888888")
    axes.tick_params(colors=INK, labelsize=8)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)


def _accuracy_figure(setting: Setting, curves: Curves) -> Any:
    """A small panel for every method, the others faint behind it: many lines in one plot could not be told apart."""
    columns = min(COLUMNS, len(curves))
    lines = math.ceil(len(curves) / columns)
    figure = _figure(2.1 * columns + 0.6, 1.85 * lines + 0.9)
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    shots = sorted({row.shots for rows in curves.values() for row in rows})
    low, high = _range(curves)
    for index, axes in enumerate(panels.flat):
        if index >= len(curves):
            axes.set_visible(False)
            continue
        method = list(curves)[index]
        _panel(axes, method, curves)
        axes.set(xscale="log", ylim=(low, high))
        axes.set_xticks(shots, [str(number) for number in shots])
        axes.minorticks_off()
        last_of_column = index + columns >= len(curves)
        axes.tick_params(labelbottom=last_of_column)
    figure.supxlabel("shots per class", fontsize=9, color=INK)
    figure.supylabel("accuracy in %", fontsize=9, color=INK)
    _title(
        figure,
        f"{setting.title}: each method (colour) against the others (grey) and {BASELINE} (dashed); bands hold 95 %",
    )
    return figure


def _range(curves: Curves) -> tuple[float, float]:
    """Limits for the lines that matter: a method far below the rest at one shot must not flatten all others."""
    values = sorted(100 * row.accuracy for rows in curves.values() for row in rows)
    baseline = [100 * row.accuracy for row in curves.get(BASELINE, [])]
    bottom = min([*baseline, values[len(values) // 4]])
    margin = max(1.0, 0.06 * (values[-1] - bottom))
    return max(0.0, bottom - 2 * margin), min(100.0, values[-1] + 1.5 * margin)


def _panel(axes: Any, method: str, curves: Curves) -> None:
    _plain(axes)
    for other, rows in curves.items():
        if other != method:
            dashed = other == BASELINE
            axes.plot(
                [row.shots for row in rows],
                [100 * row.accuracy for row in rows],
                color="#777777" if dashed else FAINT,
                linewidth=1.1 if dashed else 0.7,
                linestyle=(0, (4, 3)) if dashed else "-",
                zorder=2 if dashed else 1,
            )
    rows = curves[method]
    color, x = COLORS[rows[0].group], [row.shots for row in rows]
    axes.fill_between(
        x, [100 * row.low for row in rows], [100 * row.high for row in rows], color=color, alpha=0.18, lw=0
    )
    axes.plot(
        x,
        [100 * row.accuracy for row in rows],
        color=color,
        marker=MARKERS[rows[0].group],
        markersize=3.5,
        lw=1.8,
        zorder=3,
    )
    axes.set_title(_short(method), fontsize=9, color=color, loc="left", fontweight="bold", parse_math=False, pad=3)
    axes.set_title(f"{100 * rows[-1].accuracy:.1f}", fontsize=9, color=color, loc="right", pad=3)


def _seconds_figure(setting: Setting, rows: Sequence[Row]) -> Any:
    """Accuracy at the most shots against seconds; the line joins the methods that none beats in both."""
    shots = max(row.shots for row in rows)
    points = sorted((row for row in rows if row.shots == shots), key=lambda row: row.fit_seconds)
    figure = _figure(7.6, 4.8)
    axes = figure.add_subplot()
    _plain(axes)
    x = [max(row.fit_seconds, 1e-4) for row in points]
    y = [100 * row.accuracy for row in points]
    front = [i for i in range(len(points)) if y[i] > max(y[:i], default=-1.0)]
    axes.step([x[i] for i in front], [y[i] for i in front], where="post", color="#999999", linewidth=1, zorder=1)
    for group in COLORS:
        members = [i for i, row in enumerate(points) if row.group == group]
        if members:
            lows = [max(0.0, y[i] - 100 * points[i].low) for i in members]
            highs = [max(0.0, 100 * points[i].high - y[i]) for i in members]
            axes.errorbar(
                [x[i] for i in members],
                [y[i] for i in members],
                yerr=[lows, highs],
                fmt=MARKERS[group],
                color=COLORS[group],
                ecolor=COLORS[group] + "55",
                elinewidth=1,
                markersize=6,
                zorder=3,
            )
    axes.set(
        xscale="log", xlabel="seconds to fit (median, logarithmic)", ylabel=f"accuracy in %, {shots} shots per class"
    )
    axes.set_xlim(min(x) / 2, max(x) * 6)
    _label_points(axes, x, y, points)
    _legend(axes, {row.group for row in points})
    _title(figure, setting.title)
    return figure


def _legend(axes: Any, groups: set[str]) -> None:
    """Name the groups above a plot."""
    for group, color in COLORS.items():
        if group in groups:
            axes.plot([], [], MARKERS[group], color=color, label=NAMES[group])
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False, fontsize=8.5)


def _label_points(axes: Any, x: Sequence[float], y: Sequence[float], rows: Sequence[Row]) -> None:
    """Write names beside points; of several places the first that touches no other name or point is taken."""
    from matplotlib.patheffects import withStroke

    figure = axes.figure
    figure.canvas.draw()
    to_pixels = axes.transData.transform
    taken = [(px - 5, py - 5, px + 5, py + 5) for px, py in to_pixels(list(zip(x, y, strict=True)))]
    unit = figure.dpi / 72
    for i in sorted(range(len(rows)), key=lambda i: -y[i]):
        text = _short(rows[i].method)
        width, height = 4.6 * len(text) * unit, 9 * unit
        px, py = to_pixels((x[i], y[i]))
        for dx, dy, align in _places():
            left = px + dx * unit - (width if align == "right" else width / 2 if align == "center" else 0)
            box = (left, py + dy * unit - height / 2, left + width, py + dy * unit + height / 2)
            if not any(_overlap(box, other) for other in taken):
                break
        taken.append(box)
        far = abs(dy) > 14
        axes.annotate(
            text,
            (x[i], y[i]),
            xytext=(dx, dy),
            textcoords="offset points",
            ha=align,
            va="center",
            fontsize=8,
            color=COLORS[rows[i].group],
            arrowprops={"arrowstyle": "-", "color": "#aaaaaa", "lw": 0.6, "shrinkA": 0, "shrinkB": 3} if far else None,
            parse_math=False,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
            zorder=4,
        )


def _places() -> list[tuple[float, float, str]]:
    near = [(7.0, 0.0, "left"), (-7.0, 0.0, "right"), (0.0, 10.0, "center"), (0.0, -10.0, "center")]
    rings = [
        (dx, sign * dy, align)
        for dy in (11.0, 20.0, 30.0, 42.0, 56.0, 72.0)
        for sign in (1, -1)
        for dx, align in ((7.0, "left"), (-7.0, "right"), (26.0, "left"), (-26.0, "right"))
    ]
    return near + rings


def _overlap(a: Sequence[float], b: Sequence[float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _gap_figure(setting: Setting, gaps: Sequence[Gap]) -> Any:
    """Points gained from a validation split: a line per method, a panel per number of shots."""
    shots = sorted({gap.shots for gap in gaps})
    by_method: dict[str, dict[int, Gap]] = defaultdict(dict)
    for gap in gaps:
        by_method[gap.method][gap.shots] = gap
    methods = sorted(
        by_method, key=lambda name: sum(gap.gap for gap in by_method[name].values()) / len(by_method[name])
    )
    figure = _figure(1.75 * len(shots) + 2.0, 0.26 * len(methods) + 1.3)
    panels = figure.subplots(1, len(shots), sharex=True, sharey=True, squeeze=False)[0]
    for axes, number in zip(panels, shots, strict=True):
        _plain(axes)
        axes.axvline(0, color="#666666", linewidth=1)
        axes.set_title(f"{number} shot{'s' * (number != 1)}", fontsize=9, color=INK)
        for line, method in enumerate(methods):
            found = by_method[method].get(number)
            if found is None:
                continue
            color = COLORS[found.group]
            axes.plot([100 * found.low, 100 * found.high], [line, line], color=color, linewidth=1.2, alpha=0.6)
            face = color if found.interval == "seeds" else "white"
            axes.plot(100 * found.gap, line, MARKERS[found.group], color=color, markersize=5, markerfacecolor=face)
        axes.set_yticks(range(len(methods)), [_short(method) for method in methods], parse_math=False)
    reaches = sorted(max(abs(gap.low), abs(gap.high)) for gap in gaps)
    limit = 105 * max(max(abs(gap.gap) for gap in gaps), reaches[int(0.8 * (len(reaches) - 1))], 0.005)
    panels[0].set_xlim(-limit, limit)
    figure.supxlabel(
        f"accuracy under “{setting.protocol}” minus “fair”, in points; lines hold 95 % over support sets "
        "(hollow: over test images)",
        fontsize=9,
    )
    _title(figure, f"{setting.dataset}, {setting.encoder}: what tuning on a validation set adds")
    return figure


def _short(method: str) -> str:
    method = method.replace(":wise_weight=", ", w = ")
    return shortened(method, 24)


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.]+", "-", text).strip("-.")


def _save(folder: Path, name: str, figure: Any) -> list[Path]:
    paths = [folder / f"{name}.png", folder / f"{name}.svg"]
    for path in paths:
        save_figure(path, figure, dpi=110)
    return paths
