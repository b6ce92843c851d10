"""The command export-encoder: an encoder as an ONNX folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tip_adapter.cli import options
from tip_adapter.cli.output import echo, echo_json, echo_next


def export_encoder(
    encoder: Annotated[
        str, typer.Argument(help="lite, huggingface:owner/name, open-clip:model/weights, or any other encoder.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="New folder for the ONNX towers, tokenizer and settings.")
    ] = Path("exported-encoder"),
    logit_scale: Annotated[
        float | None, typer.Option("--logit-scale", help="Save this logit scale instead of the encoder's own.")
    ] = None,
    photos: Annotated[
        Path | None,
        typer.Option("--int8-photos", help="Export convolutions in int8, calibrated on these labelled photos."),
    ] = None,
    max_flipped: Annotated[
        float, typer.Option("--max-flipped", min=0, max=1, help="Share of predictions that int8 may change.")
    ] = 0.05,
    as_json: options.Json = False,
) -> None:
    """Save an encoder as an ONNX folder that runs without torch and without a network."""
    from tip_adapter.encoders import export_encoder as export

    if photos is not None:
        _export_eight_bit(encoder, output, photos, max_flipped, as_json=as_json)
        return
    folder = export(encoder, output, logit_scale=logit_scale)
    if as_json:
        echo_json({"output": str(folder)})
    else:
        echo(f"saved: {folder}")
        echo_next("fit", "PHOTOS", "--encoder", folder, so_that="use it")


def _export_eight_bit(encoder: str, output: Path, photos: Path, max_flipped: float, *, as_json: bool) -> None:
    from tip_adapter.data import load_dataset
    from tip_adapter.trust.eight_bit_export import export_eight_bit

    found = load_dataset(photos, prefer=("train",))
    made = export_eight_bit(encoder, output, found, max_flipped=max_flipped)
    if as_json:
        faster = {"times_as_fast": made.times_as_fast}
        echo_json({"output": str(output), "encoder": made.encoder, **made.report.to_dict(), **faster})
        return
    echo(f"{made.report}; {made.times_as_fast:.1f} times as fast here")
    echo(f"saved: {output}")
    echo_next("fit", photos, "--encoder", made.encoder, so_that="use it")
