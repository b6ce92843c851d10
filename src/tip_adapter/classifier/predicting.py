"""What all parts of a classifier share that predict on photos."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tip_adapter.classifier.inputs import LabelledImages, labelled_images
from tip_adapter.data.class_names import unknown_names
from tip_adapter.errors import DatasetError, EncoderError, InputError
from tip_adapter.features.feature_data import Part
from tip_adapter.features.feature_files import load_test_features
from tip_adapter.model.few_shot_model import FewShotModel
from tip_adapter.model.predictions import Prediction, top_predictions
from tip_adapter.trust.calibration import Calibration
from tip_adapter.trust.unlabelled import EQUAL, next_to_label
from tip_adapter.typing import Float32Array, IntArray, StrPath


def known_photos(
    model: FewShotModel, data: Any, labels: Any, *, prefer: Sequence[str], skip_bad: bool
) -> LabelledImages:
    """List labelled photos, with their classes numbered as a model does."""
    photos = labelled_images(data, labels, min_classes=1, prefer=prefer, skip_bad=skip_bad)
    columns = _known_columns(model, photos.class_names)
    return LabelledImages(photos.images, columns[photos.labels], model.class_names, skipped=photos.skipped)


def known_features(model: FewShotModel, path: StrPath) -> tuple[Part, IntArray]:
    """Read features to measure a model on, and the columns that it has for their classes."""
    names, part, about = load_test_features(path)
    made_by = about.get("encoder_ids") or [model.encoder.image_id]
    if made_by[0] != model.encoder.image_id or part.features.shape[1] != model.encoder.dim:
        by = about.get("encoder", f"an encoder of {part.features.shape[1]} dimensions")
        raise EncoderError(
            f"Expected features by {model.encoder.name} in {path}, got those of {by}: embed the photos with the former"
        )
    return part, _known_columns(model, names)[part.labels]


def _known_columns(model: FewShotModel, names: Sequence[str]) -> IntArray:
    """Columns that a model has for classes, all of which it has to know."""
    known = model.class_names
    unknown = [name for name in names if name not in known]
    if unknown:
        shown = ", ".join(unknown_names(unknown[:5], known))
        raise DatasetError(
            f"The photos have classes that the classifier does not know: {shown}. "
            f"It knows {', '.join(known[:10])}{' …' if len(known) > 10 else ''}"
        )
    return np.array([known.index(name) for name in names], dtype=np.intp)


def as_pipeline(prediction: Prediction) -> list[dict[str, Any]]:
    """Name classes and probabilities as pipelines of transformers do."""
    return [{"label": name, "score": probability} for name, probability in prediction.top]


def calibration_of(model: FewShotModel) -> Calibration:
    """Return the calibration of a model that has to have one."""
    if model.calibration is None:
        raise InputError("This classifier is not calibrated: fit it again, or call calibrate with labelled photos")
    return model.calibration


def familiarity_threshold(model: FewShotModel, rate: float | None) -> float | None:
    """Below which score a photo shows none of the classes; None where that was not asked."""
    return None if rate is None else calibration_of(model).familiarity.threshold(rate)


def worth_labelling(
    model: FewShotModel,
    features: Float32Array,
    digests: Sequence[str],
    names: Sequence[str],
    count: int,
    *,
    n_classes: int = 2,
) -> tuple[IntArray, list[Prediction]]:
    """Choose which photos to label next: their rows, and the classes that each is held for; none that is a shot."""
    known = set(model.shots.features.digests)
    _, first = np.unique(np.array(digests, dtype=np.str_), return_index=True)
    rows = np.array([row for row in sorted(first) if digests[row] not in known], dtype=np.intp)
    probabilities = model.probabilities(model.logits(features[rows]))
    same = EQUAL if model.copy_cosine is None else model.copy_cosine
    chosen = next_to_label(features[rows], probabilities, model.shots.features.unit, count, same=same)
    called = [names[row] for row in rows[chosen]]
    return rows[chosen], top_predictions(probabilities[chosen], model.class_names, called, n_classes)
