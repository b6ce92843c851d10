"""Learn from labelled photos, or from their features: all that `ImageClassifier.fit` does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from tip_adapter.classifier.adding import with_near_copies
from tip_adapter.classifier.encoding import ClassTexts, PhotoEncoder
from tip_adapter.classifier.inputs import EncodedPhotos, LabelledImages, check_classes_left, new_shots, words_of
from tip_adapter.classifier.many_photos import (
    TOP_K,
    fitted_to_very_many,
    head_of_very_many,
    is_for_very_many,
    told_of_choice,
)
from tip_adapter.classifier.support import (
    Support,
    expect_text,
    record_of,
    recorded_encoder,
    recorded_texts,
    shots_of,
)
from tip_adapter.data.decoding import ImageSource
from tip_adapter.data.groups import GroupBy
from tip_adapter.data.sampling import shots_at_most
from tip_adapter.errors import EncoderError, InputError
from tip_adapter.features.feature_files import TrainingFeatures, load_training_features
from tip_adapter.features.prompts import resolve_templates
from tip_adapter.methods.heads import Head
from tip_adapter.model.few_shot_model import EncoderRecord, FewShotModel
from tip_adapter.model.fitting import MethodRecord, calibrate_on_shots, fit_method, make_estimator
from tip_adapter.model.predictions import Skipped
from tip_adapter.progress import announce
from tip_adapter.trust.calibration import Calibration
from tip_adapter.trust.duplicates import warn_of_copies
from tip_adapter.trust.near_copies import copy_cosine
from tip_adapter.trust.precision import PrecisionReport, guard_precision
from tip_adapter.typing import Float32Array, IntArray, StrPath

if TYPE_CHECKING:
    from tip_adapter.encoders.base import BaseEncoder
    from tip_adapter.encoders.trainable import TrainableEncoder
    from tip_adapter.methods import FewShotMethod
    from tip_adapter.model.shots import Shots
    from tip_adapter.progress import Progress

CROPPED = 12
"""Photos of which two random crops are compared, to tell near-copies from other photos of a class."""


@dataclass(frozen=True)
class Learned:
    """What was learned, and from what."""

    model: FewShotModel
    skipped: Skipped = ()
    """(name, reason)."""
    precision_report: PrecisionReport | None = None
    """What int8 changes on the shots."""


@dataclass(frozen=True, eq=False)
class Learner:
    """Learn a model; the settings are those of `ImageClassifier` and of its `fit`."""

    photos: PhotoEncoder
    method: str | FewShotMethod
    method_parameters: Mapping[str, Any]
    templates: str | Sequence[str]
    class_texts: ClassTexts
    views: int
    max_flipped: float
    random_state: int
    skip_bad: bool
    progress: Progress | None

    def from_features(self, path: StrPath, shots: int | None, groups: Iterable[Any] | GroupBy | None) -> Learned:
        """Learn from a feature file; the encoder is only loaded for texts that are not in it."""
        found, named = load_training_features(path), str(path)
        encoder, estimator = self._encoder_of(found, named), self._estimator()
        towers = self.photos.towers_for(estimator)
        names, weights = found.class_names, found.zero_shot_weights
        texts, templates = recorded_texts(found)
        if weights is None or self.class_texts is not None or self.templates != "ensemble":
            texts, templates = words_of(names, self.class_texts), resolve_templates(self.templates)
            weights = self.photos.weights_of(texts, templates, names)
        choice = None
        if shots is None and is_for_very_many(estimator, found.part):
            announce(self.progress, "Choosing a head for very many photos", "steps")
            choice = head_of_very_many(found, weights, encoder.logit_scale, groups, named)
            estimator = make_estimator(TOP_K, {}) if choice and choice.head is None else estimator
        chosen, queries = shots_of(
            found,
            named,
            encoder.image_id,
            shots if choice is None or choice.head is None else choice.kept,
            self.random_state,
            keep_views=estimator.takes_views,
            groups=groups,
        )
        means = queries is None and found.description.get("views", 1) != 1
        warn_of_copies(chosen.features.digests, chosen.labels, chosen.features.names, names)
        support = Support(chosen, names, texts, templates, weights, encoder, chosen.features.n_views)
        if choice is not None and choice.head is not None:
            return Learned(self._assembled(support, *fitted_to_very_many(choice, support)))
        model = self._model(estimator, support, queries, towers, means=means)
        return Learned(model if choice is None else told_of_choice(model, choice))

    def from_photos(self, given: LabelledImages, shots: int | None) -> Learned:
        """Learn from photos; they are encoded once whatever can be wrong with the rest was looked at."""
        estimator, names = self._estimator(), given.class_names
        towers = self.photos.towers_for(estimator)
        images, numbers, groups = self._drawn(given, shots)
        texts, templates = words_of(names, self.class_texts), resolve_templates(self.templates)
        expect_text(estimator, self.photos.encoder, texts)
        extraction = self.photos.extract(
            images, views=self.views, random_state=self.random_state, skip_bad=self.skip_bad, progress=self.progress
        )
        kept, skipped = extraction.kept, (*given.skipped, *extraction.skipped)
        check_classes_left(numbers, kept, names)
        warn_of_copies(extraction.features.digests, numbers[kept], extraction.features.names, names)
        encoded = EncodedPhotos.of(extraction, images)
        chosen = new_shots(encoded, numbers, keep_views=estimator.takes_views, groups=groups or ())
        weights = self.photos.weights_of(texts, templates, names)
        readable = [images[index] for index in kept]
        report = self._guard_precision(readable, chosen.labels, weights)
        limit = self._copy_cosine(readable, chosen) if groups is None else None
        if limit is not None:
            chosen = with_near_copies(chosen, limit)
        encoder, whole = record_of(self.photos.encoder), given.integer_labels
        support = Support(chosen, names, texts, templates, weights, encoder, self.views, whole, limit)
        queries = self.photos.middle_views(readable, self.views, self.progress)
        return Learned(self._model(estimator, support, queries, towers), skipped, report)

    def _drawn(self, given: LabelledImages, shots: int | None) -> tuple[list[ImageSource], IntArray, list[str] | None]:
        """Draw shots, sorted by class: images, classes and groups."""
        rows = shots_at_most(given.labels, shots, random_state=self.random_state, class_names=given.class_names)
        rows = rows[np.argsort(given.labels[rows], kind="stable")]
        groups = None if given.groups is None else [given.groups[row] for row in rows]
        return [given.images[row] for row in rows], given.labels[rows], groups

    def _model(
        self,
        estimator: FewShotMethod,
        support: Support,
        queries: Float32Array | None,
        towers: TrainableEncoder | None,
        *,
        means: bool = False,
    ) -> FewShotModel:
        """Fit the method and calibrate it, on shots as photos to classify are seen: `queries`, unless all are means."""
        announce(self.progress, "Training" if estimator.trains else "Choosing hyper-parameters on the shots", "steps")
        features, labels = support.shots.features, support.shots.labels
        numbers = support.shots.group_numbers
        self.photos.give_prompts(estimator, support.class_texts, support.templates, support.class_names)
        head, record = fit_method(
            estimator,
            features.unit,
            labels,
            support.zero_shot_weights,
            support.encoder.logit_scale,
            support.class_texts,
            class_names=support.class_names,
            views=features.unit_views,
            groups=numbers,
            queries=queries,
            encoder=towers,
            progress=self.progress,
        )
        announce(self.progress, "Calibrating on shots left out in turn", "steps")
        calibration = calibrate_on_shots(
            estimator, features.unit, labels, queries, views=features.unit_views, groups=numbers, means=means
        )
        return self._assembled(support, head, record, calibration)

    def _assembled(
        self, support: Support, head: Head, record: MethodRecord, calibration: Calibration | None
    ) -> FewShotModel:
        return FewShotModel(
            encoder=support.encoder,
            class_names=support.class_names,
            integer_labels=support.integer_labels,
            copy_cosine=support.copy_cosine,
            class_texts=support.class_texts,
            templates=support.templates,
            zero_shot_weights=support.zero_shot_weights,
            shots=replace(support.shots, features=support.shots.features.with_room()),
            head=head,
            method=record,
            views=support.views,
            random_state=self.random_state,
            calibration=calibration,
        )

    def _estimator(self) -> FewShotMethod:
        return make_estimator(self.method, self.method_parameters)

    def _encoder_of(self, found: TrainingFeatures, path: str) -> EncoderRecord:
        """The encoder that made saved features: the one that the file names, which a given one must be, or that one."""
        recorded = recorded_encoder(found)
        if recorded is not None and not self.photos.given:
            self.photos.rename(recorded.name)
            return recorded
        if not self.photos.given:
            raise InputError(f"{path} does not say which encoder made its features: name it with encoder=… (--encoder)")
        given, dim = record_of(self.photos.encoder), found.part.features.shape[1]
        if given.dim != dim or (recorded is not None and recorded.image_id != given.image_id):
            made_by = f"by {recorded.name}" if recorded else f"of {dim} dimensions"
            raise EncoderError(f"The features in {path} are {made_by}, got the encoder {given.name}: give theirs")
        return given

    def _guard_precision(
        self, images: Sequence[ImageSource], labels: IntArray, weights: Float32Array
    ) -> PrecisionReport | None:
        if getattr(self.photos.encoder, "precision", "fp32") == "fp32":
            return None
        with self.photos.open_store() as store:
            return guard_precision(
                cast("BaseEncoder", self.photos.encoder),  # others have no precision but fp32
                images,
                labels,
                weights,
                n_classes=len(weights),
                max_flipped=self.max_flipped,
                store=store,
                progress=self.progress,
            )

    def _copy_cosine(self, images: Sequence[ImageSource], shots: Shots) -> float | None:
        """From which cosine on photos of a class are near-copies; None where no class has two."""
        if np.bincount(shots.labels).max() == 1:
            return None
        some = [images[row] for row in np.linspace(0, len(images) - 1, min(len(images), CROPPED)).astype(int)]
        crops = self.photos.extract(some, views=2, skip_bad=False, progress=self.progress).features.unit_views
        cosines = None if crops is None else np.einsum("nd,nd->n", crops[:, 0], crops[:, 1])
        return copy_cosine(shots.features.unit, shots.labels, cosines)
