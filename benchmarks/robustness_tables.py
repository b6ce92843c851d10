"""Write tables of what is lost, leaked or exhausted when things go wrong."""

from __future__ import annotations

from typing import Any

Figures = dict[str, Any]


def table(header: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows])


def store_kill(figures: Figures) -> str:
    killed, both = figures["killed"], figures["two_at_once"]
    return (
        f"{figures['photos']} photos. Killed with {killed['stored_when_killed']} stored, integrity check "
        f"{killed['integrity_check']}; the second run encoded {killed['second_run_encoded']}, then the store held "
        f"{killed['rows_after']}. Two at once left {both['rows_after']} rows, one for each photo; a third run encoded "
        f"{both['third_run_encoded']}."
    )


def durability(figures: Figures) -> str:
    def total(part: str, name: str) -> int:
        return sum(row[name] for row in figures[part] if name in row)

    (reads,), (saves,) = figures["readers"], figures["saves"]
    rows = [
        ["edits acknowledged to processes and threads", f"{total('editors', 'acknowledged')}"],
        ["… of them there at the end", f"{total('editors', 'kept')}"],
        ["editors killed", f"{total('editors', 'killed')}"],
        [f"loads beside {reads['saves']} saves", f"{reads['loads']}"],
        ["… that failed", f"{reads['failed']}"],
        [f"a saved edit at {saves['shots']} shots, loading included", f"{saves['edit_s']} s, {saves['MB']} MB"],
    ]
    return f"{table(['', ''], rows)}\n\n{killed(figures)}"


def killed(figures: Figures) -> str:
    rows = [[row["command"], str(row["kills"]), str(len(row["faults"])), "–"] for row in figures["kills"]]
    rows += [
        [f"{row['command']}, repeated", str(row["kills"]), "–", str(row["traces left"])]
        for row in figures["forgetting"]
    ]
    return table(["command", "kills", "neither old nor new, or left over", "traces of what was forgotten"], rows)


def cases(figures: Figures) -> str:
    return table(
        ["case", "as wanted", ""],
        [[name, "yes" if row["as_wanted"] else "no", row["what"]] for name, row in figures.items()],
    )


def tampering(figures: Figures) -> str:
    rows = [
        [name, *(str(row.get(key, 0)) for key in ("cases", "refused", "harmless")), f"{row['peak_memory_mb']} MB"]
        for name, row in figures.items()
        if name != "all"
    ]
    whole = figures["all"]
    others = whole["cases"] - whole.get("refused", 0) - whole.get("harmless", 0)
    text = f"Of {whole['cases']} cases {others} ended in another way."
    return f"{table(['what', 'cases', 'refused in one line', 'harmless', 'peak of the process'], rows)}\n\n{text}"


def offline(figures: Figures) -> str:
    return table(["", "attempts to reach a network"], [[name, str(count)] for name, count in figures.items()])


def bombs(figures: Figures) -> str:
    rows = []
    for kind, row in figures["kinds"].items():
        counts = [f"{row[name]:.0f}" for name in ("answered", "refused")]
        rows.append([kind, *counts, f"{row['seconds'] / row['files']:.1f} s", f"{row['peak_mb']:.0f} MB"])
    largest = f"Largest peak {figures['largest_peak_mb']:.0f} MB, below {figures['target_mb']} wanted."
    return f"{table(['files', 'answered', 'refused', 'per file', 'peak of the process'], rows)}\n\n{largest}"


def mutated_images(figures: Figures) -> str:
    rows = [
        [kind, *(str(found.get(name, 0)) for name in ("answered", "refused"))]
        for kind, found in figures["kinds"].items()
    ]
    slowest = (
        f"Slowest image {figures['slowest_s']:.2f} s, {figures['peak_mb']:.0f} MB more than without; no other outcome."
    )
    return f"{table(['damaged images', 'answered', 'refused in one line'], rows)}\n\n{slowest}"
