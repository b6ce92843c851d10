"""Labelled photos in, a classifier of photos out: an encoder, prompts and a method put together."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Self, cast

import numpy as np

from tip_adapter.cache_model import cache_logits
from tip_adapter.datasets import ImageDataset, load_dataset
from tip_adapter.encoders import load_encoder
from tip_adapter.errors import DatasetError, EncoderError, InputError
from tip_adapter.evaluation import Evaluation, evaluate_probabilities
from tip_adapter.features import Extraction, FeatureSet, extract_features
from tip_adapter.heads import CacheHead, Head, softmax, zero_shot_logits
from tip_adapter.images import ImageSource
from tip_adapter.model import EncoderRecord, FewShotModel, MethodRecord, Shots, shot_ids
from tip_adapter.precision_guard import MAX_FLIPPED, PrecisionReport, guard_precision
from tip_adapter.prompts import resolve_templates, texts_for, zero_shot_weights
from tip_adapter.shots import sample_shots
from tip_adapter.store import FeatureStore
from tip_adapter.thumbnails import make_thumbnails
from tip_adapter.typing import Float32Array, FloatArray, IntArray, StrPath

if TYPE_CHECKING:
    from tip_adapter.encoders import Encoder
    from tip_adapter.encoders.onnx import OnnxEncoder
    from tip_adapter.methods import FewShotMethod
    from tip_adapter.progress import Progress

__all__ = ["DEFAULT_METHOD", "ENCODER_VARIABLE", "ImageClassifier", "Prediction", "default_encoder"]

ENCODER_VARIABLE = "TIP_ADAPTER_ENCODER"
DEFAULT_METHOD = "tip-adapter"


def default_encoder() -> str:
    """Name the encoder that is used where none is given.

    Returns
    -------
    str
        The environment variable ``TIP_ADAPTER_ENCODER``, else ``"clip-vit-b-32"``.
    """
    return os.environ.get(ENCODER_VARIABLE) or "clip-vit-b-32"


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one photo.

    Attributes
    ----------
    path : str
        The file, or what else the photo is called.
    top : tuple of (class name, probability)
        The most probable first.
    """

    path: str
    top: tuple[tuple[str, float], ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values.

        Returns
        -------
        dict
        """
        (name, probability), *_ = self.top
        return {
            "path": self.path,
            "class": name,
            "probability": probability,
            "top": [{"class": other, "probability": value} for other, value in self.top],
        }

    def flat(self) -> dict[str, Any]:
        """As one row of a table.

        Returns
        -------
        dict
        """
        row: dict[str, Any] = {"path": self.path}
        for rank, (name, probability) in enumerate(self.top, start=1):
            suffix = "" if rank == 1 else f"_{rank}"
            row |= {f"class{suffix}": name, f"probability{suffix}": probability}
        return row


class ImageClassifier:
    """Few-shot image classifier: a frozen encoder, class texts, and a method on its features.

    Parameters
    ----------
    encoder : str, path or Encoder, optional
        What `tip_adapter.load_encoder` takes, or an encoder. Default: `default_encoder`.
    method : str or FewShotMethod, default="tip-adapter"
        A name of `tip_adapter.METHODS`, or an estimator, which is cloned.
    method_parameters : mapping, optional
        For a method given by name, such as ``{"alpha": 1.0, "beta": 5.5}``.
    templates : str or sequence of str, default="ensemble"
        A name of `tip_adapter.prompts.TEMPLATES`, a template such as ``"a sketch of a {}."``, or several.
    class_texts : mapping of class name to text or texts, optional
        Better words than the folder names.
    views : int, default=1
        Views per shot: 1 is the middle of the photo, V ≥ 2 are V random crops and flips, averaged (the paper's is 10).
    precision : {"fp32", "int8"}, default="fp32"
        Of the encoder. "int8" is three times as fast for transformers as ONNX graphs; `fit` compares it with "fp32" on
        the shots.
    max_flipped : float, default=0.05
        Share of predictions on the shots that "int8" may change; where it changes more, `fit` refuses.
    store : "default", path or None, default="default"
        Where features are kept, so that no photo is encoded twice; None keeps nothing.

    Attributes
    ----------
    model_ : FewShotModel
        All that was learned; it can be saved, and needs no encoder.
    skipped_ : list of (name, reason)
        Photos that the last call left out, with ``skip_bad=True``.
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

    def __init__(
        self,
        encoder: StrPath | Encoder | None = None,
        method: str | FewShotMethod = DEFAULT_METHOD,
        *,
        method_parameters: Mapping[str, Any] | None = None,
        templates: str | Sequence[str] = "ensemble",
        class_texts: Mapping[str, str | Sequence[str]] | None = None,
        views: int = 1,
        precision: str = "fp32",
        max_flipped: float = MAX_FLIPPED,
        store: StrPath | Literal["default"] | None = "default",
    ) -> None:
        self._encoder_source: StrPath | Encoder = default_encoder() if encoder is None else encoder
        self._encoder: Encoder | None = None
        self.method = method
        self.method_parameters = dict(method_parameters or {})
        self.templates = templates
        self.class_texts = class_texts
        self.views = views
        self.precision = precision
        self.max_flipped = max_flipped
        self.store = store
        self.skipped_: list[tuple[str, str]] = []

    @property
    def encoder(self) -> Encoder:
        """The encoder, loaded when it is first needed, and checked against the one the model was fitted with."""
        if self._encoder is None:
            source = self._encoder_source
            if isinstance(source, str | os.PathLike):
                source = load_encoder(source, precision=self.precision)
            self._check_encoder(source)
            self._encoder = source
        return self._encoder

    def _check_encoder(self, encoder: Encoder) -> None:
        if hasattr(self, "model_") and encoder.id != self.model_.encoder.id:
            made = self.model_.encoder
            raise EncoderError(
                f"The classifier was fitted with the encoder {made.name} (id {made.id[:12]}), got {encoder.name} "
                f"(id {encoder.id[:12]}): give that encoder, or fit again."
            )

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, as the columns of probabilities."""
        return self._fitted().class_names

    def fit(
        self,
        data: StrPath | ImageDataset | Sequence[ImageSource],
        labels: Sequence[str] | None = None,
        *,
        shots: int | None = None,
        random_state: int = 0,
        skip_bad: bool = False,
        progress: Progress | None = None,
    ) -> Self:
        """Learn from labelled photos.

        Parameters
        ----------
        data : path, ImageDataset or sequence of images
            A folder of class folders, a manifest (.csv, .jsonl, .parquet), or images with `labels`.
        labels : sequence of str, optional
            Class of every image, where `data` is a sequence of images.
        shots : int, optional
            Take so many photos of each class, drawn at random. Default: all.
        random_state : int, default=0
            Seed of the draw and of the views.
        skip_bad : bool, default=False
            Go on without photos that cannot be read; they are listed in `skipped_`.
        progress : Progress, optional
            See `tip_adapter.progress.progress_bar`.

        Returns
        -------
        self

        Raises
        ------
        DatasetError
            When the data set is not as expected.
        ImageError
            When a photo cannot be read.
        """
        images, numbers, names = _labelled(data, labels)
        chosen = sample_shots(numbers, shots, random_state=random_state, class_names=names)
        images, numbers = [images[index] for index in chosen], numbers[chosen]
        # Whatever can be wrong is looked at before the photos are encoded, which may take long.
        texts, templates = texts_for(names, _as_tuples(self.class_texts)), resolve_templates(self.templates)
        estimator = self._estimator()
        self.__dict__.pop("model_", None)
        extraction = self._extract(
            images, views=self.views, random_state=random_state, skip_bad=skip_bad, progress=progress
        )
        kept = extraction.kept
        _check_classes_left(numbers, kept, names)
        thumbnails = make_thumbnails([images[index] for index in kept])
        features = _mean_views(extraction.features)
        ids = shot_ids(features.digests)
        shot_set = Shots(features, numbers[kept], ids, dict(zip(ids, thumbnails, strict=True)))
        weights = zero_shot_weights(self.encoder, texts, templates)
        self.precision_report_ = self._guard_precision(
            [images[index] for index in kept], shot_set.labels, weights, progress
        )
        _show_training(estimator, progress)
        head, record = self._fit_method(estimator, weights, features.unit, shot_set.labels, texts)
        self.model_ = FewShotModel(
            encoder=EncoderRecord(
                self.encoder.name,
                self.encoder.id,
                self.encoder.dim,
                float(self.encoder.logit_scale),
                # Not what was asked for: a processor without VNNI runs fp32 instead.
                getattr(self.encoder, "precision", "fp32"),
            ),
            class_names=names,
            class_texts=texts,
            templates=templates,
            zero_shot_weights=weights,
            shots=shot_set,
            head=head,
            method=record,
            views=self.views,
            random_state=random_state,
        )
        return self

    def _guard_precision(
        self, images: Sequence[ImageSource], labels: IntArray, weights: Float32Array, progress: Progress | None
    ) -> PrecisionReport | None:
        if getattr(self.encoder, "precision", "fp32") == "fp32":
            return None
        with _open_store(self.store) as store:
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
        # Imported here, because scikit-learn takes a second to load and only fitting needs it.
        from sklearn.base import clone

        from tip_adapter.methods import method_class

        if not isinstance(self.method, str):
            estimator: FewShotMethod = clone(self.method)
        else:
            estimator = method_class(self.method)()
            try:
                estimator.set_params(**self.method_parameters)
            except ValueError as error:
                raise InputError(" ".join(str(error).split())) from error
        if estimator.takes_images:
            raise InputError(
                f"{type(estimator).__name__} changes the encoder itself, and a classifier keeps its encoder: run "
                f"`tip-adapter fine-tune`, or fit tip_adapter.methods.{type(estimator).__name__} on the photos and "
                "call its export_encoder('tuned'); then use 'tuned' as the encoder of any other method, zero-shot too."
            )
        if estimator.needs_encoder:
            # Here, before photos are encoded, since not every encoder has gradients.
            from tip_adapter.encoders.trainable import load_trainable_encoder

            source = self._encoder_source if self._encoder is None else self._encoder
            estimator.set_params(encoder=load_trainable_encoder(source))
        return estimator

    def _fit_method(
        self,
        estimator: FewShotMethod,
        weights: Float32Array,
        features: Float32Array,
        labels: IntArray,
        texts: Sequence[Sequence[str]],
    ) -> tuple[Any, MethodRecord]:
        from tip_adapter.methods import METHODS

        given: dict[str, Any] = {
            "zero_shot_weights": weights,
            "class_names": None,
            "logit_scale": float(self.encoder.logit_scale),
        }
        if estimator.needs_encoder:
            given["class_texts"] = texts
        estimator.set_params(**given).fit(features, labels)
        names = [name for name, cls in METHODS.items() if type(estimator) is cls]
        ours = ("zero_shot_weights", "class_names", "logit_scale", "encoder", "class_texts", "checkpoint", "progress")
        parameters = {name: value for name, value in estimator.get_params(deep=False).items() if name not in ours}
        record = MethodRecord(names[0] if names else type(estimator).__name__, parameters, _chosen(estimator))
        return estimator.head_, record

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
        self._fitted()
        return softmax(self._logits(self._extract(images, skip_bad=skip_bad, progress=progress).features.unit))

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
        names = self.class_names
        extraction = self._extract(images, skip_bad=skip_bad, progress=progress)
        probabilities = softmax(self._logits(extraction.features.unit))
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
        return [
            Prediction(_path_of(images[index], name), tuple((names[column], float(row[column])) for column in columns))
            for index, name, row, columns in zip(
                extraction.kept, extraction.features.names, probabilities, best, strict=True
            )
        ]

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
        images, numbers, names = _labelled(data, labels, min_classes=1)
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
            softmax(self._logits(features)),
            own[numbers[extraction.kept]],
            model.class_names,
            zero_shot=zero_shot,
            cache=_shots_alone(model.head, features),
            n_shots_among=sum(digest in known for digest in extraction.features.digests),
        )

    def save(self, path: StrPath) -> None:
        """Save the classifier as a folder; the encoder is named in it, not copied.

        Parameters
        ----------
        path : path-like
            Such as ``clothes.tip``. A classifier saved there before is replaced.

        Raises
        ------
        TipAdapterError
            When it cannot be written; nothing half-written stays.
        """
        self._fitted().save(path)

    @classmethod
    def load(
        cls,
        path: StrPath,
        *,
        encoder: StrPath | Encoder | None = None,
        store: StrPath | Literal["default"] | None = "default",
    ) -> Self:
        """Load a saved classifier.

        Parameters
        ----------
        path : path-like
            The folder, or ``hub:owner/name``.
        encoder : str, path or Encoder, optional
            Where the encoder is now, such as an ONNX directory. Default: the name that was saved.
        store : "default", path or None, default="default"

        Returns
        -------
        ImageClassifier

        Raises
        ------
        ModelFileError
            When it is no saved classifier, truncated, changed since, or of a newer version.
        """
        model = FewShotModel.load(path)
        classifier = cls(
            model.encoder.name if encoder is None else encoder,
            model.method.name,
            method_parameters=model.method.parameters,
            templates=model.templates,
            class_texts=dict(zip(model.class_names, model.class_texts, strict=True)),
            views=model.views,
            precision=model.encoder.precision,
            store=store,
        )
        classifier.model_ = model
        return classifier

    def _fitted(self) -> FewShotModel:
        if not hasattr(self, "model_"):
            raise InputError("This classifier is not fitted yet: call fit with labelled photos, or load a saved one.")
        return self.model_

    def _logits(self, features: Float32Array) -> Float32Array:
        return self._fitted().head.logits(features)

    def _extract(
        self,
        images: Sequence[ImageSource],
        *,
        views: int = 1,
        random_state: int = 0,
        skip_bad: bool,
        progress: Progress | None,
    ) -> Extraction:
        with _open_store(self.store) as store:
            extraction = extract_features(
                self.encoder,
                images,
                views=views,
                random_state=random_state,
                store=store,
                skip_bad=skip_bad,
                progress=progress,
            )
        self.skipped_ = extraction.skipped
        return extraction


def _show_training(estimator: FewShotMethod, progress: Progress | None) -> None:
    """Let a method that trains count its steps on the bar that counted photos, unless it has a bar of its own."""
    if progress is not None and "progress" in estimator.get_params(deep=False) and estimator.progress is None:
        estimator.set_params(progress=lambda done, total, _: progress(done, total, 0))


def _path_of(source: ImageSource, name: str) -> str:
    return os.fspath(source) if isinstance(source, str | os.PathLike) else name


@contextlib.contextmanager
def _open_store(store: StrPath | None) -> Iterator[FeatureStore | None]:
    if store is None:
        yield None
        return
    with FeatureStore(None if store == "default" else store) as opened:
        yield opened


def _labelled(
    data: StrPath | ImageDataset | Sequence[ImageSource], labels: Sequence[str] | None, *, min_classes: int = 2
) -> tuple[Sequence[ImageSource], IntArray, tuple[str, ...]]:
    """Images, class numbers and class names of whatever a user gives."""
    if isinstance(data, str | os.PathLike):
        data = load_dataset(data, min_classes=min_classes)
    if isinstance(data, ImageDataset):
        if labels is not None:
            raise InputError("Labels were given twice: a data set brings its own.")
        return data.paths, data.labels, data.class_names
    if labels is None or len(labels) != len(data):
        got = "none" if labels is None else f"{len(labels)}"
        raise InputError(f"Expected a label for each of the {len(data)} images, got {got}.")
    names, numbers = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
    if len(names) < min_classes:
        raise DatasetError(f"Expected at least {min_classes} classes, got {len(names)}: add photos of another class.")
    return data, numbers.astype(np.intp), tuple(names.tolist())


def _check_classes_left(numbers: IntArray, kept: IntArray, names: Sequence[str]) -> None:
    """Refuse to go on without a class whose photos were all left out as bad."""
    lost = np.setdiff1d(numbers, numbers[kept])
    if lost.size:
        raise DatasetError(f"Expected a readable photo of every class, got none of {names[lost[0]]!r}: add some.")


def _shots_alone(head: Head, features: Float32Array) -> FloatArray | None:
    """Logits of a head without its text; None where the shots say nothing."""
    if isinstance(head, CacheHead):
        return cache_logits(features, head.cache, head.beta)  # also where α = 0
    logits: FloatArray = head.logits(features)
    weights = getattr(head, "zero_shot_weights", None)
    if weights is not None:
        logits = logits - zero_shot_logits(features, weights, getattr(head, "logit_scale", 1.0), logits.shape[1])
    return logits if np.ptp(logits) > 0 else None


def _as_tuples(texts: Mapping[str, str | Sequence[str]] | None) -> dict[str, tuple[str, ...]] | None:
    if texts is None:
        return None
    return {name: (value,) if isinstance(value, str) else tuple(value) for name, value in texts.items()}


def _mean_views(features: FeatureSet) -> FeatureSet:
    """One feature per shot: a cache key is the mean of its views' un-normalised features."""
    return replace(features, raw=features.raw.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32))


def _chosen(estimator: Any) -> dict[str, Any]:
    """What a fitted estimator chose by itself: its public numbers, and the sentence that says from what evidence."""
    chosen = {
        name.rstrip("_"): value
        for name, value in sorted(vars(estimator).items())
        if name.endswith("_") and not name.startswith("_") and isinstance(value, bool | int | float | str)
        if name != "n_features_in_" and not (isinstance(value, float) and not math.isfinite(value))
    }
    summary = getattr(getattr(estimator, "search_", None), "summary", None)
    return chosen | ({"summary": summary} if summary else {})
