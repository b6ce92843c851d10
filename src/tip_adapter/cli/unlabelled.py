"""The command next: which unlabelled photos to label next."""

from __future__ import annotations

from typing import Annotated

import typer

from tip_adapter.cli import options
from tip_adapter.cli.output import echo, echo_json, echo_next, echo_skipped, left_out
from tip_adapter.cli.photos import find_photos
from tip_adapter.cli.streams import with_names_read
from tip_adapter.cli.tables import echo_table, text
from tip_adapter.trust.figures import percent


def next_photos(
    model: options.Model,
    photos: options.Photos,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many photos to choose.")] = 10,
    null: options.Null = False,
    encoder: options.Where = None,
    skip_bad: options.SkipBad = False,
    allow_truncated: options.Truncated = False,
    as_json: options.Json = False,
) -> None:
    """Choose which unlabelled photos to label next: those that many uncertain photos are like, no near-copies."""
    from tip_adapter.classifier import ImageClassifier
    from tip_adapter.progress import progress_bar

    paths, findings = find_photos(with_names_read(photos, null=null), skip_bad=skip_bad, as_json=as_json)
    classifier = ImageClassifier.load(model, encoder=encoder, allow_truncated=allow_truncated)
    with progress_bar("Encoding photos") as progress:
        chosen = classifier.next_to_label(paths, count=count, skip_bad=skip_bad, progress=progress)
    skipped = (*findings.skipped, *chosen.skipped)
    echo_skipped(skipped)
    if as_json:
        echo_json({"photos": [photo.to_dict() for photo in chosen]} | left_out(skipped, findings))
        return
    if not chosen:
        echo("All of these photos are shots of the classifier, or near-copies of them.")
        return
    rows_of_table = [[photo.path, *(f"{name} {percent(share)}" for name, share in photo.top)] for photo in chosen]
    echo_table([text("photo"), text("perhaps"), text("or")], rows_of_table)
    echo_next("add", model, chosen[0].path, "--class", chosen[0].top[0][0], so_that="label one, if that is its class")
