"""The command demo: the whole workflow on real photos, in one go."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tip_adapter.cli import options
from tip_adapter.cli.output import command_line, echo, echo_json
from tip_adapter.trust.figures import percent

if TYPE_CHECKING:
    from tip_adapter.cli.demo.run import DemoResult
    from tip_adapter.data import ImageDataset


def demo(
    photos: Annotated[
        Path | None, typer.Argument(help="Your folder of class folders. Default: 200 photos of clothes, brought along.")
    ] = None,
    digits: Annotated[
        bool, typer.Option("--digits", help="Handwritten digits instead, where class names are of no help.")
    ] = False,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for what the demo writes.")] = Path(
        "tip-adapter-demo"
    ),
    encoder: Annotated[str, typer.Option("--encoder", "-e", help="Which encoder.")] = "lite",
    shots: Annotated[int, typer.Option("--shots", "-k", min=1, help="Photos per class to learn from, at most.")] = 16,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the draw of shots.")] = 0,
    class_texts: options.ClassTexts = None,
    as_json: options.Json = False,
) -> None:
    """Show in one go what a few photos bring: accuracy, seconds, one prediction explained, and a report."""
    from tip_adapter.cli.demo.run import run_demo, support_and_queries
    from tip_adapter.errors import InputError
    from tip_adapter.storage.bundle_files import check_replaceable

    model_path, report = output / "demo.tip", output / "report.html"
    check_replaceable(model_path)
    if photos is not None and digits:
        raise InputError("Expected photos or --digits, got both: leave one of them out")
    if photos is not None and output.resolve().is_relative_to(photos.resolve()):
        raise InputError(
            f"Expected an output folder outside the photos in {photos}, got {output}: choose another with --output"
        )
    folder, texts, title = _photos(photos, digits, output)
    train, test = support_and_queries(folder, shots, seed)
    if not as_json:
        _introduce(train, test)
    result = run_demo(
        train,
        test,
        encoder,
        options.read_class_texts(class_texts) or texts,
        title=title,
        report=report,
        tell=lambda line: None if as_json else echo(line),
    )
    result.classifier.save(model_path)
    if as_json:
        echo_json(result.to_dict() | {"report": str(report), "model": str(model_path)})
    else:
        _show(result, train, model_path, report)
        _say_what_next(result, model_path, encoder, own=photos is not None)


def _photos(photos: Path | None, digits: bool, output: Path) -> tuple[Path, Mapping[str, Sequence[str]] | None, str]:
    """The folder to learn from, words for its classes, and a title."""
    from tip_adapter.cli.demo.photos import DIGIT_TEXTS, clothing_texts, write_clothing, write_digits

    if photos is not None:
        return photos, None, f"Tip-Adapter on {photos.name}"
    if digits:
        return write_digits(output / "digits"), DIGIT_TEXTS, "Tip-Adapter on handwritten digits"
    return write_clothing(output / "clothing"), clothing_texts(), "Tip-Adapter on photos of clothes"


def _introduce(train: ImageDataset, test: ImageDataset) -> None:
    counts = [int((train.labels == label).sum()) for label in set(train.labels.tolist())]
    each = str(min(counts)) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    echo(f"{len(train)} shots ({each} of each of {len(counts)} classes), {len(test)} other photos to measure on")


def _show(result: DemoResult, train: ImageDataset, model_path: Path, report: Path) -> None:
    n = result.evaluation.n
    echo()
    echo(f"  {f'right of {n} photos':<32}{'95 % interval':>26}{'fit':>10}")
    for row in result.compared:
        interval = f"{percent(row.interval[0])} to {percent(row.interval[1])}"
        seconds = "" if row.seconds is None else f"{row.seconds:.2f} s"
        echo(f"  {row.name:<12} {row.note:<16}{percent(row.accuracy):>7}{interval:>22}{seconds:>10}")
    echo("  (where intervals overlap, the difference may be chance)")
    echo()
    for found in filter(None, (result.search, result.texts)):
        for line in textwrap.wrap(found, 78):
            echo(line)
        echo()
    for line in _explained(result):
        echo(line)
    echo()
    echo(f"report:     {report}")
    echo(f"classifier: {model_path}")


def _explained(result: DemoResult) -> list[str]:
    """Why one photo got its class, in a few lines."""
    why = result.explanation
    alone = "" if why.text_answer in (None, why.answer) else f"; the texts alone say {why.text_answer}"
    parts = ", ".join(f"{name} {value:+.2f}" for name, value in why.margin_parts().items())
    lines = [
        f"One prediction explained: {why.path}",
        f"  {why.answer} {percent(why.probability)}, {why.runner_up} {percent(why.runner_up_probability)}{alone}",
        f"  its lead in logits: {parts} = {why.margin:+.2f}",
    ]
    if why.deciding:
        shot = why.deciding[0]
        lines.append(f"  the shot that counts most: {shot.name} ({shot.class_name}, cosine {shot.cosine:.2f})")
    return lines


def _say_what_next(result: DemoResult, model_path: Path, encoder: str, *, own: bool) -> None:
    echo()
    echo("What to type next:")
    echo("  # why, shot by shot")
    echo(f"  {command_line('explain', model_path, result.explanation.path)}")
    echo("  # doubtful labels, copies, classes that need photos")
    echo(f"  {command_line('doctor', model_path)}")
    if not own:
        echo("  # the same with photos of your own: a folder with one folder per class")
        echo(f"  {command_line('demo', 'YOUR_PHOTOS')}")
    echo("  # a classifier of your own")
    echo(f"  {command_line('fit', 'YOUR_PHOTOS', '--encoder', encoder, '--output', 'mine.tip')}")
