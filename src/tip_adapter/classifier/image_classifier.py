"""Labelled photos in, a classifier of photos out: an encoder, prompts and a method put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np

from tip_adapter.classifier.editing import EditingPart
from tip_adapter.classifier.inputs import EncodedPhotos, as_tuples, check_classes_left, labelled_images, new_shots
from tip_adapter.classifier.saving import SavingPart
from tip_adapter.classifier.trusting import TrustingPart
from tip_adapter.data import ImageDataset
from tip_adapter.data.decoding import ImageSource
from tip_adapter.data.sampling import shots_at_most
from tip_adapter.data.sequences import Images, Labels
from tip_adapter.encoders import anchored
from tip_adapter.features.prompts import resolve_templates, texts_for, zero_shot_weights
from tip_adapter.model.edits import started
from tip_adapter.model.few_shot_model import EncoderRecord, FewShotModel
from tip_adapter.model.fitting import calibrate_on_shots, fit_method, make_estimator
from tip_adapter.progress import announce
from tip_adapter.trust.duplicates import warn_of_copies
from tip_adapter.trust.precision import PrecisionReport, guard_precision
from tip_adapter.typing import Float32Array, IntArray

if TYPE_CHECKING:
    from tip_adapter.encoders import Encoder
    from tip_adapter.encoders.onnx import OnnxEncoder
    from tip_adapter.methods import FewShotMethod
    from tip_adapter.progress import Progress

__all__ = ["ImageClassifier"]


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
    class_texts : mapping of class name to text or texts, optional
        Better words than the folder names. Where labels are whole numbers, these may name the classes, too.
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
        random_state: int = 0,
        skip_bad: bool = False,
        progress: Progress | None = None,
    ) -> Self:
        """Learn from labelled photos.

        Parameters
        ----------
        data : path, ImageDataset, table, iterable of (image, label), or iterable of images
            A folder of class folders; a manifest (.csv, .jsonl, .parquet); a table of pandas, polars, pyarrow or
            `datasets` with a column of images and one of labels; pairs; or images, as `predict` takes them, with
            `labels`. What is iterable is iterated over once, in its order, whatever its index.
        labels : iterable of str or of int, optional
            Class of every image, where `data` has images alone: names, or whole numbers, which `predict` then answers
            with (`classes_`); their digits are the names of the classes, and what the text encoder reads unless
            `class_texts` says something better. Classes are sorted, names as text and numbers by size.
        shots : int, optional
            Take at most so many photos of each class, drawn at random. Default: all.
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
        photos = labelled_images(data, labels, prefer=("train",), skip_bad=skip_bad)
        images, numbers, names = photos.images, photos.labels, photos.class_names
        chosen = shots_at_most(numbers, shots, random_state=random_state, class_names=names)
        chosen = chosen[np.argsort(numbers[chosen], kind="stable")]
        images, numbers = [images[index] for index in chosen], numbers[chosen]
        # Whatever can be wrong is looked at before the photos are encoded, which may take long.
        texts, templates = texts_for(names, as_tuples(self.class_texts)), resolve_templates(self.templates)
        estimator = self._estimator()
        self.__dict__.pop("model_", None)
        extraction = self._extract(
            images, views=self.views, random_state=random_state, skip_bad=skip_bad, progress=progress
        )
        kept, self.skipped_ = extraction.kept, (*photos.skipped, *extraction.skipped)
        check_classes_left(numbers, kept, names)
        warn_of_copies(extraction.features.digests, numbers[kept], extraction.features.names, names)
        shot_set = new_shots(EncodedPhotos.of(extraction, images), numbers, keep_views=estimator.takes_views)
        weights = zero_shot_weights(self.encoder, texts, templates, class_names=names)
        self.precision_report_ = self._guard_precision(
            [images[index] for index in kept], shot_set.labels, weights, progress
        )
        _show_training(estimator, progress)
        announce(progress, "Training" if estimator.trains else "Choosing hyper-parameters on the shots", "steps")
        head, record = fit_method(
            estimator,
            shot_set.features.unit,
            shot_set.labels,
            weights,
            float(self.encoder.logit_scale),
            texts,
            class_names=names,
            views=shot_set.features.unit_views,
        )
        announce(progress, "Calibrating on shots left out in turn", "steps")
        model = FewShotModel(
            encoder=_record_of(self.encoder),
            class_names=names,
            integer_labels=photos.integer_labels,
            class_texts=texts,
            templates=templates,
            zero_shot_weights=weights,
            shots=shot_set,
            head=head,
            method=record,
            views=self.views,
            random_state=random_state,
            calibration=calibrate_on_shots(
                estimator,
                shot_set.features.unit,
                shot_set.labels,
                self._as_queries([images[index] for index in kept], self.views, progress),
                views=shot_set.features.unit_views,
            ),
        )
        self.model_, self._origin = started(model), None
        return self

    def __repr__(self) -> str:
        """Name method and encoder, and what has been learned."""
        method = self.method if isinstance(self.method, str) else type(self.method).__name__
        source = self._encoder_source if self._encoder is None else self._encoder
        encoder = getattr(source, "name", source)
        model = self.__dict__.get("model_")
        fitted = f"{len(model.shots)} shots of {len(model.class_names)} classes" if model else "not fitted"
        return f"<ImageClassifier: {method} on {encoder}, {fitted}>"

    def _guard_precision(
        self, images: Sequence[ImageSource], labels: IntArray, weights: Float32Array, progress: Progress | None
    ) -> PrecisionReport | None:
        if getattr(self.encoder, "precision", "fp32") == "fp32":
            return None
        with self._open_store() as store:
            return guard_precision(
                cast("OnnxEncoder", self.encoder),  # the only kind with another precision
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


def _record_of(encoder: Encoder) -> EncoderRecord:
    # Not the precision that was asked for: a processor without VNNI runs fp32 instead.
    precision = getattr(encoder, "precision", "fp32")
    return EncoderRecord(
        anchored(encoder.name), encoder.image_id, encoder.text_id, encoder.dim, float(encoder.logit_scale), precision
    )


def _show_training(estimator: FewShotMethod, progress: Progress | None) -> None:
    """Let a method that trains count its steps on the bar that counted photos, unless it has a bar of its own."""
    if progress is not None and "progress" in estimator.get_params(deep=False) and estimator.progress is None:
        estimator.set_params(progress=lambda done, total, _: progress(done, total, 0))
