"""Read the photos of a command: choose the split that it prefers, and report whatever was noticed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tip_adapter.cli.output import echo

if TYPE_CHECKING:
    from pathlib import Path

    from tip_adapter.data import Findings, ImageDataset


def read_photos(
    data: str | Path,
    *,
    split: str | None = None,
    prefer: Sequence[str] = (),
    min_classes: int = 2,
    skip_bad: bool = False,
    as_json: bool = False,
    can_choose: bool = True,
) -> ImageDataset:
    """Read labelled photos; what was understood and passed over is said on stderr, unless the JSON object says it.

    Where the command has the option --split for these photos (`can_choose`), it is said how to overrule what was
    understood.
    """
    from tip_adapter.data import load_dataset

    dataset = load_dataset(data, split=split, prefer=prefer, min_classes=min_classes, skip_bad=skip_bad)
    if not as_json:
        echo_findings(dataset.findings, can_choose=can_choose and split is None)
    return dataset


def find_photos(photos: Sequence[str], *, skip_bad: bool = False, as_json: bool = False) -> tuple[list[Path], Findings]:
    """Find photos without labels, as `read_photos` reads labelled ones."""
    from tip_adapter.data import Findings, find_images

    findings = Findings(skip_bad=skip_bad)
    paths = find_images(photos, findings=findings)
    if not as_json:
        echo_findings(findings)
    return paths, findings


def unlabelled_photos(given: Sequence[str] | None) -> tuple[Path, ...]:
    """Find the photos of `--unlabelled`, before anything is loaded for them."""
    return tuple(find_photos(given, skip_bad=True)[0]) if given else ()


def echo_findings(findings: Findings, *, can_choose: bool = False) -> None:
    """Say on stderr what was noticed while photos were looked for; what was skipped is with the command's result."""
    for line in findings.lines:
        hint = " (--split NAME takes another, --split none the folders for classes)"
        echo(f"data: {line}{hint if can_choose and line == findings.splits else ''}", err=True)
