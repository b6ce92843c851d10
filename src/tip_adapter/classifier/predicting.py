"""What a fitted classifier says about photos: predictions, probabilities, evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tip_adapter.cache_model import cache_logits
from tip_adapter.classifier.explaining import ExplainingPart
from tip_adapter.classifier.inputs import labelled_images, path_of
from tip_adapter.datasets import ImageDataset
from tip_adapter.errors import DatasetError
from tip_adapter.evaluation import Evaluation, evaluate_probabilities
from tip_adapter.heads import CacheHead, Head, zero_shot_logits
from tip_adapter.images import ImageSource
from tip_adapter.predictions import Prediction, top_predictions
from tip_adapter.typing import Float32Array, FloatArray, StrPath

if TYPE_CHECKING:
    from tip_adapter.progress import Progress

__all__ = ["PredictingPart"]


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
        skip_bad: bool = False,
        progress: Progress | None = None,
    ) -> list[Prediction]:
        """Name the most probable classes of every photo.

        Parameters
        ----------
        images : sequence of path, bytes, Image or array
        top_k : int, default=1
            Classes per photo; all of them where there are fewer.
        skip_bad : bool, default=False
            Leave out photos that cannot be read; they are listed in `skipped_`.
        progress : Progress, optional

        Returns
        -------
        list of Prediction
            One for each photo that could be read.
        """
        model = self._fitted()
        extraction = self._extract(images, skip_bad=skip_bad, progress=progress)
        probabilities = model.probabilities(model.head.logits(extraction.features.unit))
        names = zip(extraction.kept, extraction.features.names, strict=True)
        paths = [path_of(images[index], name) for index, name in names]
        return top_predictions(probabilities, model.class_names, paths, top_k)

    def predict(
        self, images: Sequence[ImageSource], *, skip_bad: bool = False, progress: Progress | None = None
    ) -> list[str]:
        """Name the most probable class of every photo.

        Parameters
        ----------
        images : sequence of path, bytes, Image or array
        skip_bad : bool, default=False
        progress : Progress, optional

        Returns
        -------
        list of str
        """
        probabilities = self.predict_proba(images, skip_bad=skip_bad, progress=progress)
        return [self.class_names[index] for index in probabilities.argmax(axis=1)]

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
        unknown = [name for name in names if name not in model.class_names]
        if unknown:
            raise DatasetError(
                f"The photos have classes that the classifier does not know: {', '.join(unknown[:5])}. "
                f"It knows {', '.join(model.class_names[:10])}{' …' if len(model.class_names) > 10 else ''}."
            )
        own = np.array([model.class_names.index(name) for name in names])
        extraction = self._extract(images, skip_bad=skip_bad, progress=progress)
        features, known = extraction.features.unit, set(model.shots.features.digests)
        zero_shot = zero_shot_logits(
            features, model.zero_shot_weights, model.encoder.logit_scale, len(model.class_names)
        )
        return evaluate_probabilities(
            model.probabilities(model.head.logits(features)),
            own[numbers[extraction.kept]],
            model.class_names,
            zero_shot=zero_shot,
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
