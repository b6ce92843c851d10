"""What a fitted classifier says about photos: predictions, probabilities, evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tip_adapter.classifier.explaining import ExplainingPart
from tip_adapter.classifier.inputs import labelled_images, path_of
from tip_adapter.data import ImageDataset
from tip_adapter.data.decoding import ImageSource
from tip_adapter.errors import DatasetError, InputError
from tip_adapter.features.extraction import Extraction
from tip_adapter.heads import CacheHead, Head, zero_shot_logits
from tip_adapter.heads.affinity import cache_logits
from tip_adapter.model.few_shot_model import FewShotModel
from tip_adapter.model.predictions import Prediction, top_predictions
from tip_adapter.trust.evaluation import Evaluation, evaluate_probabilities
from tip_adapter.trust.out_of_distribution import familiarity_parts
from tip_adapter.typing import BoolArray, Float32Array, FloatArray, IntArray, StrPath

if TYPE_CHECKING:
    from tip_adapter.progress import Progress

__all__ = ["PredictingPart", "evaluate_features"]


class PredictingPart(ExplainingPart):
    """The part of `ImageClassifier` that answers."""

    def predict_proba(
        self, images: Sequence[ImageSource], *, skip_bad: bool = False, progress: Progress | None = None
    ) -> FloatArray:
        """Probability of every class.

        Parameters
        ----------
        images : sequence of path, bytes, Image or array
        skip_bad : bool, default=False
            Leave out photos that cannot be read; they are listed in `skipped_`.
        progress : Progress, optional

        Returns
        -------
        ndarray of shape (B, C)
            Columns as `class_names`; one row for each photo that could be read.

        Raises
        ------
        ImageError
            When a photo cannot be read.
        EncoderError
            When the encoder is not the one the classifier was fitted with.
        """
        model = self._fitted()
        return model.probabilities(
            model.head.logits(self._extract(images, skip_bad=skip_bad, progress=progress).features.unit)
        )

    def predict_top(
        self,
        images: Sequence[ImageSource],
        *,
        top_k: int = 1,
        none_of_these: float | None = None,
        skip_bad: bool = False,
        progress: Progress | None = None,
    ) -> list[Prediction]:
        """Name the most probable classes of every photo.

        Parameters
        ----------
        images : sequence of path, bytes, Image or array
        top_k : int, default=1
            Classes per photo; all of them where there are fewer.
        none_of_these : float, optional
            As in `predict`: the class of a photo that shows none is None, with its most probable classes beside.
        skip_bad : bool, default=False
            Leave out photos that cannot be read; they are listed in `skipped_`.
        progress : Progress, optional

        Returns
        -------
        list of Prediction
            One for each photo that could be read.
        """
        model, threshold = self._fitted(), self._familiarity_threshold(none_of_these)
        extraction = self._extract(images, skip_bad=skip_bad, progress=progress)
        probabilities = model.probabilities(model.head.logits(extraction.features.unit))
        names = zip(extraction.kept, extraction.features.names, strict=True)
        paths = [path_of(images[index], name) for index, name in names]
        none = self._unfamiliar(probabilities, extraction.features.unit, threshold)
        return top_predictions(probabilities, model.class_names, paths, top_k, none=none)

    def predict(
        self,
        images: Sequence[ImageSource],
        *,
        none_of_these: float | None = None,
        skip_bad: bool = False,
        progress: Progress | None = None,
    ) -> list[str | None]:
        """Name the most probable class of every photo.

        Parameters
        ----------
        images : sequence of path, bytes, Image or array
        none_of_these : float, optional
            Answer None for photos that show none of the classes, where this share of photos that do show one, in
            (0, 1), may be turned away by mistake. Default: always name a class.
        skip_bad : bool, default=False
        progress : Progress, optional

        Returns
        -------
        list of str or None

        Raises
        ------
        InputError
            When the share is out of range, or there are too few calibration photos for it.
        """
        top = self.predict_top(images, none_of_these=none_of_these, skip_bad=skip_bad, progress=progress)
        return [prediction.class_name for prediction in top]

    def _familiarity_threshold(self, rate: float | None) -> float | None:
        if rate is None:
            return None
        calibration = self._fitted().calibration
        if calibration is None:
            raise InputError("This classifier is not calibrated: fit it again, or call calibrate with labelled photos.")
        return calibration.familiarity.threshold(rate)

    def _unfamiliar(self, probabilities: FloatArray, features: Float32Array, threshold: float | None) -> BoolArray:
        """Which photos show none of the classes."""
        model = self._fitted()
        if threshold is None or model.calibration is None:
            return np.zeros(len(features), dtype=bool)
        signs = familiarity_parts(probabilities, features, model.shots.features.unit, model.shots.labels)
        result: BoolArray = model.calibration.familiarity.score(signs) < threshold
        return result

    def evaluate(
        self,
        data: StrPath | ImageDataset | Sequence[ImageSource],
        labels: Sequence[str] | None = None,
        *,
        skip_bad: bool = False,
        progress: Progress | None = None,
    ) -> Evaluation:
        """Measure the classifier on labelled photos, with text alone and the shots alone beside it.

        Parameters
        ----------
        data : path, ImageDataset or sequence of images
        labels : sequence of str, optional
            Class of every image, where `data` is a sequence of images.
        skip_bad : bool, default=False
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
        images, numbers, names = labelled_images(data, labels, min_classes=1)
        own = self._own_numbers(names)
        extraction = self._extract(images, skip_bad=skip_bad, progress=progress)
        return evaluate_features(model, extraction, own[numbers[extraction.kept]])

    def _own_numbers(self, names: Sequence[str]) -> IntArray:
        """Number class names as the classifier does."""
        known = self._fitted().class_names
        unknown = [name for name in names if name not in known]
        if unknown:
            raise DatasetError(
                f"The photos have classes that the classifier does not know: {', '.join(unknown[:5])}. "
                f"It knows {', '.join(known[:10])}{' …' if len(known) > 10 else ''}."
            )
        return np.array([known.index(name) for name in names], dtype=np.intp)


def evaluate_features(model: FewShotModel, extraction: Extraction, labels: IntArray) -> Evaluation:
    """Measure a model on features whose classes are known."""
    features, known = extraction.features.unit, set(model.shots.features.digests)
    return evaluate_probabilities(
        model.probabilities(model.head.logits(features)),
        labels,
        model.class_names,
        zero_shot=zero_shot_logits(
            features, model.zero_shot_weights, model.encoder.logit_scale, len(model.class_names)
        ),
        cache=_shots_alone(model.head, features),
        n_shots_among=sum(digest in known for digest in extraction.features.digests),
    )


def _shots_alone(head: Head, features: Float32Array) -> FloatArray | None:
    """Logits of a head without its text; None where the shots say nothing."""
    if isinstance(head, CacheHead):
        return cache_logits(features, head.cache, head.beta)  # also where α = 0
    logits: FloatArray = head.logits(features)
    weights = getattr(head, "zero_shot_weights", None)
    if weights is not None:
        logits = logits - zero_shot_logits(features, weights, getattr(head, "logit_scale", 1.0), logits.shape[1])
    return logits if np.ptp(logits) > 0 else None
