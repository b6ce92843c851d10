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
    as_json: options.Json = False,
) -> None:
    """Save an encoder as an ONNX folder that runs without torch and without a network."""
    from tip_adapter.encoders import export_encoder as export

    folder = export(encoder, output, logit_scale=logit_scale)
    if as_json:
        echo_json({"output": str(folder)})
    else:
        echo(f"saved: {folder}")
        echo_next("fit", "PHOTOS", "--encoder", folder, so_that="use it")
