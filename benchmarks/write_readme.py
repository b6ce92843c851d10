"""Write the tables of benchmarks/README.md from the JSON files in benchmarks/results.

Usage: python benchmarks/write_readme.py
Only what stands between the two markers is rewritten; a benchmark without a result is left out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from robustness_tables import (
    bombs,
    cases,
    durability,
    killed,
    mutated_images,
    offline,
    store_kill,
    table,
    tampering,
)
from trust_tables import bursts, enough, trust, views

FOLDER = Path(__file__).parent
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"

Figures = dict[str, Any]


def published_features(figures: Figures) -> str:
    rows = []
    for name, row in figures.items():
        if isinstance(row, dict):
            low, high = row["auto_interval"]
            accuracies = [f"{row[key]:.2f}" for key in ("zero_shot", "fixed")]
            auto = f"{row['auto']:.2f} ({low:.1f} to {high:.1f})"
            chosen = f"{row['alpha']:.3g}, {row['beta']:.3g}"
            rows.append([name, *accuracies, auto, chosen, f"{row['oracle']:.2f}", f"{row['oracle'] - row['auto']:.2f}"])
    header = ["set/shots", "zero-shot", "α = 1, β = 5.5", "auto", "its α, β", "test-label oracle", "gap"]
    gap = f"Mean gap over 2 to 16 shots of both sets: {figures['mean_gap_2_to_16_shots']:.2f} points."
    return f"{table(header, rows)}\n\n{gap}"


def clothing(figures: Figures) -> str:
    rows = []
    for seed, run in enumerate(figures["seeds"]):
        low, high = run["accuracy_interval"]
        others = [f"{run[key]:.1%}" for key in ("zero_shot_accuracy", "cache_accuracy")]
        rows.append([str(seed), *others, f"{run['accuracy']:.1%} ({low:.1%} to {high:.1%})"])
    mean = f"Mean {figures['mean_accuracy']:.1%} ± {figures['standard_error']:.1%} (standard error over seeds)."
    return f"{table(['seed', 'zero-shot', 'shots alone', 'classifier'], rows)}\n\n{mean}"


def search(figures: Figures) -> str:
    rows = []
    for name, row in figures.items():
        accuracies = [f"{row[key]:.2f} %" if key in row else "–" for key in ("grid_accuracy", "ours_accuracy")]
        scaled = f" (scaled from {row['grid_points_timed']} points)" if "grid_points_timed" in row else ""
        seconds = [f"{row['grid_s']:.1f} s{scaled}", f"{row['ours_s']:.3f} s", f"{row['factor']:.0f} ×"]
        rows.append([name, *seconds, *accuracies])
    return table(["evidence", "grid", "ours", "faster", "accuracy of the grid", "ours"], rows)


def predict(figures: Figures) -> str:
    seconds, peaks = figures["median_seconds"], figures["peak_mb"]
    rows = [[name, f"{seconds[name]:.2f} s", f"{peaks[name]:.0f} MB"] for name in seconds]
    ratios = f"Ours takes {figures['ours_over_bare']:.2f} × the bare product; the one-hot formula takes"
    return f"{table(['variant', 'median', 'peak'], rows)}\n\n{ratios} {figures['one_hot_over_ours']:.2f} × ours."


def startup(figures: Figures) -> str:
    return table(["process", "median"], [[name, f"{seconds:.3f} s"] for name, seconds in figures.items()])


def scarce_classes(figures: Figures) -> str:
    rows = []
    for data, methods in figures["sets"].items():
        for method, counts in methods.items():
            for count, found in counts.items():
                shown = [f"{found[where]['recall']:.1f}" if where in found else "–" for where in SCARCE]
                others = f"{found['beside many']['recall of the others']:.1f}"
                rows.append([data, method, count, *shown, others, f"{found['beside many']['named / there']:.2f}"])
    columns = [f"beside {figures['many']}", "added to a fitted classifier", "all classes as few"]
    header = ["set", "method", "shots", *columns, "recall of the others", "named / there are"]
    return table(header, rows)


SCARCE = ("beside many", "added", "all as few")


def edits(figures: Figures) -> str:
    columns = [figures[name] for name in ("median_ms", "largest_ms", "median_processor_ms")]
    rows = [[name, *(f"{column[name]:.1f} ms" for column in columns)] for name in columns[0]]
    header = [f"{figures['shots']} shots", "median", "largest", "processor"]
    difference = f"{figures['largest_relative_difference']:.1e}"
    return f"{table(header, rows)}\n\nAfter {figures['edits']} edits logits differ from a fresh fit's by {difference}."


def encode(figures: Figures) -> str:
    rates, found, targets = figures["images_per_second"], figures["ratios"], figures["targets"]
    kinds = {"": "400 × 533 photos", "_large": "12-megapixel photos", "_one_photo": "one photo at a time"}
    rows = []
    for suffix, title in kinds.items():
        for name in ("fp32", "int8", "lite", "lite-int8", "lite-fast"):
            ratio, target = found[f"{name}_over_torch{suffix}"], targets.get(f"{name}_over_torch{suffix}")
            shown = f"≥ {target} ×" if target else "–"
            cells = [f"{rates[f'torch{suffix}']:.1f}", f"{rates[f'{name}{suffix}']:.1f}", f"{ratio:.2f} ×", shown]
            rows.append([title, name, *cells])
    shares = []
    for name in ("fp32", "int8", "lite", "lite-int8", "lite-fast"):
        parts = [f"{rates[f'{name}{part}']:.1f}" for part in ("_decode", "_encode", "")]
        shares.append([name, *parts, f"{found[f'{name}_pipeline_share']:.0%}"])
    first = table(["photos", "encoder", "torch loop, images/s", "ours, images/s", "ratio", "target"], rows)
    header = ["encoder", "decoding alone (d)", "encoding alone (e)", "pipeline", "of 1/(1/d + 1/e); target ≥ 90 %"]
    second = table(header, shares)
    return f"{first}\n\n{second}"


def lite(figures: Figures) -> str:
    shots, rows = [str(count) for count in figures["shots"]], []
    for name, found in figures["candidates"].items():
        for data, accuracy in found["accuracy"].items():
            means = {count: sum(values) / len(values) for count, values in accuracy.items()}
            cells = [f"{means[count]:.1f}" for count in ("0", *shots)]
            mean = f"{sum(means[count] for count in ('4', '8', '16')) / 3:.1f}"
            rows.append(
                [f"Lite{name}", f"{found['milliseconds']:.1f}", f"{found['megabytes']:.0f}", data, *cells, mean]
            )
    header = [
        "networks",
        "ms a photo",
        "MB",
        "photos",
        "texts alone",
        *(f"{count} shots" for count in shots),
        "4–16",
    ]
    chosen = "`lite-fast` is Lite0, `lite` Lite0+2: with a runtime of 14 MB, the web page of Lite1+2 would pass 50 MB."
    return f"{table(header, rows)}\n\nAccuracy of `auto` in %, mean of the draws, and over 4, 8 and 16 shots. {chosen}"


def fit_and_predict(figures: Figures) -> str:
    seconds, targets = figures["median_seconds"], figures["targets"]
    rows = [[name, f"{value:.2f} s", f"< {targets[name]} s"] for name, value in seconds.items()]
    return table(["command", "median", "target"], rows)


def lite_int8(figures: Figures) -> str:
    rows = []
    for name, row in figures["settings"].items():
        mean = row["mean"]
        flips = f"{mean['flipped']:.1f} ± {mean['flipped_half_interval']:.1f} %"
        others = [f"{mean[key]:.1f}" for key in ("guard_flipped", "accuracy", "float_accuracy")]
        rows.append([name, f"{mean['speed']:.1f} ×", f"{mean['cosine']:.4f}", flips, *others])
    header = ["int8", "speed of fp32", "cosine", "predictions changed", "guard, %", "accuracy, %", "fp32, %"]
    return table(header, rows)


def bad_jobs(figures: Figures) -> str:
    times = figures["times"]
    rows = [
        [name, f"{row['as_wanted']} of {times}", f"{row['median_s']:.1f} s"]
        for name, row in figures.items()
        if isinstance(row, dict)
    ]
    return table(["case", "refused or finished as wanted", "median"], rows)


def export(figures: Figures) -> str:
    rows = [
        [name, f"{row['max_logit_difference']:.1e}", f"{row['same_top_class']} of {row['photos']}"]
        for name, row in figures["methods"].items()
    ]
    script, page = figures["script"], figures["page"]
    return (
        f"{table(['method', 'largest difference of a logit', 'same top class'], rows)}\n\n"
        f"`predict.py` names the same class for {script['same_top_class']} of {script['photos']} photos, the page in "
        f"headless Chromium for {page['same_top_class']} of {page['photos']} ({page['median_ms_per_photo']:.0f} ms a "
        f"photo), with {len(page['outside_requests'])} requests to other hosts."
    )


def auto(figures: Figures) -> str:
    worst = [
        [
            row["set"],
            row["case"],
            row["chosen"],
            f"{row['accuracy']['auto']:.2f}",
            row["best"],
            f"{row['to_best']:+.2f}",
        ]
        for row in figures["rows"]
        if row["case"].endswith("as given")
    ]
    drawn: dict[tuple[str, str], list[Figures]] = {}
    for row in figures["rows"]:
        if not row["case"].endswith("as given"):
            drawn.setdefault((row["set"], row["case"]), []).append(row)
    others = []
    for (name, case), rows in drawn.items():
        means = [
            sum(row["accuracy"]["auto"] for row in rows) / len(rows),
            sum(row["to_best"] for row in rows) / len(rows),
        ]
        others.append([name, case, str(len(rows)), f"{means[0]:.2f}", f"{means[1]:+.2f}"])
    first = table(["set", "shots", "chosen", "auto", "best method", "auto minus best"], worst)
    second = table(["set", "shots", "draws", "auto", "auto minus the best of each draw"], others)
    text = f"Worst against zero-shot, of {figures['cases']} cases: {figures['worst_to_zero_shot']:+.2f} points."
    return f"{first}\n\n{second}\n\n{text}"


def outsiders(figures: Figures) -> str:
    """Accuracy of `auto`, how far the best of the others is above or below, and every place where it is behind."""
    rows = figures["auto"]["rows"]
    kinds = list(dict.fromkeys(row["shots"] for row in rows))
    lines = []
    for name, texts in dict.fromkeys((row["set"], row["texts"]) for row in rows):
        cells = []
        for kind in kinds:
            here = [row for row in rows if (row["set"], row["texts"], row["shots"]) == (name, texts, kind)]
            cells.append(f"{here[0]['auto']:.1f} ({min(row['gain'] for row in here):+.1f})")
        lines.append([name, texts, *cells])
    shown = table(["set", "texts", *kinds], lines)
    behind = [row for row in rows if row["gain"] < -0.5]
    lost = [
        [
            row["set"],
            row["texts"],
            row["shots"],
            row["rival"],
            f"{row['gain']:+.2f}",
            f"{row['low']:+.2f} to {row['high']:+.2f}",
        ]
        for row in sorted(behind, key=lambda row: row["gain"])
    ]
    told = figures["auto"]["summary"]
    rivals = "nearest mean, kNN, logistic regression, linear SVM, LDA (Ledoit-Wolf), zero-shot, "
    rivals += "zero-shot + logistic regression"
    said = (
        f"Accuracy in %, {figures['draws']} draws, by shots a class (“unequal”: 16 over the rank); brackets: points "
        f"above the best of {rivals}. Of {told['comparisons']} comparisons {told['more than .5 below']} are more than "
        f"half a point below, {told['clearly below by more than 1.5']} clearly by more than 1.5:"
    )
    return f"{shown}\n\n{said}\n\n{table(['set', 'texts', 'shots', 'rival', 'points', '95 % interval'], lost)}"


def text_offsets(figures: Figures) -> str:
    rows: dict[tuple[str, str], list[str]] = {}
    for row in figures["rows"]:
        cell = f"{row['with']:.1f} ({row['gain']:+.2f}: {row['low']:+.2f} to {row['high']:+.2f})"
        rows.setdefault((row["set"], row["texts"]), []).append(cell)
    kinds = dict.fromkeys(row["shots"] for row in figures["rows"])
    said = f"Accuracy in %, {figures['draws']} draws; brackets: what the offsets add, with its 95 % interval."
    return f"{table(['set', 'texts', *kinds], [[*key, *cells] for key, cells in rows.items()])}\n\n{said}"


def earlier(figures: Figures) -> str:
    cells: dict[str, list[str]] = {}
    for row in figures["rows"]:
        gain = row["now"] - row["before"]
        cell = f"{row['before']:.1f} → {row['now']:.1f} ({gain:+.1f}: {row['low']:+.1f} to {row['high']:+.1f})"
        cells.setdefault(row["set"], []).append(cell)
    kinds = dict.fromkeys(row["shots"] for row in figures["rows"])
    draws = max(row["draws"] for row in figures["rows"])
    said = (
        f"Accuracy in % with true texts, at most {draws} draws; brackets: the gain with its 95 % interval over photos. "
        f"Mean gain {figures['gain']:+.2f} points."
    )
    return f"{table(['set', *kinds], [[name, *row] for name, row in cells.items()])}\n\n{said}"


def next_photos(figures: Figures) -> str:
    rows = [
        [
            row["set"],
            f"`{row['method']}`",
            str(row["photos a round"]),
            ", ".join(f"{value:.1f}" for value in row["random"]),
            ", ".join(f"{value:.1f}" for value in row["chosen"]),
            f"{row['mean gain']:+.1f} ({row['mean gain interval'][0]:+.1f} to {row['mean gain interval'][1]:+.1f})",
        ]
        for row in figures["rows"]
    ]
    header = ["set", "method", "photos a round", "at random", "chosen", "mean gain"]
    said = (
        f"Accuracy in % before the first of five rounds and after each, means of {figures['seeds']} seeds; in brackets "
        "the 95 % interval of the gain, paired by seed."
    )
    return f"{table(header, rows)}\n\n{said}"


def size(figures: Figures) -> str:
    rows = [[name, now, before] for name, (now, before) in figures.items()]
    return table(["", "now", "when it had 49 modules in its root"], rows)


def serve_throughput(figures: Figures) -> str:
    named = {
        "encoder alone, batches of 32": "bare_encoder",
        "`tip-adapter serve`": "service",
        "plain FastAPI, `async def`": "plain_loop",
        "plain FastAPI, `def`": "plain_threads",
    }
    rows = []
    for name, key in named.items():
        found = figures[key]
        latencies = [f"{found[one] / 1000:.2f} s" if one in found else "–" for one in ("p50_ms", "p95_ms", "p99_ms")]
        rows.append([name, f"{found['photos_per_second']:.1f}", f"{found['processor_s_per_photo']:.3f} s", *latencies])
    header = [f"{figures['clients']} clients, `{figures['encoder']}`", "photos/s", "processors", "p50", "p95", "p99"]
    answered = f"Every request was answered; resident memory of the service {figures['resident_mb']:.0f} MB."
    return f"{table(header, rows)}\n\n{answered}"


def serve_memory(figures: Figures) -> str:
    seen = figures["resident_mb"]
    return (
        f"{figures['statuses']['200']} requests with the encoder `{figures['encoder']}`: {seen[0]:.1f} MB after the "
        f"first thousand, {seen[-1]:.1f} MB at the end, {figures['largest_mb']:.1f} MB at most."
    )


def serve_overload(figures: Figures) -> str:
    statuses = figures["statuses"]
    answers = f"{statuses['200']} answers ({figures['wrong']} wrong), {statuses.get('503', 0)} times 503"
    return f"A queue of 16 photos, {2 * figures['clients']} clients: {answers}, nothing else."


def serve_kills(figures: Figures) -> str:
    return (
        f"{figures['kills']} times SIGKILL within a series of edits, {figures['acknowledged']} of them acknowledged: "
        f"{figures['wrong_states']} times the disk held anything but these, or these and the one that was under way."
    )


def serve_schema(figures: Figures) -> str:
    return f"{figures['cases']} requests, {figures['server_errors']} kinds of answers with 5xx."


SECTIONS = {
    "auto": ("`auto` beside the best training-free method, which the test labels chose", auto),
    "outsiders": ("`auto` beside what everybody would try first, on the same features", outsiders),
    "text_offsets": ("Texts that are named too often or too seldom, made up for in `auto`", text_offsets),
    "earlier": ("`auto` before its texts were measured, and now", earlier),
    "views": ("Shots of several views, left out as means or as single views", views),
    "bursts": ("Bursts: what the classifier says of itself, and what test photos say", bursts),
    "bursts_draws": ("The same with more draws of the photos", bursts),
    "trust": ("Calibration, sets of classes, unknown photos, flipped labels (mean over seeds)", trust),
    "enough": ("What one more photo of a class is foreseen to gain, and gains", enough),
    "encode": ("Photos to features", encode),
    "lite": ("Which networks `lite` joins", lite),
    "lite_int8": ("What static int8 does to `lite`", lite_int8),
    "fit_and_predict": ("Commands with `lite`, 10 classes × 16 photos", fit_and_predict),
    "export": ("Exported classifiers", export),
    "published_features": ("Published CLIP ViT-B/32 features, test accuracy in % (95 % interval)", published_features),
    "clothing_tip-adapter_1_views": ("Photos of clothes, 16 shots, `lite-fast`, 1 view", clothing),
    "clothing_tip-adapter_10_views": ("Photos of clothes, 16 shots, `lite-fast`, 10 views", clothing),
    "search": ("Search of α and β", search),
    "predict": ("Cache logits of many queries", predict),
    "startup": ("Start of a process", startup),
    "edits": ("Edits of a large classifier in memory", edits),
    "next_photos": ("Photos to label next, accuracy in %", next_photos),
    "scarce_classes": ("Recall of classes with few shots, in %", scarce_classes),
    "durability": ("Edits that race, commands that are killed, photos that are forgotten", durability),
    "durability_strace": ("Commands that are killed at each system call that changes names", killed),
    "tampering": ("Saved files that somebody has changed, checksums made right again", tampering),
    "offline": ("What leaves the machine", offline),
    "bad_jobs": ("Jobs over many photos to which something bad happens", bad_jobs),
    "cases": ("Small inputs that once went wrong", cases),
    "bombs": ("Files made to exhaust memory, through `predict` with `lite`", bombs),
    "mutated_images": ("Damaged images of every format", mutated_images),
    "store_kill": ("`embed` killed, and two at once", store_kill),
    "serve_throughput": ("The service beside the bare encoder and plain applications", serve_throughput),
    "serve_memory_lite": ("Memory of the service", serve_memory),
    "serve_memory_fake": ("Memory of the service over many requests", serve_memory),
    "serve_overload": ("More requests than the service can answer", serve_overload),
    "serve_kills": ("A service that is killed", serve_kills),
    "serve_schema": ("Requests that schemathesis makes up", serve_schema),
    "size": ("Size and plan of the package", size),
}


def section(name: str) -> str:
    path = FOLDER / "results" / f"{name}.json"
    if not path.exists():
        return ""
    result = json.loads(path.read_text(encoding="utf-8"))
    title, write = SECTIONS[name]
    machine, versions = result["machine"], result["versions"]
    packages = ", ".join(f"{package} {number}" for package, number in versions.items())
    where = f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}, Python {machine['python']}; {packages}"
    return f"### {title}\n\n`{result['command']}` ({where})\n\n{write(result['figures'])}\n\n"


def main() -> None:
    path = FOLDER / "README.md"
    text = path.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    figures = "".join(section(name) for name in SECTIONS)
    path.write_text(f"{before}{BEGIN}\n\n{figures}{END}{after}", encoding="utf-8")
    print(f"written: {path}")


if __name__ == "__main__":
    main()
