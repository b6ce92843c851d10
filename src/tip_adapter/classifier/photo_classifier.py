"""The part of a classifier that predicts: classes, probabilities, prediction sets, explanations, accuracy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from tip_adapter.classifier.encoding import DEFAULT_METHOD, ClassTexts, PhotoEncoder, Queries
from tip_adapter.classifier.frames import check_columns, with_columns
from tip_adapter.classifier.live_model import LiveModel
from tip_adapter.classifier.predicting import as_pipeline, familiarity_threshold
from tip_adapter.data.decoding import ImageSource
from tip_adapter.data.sequences import Images
from tip_adapter.explain.explainer import Explainer
from tip_adapter.explain.explanation import Explanation
from tip_adapter.model.few_shot_model import FewShotModel
from tip_adapter.model.predictions import Prediction, Results, top_predictions
from tip_adapter.trust.precision import MAX_FLIPPED
from tip_adapter.typing import BoolArray, FloatArray, StrPath

if TYPE_CHECKING:
    from tip_adapter.encoders import Encoder
    from tip_adapter.methods import FewShotMethod
    from tip_adapter.progress import Progress


class PhotoClassifier:
    """Answers about photos from a model that was fitted; see `ImageClassifier`."""

    _explainer: Explainer | None = None

    def __init__(
        self,
        encoder: StrPath | Encoder | None = None,
        method: str | FewShotMethod = DEFAULT_METHOD,
        *,
        method_parameters: Mapping[str, Any] | None = None,
        templates: str | Sequence[str] = "ensemble",
        class_texts: ClassTexts = None,
        views: int = 1,
        precision: str = "fp32",
        max_flipped: float = MAX_FLIPPED,
        store: StrPath | Literal["default"] | None = "default",
        allow_truncated: bool = False,
    ) -> None:
        self._photos = PhotoEncoder(encoder, precision=precision, store=store, allow_truncated=allow_truncated)
        self.method = method
        self.method_parameters = dict(method_parameters or {})
        self.templates = templates
        self.class_texts = class_texts
        self.views = views
        self.max_flipped = max_flipped
        self._live = LiveModel()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what a copy makes again."""
        return vars(self) | {"_explainer": None}

    @property
    def encoder(self) -> Encoder:
        """The encoder, loaded when it is first needed, and checked against the one the model was fitted with."""
        return self._photos.encoder

    @property
    def allow_truncated(self) -> bool:
        """Whether what can be decoded of photos that are cut short is taken."""
        return self._photos.allow_truncated

    @property
    def model_(self) -> FewShotModel:
        """All that was learned."""
        if self._live.model is None:
            raise AttributeError("This classifier is not fitted yet: it has no model_")
        return self._live.model

    def _fitted(self) -> FewShotModel:
        return self._live.present()

    @property
    def classes_(self) -> tuple[str, ...] | tuple[int, ...]:
        """What `predict` calls the classes, as the columns of probabilities: their names, or the integers of `fit`."""
        return self._fitted().classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, as the columns of probabilities."""
        return self._fitted().class_names

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
        queries = self._photos.queries(images, skip_bad=skip_bad, progress=progress)
        probabilities = np.full((queries.n, len(model.class_names)), np.nan)
        probabilities[queries.extraction.kept] = model.probabilities(model.logits(queries.features))
        return probabilities[0] if queries.one else probabilities

    def _answered(
        self, images: Any, none_of_these: float | None, skip_bad: bool, progress: Progress | None
    ) -> tuple[FewShotModel, Queries, FloatArray, BoolArray]:
        """The model, what was encoded, probabilities, and which photos show none of the classes."""
        model = self._fitted()
        # What can be wrong is looked at before the photos are encoded.
        threshold = familiarity_threshold(model, none_of_these)
        queries = self._photos.queries(images, skip_bad=skip_bad, progress=progress)
        probabilities = model.probabilities(model.logits(queries.features))
        return model, queries, probabilities, model.unfamiliar(probabilities, queries.features, threshold)

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
        """Predict the most probable classes of every photo.

        Parameters
        ----------
        images : image, or iterable of images
            As `predict` takes them.
        top_k : int, default=1
            Classes per photo; all of them where there are fewer.
        none_of_these : float, optional
            As in `predict`: the class of a photo that shows none is None; its most probable classes are still listed.
        skip_bad : bool, default=False
            Leave out photos that cannot be read; they are in `skipped` of the result.
        progress : Progress, optional

        Returns
        -------
        Prediction, or Results of Prediction
            One for one image, a list for several. Each has the `path` of its photo.
        """
        model, queries, probabilities, none = self._answered(images, none_of_these, skip_bad, progress)
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
        """Predict the class of every photo.

        Parameters
        ----------
        images : image, or iterable of images
            An image is a path, the bytes of a file, an open file, a Pillow image, an array of shape (H, W), (H, W, 3)
            or (H, W, 4), or a tensor. Several are a list, generator, series, column, stack of arrays, or a table with a
            column of images; they are iterated over once, in their order.
        none_of_these : float, optional
            Return None for photos that show none of the classes, where this share of the photos that do show one, in
            (0, 1), may be rejected by mistake. Default: always return a class.
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
        model, queries, probabilities, none = self._answered(images, none_of_these, skip_bad, progress)
        named: list[str | int | None] = [None] * queries.n
        for place, column, unknown in zip(queries.extraction.kept, probabilities.argmax(axis=1), none, strict=True):
            named[place] = None if unknown else model.classes[column]
        found = queries.results(named)
        return found[0] if queries.one else found

    def __call__(self, images: Images, *, top_k: int = 5) -> list[dict[str, Any]] | list[list[dict[str, Any]]]:
        """Classify as a pipeline of transformers does.

        Parameters
        ----------
        images : image, or iterable of images
            As `predict` takes them.
        top_k : int, default=5

        Returns
        -------
        list of {"label": str, "score": float}, or a list of those
            The most probable classes, the most probable first: one list for one image, a list of lists for several.

        Examples
        --------
        >>> import numpy as np
        >>> from tip_adapter import ImageClassifier
        >>> dark, light = (np.full((32, 32, 3), value, dtype=np.uint8) for value in (30, 220))
        >>> clf = ImageClassifier(encoder="fake", store=None).fit([dark, light], ["night", "day"])
        >>> [one["label"] for one in clf(dark + 3, top_k=1)]
        ['night']
        """
        found: Any = self.predict_top(images, top_k=top_k)
        one = isinstance(found, Prediction)
        rows = [as_pipeline(each) for each in ([found] if one else found)]
        return rows[0] if one else rows

    def predict_frame(
        self,
        frame: Any,
        *,
        none_of_these: float | None = None,
        skip_bad: bool = False,
        progress: Progress | None = None,
    ) -> Any:
        """Add the predictions of a table's images to its rows.

        Parameters
        ----------
        frame : table of pandas, polars, pyarrow or `datasets`
            With a column of images, such as paths, which is found as in `fit`.
        none_of_these, skip_bad, progress
            As in `predict`.

        Returns
        -------
        table
            The same rows, and index, with the columns ``prediction`` and ``probability``; empty for photos that could
            not be read. Where only ``prediction`` is empty, the photo shows none of the classes.

        Raises
        ------
        InputError
            When it is no table, or has columns of these names.
        """
        check_columns(frame, ("prediction", "probability"))
        model, queries, probabilities, none = self._answered(frame, none_of_these, skip_bad, progress)
        named: list[Any] = [None] * queries.n
        sure: list[float | None] = [None] * queries.n
        for place, row, unknown in zip(queries.extraction.kept, probabilities, none, strict=True):
            named[place] = None if unknown else model.classes[int(row.argmax())]
            sure[place] = float(row.max())
        return with_columns(frame, {"prediction": named, "probability": sure})

    @overload
    def explain(  # type: ignore[overload-overlap]
        self, images: ImageSource, *, shots: int = ..., skip_bad: bool = ..., progress: Progress | None = ...
    ) -> Explanation: ...

    @overload
    def explain(
        self, images: Iterable[ImageSource], *, shots: int = ..., skip_bad: bool = ..., progress: Progress | None = ...
    ) -> Results[Explanation]: ...

    def explain(
        self,
        images: Images,
        *,
        shots: int = 5,
        skip_bad: bool = False,
        progress: Progress | None = None,
    ) -> Explanation | Results[Explanation]:
        """Explain predictions: what texts and every shot contribute, and the prediction without each deciding shot.

        Parameters
        ----------
        images : image, or iterable of images
            As `predict` takes them.
        shots : int, default=5
            Deciding shots to list.
        skip_bad : bool, default=False
            Leave out photos that cannot be read; they are in `skipped` of the result.
        progress : Progress, optional

        Returns
        -------
        Explanation, or Results of Explanation
            One for one image, a list for several.
            What is exact with which method, and what stays fixed when a shot is left out, is in its `note`.

        Raises
        ------
        ImageError
            When a photo cannot be read.
        InputError
            When `shots` is negative.

        Examples
        --------
        >>> import numpy as np
        >>> from tip_adapter import ImageClassifier
        >>> dark, light = (np.full((32, 32, 3), value, dtype=np.uint8) for value in (30, 220))
        >>> clf = ImageClassifier(encoder="fake", store=None).fit([dark, light], ["night", "day"])
        >>> why = clf.explain(dark + 3)
        >>> why.answer, why.deciding[0].class_name, why.exact
        ('night', 'night', True)
        """
        model = self._fitted()
        queries = self._photos.queries(images, skip_bad=skip_bad, progress=progress)
        found = queries.results(self._explainer_of(model).explain(queries.features, queries.names, shots=shots))
        return found[0] if queries.one else found

    def _explainer_of(self, model: FewShotModel) -> Explainer:
        """Prepare an explainer, which takes longer than an explanation, once for every state of the classifier."""
        explainer = self._explainer
        if explainer is None or explainer.model is not model:
            # Another thread may do the same meanwhile; either explainer is right for its own model.
            self._explainer = explainer = Explainer(model)
        return explainer
