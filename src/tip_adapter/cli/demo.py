"""The command demo: the main job on real photos, in one go."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tip_adapter.cli.options import ClassTextsOption, JsonOption, read_class_texts
from tip_adapter.cli.output import echo, echo_json, percent

if TYPE_CHECKING:
    from tip_adapter.demo import DemoResult

__all__ = ["demo"]


def demo(
    photos: Annotated[
        Path | None, typer.Argument(help="Your folder of class folders. Default: handwritten digits that pip brought.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for what the demo writes.")] = Path(
        "tip-adapter-demo"
    ),
    encoder: Annotated[str, typer.Option("--encoder", "-e", help="Which encoder.")] = "lite",
    shots: Annotated[int, typer.Option("--shots", "-k", min=1, help="Photos per class, at most.")] = 16,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the draw of shots.")] = 0,
    class_texts: ClassTextsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the main job on real photos: zero-shot, the shots alone, and both together."""
    from tip_adapter.classifier import ImageClassifier
    from tip_adapter.demo import DIGIT_TEXTS, run_demo, write_digits
    from tip_adapter.errors import InputError
    from tip_adapter.storage.bundle_files import check_replaceable

    model_path = output / "demo.tip"
    check_replaceable(model_path)
    if photos is not None and output.resolve().is_relative_to(photos.resolve()):
        raise InputError(
            f"Expected an output folder outside the photos in {photos}, got {output}: choose another with --output."
        )
    texts = read_class_texts(class_texts)
    own = photos is not None
    if photos is None:
        photos = write_digits(output / "digits")
        texts = texts or {name: (text,) for name, text in DIGIT_TEXTS.items()}
    result = run_demo(
        photos,
        ImageClassifier(encoder, "tip-adapter", class_texts=texts),
        shots=shots,
        random_state=seed,
        picture=output / "evidence.png",
        tell=lambda line: None if as_json else echo(line),
    )
    result.classifier.save(model_path)
    if as_json:
        evaluation = result.evaluation.to_dict()
        seconds = {"fit_seconds": result.fit_seconds, "evaluate_seconds": result.evaluate_seconds}
        echo_json(evaluation | seconds | {"picture": str(result.picture), "model": str(model_path)})
    else:
        _show(result, model_path, own=own)


def _show(result: DemoResult, model_path: Path, *, own: bool) -> None:
    evaluation = result.evaluation
    low, high = evaluation.accuracy_interval
    per_second = evaluation.n / result.evaluate_seconds
    echo()
    echo(f"  zero-shot (class names alone)         {percent(evaluation.zero_shot_accuracy):>7}")
    echo(f"  cache alone (shots alone)             {percent(evaluation.cache_accuracy):>7}")
    both = f"{percent(evaluation.accuracy):>7}  ({percent(low)} to {percent(high)})"
    echo(f"  Tip-Adapter (both, nothing trained)   {both}")
    echo()
    echo(f"fit in {result.fit_seconds:.1f} s, then {per_second:.0f} photos/s")
    echo(result.classifier.model_.method.chosen["summary"])
    echo(f"queries with their nearest shots: {result.picture}")
    other = "" if own else ", or: tip-adapter demo YOUR_FOLDER"
    echo(f"classifier: {model_path}; try: tip-adapter predict {model_path} PHOTO{other}")
