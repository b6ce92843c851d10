"""How far a fitted classifier can be trusted: sets of classes, held-out calibration, the doctor and the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from tip_adapter.classifier.inputs import labelled_images, path_of
from tip_adapter.classifier.predicting import PredictingPart
from tip_adapter.data import ImageDataset
from tip_adapter.data.decoding import ImageSource
from tip_adapter.errors import InputError
from tip_adapter.model.edits import CALIBRATION
from tip_adapter.model.predictions import PredictionSets, named_sets
from tip_adapter.storage.atomic import write_file
from tip_adapter.trust.calibration import Calibration
from tip_adapter.trust.conformal import SetKind, prediction_sets
from tip_adapter.typing import IntArray, StrPath

if TYPE_CHECKING:
    from tip_adapter.progress import Progress
    from tip_adapter.trust.doctor import BadImage, Diagnosis
    from tip_adapter.trust.evaluation import Evaluation

__all__ = ["TrustingPart"]


class TrustingPart(PredictingPart):
    """The part of `ImageClassifier` that says how far answers can be trusted."""

    def calibrate(
        self,
        data: StrPath | ImageDataset | Sequence[ImageSource],
        labels: Sequence[str] | None = None,
        *,
        skip_bad: bool = False,
        progress: Progress | None = None,
    ) -> Self:
        """Calibrate with photos apart from the shots, in place of the shots themselves.

        The temperature, `predict_set` and ``none_of_these`` then rest on these photos, and hold for new photos like
        them.

        Parameters
        ----------
        data, labels
            Labelled photos, as `evaluate` takes them.
        skip_bad : bool, default=False
        progress : Progress, optional

        Returns
        -------
        self

        Raises
        ------
        DatasetError
            When the photos have classes that the classifier does not know.
        InputError
            When some of the photos are shots of the classifier.
        """
        model = self._fitted()
        images, numbers = self._known_photos(data, labels)
        extraction = self._extract(images, skip_bad=skip_bad, progress=progress)
        among = len(set(extraction.features.digests) & set(model.shots.features.digests))
        if among:
            raise InputError(
                f"{among} of the {len(images)} photos are shots of the classifier: calibrate with photos that are not."
            )
        features = extraction.features.unit
        calibration = Calibration.of(
            model.head.logits(features),
            numbers[extraction.kept],
            (features, model.shots.features.unit, model.shots.labels),
        )
        stale = tuple(part for part in model.stale if part != CALIBRATION)
        self.model_ = replace(model, calibration=calibration, stale=stale)
        return self

    def predict_set(
        self,
        images: Sequence[ImageSource],
        coverage: float = 0.9,
        *,
        kind: SetKind = "lac",
        allow_empty: bool = False,
        skip_bad: bool = False,
        progress: Progress | None = None,
    ) -> PredictionSets:
        """Name for every photo a set of classes that holds the true one as often as wanted.

        Parameters
        ----------
        images : sequence of path, bytes, Image or array
        coverage : float, default=0.9
            Wanted share of sets that hold the true class, in (0, 1).
        kind : {"lac", "aps"}, default="lac"
            "lac" gives the smallest sets on average; "aps" gives hard photos larger sets and easy ones smaller. "aps"
            is randomised: whether the last class belongs to a set is drawn, from the photo's own bytes, so that the
            same photo always gets the same set.
        allow_empty : bool, default=False
            Whether a photo that is like no class may get an empty set.
        skip_bad : bool, default=False
        progress : Progress, optional

        Returns
        -------
        PredictionSets
            With what the sets were calibrated on, and what that guarantees.

        Raises
        ------
        InputError
            When the coverage is out of range, or there are too few calibration photos for it.
        """
        model, calibration = self._fitted(), self._calibration()
        # What can be wrong is looked at before the photos are encoded.
        threshold = calibration.scores.threshold(coverage, kind, allow_empty=allow_empty)
        extraction = self._extract(images, skip_bad=skip_bad, progress=progress)
        probabilities = model.probabilities(model.head.logits(extraction.features.unit))
        shares = np.array([int(digest[:13], 16) / 16**13 for digest in extraction.features.digests])
        inside = prediction_sets(probabilities, threshold, kind, allow_empty=allow_empty, shares=shares)
        names = zip(extraction.kept, extraction.features.names, strict=True)
        return PredictionSets(
            coverage,
            kind,
            allow_empty,
            calibration.origin,
            calibration.guarantee,
            named_sets(probabilities, inside, model.class_names, [path_of(images[row], name) for row, name in names]),
        )

    def doctor(
        self,
        other: StrPath | ImageDataset | Sequence[ImageSource] | None = None,
        labels: Sequence[str] | None = None,
        *,
        bad_images: Sequence[BadImage] = (),
        skip_bad: bool = False,
        progress: Progress | None = None,
    ) -> Diagnosis:
        """Examine the shots: labels the others contradict, copies, and classes that another photo would help.

        Parameters
        ----------
        other, labels : optional
            Labelled photos that should be apart from the shots, such as a test set: copies between them are found.
        bad_images : sequence of BadImage, optional
            Files that are known to be bad, to be reported with the rest.
        skip_bad : bool, default=False
        progress : Progress, optional

        Returns
        -------
        Diagnosis
        """
        from tip_adapter.data.thumbnails import make_thumbnails, picture_hash
        from tip_adapter.trust.doctor import Photos, diagnose

        model = self._fitted()
        shots = model.shots
        pictures = [shots.thumbnails[name] for name in shots.ids if name in shots.thumbnails]
        hashes = np.stack([picture_hash(data) for data in pictures]) if len(pictures) == len(shots) else None
        names, digests = shots.features.names, shots.features.digests
        apart = None
        if other is not None:
            images, numbers = self._known_photos(other, labels)
            extraction = self._extract(images, skip_bad=skip_bad, progress=progress)
            apart = Photos(
                extraction.features.unit,
                numbers[extraction.kept],
                tuple(path_of(images[row], extraction.features.names[at]) for at, row in enumerate(extraction.kept)),
                extraction.features.digests,
                np.stack([picture_hash(data) for data in make_thumbnails([images[row] for row in extraction.kept])]),
            )
        return diagnose(
            Photos(shots.features.unit, shots.labels, names, digests, hashes),
            model.class_names,
            model.zero_shot_weights,
            model.encoder.logit_scale,
            other=apart,
            images=bad_images,
        )

    def report(
        self,
        path: StrPath,
        data: StrPath | ImageDataset | Sequence[ImageSource],
        labels: Sequence[str] | None = None,
        *,
        title: str = "How good is this classifier?",
        skip_bad: bool = False,
        progress: Progress | None = None,
    ) -> Evaluation:
        """Measure the classifier on labelled photos, and write a page that shows how it does and where it fails.

        Parameters
        ----------
        path : path-like
            Of the HTML file, one file that asks for nothing from outside; at most about 10 MB.
        data, labels
            Labelled photos, as `evaluate` takes them.
        title : str, optional
        skip_bad : bool, default=False
        progress : Progress, optional

        Returns
        -------
        Evaluation
        """
        from tip_adapter.classifier.reporting import report_content
        from tip_adapter.report import render_report

        images, numbers = self._known_photos(data, labels)
        extraction = self._extract(images, skip_bad=skip_bad, progress=progress)
        kept = [images[row] for row in extraction.kept]
        diagnosis = self.doctor()
        content = report_content(self._fitted(), extraction, kept, numbers[extraction.kept], title, diagnosis)
        write_file(Path(path), render_report(content).encode())
        return content.evaluation

    def _calibration(self) -> Calibration:
        calibration = self._fitted().calibration
        if calibration is None:
            raise InputError("This classifier is not calibrated: fit it again, or call calibrate with labelled photos.")
        return calibration

    def _known_photos(
        self, data: StrPath | ImageDataset | Sequence[ImageSource], labels: Sequence[str] | None
    ) -> tuple[Sequence[ImageSource], IntArray]:
        images, numbers, names = labelled_images(data, labels, min_classes=1)
        return images, self._own_numbers(names)[numbers]
