"""The command push: upload a saved classifier to the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tip_adapter.cli.output import echo


def push(
    model: Annotated[Path, typer.Argument(help="A saved classifier.")],
    repository: Annotated[str, typer.Argument(help="Repository as owner/name; it is created if it does not exist.")],
    public: Annotated[bool, typer.Option("--public", help="Make a new repository public.")] = False,
    pictures: Annotated[
        bool, typer.Option("--pictures", help="Upload thumbnails of the shots and the names of their files, too.")
    ] = False,
    license_name: Annotated[
        str | None, typer.Option("--license", help="For the model card, such as cc-by-4.0.")
    ] = None,
) -> None:
    """Upload a classifier to the Hugging Face Hub; needs a token (HF_TOKEN, or hf auth login)."""
    from tip_adapter.classifier import ImageClassifier

    classifier = ImageClassifier.load(model, store=None)
    echo(classifier.push_to_hub(repository, private=not public, pictures=pictures, license_name=license_name))
