"""Options that several commands share, and what they print with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from tip_adapter.classifier import ImageClassifier

__all__ = [
    "ClassTextsOption",
    "EncoderOption",
    "JsonOption",
    "ModelArgument",
    "PhotosArgument",
    "PrecisionOption",
    "SeedOption",
    "ShotsOption",
    "SkipBadOption",
    "SplitOption",
    "TableOption",
    "TemplateOption",
    "ViewsOption",
    "WhereOption",
    "echo_json",
    "echo_skipped",
    "echo_table",
    "percent",
    "read_class_texts",
    "skipped_rows",
    "templates",
    "training_split",
    "warn_of_stale",
]

ModelArgument = Annotated[
    str, typer.Argument(help="A saved classifier: a folder such as clothes.tip, or hub:owner/name.")
]
PhotosArgument = Annotated[list[str], typer.Argument(help="Photos, folders of photos, or patterns such as 'in/*.jpg'.")]
EncoderOption = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        "-e",
        help="lite, clip-vit-b-32, hub:owner/name, a folder … Default: $TIP_ADAPTER_ENCODER, else clip-vit-b-32.",
    ),
]
WhereOption = Annotated[
    str | None,
    typer.Option(
        "--encoder", "-e", help="Where the classifier's encoder is now. Default: the name it was fitted with."
    ),
]
PrecisionOption = Annotated[
    str,
    typer.Option("--precision", help="fp32; or int8, three times as fast, for transformers as ONNX graphs (not lite)."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
SkipBadOption = Annotated[bool, typer.Option("--skip-bad", help="Go on without photos that cannot be read; list them.")]
SplitOption = Annotated[
    str | None, typer.Option("--split", help="train, validation or test, where the data has splits.")
]
TableOption = Annotated[Path | None, typer.Option("--output", "-o", help="Write a table: .csv, .jsonl or .parquet.")]
ShotsOption = Annotated[
    int | None, typer.Option("--shots", "-k", min=1, help="Photos per class, at most. Default: all.")
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of the draw of shots and of views.")]
ViewsOption = Annotated[int, typer.Option("--views", min=1, help="Views per shot: 1 is the middle, more are crops.")]
ClassTextsOption = Annotated[
    Path | None, typer.Option("--class-texts", help="JSON file: class name → one text, or a list of texts.")
]
TemplateOption = Annotated[
    list[str] | None,
    typer.Option("--template", "-t", help="Such as 'a sketch of a {}.', or the name of a set; may be repeated."),
]


def read_class_texts(path: Path | None) -> dict[str, tuple[str, ...]] | None:
    """Read the file of `--class-texts`, if there is one."""
    from tip_adapter.features.prompts import load_class_texts

    return None if path is None else load_class_texts(path)


def training_split(data: Path, split: str | None) -> str | None:
    """Fit on the split "train" of a folder that has one, unless another is asked for."""
    return "train" if split is None and (data / "train").is_dir() else split


def templates(given: list[str] | None) -> str | list[str]:
    """One name or template alone may name a set; several are templates."""
    if not given:
        return "ensemble"
    return given[0] if len(given) == 1 else given


def skipped_rows(skipped: list[tuple[str, str]]) -> list[dict[str, str]]:
    """Photos that were left out, as JSON values."""
    return [{"path": name, "reason": reason} for name, reason in skipped]


def echo_json(value: Any) -> None:
    """Print one JSON object on stdout."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False))


def echo_table(table: Table) -> None:
    """Print a table on stdout, wide enough for its content where stdout is no terminal."""
    from rich.console import Console

    # Names of files and classes are no markup: "hat[1].jpg" and ":hat:" are shown as they are.
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = 200
    console.print(table)


def percent(value: float | None, digits: int = 1) -> str:
    """Write a share the way the documentation and the pages do; a dash where there is none."""
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def echo_skipped(skipped: list[tuple[str, str]]) -> None:
    """List the photos that were left out, on stderr."""
    for name, reason in skipped:
        typer.echo(f"skipped: {reason if name in reason else f'{name}: {reason}'}", err=True)


def warn_of_stale(classifier: ImageClassifier) -> None:
    """Say on stderr what was chosen before the last edits."""
    for note in classifier.model_.stale_notes:
        typer.echo(f"note: {note}", err=True)
