"""The command fine-tune, which tunes the encoder itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tip_adapter.cli import options
from tip_adapter.cli.output import echo, echo_json, echo_next
from tip_adapter.cli.photos import read_photos
from tip_adapter.errors import EncoderError, InputError

if TYPE_CHECKING:
    from tip_adapter.methods.on_encoder.encoder_tuning import EncoderTuning


OutputOption = Annotated[Path, typer.Option("--output", "-o", help="New folder for the tuned encoder.")]
WiseWeightOption = Annotated[
    float | None,
    typer.Option(
        "--wise-weight",
        min=0,
        max=1,
        help="Weight of the tuned encoder in WiSE-FT's average with the original. Default: .5.",
    ),
]
RankOption = Annotated[
    int | None,
    typer.Option(
        "--rank", min=1, help="Train changes of this rank in the attention alone (clip-lora; the paper's: 2)."
    ),
]
LearningRateOption = Annotated[
    float | None,
    typer.Option("--learning-rate", help="Learning rate. Default: chosen on held-out shots; with --rank, 2e-4."),
]
EpochsOption = Annotated[
    int | None,
    typer.Option(
        "--epochs",
        min=1,
        help="Passes over the shots. Default: 20, from 8 shots per class up 10; with --rank, 500 steps per shot.",
    ),
]
CheckpointOption = Annotated[
    Path | None,
    typer.Option("--checkpoint", help="File that keeps the progress; run the command again to continue from it."),
]


def fine_tune(
    data: options.Data,
    output: OutputOption = Path("tuned-encoder"),
    encoder: options.Encoder = None,
    shots: options.Shots = None,
    seed: options.Seed = 0,
    class_texts: options.ClassTexts = None,
    template: options.Template = None,
    wise_weight: WiseWeightOption = None,
    rank: RankOption = None,
    learning_rate: LearningRateOption = None,
    epochs: EpochsOption = None,
    checkpoint: CheckpointOption = None,
    split: options.Split = None,
    as_json: options.Json = False,
) -> None:
    """Fine-tune an encoder on labelled photos (minutes to hours), and save it as an ONNX folder."""
    from tip_adapter.classifier import default_encoder
    from tip_adapter.data.sampling import shots_at_most
    from tip_adapter.features.prompts import texts_for
    from tip_adapter.progress import for_steps, progress_bar

    start = time.perf_counter()
    _check_wanted(output, rank, wise_weight)
    dataset = read_photos(data, split=split, prefer=("train",), as_json=as_json)
    chosen = shots_at_most(dataset.labels, shots, random_state=seed, class_names=dataset.class_names)
    settings: dict[str, Any] = {"class_names": list(dataset.class_names), "random_state": seed}
    if template:
        settings["templates"] = options.templates(template)
    if rank is None:
        method, told = _full(settings, wise_weight, learning_rate, epochs)
    else:
        method, told = _low_rank(settings, rank, learning_rate, epochs, len(chosen))
    texts = texts_for(dataset.class_names, options.read_class_texts(class_texts))
    with progress_bar("Fine-tuning", unit="steps") as bar:
        method.fit(
            [dataset.paths[index] for index in chosen],
            dataset.labels[chosen],
            encoder=encoder or default_encoder(),
            class_texts=texts,
            checkpoint=checkpoint,
            progress=for_steps(bar),
        )
    method.export_encoder(output)
    facts: dict[str, Any] = {
        "output": str(output),
        "shots": len(chosen),
        "classes": len(dataset.class_names),
        "trainable_parameters": method.trainable_parameters_,
        **told(),
        "epochs": len(method.training_.losses),
        "interrupted": method.training_.interrupted,
        "losses": list(method.training_.losses),
        "seconds": time.perf_counter() - start,
        "data": dataset.findings.to_dict(),
    }
    if as_json:
        echo_json(facts)
    else:
        _show_tuning(facts, data)


def _check_wanted(output: Path, rank: int | None, wise_weight: float | None) -> None:
    """Look before the training, not after it."""
    if output.exists():
        raise EncoderError(f"Expected {output} not to exist yet: choose another place or remove it")
    if rank is not None and wise_weight is not None:
        raise InputError("--wise-weight averages all weights, and --rank changes those of the attention: leave one out")


def _full(
    settings: dict[str, Any], wise_weight: float | None, learning_rate: float | None, epochs: int | None
) -> tuple[EncoderTuning, Callable[[], dict[str, Any]]]:
    """Both towers, and what to say of them once they are tuned."""
    from tip_adapter.methods import FullFineTuning

    weight = 0.5 if wise_weight is None else wise_weight
    method = FullFineTuning(
        **settings,
        wise_weight=weight,
        learning_rate="auto" if learning_rate is None else learning_rate,
        epochs=epochs or "auto",
    )
    return method, lambda: {
        "learning_rate": method.learning_rate_,
        "summary": method.search_.summary,
        "wise_weight": weight,
    }


def _low_rank(
    settings: dict[str, Any], rank: int, learning_rate: float | None, epochs: int | None, n_shots: int
) -> tuple[EncoderTuning, Callable[[], dict[str, Any]]]:
    """Changes of low rank, and what to say of them."""
    from tip_adapter.methods import CLIPLoRA

    method = CLIPLoRA(**settings, rank=rank)
    if learning_rate is not None:
        method.set_params(learning_rate=learning_rate)
    if epochs is not None:
        method.set_params(iterations=epochs * -(-n_shots // method.batch_size))
    told = {"learning_rate": method.learning_rate, "rank": rank}
    return method, lambda: told | {"summary": f"changes of rank {rank}, learning rate {method.learning_rate:g}"}


def _show_tuning(facts: dict[str, Any], data: Path) -> None:
    output = facts["output"]
    echo(
        f"{facts['shots']} shots of {facts['classes']} classes, {facts['trainable_parameters']:,} parameters tuned in "
        f"{facts['epochs']} epochs, {facts['seconds']:.1f} s"
    )
    echo(facts["summary"])
    echo(f"saved: {output}")
    echo_next("fit", data, "--encoder", output, "--method", "zero-shot", so_that="use it")
