"""Exchange classifiers with repositories of the Hugging Face Hub."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tip_adapter.errors import InputError
from tip_adapter.model.card import card_of
from tip_adapter.model.edits import started
from tip_adapter.model.few_shot_model import FewShotModel
from tip_adapter.model.picture_archive import Thumbnails
from tip_adapter.storage.bundle_files import CARD_FILE
from tip_adapter.storage.bundles import push_to_hub
from tip_adapter.storage.hub_folders import HUB_PREFIX
from tip_adapter.typing import StrPath


def address_of(name: StrPath, revision: str | None) -> str:
    """Where a classifier is: a folder, or else a repository and perhaps a revision of it."""
    name = os.fspath(name)
    if os.path.isdir(name):
        if revision is not None:
            raise InputError(f"Expected no revision with the folder {name}, got {revision!r}: leave it out")
        return name
    if "/" not in name:
        raise InputError(f"Expected an existing folder, or owner/name on the Hub, got {name!r}: check the path")
    address = name if name.startswith(HUB_PREFIX) else f"{HUB_PREFIX}{name}"
    return address if revision is None else f"{address}@{revision}"


def _without_names(groups: Sequence[str]) -> tuple[str, ...]:
    """Number groups, whose names may be those of folders or of patients."""
    numbers = {name: str(number) for number, name in enumerate(dict.fromkeys(filter(None, groups)))}
    return tuple(numbers.get(name, "") for name in groups)


def push(model: FewShotModel, repo_id: str, *, private: bool, pictures: bool, license_name: str | None) -> str:
    """Upload a classifier as it is now; pictures, names of files and groups, and former shots only where wanted."""
    if not pictures:
        features = replace(model.shots.features, names=model.shots.ids)
        shots = replace(
            model.shots, features=features, thumbnails=Thumbnails({}), groups=_without_names(model.shots.groups)
        )
        model = started(replace(model, shots=shots, journal=()))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "classifier.tip"
        model.save(path)
        (path / CARD_FILE).write_text(card_of(model, license_name=license_name, repository=repo_id), encoding="utf-8")
        return push_to_hub(path, repo_id, private=private)
