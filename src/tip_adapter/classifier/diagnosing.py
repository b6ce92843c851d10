"""Run the checks of the doctor, and whether there are enough photos, on the shots of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tip_adapter.classifier.inputs import LabelledImages
from tip_adapter.features.extraction import Extraction
from tip_adapter.model.few_shot_model import FewShotModel
from tip_adapter.typing import Float32Array

if TYPE_CHECKING:
    from tip_adapter.methods.left_out import LeftOut
    from tip_adapter.trust.doctor import BadImage, Diagnosis
    from tip_adapter.trust.duplicates import Photos
    from tip_adapter.trust.enough import Enough


def photos_apart(photos: LabelledImages, extraction: Extraction) -> Photos:
    """Labelled photos beside the shots, as the doctor compares them."""
    from tip_adapter.data.thumbnails import make_thumbnails, picture_hash
    from tip_adapter.trust.duplicates import Photos

    kept = [photos.images[row] for row in extraction.kept]
    return Photos(
        extraction.features.unit,
        photos.labels[extraction.kept],
        extraction.features.names,
        extraction.features.digests,
        np.stack([picture_hash(data) for data in make_thumbnails(kept)]),
    )


def diagnosis_of(
    model: FewShotModel, other: Photos | None, bad_images: Sequence[BadImage], queries: Float32Array | None
) -> Diagnosis:
    """Examine the shots of a model, with their pictures where all have one, and single views where keys are means."""
    from tip_adapter.trust.doctor import diagnose

    photos = _shots_of(model, model.shots.features.names)
    weights, scale = model.zero_shot_weights, model.encoder.logit_scale
    return diagnose(photos, model.class_names, weights, scale, other=other, images=bad_images, queries=queries)


def enough_of(model: FewShotModel, answers: LeftOut, *, hints: bool) -> Enough:
    """Tell whether there are enough shots, and which of them, by their ids, somebody should look at."""
    from tip_adapter.data.decoding import image_size
    from tip_adapter.data.thumbnails import SIDE
    from tip_adapter.trust.enough import enough
    from tip_adapter.trust.shot_hints import shot_hints

    shots = model.shots
    found = enough(answers, shots.labels, shots.group_numbers, model.class_names)
    if not hints:
        return found
    # A picture is made smaller, never larger: one below the size of thumbnails is as large as its photo.
    pictures = {name: image_size(shots.thumbnails[name]) for name in shots.ids if name in shots.thumbnails}
    sizes = {name: size for name, size in pictures.items() if max(size) < SIDE}
    return replace(found, hints=shot_hints(_shots_of(model, shots.ids), answers, model.class_names, sizes))


def _shots_of(model: FewShotModel, names: Sequence[str]) -> Photos:
    from tip_adapter.data.thumbnails import picture_hash
    from tip_adapter.trust.duplicates import Photos

    shots, features = model.shots, model.shots.features
    pictures = [shots.thumbnails[name] for name in shots.ids if name in shots.thumbnails]
    hashes = np.stack([picture_hash(data) for data in pictures]) if len(pictures) == len(shots) else None
    return Photos(features.unit, shots.labels, tuple(names), features.digests, hashes, shots.group_numbers)
