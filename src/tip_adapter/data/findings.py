"""Collect what is noticed while looking for photos: how the input was read, what was skipped, what cannot be read."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tip_adapter.data.class_names import counted, listed
from tip_adapter.errors import SkippableError


@dataclass
class Findings:
    """Notes on how a data set was read."""

    skip_bad: bool = False
    """Whether to go on without what cannot be read."""
    splits: str = ""
    """Which splits there are, and which is taken; empty without."""
    understood: list[str] = field(default_factory=list)
    """What else was concluded from names of folders and columns, one sentence each."""
    skipped: list[tuple[str, str]] = field(default_factory=list)
    """(name, reason): what could not be read."""
    unread_photos: list[str] = field(default_factory=list)
    other_files: list[str] = field(default_factory=list)
    """unread_photos and other_files: files that were passed over: photos of formats that are not read, and files that
    are no photos."""
    ignored: list[str] = field(default_factory=list)
    """Hidden folders, and folders of the system."""
    groups: dict[Path, str] = field(default_factory=dict)
    """What photos belong to, where a table says so."""

    def skip(self, name: str, error: SkippableError) -> None:
        """Note what cannot be read, or raise the error where nothing is to be skipped."""
        if not self.skip_bad:
            raise error
        self.skipped.append((name, str(error)))

    @property
    def lines(self) -> list[str]:
        """What a user should know, but for what was skipped: a line each."""
        lines = [self.splits] * bool(self.splits) + self.understood
        if self.unread_photos:
            lines.append(f"not read: {_counted(self.unread_photos, 'photo', 'of other formats')}: convert them")
        if self.other_files:
            lines.append(f"passed over: {_counted(self.other_files, 'file', 'without a picture')}")
        if self.ignored:
            names = sorted({os.path.basename(name) for name in self.ignored})
            lines.append(f"ignored: {listed(names, 'hidden or system folder')}")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "understood": [self.splits] * bool(self.splits) + self.understood,
            "unread_photos": self.unread_photos,
            "passed_over": self.other_files,
            "ignored": self.ignored,
        }


def _counted(names: list[str], noun: str, what: str) -> str:
    """Count files by suffix, and name the first."""
    suffixes = Counter(Path(name).suffix.lower() or "without suffix" for name in names)
    kinds = listed([f"{count} {suffix}" for suffix, count in suffixes.most_common()])
    return f"{counted(names, noun)} {what} ({kinds}), such as {names[0]}"
