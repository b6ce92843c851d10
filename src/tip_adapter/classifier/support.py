"""Assemble what a classifier learns from, once photos are features and class texts are weights."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter.classifier.inputs import named_groups
from tip_adapter.data.sampling import shots_at_most
from tip_adapter.encoders import anchored
from tip_adapter.encoders.joined import JoinedEncoder, member_names
from tip_adapter.errors import DatasetError, EncoderError, InputError
from tip_adapter.features.feature_data import Part
from tip_adapter.features.feature_files import TrainingFeatures
from tip_adapter.features.feature_set import FeatureSet
from tip_adapter.features.prompts import texts_for
from tip_adapter.model.few_shot_model import EncoderRecord, FewShotModel
from tip_adapter.model.picture_archive import Thumbnails
from tip_adapter.model.shots import Shots, shot_ids
from tip_adapter.storage.bundles import Bundle
from tip_adapter.typing import Float32Array, IntArray, StrPath

if TYPE_CHECKING:
    from tip_adapter.encoders import Encoder
    from tip_adapter.methods import FewShotMethod


@dataclass(frozen=True, eq=False)
class Support:
    """Shots and texts of C classes, and the encoder that made their features."""

    shots: Shots
    class_names: tuple[str, ...]
    class_texts: tuple[tuple[str, ...], ...]
    templates: tuple[str, ...]
    zero_shot_weights: Float32Array
    encoder: EncoderRecord
    views: int
    integer_labels: bool = False
    copy_cosine: float | None = None


def expect_text(estimator: FewShotMethod, encoder: Encoder, texts: Sequence[Sequence[str]]) -> None:
    """Raise for a method that stands on class texts where there are none, or the encoder reads none."""
    from tip_adapter.methods.closed_form.zero_shot import ZeroShot

    needs_text = estimator.needs_text or isinstance(estimator, ZeroShot)
    if needs_text and not any(texts):
        raise InputError(f"{type(estimator).__name__} needs the classes' texts: leave --no-text out, or choose another")
    if needs_text and not encoder.has_text_tower:
        raise EncoderError(
            f"{type(estimator).__name__} needs the classes' texts, and the encoder {encoder.name} has no text tower: "
            f"choose another method, or join an encoder that reads texts (lite+{encoder.name})"
        )


def record_of(encoder: Encoder) -> EncoderRecord:
    """Describe an encoder in a saved classifier."""
    # Not the precision that was asked for: a processor without VNNI runs fp32 instead.
    precision = getattr(encoder, "precision", "fp32")
    members = encoder.members if isinstance(encoder, JoinedEncoder) else ()
    return EncoderRecord(
        anchored(encoder.name),
        encoder.image_id,
        encoder.text_id,
        encoder.dim,
        float(encoder.logit_scale),
        precision,
        tuple(member.image_id for member in members),
    )


def saved_encoder(bundle: Bundle, model: FewShotModel) -> str:
    """Where the encoder is that was saved: a folder may have moved together with the classifier beside it."""
    folder = bundle.path.resolve().parent

    def found(name: str) -> str:
        saved, beside = Path(name), folder / Path(name).name
        return str(beside) if saved.is_absolute() and not saved.exists() and beside.is_dir() else name

    def is_one(name: str) -> bool:
        return os.path.isdir(name) or ("+" not in name.rpartition(os.sep)[0] and os.path.isdir(found(name)))

    return "+".join(map(found, member_names(model.encoder.name, is_one)))


def recorded_encoder(found: TrainingFeatures) -> EncoderRecord | None:
    """The encoder that a feature file says its features are of; None where it does not."""
    about = found.description
    name, ids = about.get("encoder"), about.get("encoder_ids")
    if not isinstance(name, str) or not isinstance(ids, list) or len(ids) != 2 or {type(one) for one in ids} != {str}:
        return None
    precision = str(about.get("precision", "fp32"))
    return EncoderRecord(name, ids[0], ids[1], found.part.features.shape[1], found.logit_scale, precision)


def shots_of(
    found: TrainingFeatures,
    path: StrPath,
    encoder_id: str,
    shots: int | IntArray | None,
    random_state: int,
    *,
    keep_views: bool,
    groups: Iterable[Any] | str | None = None,
) -> tuple[Shots, Float32Array | None]:
    """Draw shots from the features of a file, sorted by class; and a view of each alone, where there are several.

    `shots` are so many of each class, all (None), or given rows.
    """
    names, labels = found.class_names, found.part.labels
    if isinstance(shots, np.ndarray):
        rows = shots
    else:
        rows = shots_at_most(labels, shots, random_state=random_state, class_names=names)
    rows = rows[np.argsort(labels[rows], kind="stable")]
    part, belongs = found.part.subset(rows), groups_of_rows(groups, found.part, path)
    missing = sorted(set(range(len(names))) - set(part.labels.tolist()))
    if missing:
        raise DatasetError(f"Expected photos of every class to learn from in {path}, got none of {names[missing[0]]!r}")
    raw = part.views if keep_views and part.views is not None else part.features[:, None]
    digests = part.digests or tuple(hashlib.sha256(row.tobytes()).hexdigest() for row in raw)
    called = part.names or tuple(f"{path} row {row}" for row in range(len(raw)))
    features = FeatureSet(np.ascontiguousarray(raw), encoder_id, tuple(digests), tuple(called))
    shot_set = Shots(features, part.labels, shot_ids(digests), Thumbnails({}), tuple(belongs[row] for row in rows))
    return shot_set, None if part.views is None else np.ascontiguousarray(part.views[:, 0])


def groups_of_rows(groups: Iterable[Any] | str | None, part: Part, path: StrPath) -> tuple[str, ...]:
    """Name the group of every row of a feature file, as given, or as it says itself."""
    if groups is None:
        return part.groups or ("",) * len(part)
    if isinstance(groups, str):
        raise InputError(
            f"Expected a group for each row of {path}, got {groups!r}: a file of features has no photos to tell them by"
        )
    return named_groups(groups, len(part))


def recorded_texts(found: TrainingFeatures) -> tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]:
    """The words and templates that the weights in a feature file are of; names of classes where it does not say."""
    texts, templates = found.description.get("class_texts"), found.description.get("templates")
    words = [(str(text) for text in row) for row in texts] if isinstance(texts, list) else []
    fits = len(words) == len(found.class_names)
    known = tuple(tuple(row) for row in words) if fits else texts_for(found.class_names, None)
    return known, tuple(map(str, templates)) if isinstance(templates, list) else ()
