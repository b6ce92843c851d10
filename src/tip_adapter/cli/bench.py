"""The command bench: compare methods to adapt an encoder under one stated protocol."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tip_adapter.cli import completion, options
from tip_adapter.cli.output import echo, echo_error, echo_json, echo_next, echo_skipped, left_out
from tip_adapter.cli.tables import echo_table, number, text
from tip_adapter.errors import InputError

if TYPE_CHECKING:
    from tip_adapter.bench.report import Report
    from tip_adapter.bench.runner import BenchmarkResult, RunProgress
    from tip_adapter.progress import Progress


DataArgument = Annotated[
    list[str] | None,
    typer.Argument(help="Folders of class folders, manifests, feature files (.npz) or names of standard data sets."),
]
OutputOption = Annotated[
    Path, typer.Option("--output", "-o", help="Folder of results; runs that are in it already are kept.")
]
MethodsOption = Annotated[
    str,
    typer.Option(
        "--methods",
        "-m",
        autocompletion=completion.methods,
        help="Names separated by commas; or default, all, training-free, trained, on-encoder, transductive.",
    ),
]
ShotsOption = Annotated[
    str | None,
    typer.Option(
        "--shots",
        "-k",
        help="Photos per class, separated by commas. Default: as many of 1,2,4,8,16 as the data allows.",
    ),
]
SeedsOption = Annotated[int, typer.Option("--seeds", min=1, help="Support sets to draw for each number of shots.")]
ProtocolOption = Annotated[
    str,
    typer.Option(
        "--protocol",
        help="fair: tune on the shots; paper: on the validation split; paper-few: on a few more photos; both; "
        "as-it-comes: unequal shots; base-to-new: half of the classes without; transductive.",
    ),
]
FrequenciesOption = Annotated[
    str,
    typer.Option(
        "--frequencies",
        help="Of classes under as-it-comes: zipf, train (as the training photos), or a JSON file of class to number.",
    ),
]
NoTextOption = Annotated[
    bool, typer.Option("--no-text", help="Use no class texts; methods that need them are left out.")
]
DataRootOption = Annotated[
    Path | None, typer.Option("--data-root", help="Folder that holds the standard data sets, such as caltech101.")
]
JobsOption = Annotated[
    int | None, typer.Option("--jobs", "-j", min=1, help="Runs at the same time. Default: one per core.")
]
LogitsOption = Annotated[bool, typer.Option("--logits", help="Also save the logits of the test photos.")]
RedoOption = Annotated[bool, typer.Option("--redo", help="Repeat runs that are in the folder already.")]
ReportOnlyOption = Annotated[
    bool, typer.Option("--report-only", help="Run nothing; write the tables and figures of --output again.")
]


def bench(
    data: DataArgument = None,
    output: OutputOption = Path("tip-adapter-bench"),
    methods: MethodsOption = "default",
    shots: ShotsOption = None,
    seeds: SeedsOption = 3,
    protocol: ProtocolOption = "fair",
    frequencies: FrequenciesOption = "zipf",
    encoder: options.Encoder = None,
    precision: options.Precision = "fp32",
    class_texts: options.ClassTexts = None,
    template: options.Template = None,
    no_text: NoTextOption = False,
    views: options.Views = 1,
    data_root: DataRootOption = None,
    jobs: JobsOption = None,
    logits: LogitsOption = False,
    redo: RedoOption = False,
    report_only: ReportOnlyOption = False,
    skip_bad: options.SkipBad = False,
    as_json: options.Json = False,
) -> None:
    """Compare methods on your data: accuracy with intervals, calibration, time and memory, in tables and figures."""
    from tip_adapter.bench import run

    if report_only:
        return _write_again(data, output, as_json)
    if not data:
        raise InputError("Expected data: a folder of class folders, a manifest, a feature file or a standard data set")
    with _bars() as (encoding, progress):
        result = run(
            data,
            output,
            methods=methods,
            shots=_numbers(shots),
            n_seeds=seeds,
            protocol=protocol,
            frequencies=frequencies,
            encoder=encoder,
            precision=precision,
            class_texts=class_texts,
            templates=options.templates(template) if template else None,
            no_text=no_text,
            views=views,
            data_root=data_root,
            jobs=jobs,
            logits=logits,
            redo=redo,
            skip_bad=skip_bad,
            encoding_progress=encoding,
            progress=progress,
        )
    _show_result(result, data[0], as_json)


def _write_again(data: list[str] | None, output: Path, as_json: bool) -> None:
    """Write the tables and figures of results that are there already."""
    from tip_adapter.bench import write_report

    if data:
        raise InputError(f"Expected no data with --report-only, got {data[0]}: name the folder with --output")
    report = write_report(output)
    if as_json:
        echo_json(_as_json(report))
    else:
        _show(report)


def _show_result(result: BenchmarkResult, data: str, as_json: bool) -> None:
    echo_skipped(result.skipped)
    if as_json:
        facts = {"runs": result.n_run, "kept": result.n_kept, "notes": list(result.notes)}
        echo_json(facts | _as_json(result.report) | left_out(result.skipped))
    else:
        _show(result.report)
        _show_run(result)
        if result.report.rows and not result.failed:
            best = max(result.report.rows, key=lambda row: row.accuracy)
            echo_next("fit", data, "--method", best.method.split(" ")[0], so_that="learn with the best method")
    if result.failed:
        echo_error(f"error: {len(result.failed)} runs failed, the others are kept: see above")
        raise typer.Exit(1)


def _numbers(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"Expected shots as numbers separated by commas, such as 1,4,16, got {text!r}") from error


@contextlib.contextmanager
def _bars() -> Iterator[tuple[Progress, RunProgress]]:
    """Show how far the encoding is, then how many runs are done and which was the last."""
    from tip_adapter.progress import progress_bar

    with progress_bar("Encoding") as display:
        begun: list[bool] = []

        def ran(done: int, total: int, last: str) -> None:
            if not begun:
                begun.append(True)
                display.announce("Fitting and testing", "runs")
            display.show(done, total, last)

        yield display, ran


def _show(report: Report) -> None:
    from tip_adapter.bench.report import overviews, reasons

    for overview in overviews(report.rows):
        echo()
        echo(f"{overview.setting.title}: accuracy in %, and costs at the most shots")
        name, *figures = overview.header
        echo_table([text(name), *map(number, figures)], overview.cells)
    echo()
    echo("± is half a 95 % interval over support sets (* over test images; † works on the encoder itself)")
    for line in reasons(report.records.not_applicable):
        echo(f"not applicable: {line}")
    for line in reasons(report.records.failed):
        echo(f"failed: {line}", err=True)
    for note in report.notes:
        echo(f"note: {note}")
    shown = [path for path in report.files if path.suffix != ".svg"]
    echo(f"written: {', '.join(str(path) for path in shown)}")


def _show_run(result: BenchmarkResult) -> None:
    for note in result.notes:
        echo(f"note: {note}")
    echo(f"{result.n_run} runs made, {result.n_kept} were there already: {result.output}")


def _as_json(report: Report) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "rows": [asdict(row) for row in report.rows],
        "not_applicable": report.records.not_applicable,
        "failed": report.records.failed,
        "left_out": [{"file": name, "reason": reason} for name, reason in report.records.others],
        "report_notes": list(report.notes),
        "files": [str(path) for path in report.files],
    }
