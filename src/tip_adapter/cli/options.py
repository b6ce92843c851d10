"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tip_adapter.cli import completion

Model = Annotated[
    str,
    typer.Argument(
        autocompletion=completion.saved_classifiers,
        help="A saved classifier: a folder such as clothes.tip, or hub:owner/name.",
    ),
]
Edited = Annotated[
    str,
    typer.Argument(
        autocompletion=completion.saved_classifiers,
        help="A saved classifier such as clothes.tip; it is updated in place.",
    ),
]
Photos = Annotated[
    list[str],
    typer.Argument(
        help="Photos, folders or archives of them, a manifest, patterns such as 'in/*.jpg', or - to read names."
    ),
]
Unlabelled = Annotated[
    list[str] | None,
    typer.Option(
        "--unlabelled",
        help="Photos without labels (folder, archive, pattern), ranked by what to label next; may be repeated.",
    ),
]
Data = Annotated[
    Path,
    typer.Argument(help="Labelled photos: a folder of class folders, an archive (.zip, .tar) or a table (.csv …)."),
]
Encoder = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        "-e",
        autocompletion=completion.encoders,
        help="lite, clip-vit-b-32, hub:owner/name, a folder, or several joined by +. "
        "Default: $TIP_ADAPTER_ENCODER or clip-vit-b-32.",
    ),
]
Where = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        "-e",
        autocompletion=completion.encoders,
        help="Where to find the classifier's encoder. Default: where it was when the classifier was fitted.",
    ),
]
Wait = Annotated[
    float,
    typer.Option("--wait", help="Seconds to wait while somebody else edits the same classifier.", min=0),
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision",
        help="fp32, or int8: about three times as fast, for transformers as ONNX graphs (not lite). "
        "Joined encoders take one each: int8+fp32.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Skip photos that cannot be read, and list them.")]
Truncated = Annotated[
    bool, typer.Option("--allow-truncated", help="Use truncated photos as far as they can be decoded.")
]
Split = Annotated[
    str | None,
    typer.Option("--split", help="Which split to use: train, validation, test; or none, where folders are classes."),
]
Table = Annotated[
    Path | None, typer.Option("--output", "-o", help="Save the result as a table: a .csv, .jsonl or .parquet file.")
]
Html = Annotated[Path | None, typer.Option("--html", help="Write a page with figures and photos: one .html file.")]
Shots = Annotated[int | None, typer.Option("--shots", "-k", min=1, help="Photos per class, at most. Default: all.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Random seed for drawing shots and views.")]
Views = Annotated[
    int, typer.Option("--views", min=1, help="Views per shot: 1 is the centre crop, more are random crops.")
]
ClassTexts = Annotated[
    Path | None,
    typer.Option(
        "--class-texts", help="JSON file of texts for the classes: class name → one text, or a list of texts."
    ),
]
Template = Annotated[
    list[str] | None,
    typer.Option(
        "--template",
        "-t",
        help="Prompt template such as 'a sketch of a {}.', or the name of a set of them; may be repeated.",
    ),
]
Null = Annotated[
    bool, typer.Option("--null", "-0", help="Names on standard input end with NUL, as find -print0 writes them.")
]
Dtype = Annotated[str, typer.Option("--dtype", help="Type of the features in Parquet files: float32 or float16.")]
Engine = Annotated[str, typer.Option("--engine", help="Engine for Parquet output: threads, or ray (extra ray).")]
Address = Annotated[
    str | None,
    typer.Option("--address", help="Ray cluster, such as ray://host:10001. Default: a local one."),
]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Workers on Ray, at most. Default: as many as fit.")
]
Cpus = Annotated[
    float, typer.Option("--cpus", min=0.01, help="Processors of each worker on Ray, for its encoder and for decoding.")
]
Gpus = Annotated[float, typer.Option("--gpus", min=0, help="GPUs of each worker on Ray.")]
SecondsPerImage = Annotated[
    float, typer.Option("--seconds-per-image", min=0.001, help="Time limit for one photo, for Parquet output.")
]
RowsPerShard = Annotated[int, typer.Option("--rows-per-shard", min=1, help="Photos per Parquet file of a folder.")]


def read_class_texts(path: Path | None) -> dict[str, tuple[str, ...]] | None:
    """Read the file of `--class-texts`, if there is one."""
    from tip_adapter.features.prompts import load_class_texts

    return None if path is None else load_class_texts(path)


def templates(given: list[str] | None) -> str | list[str]:
    """One name or template alone may name a set; several are templates."""
    if not given:
        return "ensemble"
    return given[0] if len(given) == 1 else given
