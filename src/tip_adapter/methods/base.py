"""What all methods share: features and labels of any kind in, a checked and aligned support set out, logits back."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from tip_adapter.cross_validation import Evidence, evidence_from_support, evidence_from_validation
from tip_adapter.errors import FeatureError, FeatureWarning, InputError
from tip_adapter.heads import Head, softmax, zero_shot_logits
from tip_adapter.typing import Float32Array, FloatArray, IntArray

__all__ = ["ABSENT_LOGIT", "FewShotMethod", "SupportSet", "given_or_auto", "unit_rows"]

NORM_TOLERANCE = 1e-3
"""Rows of float16 features are this close to unit length; they are taken as they are."""

ABSENT_LOGIT = -1e4
"""Logit of a class that has no shots, for methods that do not ask its text: it is never predicted."""


@dataclass(frozen=True)
class SupportSet:
    """A checked support set, classes aligned with the zero-shot weights.

    Attributes
    ----------
    features : ndarray of shape (N, D), float32
        Unit rows.
    labels : ndarray of shape (N,), integers in [0, C)
    n_classes : int
        C, classes without shots included.
    zero_shot_weights : ndarray of shape (C, D), float32, or None
        Unit rows; NaN for a class without text; None where no class has text.
    logit_scale : float
    validation : tuple of features (B, D) and labels (B,), optional
        Images apart from the support set that hyper-parameters are chosen on.
    """

    features: Float32Array
    labels: IntArray
    n_classes: int
    zero_shot_weights: Float32Array | None
    logit_scale: float
    validation: tuple[Float32Array, IntArray] | None = None

    @cached_property
    def text_logits(self) -> Float32Array:
        """Zero-shot logits of the support features, (N, C)."""
        return self._text(self.features)

    @property
    def validation_set(self) -> tuple[Float32Array, IntArray, Float32Array] | None:
        """The validation images with their zero-shot logits, (B, C)."""
        return None if self.validation is None else (*self.validation, self._text(self.validation[0]))

    @cached_property
    def evidence(self) -> Evidence:
        """What hyper-parameters are chosen on: the validation images if there are any, else left-out shots."""
        if self.validation_set is not None:
            return evidence_from_validation(*self.validation_set, self.labels)
        return evidence_from_support(self.features, self.labels, self.text_logits)

    def _text(self, features: Float32Array) -> Float32Array:
        return zero_shot_logits(features, self.zero_shot_weights, self.logit_scale, self.n_classes)

    @property
    def counts(self) -> IntArray:
        """Shots of every class, (C,)."""
        return np.bincount(self.labels, minlength=self.n_classes)


class FewShotMethod(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Base of every method: a scikit-learn classifier on the features of a frozen encoder.

    Subclasses store their parameters in ``__init__`` and turn a `SupportSet` into a head in ``_fit_head``.

    Attributes
    ----------
    classes_ : ndarray of shape (C,)
        Sorted class names, or the integers that index `class_names`.
    head_ : Head
        The fitted formula, free of scikit-learn.
    n_features_in_ : int
        D.
    trainable_parameters_ : int
        How many numbers were trained; 0 where nothing is.
    """

    needs_text = False
    """Whether the method cannot do without zero-shot weights."""

    trains = False
    """Whether parameters are trained, by gradient descent; the other methods compute theirs from the shots."""

    needs_torch = False
    """Whether fitting needs torch (predicting never does)."""

    needs_encoder = False
    """Whether the constructor takes `encoder`, a `TrainableEncoder` or its name."""

    takes_images = False
    """Whether X are images, not features."""

    zero_shot_weights: Any
    class_names: Sequence[str] | None
    logit_scale: float

    _keeps_interrupted = True
    """Whether Ctrl-C ends a training early, or everything."""

    def fit(self, X: Any, y: Any, *, validation: tuple[Any, Any] | None = None) -> Self:
        """Fit to the support set.

        Parameters
        ----------
        X : array-like or tensor of shape (N, D)
            Features of the shots, rows of unit length (others are normalised, with a warning).
        y : array-like of shape (N,)
            Class names, or integers that index `class_names` (without them: the rows of `zero_shot_weights`).
        validation : tuple of X (B, D) and y (B,), optional
            Images apart from the shots, on which hyper-parameters left at "auto" are chosen by accuracy, as papers do.
            Without it they are chosen from the shots alone.

        Returns
        -------
        self

        Raises
        ------
        FeatureError
            When features hold NaN, or do not fit the zero-shot weights.
        InputError
            When labels do not fit the classes.
        """
        self.trainable_parameters_ = 0
        support = self._support_set(X, y, validation)
        self._n_shots = len(support.labels)
        self.head_ = self._fit_head(support)
        return self

    def _support_set(self, X: Any, y: Any, validation: tuple[Any, Any] | None = None) -> SupportSet:
        X, y = self._validated(_to_numpy(X), y)
        features = unit_rows(X)
        weights = self._checked_weights(features.shape[1])
        self.classes_, labels, columns = self._align(np.asarray(y), None if weights is None else len(weights))
        if len(self.classes_) < 2:
            raise InputError(
                f"Expected at least two classes, got one class, {self.classes_[0]!r}: add shots, or class names."
            )
        return SupportSet(
            features,
            labels,
            len(self.classes_),
            None if weights is None else weights[columns],
            float(self.logit_scale),
            None if validation is None else self._checked_validation(*validation),
        )

    @abstractmethod
    def _fit_head(self, support: SupportSet) -> Head:
        """Turn the support set into the fitted formula."""

    def _refit_head(self, support: SupportSet) -> Head:
        """Fit to a part of the shots with what was chosen from all of them: nothing is chosen again.

        Methods whose weights against the text depend on the number of shots rescale them.
        """
        return self._refitted(support, **self.held_parameters())

    def _refitted(self, support: SupportSet, **parameters: Any) -> Head:
        copy: Self = clone(self).set_params(**parameters)
        if hasattr(copy, "progress"):
            copy.progress = None
        # Half a training would say something else about the shots left out than the whole one does.
        copy._keeps_interrupted = False
        return copy._fit_head(support)

    def _growth(self, support: SupportSet) -> float:
        """Shots this was fitted to, over those of a part: sums over shots shrink by it."""
        return self._n_shots / len(support.labels)

    def logits(self, X: Any) -> Float32Array:
        """Logits of every class.

        Parameters
        ----------
        X : array-like or tensor of shape (B, D)
            Query features.

        Returns
        -------
        ndarray of shape (B, C), float32
            Columns as `classes_`.
        """
        check_is_fitted(self, "head_")
        return self.head_.logits(unit_rows(self._validated(_to_numpy(X))))

    def decision_function(self, X: Any) -> FloatArray:
        """Logits as scikit-learn expects them: with two classes, the second minus the first.

        Parameters
        ----------
        X : array-like or tensor of shape (B, D)

        Returns
        -------
        ndarray of shape (B, C), or (B,) with two classes
            See `logits` for all columns whatever their number.
        """
        logits = self.logits(X)
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def predict_proba(self, X: Any) -> FloatArray:
        """Softmax of the logits.

        Parameters
        ----------
        X : array-like or tensor of shape (B, D)

        Returns
        -------
        ndarray of shape (B, C), float64
            Columns as `classes_`.
        """
        return softmax(self.logits(X))

    def predict(self, X: Any) -> np.ndarray[Any, Any]:
        """Classes with the largest logit.

        Parameters
        ----------
        X : array-like or tensor of shape (B, D)

        Returns
        -------
        ndarray of shape (B,)
            Entries of `classes_`.
        """
        logits = self.logits(X)
        predicted: np.ndarray[Any, Any] = self.classes_[logits.argmax(axis=1)]
        return predicted

    def held_parameters(self) -> dict[str, Any]:
        """Hyper-parameters of the fitted method, as its parameters: they fit the same formula without choosing again.

        Returns
        -------
        dict of str to number or JSON value
            For ``set_params``: every parameter whose fitted value, such as ``alpha_`` of ``alpha``, is known.

        Examples
        --------
        >>> import numpy as np
        >>> from tip_adapter.methods import TipAdapter
        >>> eye = np.eye(2, dtype=np.float32)
        >>> sorted(TipAdapter(eye).fit(eye, [0, 1]).held_parameters())
        ['alpha', 'beta']
        """
        check_is_fitted(self, "head_")
        names = self.get_params(deep=False)
        return {name: getattr(self, f"{name}_") for name in names if hasattr(self, f"{name}_")}

    def _validated(self, X: Any, y: Any = "no_validation") -> Any:
        """Check shape, type and values; scikit-learn's words, and the remedy of this field."""
        fitting = not isinstance(y, str)
        try:
            validated = validate_data(self, X, y, reset=fitting, dtype=np.float32)
            if fitting:
                with warnings.catch_warnings():
                    # One shot per class is no regression.
                    warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
                    check_classification_targets(validated[1])
        except ValueError as error:
            # scikit-learn goes on with advice for other fields.
            told = " ".join(str(error).split()).split(" For supervised learning")[0]
            remedy = " Was another encoder used?" if "is expecting" in told else ""
            raise FeatureError(told + remedy) from error
        return validated

    def _checked_validation(self, X: Any, y: Any) -> tuple[Float32Array, IntArray]:
        features, known = unit_rows(self._validated(_to_numpy(X))), self.classes_.tolist()
        names = np.asarray(y)
        unknown = sorted(set(names.tolist()) - set(known))
        if unknown:
            raise InputError(
                f"Expected validation labels among the classes, got {', '.join(map(repr, unknown[:5]))}: "
                "leave those images out, or add shots."
            )
        if len(names) != len(features):
            raise InputError(f"Expected a label for each of {len(features)} validation images, got {len(names)}.")
        return features, np.searchsorted(self.classes_, names).astype(np.intp)

    def _checked_weights(self, dim: int) -> Float32Array | None:
        if self.zero_shot_weights is None:
            if self.needs_text:
                raise InputError(
                    f"{type(self).__name__} needs the classes' texts: give zero_shot_weights of shape (C, D)."
                )
            return None
        weights = np.array(_to_numpy(self.zero_shot_weights), dtype=np.float32)  # a copy: the caller's stays as it is
        if weights.ndim != 2 or weights.shape[1] != dim:
            raise FeatureError(
                f"Expected zero_shot_weights of shape (C, {dim}) to match the features, got {weights.shape}: "
                "was another encoder used?"
            )
        if self.class_names is not None and len(weights) != len(self.class_names):
            raise InputError(
                f"Expected {len(self.class_names)} rows of zero_shot_weights, one per class name, got {len(weights)}."
            )
        silent = np.isnan(weights).any(axis=1)
        if np.isinf(weights).any() or silent.all():
            raise FeatureError(
                "Expected finite zero_shot_weights, got NaN or infinite rows: give None for no text at all."
            )
        weights[silent] = np.nan
        weights[~silent] = unit_rows(weights[~silent])
        return weights

    def _align(self, y: np.ndarray[Any, Any], n_texts: int | None) -> tuple[Any, IntArray, IntArray]:
        """Give sorted classes, labels that index them, and the zero-shot row of each class."""
        if self.class_names is None and n_texts is None:
            classes, labels = np.unique(y, return_inverse=True)
            return classes, labels.astype(np.intp), np.arange(len(classes))
        integers = np.issubdtype(y.dtype, np.integer)
        n_classes = len(self.class_names) if self.class_names is not None else int(n_texts or 0)
        if integers:
            if y.min() < 0 or y.max() >= n_classes:
                raise InputError(
                    f"Expected labels from 0 to {n_classes - 1}, which index the classes, got {y.min()} to {y.max()}."
                )
            return np.arange(n_classes), y.astype(np.intp), np.arange(n_classes)
        if self.class_names is None:
            raise InputError(
                "Labels are names, so class_names must name the rows of zero_shot_weights, in their order."
            )
        classes, columns = np.unique(np.asarray(self.class_names), return_index=True)
        if len(classes) != n_classes:
            raise InputError("Expected class names that differ from each other, got some of them twice.")
        unknown = sorted(set(np.unique(y).tolist()) - set(classes.tolist()))
        if unknown:
            raise InputError(f"Labels {', '.join(map(str, unknown[:5]))} are not among the class names.")
        return classes, np.searchsorted(classes, y).astype(np.intp), columns


def _to_numpy(X: Any) -> Any:
    """Take a tensor off its device and its graph; leave the rest to scikit-learn."""
    return X.detach().cpu().numpy() if hasattr(X, "detach") else X


def unit_rows(features: Float32Array) -> Float32Array:
    """Give rows unit length, with a warning where they had another.

    Parameters
    ----------
    features : ndarray of shape (N, D), float32

    Returns
    -------
    ndarray of shape (N, D), float32
        The same array where all rows have length 1 (to 0.001). Rows of zeros stay.

    Warns
    -----
    FeatureWarning
        When rows had to be normalised.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.base import unit_rows
    >>> unit_rows(np.eye(2, dtype=np.float32))
    array([[1., 0.],
           [0., 1.]], dtype=float32)
    """
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    if np.all(np.abs(norms - 1) < NORM_TOLERANCE):
        return features
    warnings.warn(
        "Features are not of unit length, so their rows were normalised: give normalised features to silence this.",
        FeatureWarning,
        stacklevel=3,
    )
    result: Float32Array = np.divide(features, norms, out=np.zeros_like(features), where=norms > 0)
    return result


def given_or_auto(name: str, value: float | str) -> float | None:
    """Read a hyper-parameter: a number that is at least 0, or "auto" as None.

    Parameters
    ----------
    name : str
        For the message.
    value : float or "auto"

    Returns
    -------
    float or None

    Raises
    ------
    InputError
        When it is neither.

    Examples
    --------
    >>> from tip_adapter.methods.base import given_or_auto
    >>> given_or_auto("alpha", "auto"), given_or_auto("alpha", 1)
    (None, 1.0)
    """
    if isinstance(value, str) and value == "auto":
        return None
    if isinstance(value, str) or not np.isfinite(value) or value < 0:
        raise InputError(f"Expected {name} to be at least 0, or 'auto', got {value!r}.")
    return float(value)
