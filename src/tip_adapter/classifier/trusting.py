"""Say how far a classifier can be trusted: prediction sets, calibration on separate photos, the doctor, the report."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter.classifier.diagnosing import diagnosis_of, enough_of, photos_apart
from tip_adapter.classifier.full_sets import SetGuarantee, check_full, full_sets
from tip_adapter.classifier.photo_classifier import PhotoClassifier
from tip_adapter.classifier.predicting import calibration_of, known_features, known_photos, worth_labelling
from tip_adapter.classifier.refitting import Refitter
from tip_adapter.data import ImageDataset
from tip_adapter.data.sequences import Images, Labels
from tip_adapter.errors import InputError
from tip_adapter.features.extraction import Extraction
from tip_adapter.features.feature_files import is_feature_file
from tip_adapter.model.edits import CALIBRATION, class_column
from tip_adapter.model.evaluation import evaluate_features, evaluate_rows
from tip_adapter.model.few_shot_model import FewShotModel
from tip_adapter.model.predictions import Prediction, PredictionSets, Results, Skipped, named_sets
from tip_adapter.progress import announce
from tip_adapter.storage.atomic import write_file
from tip_adapter.trust.calibration import Calibration
from tip_adapter.trust.conformal import SetKind, prediction_sets
from tip_adapter.typing import StrPath

if TYPE_CHECKING:
    from tip_adapter.progress import Progress
    from tip_adapter.report import ComparedMethod, ExplainedPhoto
    from tip_adapter.trust.doctor import BadImage, Diagnosis
    from tip_adapter.trust.duplicates import Photos
    from tip_adapter.trust.enough import Enough
    from tip_adapter.trust.evaluation import Evaluation


@dataclass(frozen=True, eq=False)
class Calibrated:
    """What `ImageClassifier.calibrate` did.

    Attributes
    ----------
    calibration : Calibration
    skipped : tuple of (name, reason)
        Photos that could not be read; empty unless they were to be skipped.
    """

    calibration: Calibration
    skipped: Skipped = ()


class TrustedClassifier(PhotoClassifier):
    """A classifier that says how far its answers can be trusted; see `ImageClassifier`."""

    def predict_set(
        self,
        images: Images,
        coverage: float = 0.9,
        *,
        kind: SetKind = "lac",
        allow_empty: bool = False,
        guarantee: SetGuarantee = "calibrated",
        skip_bad: bool = False,
        progress: Progress | None = None,
    ) -> PredictionSets:
        """Predict for every photo a set of classes that contains the true one with the wanted coverage.

        Parameters
        ----------
        images : image, or iterable of images
            As `predict` takes them.
        coverage : float, default=0.9
            Wanted share of sets that contain the true class, in (0, 1).
        kind : {"lac", "aps"}, default="lac"
            "lac" gives the smallest sets on average; "aps" gives hard photos larger sets and easy ones smaller. "aps"
            is randomised: whether the last class belongs to a set is drawn, from the photo's own bytes, so that the
            same photo always gets the same set.
        allow_empty : bool, default=False
            Whether a photo that is like no class may get an empty set.
        guarantee : {"calibrated", "full"}, default="calibrated"
            "calibrated": from what was learned of left-out shots, or of the photos given to `calibrate`. "full": the
            photo joins the shots as each class in turn, and is compared with them all (full conformal prediction). It
            holds on average where the shots were drawn like the photo; "lac" sets of tip-adapter alone.
        skip_bad : bool, default=False
            Leave out photos that cannot be read; they are in `skipped` of the result.
        progress : Progress, optional

        Returns
        -------
        PredictionSets
            One set for each photo, with what they were calibrated on, and what that guarantees.

        Raises
        ------
        InputError
            When the coverage is out of range, there are too few calibration photos for it, or full conformal sets
            cannot be of this classifier.
        """
        model = self._fitted()
        if guarantee != "calibrated":
            check_full(model, coverage, kind, guarantee)
            queries = self._photos.queries(images, skip_bad=skip_bad, progress=progress)
            return full_sets(model, queries, coverage, allow_empty=allow_empty)
        calibration = calibration_of(model)
        # What can be wrong is looked at before the photos are encoded.
        threshold = calibration.scores.threshold(coverage, kind, allow_empty=allow_empty)
        queries = self._photos.queries(images, skip_bad=skip_bad, progress=progress)
        probabilities = model.probabilities(model.logits(queries.features))
        shares = np.array([int(digest[:13], 16) / 16**13 for digest in queries.extraction.features.digests])
        inside = prediction_sets(probabilities, threshold, kind, allow_empty=allow_empty, shares=shares)
        return PredictionSets(
            coverage,
            kind,
            allow_empty,
            calibration.origin,
            calibration.guarantee,
            named_sets(probabilities, inside, model.class_names, queries.names),
            queries.extraction.skipped,
        )

    def calibrate(
        self,
        data: Images | ImageDataset | Any,
        labels: Labels | None = None,
        *,
        skip_bad: bool = False,
        progress: Progress | None = None,
    ) -> Calibrated:
        """Calibrate on photos apart from the shots, instead of on the shots themselves.

        The temperature, `predict_set` and ``none_of_these`` then rest on these photos, and hold for new photos like
        them.

        Parameters
        ----------
        data, labels
            Labelled photos, as `evaluate` takes them.
        skip_bad : bool, default=False
            Leave out photos that cannot be read; they are in `skipped` of the result.
        progress : Progress, optional

        Raises
        ------
        DatasetError
            When the photos have classes that the classifier does not know.
        InputError
            When some of the photos are shots of the classifier.
        """
        model = self._live.latest()
        photos = known_photos(model, data, labels, prefer=("validation",), skip_bad=skip_bad)
        extraction = self._photos.extract_labelled(photos, skip_bad=skip_bad, progress=progress)
        names = [model.class_names[label] for label in photos.labels[extraction.kept]]
        return self._live.change(lambda present: _calibrated(present, extraction, names))

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
            Labelled photos, as `fit` takes them, or their features; of a file with test photos those, of Parquet all.
        skip_bad : bool, default=False
            Leave out photos that cannot be read; they are in `skipped` of the result.
        progress : Progress, optional

        Raises
        ------
        DatasetError
            When the photos have classes that the classifier does not know.
        EncoderError
            When features are of another encoder.
        """
        model = self._fitted()
        if labels is None and is_feature_file(data):
            part, columns = known_features(model, data)
            return evaluate_rows(model, part.features, columns, part.digests or ())
        photos = known_photos(model, data, labels, prefer=("test", "validation"), skip_bad=skip_bad)
        extraction = self._photos.extract_labelled(photos, skip_bad=skip_bad, progress=progress)
        return evaluate_features(model, extraction, photos.labels[extraction.kept])

    def next_to_label(
        self, images: Images, *, count: int = 10, skip_bad: bool = False, progress: Progress | None = None
    ) -> Results[Prediction]:
        """Choose the unlabelled photos whose labels would help the classifier most.

        Parameters
        ----------
        images : iterable of images
            As `predict` takes them; photos that are shots already are left out.
        count : int, default=10
            How many to choose; fewer where there are not so many that differ.
        skip_bad : bool, default=False
            Leave out photos that cannot be read; they are in `skipped` of the result.
        progress : Progress, optional

        Returns
        -------
        Results of Prediction
            The most useful first, each with its two most probable classes. See
            `tip_adapter.trust.unlabelled.next_to_label` for how they are chosen.

        Raises
        ------
        InputError
            When `count` is below 1.
        """
        model = self._fitted()
        queries = self._photos.queries(images, skip_bad=skip_bad, progress=progress)
        digests = queries.extraction.features.digests
        _, found = worth_labelling(model, queries.features, digests, queries.names, count)
        return queries.results(found)

    def enough(self, *, hints: bool = True) -> Enough:
        """Say for every class whether there are enough photos, and what one more is expected to gain.

        Every group of shots is left out in turn, with the hyper-parameters as they are; methods that train are trained
        six times.

        Parameters
        ----------
        hints : bool, default=True
            Also look for doubtful labels, near-duplicates and tiny pictures, as far as the thumbnails show.

        Returns
        -------
        Enough
            See `tip_adapter.trust.enough.enough` for how the gain is foreseen.

        Raises
        ------
        InputError
            When the method tunes the encoder's prompts, which is not done again for every part of the shots.
        """
        model = self._fitted()
        return enough_of(model, Refitter(self._photos, self.method).left_out(model), hints=hints)

    def doctor(
        self,
        other: Images | ImageDataset | Any | None = None,
        labels: Labels | None = None,
        *,
        bad_images: Sequence[BadImage] = (),
        skip_bad: bool = False,
        progress: Progress | None = None,
    ) -> Diagnosis:
        """Examine the shots: labels that the others contradict, duplicates, and classes that need more photos.

        Parameters
        ----------
        other, labels : optional
            Labelled photos that should be apart from the shots, such as a test set: copies between them are found.
        bad_images : sequence of BadImage, optional
            Files that are known to be bad, to be reported with the rest.
        skip_bad : bool, default=False
            Go on without photos of `other` that cannot be read, and report them as bad.
        progress : Progress, optional
        """
        from tip_adapter.trust.doctor import BadImage

        model, apart = self._fitted(), None
        if other is not None:
            photos = known_photos(model, other, labels, prefer=("test", "validation"), skip_bad=skip_bad)
            extraction = self._photos.extract_labelled(photos, skip_bad=skip_bad, progress=progress)
            apart = photos_apart(photos, extraction)
            bad_images = [*bad_images, *(BadImage(name, reason) for name, reason in extraction.skipped)]
        announce(progress, "Examining the shots, each left out in turn")
        return self._diagnosis(apart, bad_images)

    def _diagnosis(self, other: Photos | None = None, bad_images: Sequence[BadImage] = ()) -> Diagnosis:
        model, found = self._fitted(), None
        with contextlib.suppress(InputError):  # methods that tune are not measured on their shots
            found = self.enough(hints=False)
        queries = self._photos.stored_middle_views(model)
        return replace(diagnosis_of(model, other, bad_images, queries), enough=found)

    def report(
        self,
        path: StrPath,
        data: Images | ImageDataset | Any,
        labels: Labels | None = None,
        *,
        title: str = "How good is this classifier?",
        compared: Sequence[ComparedMethod] = (),
        explained: ExplainedPhoto | None = None,
        notes: Mapping[str, str] | None = None,
        skip_bad: bool = False,
        progress: Progress | None = None,
    ) -> Evaluation:
        """Measure the classifier on labelled photos, and write a page that shows how it does and where it fails.

        Parameters
        ----------
        path : path-like
            Of the HTML file, which is self-contained; at most about 10 MB.
        data, labels
            Labelled photos, as `evaluate` takes them.
        title : str, optional
        compared : sequence of ComparedMethod, optional
            What to compare the classifier with; itself the last. Default: its texts alone, and its shots alone.
        explained : ExplainedPhoto, optional
            A photo to show the explanation of.
        notes : mapping of str to str, optional
            More to say at the top of the page.
        skip_bad : bool, default=False
            Leave out photos that cannot be read; they are in `skipped` of the result.
        progress : Progress, optional
        """
        from tip_adapter.report import render_report
        from tip_adapter.report.collect import report_content

        model = self._fitted()
        photos = known_photos(model, data, labels, prefer=("test", "validation"), skip_bad=skip_bad)
        extraction = self._photos.extract_labelled(photos, skip_bad=skip_bad, progress=progress)
        kept = [photos.images[row] for row in extraction.kept]
        announce(progress, "Making the page")
        known, queries = photos.labels[extraction.kept], self._photos.stored_middle_views(model)
        content = report_content(model, extraction, kept, known, title, self._diagnosis(), queries=queries)
        facts = {**content.facts, **(notes or {})}
        content = replace(content, compared=compared, explained=explained, facts=facts)
        write_file(Path(path), render_report(content).encode())
        return content.evaluation


def _calibrated(model: FewShotModel, extraction: Extraction, names: Sequence[str]) -> tuple[FewShotModel, Calibrated]:
    """Calibrate a model with encoded photos of the named classes."""
    features = extraction.features
    among = len(set(features.digests) & set(model.shots.features.digests))
    if among:
        raise InputError(
            f"{among} of the {len(features)} photos are shots of the classifier: calibrate with photos that are not"
        )
    labels = np.array([class_column(model, name) for name in names], dtype=np.intp)
    shots = (features.unit, model.shots.features.unit, model.shots.labels)
    calibration = Calibration.of(model.logits(features.unit), labels, shots, groups=model.shots.group_numbers)
    stale = tuple(part for part in model.stale if part != CALIBRATION)
    return replace(model, calibration=calibration, stale=stale), Calibrated(calibration, extraction.skipped)
