"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tip_adapter.cli import completion

ModelArgument = Annotated[
    str,
    typer.Argument(
        autocompletion=completion.saved_classifiers,
        help="A saved classifier: a folder such as clothes.tip, or hub:owner/name.",
    ),
]
EditedArgument = Annotated[
    str,
    typer.Argument(
        autocompletion=completion.saved_classifiers,
        help="A saved classifier such as clothes.tip; it is updated in place.",
    ),
]
PhotosArgument = Annotated[
    list[str],
    typer.Argument(
        help="Photos, folders or archives of them, a manifest, patterns such as 'in/*.jpg', or - to read names."
    ),
]
UnlabelledOption = Annotated[
    list[str] | None,
    typer.Option(
        "--unlabelled",
        help="Photos without labels (folder, archive, pattern), ranked by what to label next; may be repeated.",
    ),
]
DataArgument = Annotated[
    Path,
    typer.Argument(help="Labelled photos: a folder of class folders, an archive (.zip, .tar) or a table (.csv …)."),
]
EncoderOption = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        "-e",
        autocompletion=completion.encoders,
        help="lite, clip-vit-b-32, hub:owner/name, a folder, or several joined by +. "
        "Default: $TIP_ADAPTER_ENCODER or clip-vit-b-32.",
    ),
]
WhereOption = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        "-e",
        autocompletion=completion.encoders,
        help="Where to find the classifier's encoder. Default: where it was when the classifier was fitted.",
    ),
]
WaitOption = Annotated[
    float,
    typer.Option("--wait", help="Seconds to wait while somebody else edits the same classifier.", min=0),
]
PrecisionOption = Annotated[
    str,
    typer.Option(
        "--precision",
        help="fp32, or int8: about three times as fast, for transformers as ONNX graphs (not lite). "
        "Joined encoders take one each: int8+fp32.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
SkipBadOption = Annotated[bool, typer.Option("--skip-bad", help="Skip photos that cannot be read, and list them.")]
TruncatedOption = Annotated[
    bool, typer.Option("--allow-truncated", help="Use truncated photos as far as they can be decoded.")
]
SplitOption = Annotated[
    str | None,
    typer.Option("--split", help="Which split to use: train, validation, test; or none, where folders are classes."),
]
TableOption = Annotated[
    Path | None, typer.Option("--output", "-o", help="Save the result as a table: a .csv, .jsonl or .parquet file.")
]
ShotsOption = Annotated[
    int | None, typer.Option("--shots", "-k", min=1, help="Photos per class, at most. Default: all.")
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Random seed for drawing shots and views.")]
ViewsOption = Annotated[
    int, typer.Option("--views", min=1, help="Views per shot: 1 is the centre crop, more are random crops.")
]
ClassTextsOption = Annotated[
    Path | None,
    typer.Option(
        "--class-texts", help="JSON file of texts for the classes: class name → one text, or a list of texts."
    ),
]
TemplateOption = Annotated[
    list[str] | None,
    typer.Option(
        "--template",
        "-t",
        help="Prompt template such as 'a sketch of a {}.', or the name of a set of them; may be repeated.",
    ),
]


def read_class_texts(path: Path | None) -> dict[str, tuple[str, ...]] | None:
    """Read the file of `--class-texts`, if there is one."""
    from tip_adapter.features.prompts import load_class_texts

    return None if path is None else load_class_texts(path)


def templates(given: list[str] | None) -> str | list[str]:
    """One name or template alone may name a set; several are templates."""
    if not given:
        return "ensemble"
    return given[0] if len(given) == 1 else given
