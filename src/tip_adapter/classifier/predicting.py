"""What a fitted classifier says about photos: predictions, probabilities, evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from tip_adapter.classifier.explaining import ExplainingPart
from tip_adapter.classifier.inputs import LabelledImages, labelled_images
from tip_adapter.data import ImageDataset
from tip_adapter.data.class_names import unknown_names
from tip_adapter.data.decoding import ImageSource
from tip_adapter.data.sequences import Images, Labels
from tip_adapter.errors import DatasetError, InputError
from tip_adapter.model.evaluation import evaluate_features
from tip_adapter.model.few_shot_model import FewShotModel
from tip_adapter.model.predictions import Prediction, Results, top_predictions
from tip_adapter.trust.calibration import Calibration
from tip_adapter.trust.evaluation import Evaluation
from tip_adapter.trust.out_of_distribution import familiarity_parts
from tip_adapter.typing import BoolArray, Float32Array, FloatArray

if TYPE_CHECKING:
    from tip_adapter.progress import Progress


class PredictingPart(ExplainingPart):
    """The part of `ImageClassifier` that answers."""

    def predict_proba(self, images: Images, *, skip_bad: bool = False, progress: Progress | None = None) -> FloatArray:
        """Probability of every class.

        Parameters
        ----------
        images : image, or iterable of images
            As `predict` takes them.
        skip_bad : bool, default=False
            Go on without photos that cannot be read: their rows are NaN.
        progress : Progress, optional

        Returns
        -------
        ndarray of shape (B, C), or (C,) for one image
            Columns as `class_names`.

        Raises
        ------
        ImageError
            When a photo cannot be read.
        EncoderError
            When the encoder is not the one the classifier was fitted with.
        """
        model = self._fitted()
        queries = self._queries(images, skip_bad=skip_bad, progress=progress)
        probabilities = np.full((queries.n, len(model.class_names)), np.nan)
        probabilities[queries.extraction.kept] = model.probabilities(model.logits(queries.features))
        return probabilities[0] if queries.one else probabilities

    @overload
    def predict_top(  # type: ignore[overload-overlap]
        self,
        images: ImageSource,
        *,
        top_k: int = ...,
        none_of_these: float | None = ...,
        skip_bad: bool = ...,
        progress: Progress | None = ...,
    ) -> Prediction: ...

    @overload
    def predict_top(
        self,
        images: Iterable[ImageSource],
        *,
        top_k: int = ...,
        none_of_these: float | None = ...,
        skip_bad: bool = ...,
        progress: Progress | None = ...,
    ) -> Results[Prediction]: ...

    def predict_top(
        self,
        images: Images,
        *,
        top_k: int = 1,
        none_of_these: float | None = None,
        skip_bad: bool = False,
        progress: Progress | None = None,
    ) -> Prediction | Results[Prediction]:
        """Name the most probable classes of every photo.

        Parameters
        ----------
        images : image, or iterable of images
            As `predict` takes them.
        top_k : int, default=1
            Classes per photo; all of them where there are fewer.
        none_of_these : float, optional
            As in `predict`: the class of a photo that shows none is None, with its most probable classes beside.
        skip_bad : bool, default=False
            Leave out photos that cannot be read; they are in `skipped` of the result.
        progress : Progress, optional

        Returns
        -------
        Prediction, or Results of Prediction
            One for one image, a list for several. Each has the `path` of its photo.
        """
        model = self._fitted()
        threshold = _familiarity_threshold(model, none_of_these)
        queries = self._queries(images, skip_bad=skip_bad, progress=progress)
        probabilities = model.probabilities(model.logits(queries.features))
        none = unfamiliar(model, probabilities, queries.features, threshold)
        found = queries.results(top_predictions(probabilities, model.class_names, queries.names, top_k, none=none))
        return found[0] if queries.one else found

    @overload
    def predict(  # type: ignore[overload-overlap]
        self,
        images: ImageSource,
        *,
        none_of_these: float | None = ...,
        skip_bad: bool = ...,
        progress: Progress | None = ...,
    ) -> str | int | None: ...

    @overload
    def predict(
        self,
        images: Iterable[ImageSource],
        *,
        none_of_these: float | None = ...,
        skip_bad: bool = ...,
        progress: Progress | None = ...,
    ) -> Results[str | int | None]: ...

    def predict(
        self,
        images: Images,
        *,
        none_of_these: float | None = None,
        skip_bad: bool = False,
        progress: Progress | None = None,
    ) -> str | int | Results[str | int | None] | None:
        """Name the most probable class of every photo.

        Parameters
        ----------
        images : image, or iterable of images
            An image is a path, the bytes of a file, an open file, a Pillow image, an array of shape (H, W), (H, W, 3)
            or (H, W, 4), or a tensor. Several are a list, generator, series, column, stack of arrays, or a table with a
            column of images; they are iterated over once, in their order.
        none_of_these : float, optional
            Answer None for photos that show none of the classes, where this share of photos that do show one, in
            (0, 1), may be turned away by mistake. Default: always name a class.
        skip_bad : bool, default=False
            Go on without photos that cannot be read: their class is None, and they are in `skipped` of the result.
        progress : Progress, optional

        Returns
        -------
        str, int or None; or Results of them
            One class for one image, a list in the order of the images for several. Entries of `classes_`: names, or
            integers where the classifier was fitted with integers as labels.

        Raises
        ------
        InputError
            When the share is out of range, or there are too few calibration photos for it.
        ImageError
            When a photo cannot be read.
        """
        model = self._fitted()
        threshold = _familiarity_threshold(model, none_of_these)
        queries = self._queries(images, skip_bad=skip_bad, progress=progress)
        probabilities = model.probabilities(model.logits(queries.features))
        none = unfamiliar(model, probabilities, queries.features, threshold)
        named: list[str | int | None] = [None] * queries.n
        for place, column, unknown in zip(queries.extraction.kept, probabilities.argmax(axis=1), none, strict=True):
            named[place] = None if unknown else model.classes[column]
        found = queries.results(named)
        return found[0] if queries.one else found

    def evaluate(
        self,
        data: Images | ImageDataset | Any,
        labels: Labels | None = None,
        *,
        skip_bad: bool = False,
        progress: Progress | None = None,
    ) -> Evaluation:
        """Measure the classifier on labelled photos, with text alone and the shots alone beside it.

        Parameters
        ----------
        data, labels
            Labelled photos, as `fit` takes them.
        skip_bad : bool, default=False
            Leave out photos that cannot be read; they are in `skipped` of the result.
        progress : Progress, optional

        Returns
        -------
        Evaluation

        Raises
        ------
        DatasetError
            When the photos have classes that the classifier does not know.
        """
        model = self._fitted()
        photos = known_photos(model, data, labels, prefer=("test", "validation"), skip_bad=skip_bad)
        extraction = self._extract_labelled(photos, skip_bad=skip_bad, progress=progress)
        return evaluate_features(model, extraction, photos.labels[extraction.kept])


def known_photos(
    model: FewShotModel, data: Any, labels: Any, *, prefer: Sequence[str], skip_bad: bool
) -> LabelledImages:
    """List labelled photos, with their classes numbered as a model does."""
    photos = labelled_images(data, labels, min_classes=1, prefer=prefer, skip_bad=skip_bad)
    known = model.class_names
    unknown = [name for name in photos.class_names if name not in known]
    if unknown:
        shown = ", ".join(unknown_names(unknown[:5], known))
        raise DatasetError(
            f"The photos have classes that the classifier does not know: {shown}. "
            f"It knows {', '.join(known[:10])}{' …' if len(known) > 10 else ''}"
        )
    columns = np.array([known.index(name) for name in photos.class_names], dtype=np.intp)
    return LabelledImages(photos.images, columns[photos.labels], known, skipped=photos.skipped)


def _familiarity_threshold(model: FewShotModel, rate: float | None) -> float | None:
    return None if rate is None else calibration_of(model).familiarity.threshold(rate)


def calibration_of(model: FewShotModel) -> Calibration:
    """Return the calibration of a model that has to have one."""
    if model.calibration is None:
        raise InputError("This classifier is not calibrated: fit it again, or call calibrate with labelled photos")
    return model.calibration


def unfamiliar(
    model: FewShotModel, probabilities: FloatArray, features: Float32Array, threshold: float | None
) -> BoolArray:
    """Which photos show none of the classes."""
    if threshold is None or model.calibration is None:
        return np.zeros(len(features), dtype=bool)
    shots = model.shots
    signs = familiarity_parts(probabilities, features, shots.features.unit, shots.labels, shots.folds)
    result: BoolArray = model.calibration.familiarity.score(signs) < threshold
    return result
