"""Labelled photos in, a classifier of photos out: an encoder, prompts and a method put together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np

from tip_adapter.classifier.adding import with_near_copies
from tip_adapter.classifier.editing import EditingPart
from tip_adapter.classifier.inputs import (
    EncodedPhotos,
    LabelledImages,
    check_classes_left,
    grouped,
    labelled_images,
    new_shots,
    words_of,
)
from tip_adapter.classifier.saving import SavingPart
from tip_adapter.classifier.support import (
    Support,
    expect_text,
    record_of,
    recorded_encoder,
    recorded_texts,
    shots_of,
)
from tip_adapter.classifier.trusting import TrustingPart
from tip_adapter.data import ImageDataset
from tip_adapter.data.decoding import ImageSource
from tip_adapter.data.groups import GroupBy
from tip_adapter.data.sampling import shots_at_most
from tip_adapter.data.sequences import Images, Labels
from tip_adapter.errors import EncoderError, InputError
from tip_adapter.features.feature_files import TrainingFeatures, is_feature_file, load_training_features
from tip_adapter.features.prompts import resolve_templates, zero_shot_weights
from tip_adapter.model.edits import started
from tip_adapter.model.few_shot_model import EncoderRecord, FewShotModel
from tip_adapter.model.fitting import calibrate_on_shots, fit_method, make_estimator
from tip_adapter.progress import announce
from tip_adapter.trust.duplicates import warn_of_copies
from tip_adapter.trust.near_copies import copy_cosine
from tip_adapter.trust.precision import PrecisionReport, guard_precision
from tip_adapter.typing import Float32Array, IntArray

if TYPE_CHECKING:
    from tip_adapter.encoders.base import BaseEncoder
    from tip_adapter.methods import FewShotMethod
    from tip_adapter.model.shots import Shots
    from tip_adapter.progress import Progress


CROPPED = 12
"""Photos of which two random crops are compared, to tell near-copies from other photos of a class."""


class ImageClassifier(SavingPart, EditingPart, TrustingPart):
    """Few-shot image classifier: a frozen encoder, class texts, and a method on its features.

    Parameters
    ----------
    encoder : str, path or Encoder, optional
        What `tip_adapter.load_encoder` takes, or an encoder. Default: `default_encoder`.
    method : str or FewShotMethod, default="auto"
        A name of `tip_adapter.METHODS`, or an estimator, which is cloned.
    method_parameters : mapping, optional
        For a method given by name, such as ``{"alpha": 1.0, "beta": 5.5}``.
    templates : str or sequence of str, default="ensemble"
        A name of `tip_adapter.features.prompts.TEMPLATES`, a template such as ``"a sketch of a {}."``, or several.
    class_texts : mapping of class name to text or texts, or "none", optional
        Better words than the folder names; "none" lets the shots answer alone. Where labels are whole numbers, these
        may name the classes, too.
    views : int, default=1
        Views per shot: 1 is the middle of the photo, V ≥ 2 are V random crops and flips (the paper's is 10). Methods
        take their mean, but those with `takes_views` train on each of them; the model then keeps them all.
    precision : {"fp32", "int8"}, default="fp32"
        Of the encoder. "int8" is three times as fast for transformers as ONNX graphs; `fit` compares it with "fp32" on
        the shots.
    max_flipped : float, default=0.05
        Share of predictions on the shots that "int8" may change; where it changes more, `fit` refuses.
    store : "default", path or None, default="default"
        Where features are kept, so that no photo is encoded twice; None keeps nothing.
    allow_truncated : bool, default=False
        Take what can be decoded of photos that are cut short, instead of refusing them.

    Attributes
    ----------
    model_ : FewShotModel
        All that was learned; it can be saved, and needs no encoder.
    skipped_ : tuple of (name, reason)
        Photos that `fit` left out, with ``skip_bad=True``. What other methods left out is in `skipped` of their result.
    precision_report_ : PrecisionReport or None
        What int8 changes on the shots; None with full precision.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter import ImageClassifier
    >>> dark, light = (np.full((32, 32, 3), value, dtype=np.uint8) for value in (30, 220))
    >>> clf = ImageClassifier(encoder="fake", store=None)
    >>> clf.fit([dark, dark + 9, light, light + 9], ["night", "night", "day", "day"]).predict([dark + 3])
    ['night']
    """

    def fit(
        self,
        data: Images | ImageDataset | Any,
        labels: Labels | None = None,
        *,
        shots: int | None = None,
        groups: Iterable[Any] | GroupBy | None = None,
        random_state: int = 0,
        skip_bad: bool = False,
        progress: Progress | None = None,
    ) -> Self:
        """Learn from labelled photos.

        Parameters
        ----------
        data : path, ImageDataset, table, iterable of (image, label), or iterable of images
            A folder of class folders; a manifest (.csv, .jsonl, .parquet); features that `tip-adapter embed` saved
            (.npz); a table of pandas, polars, pyarrow or `datasets` with a column of images and one of labels; pairs;
            or images, as `predict` takes them, with `labels`. What is iterable is iterated over once, in its order,
            whatever its index.
        labels : iterable of str or of int, optional
            Class of every image, where `data` has images alone: names, or whole numbers, which `predict` then answers
            with (`classes_`); their digits are the names of the classes, and what the text encoder reads unless
            `class_texts` says something better. Classes are sorted, names as text and numbers by size.
        shots : int, optional
            Take at most so many photos of each class, drawn at random. Default: all.
        groups : iterable of N names or integers, "folder", "exif-time" or "duplicates", optional
            Which photos show the same moment, shelf or patient, and so tell little more than one of them: they are left
            out together wherever the shots are asked what the classifier is worth. One of each photo (blanks for photos
            on their own); or those in one folder, taken within a minute of each other, or hardly different from each
            other. Default: the column ``group`` of a table, else "duplicates".
        random_state : int, default=0
            Seed of the draw and of the views.
        skip_bad : bool, default=False
            Go on without photos that cannot be read; they are in `skipped_`.
        progress : Progress, optional
            See `tip_adapter.progress.progress_bar`.

        Returns
        -------
        self

        Warns
        -----
        ShotsWarning
            When a class has fewer photos than `shots`.
        DuplicateWarning
            When a photo is there twice, or in two classes.

        Raises
        ------
        DatasetError
            When the data set is not as expected.
        ImageError
            When a photo cannot be read.
        """
        means = False
        if is_feature_file(data):
            found, path = load_training_features(data), str(data)
            encoder = self._encoder_of(found, path)
            estimator = self._estimator()
            several = estimator.takes_views
            chosen, queries = shots_of(
                found, path, encoder.image_id, shots, random_state, keep_views=several, groups=groups
            )
            means = queries is None and found.description.get("views", 1) != 1
            support = self._support_of_features(found, encoder, chosen)
        else:
            estimator = self._estimator()
            photos = grouped(labelled_images(data, labels, prefer=("train",), skip_bad=skip_bad), groups)
            support, queries = self._support_of_photos(photos, estimator, shots, random_state, skip_bad, progress)
        _show_training(estimator, progress)
        announce(progress, "Training" if estimator.trains else "Choosing hyper-parameters on the shots", "steps")
        features, labels_of_shots = support.shots.features, support.shots.labels
        numbers = support.shots.group_numbers
        self._give_prompts(estimator, support.class_texts, support.templates, support.class_names)
        head, record = fit_method(
            estimator,
            features.unit,
            labels_of_shots,
            support.zero_shot_weights,
            support.encoder.logit_scale,
            support.class_texts,
            class_names=support.class_names,
            views=features.unit_views,
            groups=numbers,
        )
        announce(progress, "Calibrating on shots left out in turn", "steps")
        model = FewShotModel(
            encoder=support.encoder,
            class_names=support.class_names,
            integer_labels=support.integer_labels,
            copy_cosine=support.copy_cosine,
            class_texts=support.class_texts,
            templates=support.templates,
            zero_shot_weights=support.zero_shot_weights,
            shots=support.shots,
            head=head,
            method=record,
            views=support.views,
            random_state=random_state,
            calibration=calibrate_on_shots(
                estimator,
                features.unit,
                labels_of_shots,
                queries,
                views=features.unit_views,
                groups=numbers,
                means=means,
            ),
        )
        self.model_, self._origin = started(model), None
        return self

    def _support_of_photos(
        self,
        photos: LabelledImages,
        estimator: FewShotMethod,
        shots: int | None,
        random_state: int,
        skip_bad: bool,
        progress: Progress | None,
    ) -> tuple[Support, Float32Array | None]:
        """Encode shots and texts; and the shots as photos to classify are seen, where their keys are means of views."""
        images, numbers, names = photos.images, photos.labels, photos.class_names
        chosen = shots_at_most(numbers, shots, random_state=random_state, class_names=names)
        chosen = chosen[np.argsort(numbers[chosen], kind="stable")]
        images, numbers = [images[index] for index in chosen], numbers[chosen]
        groups = None if photos.groups is None else [photos.groups[index] for index in chosen]
        # Whatever can be wrong is looked at before the photos are encoded, which may take long.
        texts, templates = words_of(names, self.class_texts), resolve_templates(self.templates)
        self.__dict__.pop("model_", None)
        expect_text(estimator, self.encoder, texts)
        extraction = self._extract(
            images, views=self.views, random_state=random_state, skip_bad=skip_bad, progress=progress
        )
        kept, self.skipped_ = extraction.kept, (*photos.skipped, *extraction.skipped)
        check_classes_left(numbers, kept, names)
        warn_of_copies(extraction.features.digests, numbers[kept], extraction.features.names, names)
        encoded, several = EncodedPhotos.of(extraction, images), estimator.takes_views
        shot_set = new_shots(encoded, numbers, keep_views=several, groups=groups or ())
        weights = self._weights_of(texts, templates, names)
        readable = [images[index] for index in kept]
        self.precision_report_ = self._guard_precision(readable, shot_set.labels, weights, progress)
        limit = self._copy_cosine(readable, shot_set, progress) if groups is None else None
        if limit is not None:
            shot_set = with_near_copies(shot_set, limit)
        support = Support(
            shot_set,
            names,
            texts,
            templates,
            weights,
            record_of(self.encoder),
            self.views,
            photos.integer_labels,
            limit,
        )
        return support, self._as_queries(readable, self.views, progress)

    def _weights_of(
        self, texts: tuple[tuple[str, ...], ...], templates: tuple[str, ...], names: Sequence[str]
    ) -> Float32Array:
        if not any(texts):
            return np.full((len(names), self.encoder.dim), np.nan, dtype=np.float32)
        return zero_shot_weights(self.encoder, texts, templates, class_names=names)

    def _copy_cosine(self, images: Sequence[ImageSource], shots: Shots, progress: Progress | None) -> float | None:
        """From which cosine on photos of a class are near-copies; None where no class has two."""
        if np.bincount(shots.labels).max() == 1:
            return None
        some = [images[row] for row in np.linspace(0, len(images) - 1, min(len(images), CROPPED)).astype(int)]
        crops = self._extract(some, views=2, skip_bad=False, progress=progress).features.unit_views
        cosines = None if crops is None else np.einsum("nd,nd->n", crops[:, 0], crops[:, 1])
        return copy_cosine(shots.features.unit, shots.labels, cosines)

    def _support_of_features(self, found: TrainingFeatures, encoder: EncoderRecord, chosen: Shots) -> Support:
        """Add the texts to shots from a feature file; the encoder is only loaded for texts that are not in it."""
        self.__dict__.pop("model_", None)
        self.skipped_, self.precision_report_ = (), None
        names, weights = found.class_names, found.zero_shot_weights
        texts, templates = recorded_texts(found)
        if weights is None or self.class_texts is not None or self.templates != "ensemble":
            texts, templates = words_of(names, self.class_texts), resolve_templates(self.templates)
            weights = self._weights_of(texts, templates, names)
        warn_of_copies(chosen.features.digests, chosen.labels, chosen.features.names, names)
        return Support(chosen, names, texts, templates, weights, encoder, chosen.features.n_views)

    def _encoder_of(self, found: TrainingFeatures, path: str) -> EncoderRecord:
        """The encoder that made saved features: the one that the file names, which a given one must be, or that one."""
        recorded = recorded_encoder(found)
        if recorded is not None and not self._encoder_given:
            self._encoder_source, self._encoder, self._may_download = recorded.name, None, False
            return recorded
        if not self._encoder_given:
            raise InputError(f"{path} does not say which encoder made its features: name it with encoder=… (--encoder)")
        given, dim = record_of(self.encoder), found.part.features.shape[1]
        if given.dim != dim or (recorded is not None and recorded.image_id != given.image_id):
            made_by = f"by {recorded.name}" if recorded else f"of {dim} dimensions"
            raise EncoderError(f"The features in {path} are {made_by}, got the encoder {given.name}: give theirs")
        return given

    def __repr__(self) -> str:
        """Name method and encoder, and what has been learned."""
        method = self.method if isinstance(self.method, str) else type(self.method).__name__
        source = self._encoder_source if self._encoder is None else self._encoder
        encoder = getattr(source, "name", source)
        model = self.__dict__.get("model_")
        fitted = f"{model.shots.counted} of {len(model.class_names)} classes" if model else "not fitted"
        return f"<ImageClassifier: {method} on {encoder}, {fitted}>"

    def _guard_precision(
        self, images: Sequence[ImageSource], labels: IntArray, weights: Float32Array, progress: Progress | None
    ) -> PrecisionReport | None:
        if getattr(self.encoder, "precision", "fp32") == "fp32":
            return None
        with self._open_store() as store:
            return guard_precision(
                cast("BaseEncoder", self.encoder),  # others have no precision but fp32
                images,
                labels,
                weights,
                n_classes=len(weights),
                max_flipped=self.max_flipped,
                store=store,
                progress=progress,
            )

    def _estimator(self) -> FewShotMethod:
        return make_estimator(self.method, self.method_parameters, self._source_for_training())


def _show_training(estimator: FewShotMethod, progress: Progress | None) -> None:
    """Let a method that trains count its steps on the bar that counted photos, unless it has a bar of its own."""
    if progress is not None and "progress" in estimator.get_params(deep=False) and estimator.progress is None:
        estimator.set_params(progress=lambda done, total, _: progress(done, total, 0))
