"""What all methods share: `FewShotMethod`, which validates a support set, fits a head and predicts."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self, dataclass_transform

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from tip_adapter.errors import FeatureError, InputError
from tip_adapter.methods.heads import Head, softmax
from tip_adapter.methods.inputs import (
    aligned,
    as_labels,
    as_names,
    as_numpy,
    checked_groups,
    checked_queries,
    checked_views,
    checked_weights,
    unit_rows,
)
from tip_adapter.methods.support_set import FitCall, SupportSet
from tip_adapter.typing import Float32Array, FloatArray, IntArray

if TYPE_CHECKING:
    from tip_adapter.methods.trained.loop import TrainingProgress


@dataclass_transform(eq_default=False, kw_only_default=True, field_specifiers=(field,))
@dataclass(eq=False, repr=False, kw_only=True)
class FewShotMethod(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Base of every method: a scikit-learn classifier on the features of a frozen encoder.

    Subclasses turn a `SupportSet` into a head in ``_fit_head``. They declare their own parameters as the fields of a
    dataclass, such as ``alpha: float = 1.0``, and ``__init__`` comes of itself; one that they write is kept.

    Parameters
    ----------
    zero_shot_weights : array-like of shape (C, D), optional
        W, class text features; a row of NaN for a class without text.
    class_names : sequence of str, optional
        Names of the rows of `zero_shot_weights`.
    logit_scale : float, default=100.0
        s, the inverse temperature the encoder was trained with.

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

    uses_text = True
    """Whether the answers go by zero-shot weights where there are some."""

    takes_prompts = False
    """Whether the constructor takes `prompt_features`, those of every prompt one by one."""

    transductive = False
    """Whether an answer depends on the other images of the same call; all other methods answer each for itself."""

    trains = False
    """Whether parameters are trained, by gradient descent; the other methods compute theirs from the shots."""

    needs_torch = False
    """Whether fitting needs torch (predicting never does)."""

    needs_encoder = False
    """Whether `fit` takes `encoder`, a `TrainableEncoder` or its name, with `class_texts` and `checkpoint`."""

    takes_views = False
    """Whether `fit` takes `views` and trains on them; the other methods take the mean of a shot's views alone."""

    takes_images = False
    """Whether X are images, not features."""

    zero_shot_weights: Any = field(default=None, kw_only=False)
    class_names: Sequence[str] | None = None
    logit_scale: float = 100.0

    _weights_of_sums: ClassVar[tuple[str, ...]] = ()
    """Parameters that weigh sums over shots against the texts."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Give every method the constructor that scikit-learn reads its parameters from."""
        super().__init_subclass__(**options)
        dataclass(eq=False, repr=False, kw_only=True)(cls)

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        validation: tuple[Any, Any] | None = None,
        groups: Any = None,
        queries: Any = None,
        progress: TrainingProgress | None = None,
    ) -> Self:
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
        groups : array-like of shape (N,), optional
            What each shot belongs to, such as a burst, a patient or a shelf: names or integers. Shots of one group are
            left out together when hyper-parameters are chosen. Default: each shot is its own.
        queries : array-like or tensor of shape (N, D), optional
            The shots as photos to classify will be seen: one view of each, where X are means of several, which are
            easier to recognise. Hyper-parameters are chosen by how left-out shots are answered so. Default: X.
        progress : callable, optional
            Called by methods that train, with steps done, steps in all, and the loss.

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
        return self._fitted(X, y, validation, FitCall(progress), groups=groups, queries=queries)

    def _fitted(
        self,
        X: Any,
        y: Any,
        validation: tuple[Any, Any] | None,
        call: FitCall,
        *,
        views: Any = None,
        groups: Any = None,
        queries: Any = None,
    ) -> Self:
        self.trainable_parameters_ = 0
        support = replace(self._support_set(X, y, validation, groups, queries), call=call)
        if views is not None:
            support = replace(support, views=checked_views(views, support.features.shape))
        self._n_shots = len(support.labels)
        self.head_ = self._fit_head(support)
        return self

    def _support_set(
        self, X: Any, y: Any, validation: tuple[Any, Any] | None = None, groups: Any = None, queries: Any = None
    ) -> SupportSet:
        X, y = self._validated(as_numpy(X), as_labels(y))
        features, names = unit_rows(X), as_names(self.class_names)
        weights = self._weights(features.shape[1], names)
        n_texts = None if weights is None else len(weights)
        self.classes_, labels, columns = aligned(np.asarray(y), names, n_texts)
        if len(self.classes_) < 2:
            only = self.classes_[0] if names is None else names[0]
            raise InputError(f"Expected at least two classes, got one class, {str(only)!r}: add shots, or class names")
        return SupportSet(
            features,
            labels,
            len(self.classes_),
            None if weights is None else weights[columns],
            float(self.logit_scale),
            None if validation is None else self._checked_validation(*validation),
            groups=checked_groups(groups, len(labels)),
            queries=None if queries is None else checked_queries(queries, features.shape),
        )

    @abstractmethod
    def _fit_head(self, support: SupportSet) -> Head:
        """Turn the support set into the fitted formula."""

    def _refit_head(self, support: SupportSet) -> Head:
        """Fit to a part of the shots with what was chosen from all of them: nothing is chosen again.

        Sums over shots shrink with those that are left out, which their weights make up for.
        """
        held, growth = self.held_parameters(), self._n_shots / len(support.labels)
        return self._refitted(support, **held | {name: held[name] * growth for name in self._weights_of_sums})

    def _refitted(self, support: SupportSet, **parameters: Any) -> Head:
        again: Self = clone(self).set_params(**parameters)
        again.classes_ = self.classes_
        return again._fit_head(support)

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
        return self.head_.logits(unit_rows(self._validated(as_numpy(X))))

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
        ['alpha', 'beta', 'text_weight']
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
        features, known = unit_rows(self._validated(as_numpy(X))), self.classes_.tolist()
        names = np.asarray(as_labels(y))
        unknown = sorted(set(names.tolist()) - set(known))
        if unknown:
            raise InputError(
                f"Expected validation labels among the classes, got {', '.join(map(repr, unknown[:5]))}: "
                "leave those images out, or add shots"
            )
        if len(names) != len(features):
            raise InputError(f"Expected a label for each of {len(features)} validation images, got {len(names)}")
        return features, np.searchsorted(self.classes_, names).astype(np.intp)

    def _weights(self, dim: int, names: Sequence[str] | None) -> Float32Array | None:
        if self.zero_shot_weights is not None:
            return checked_weights(self.zero_shot_weights, dim, names)
        if self.needs_text:
            raise InputError(f"{type(self).__name__} needs the classes' texts: give zero_shot_weights of shape (C, D)")
        return None
