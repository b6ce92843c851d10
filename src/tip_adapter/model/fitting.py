"""Fit a method to a support set, and record how its hyper-parameters came about.

A record holds what fits the same head again: `MethodRecord.held` are the hyper-parameters that were chosen, as
parameters of the estimator, so that an edit of the shots chooses nothing anew.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tip_adapter.errors import InputError, TrainingWarning, warn
from tip_adapter.methods.heads import Head
from tip_adapter.methods.heads.base import without_text
from tip_adapter.processors import single_threaded_blas
from tip_adapter.progress import for_steps
from tip_adapter.trust.calibration import Calibration
from tip_adapter.typing import Float32Array, IntArray

if TYPE_CHECKING:
    from tip_adapter.encoders.trainable import TrainableEncoder
    from tip_adapter.methods import FewShotMethod
    from tip_adapter.progress import Progress


@dataclass(frozen=True)
class MethodRecord:
    """Which method made the head, from which parameters, and what it chose by itself."""

    name: str
    """In `tip_adapter.METHODS`, or the name of a class of the user's own."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """As given to the estimator."""
    chosen: Mapping[str, Any] = field(default_factory=dict)
    """What the fitted estimator says about its choice, for people."""
    held: Mapping[str, Any] = field(default_factory=dict)
    """Parameters that fit the same formula to other shots without choosing anything."""
    trains: bool = False
    """Whether parameters were trained on the shots by gradient descent."""

    @property
    def fitted_to(self) -> int | None:
        """To how many photos the head was fitted, where the classifier keeps only a part of them as shots."""
        return self.chosen.get("fitted_to")


def make_estimator(method: str | FewShotMethod, parameters: Mapping[str, Any]) -> FewShotMethod:
    """Build an estimator that is not fitted.

    Examples
    --------
    >>> from tip_adapter.model.fitting import make_estimator
    >>> make_estimator("tip-adapter", {"alpha": 2.0}).alpha
    2.0
    """
    # Imported here, because scikit-learn takes a second to load and only fitting needs it.
    from sklearn.base import clone

    from tip_adapter.methods.spec import GIVEN, read_method

    estimator: FewShotMethod = read_method(method).build() if isinstance(method, str) else clone(method)
    known = estimator.get_params(deep=False)
    if unknown := sorted(set(parameters) - set(known)):
        listed = ", ".join(name for name in known if name not in GIVEN) or "it has none"
        raise InputError(f"Unknown parameter {unknown[0]!r} of {type(estimator).__name__}: choose among {listed}")
    for name, value in parameters.items():
        if isinstance(value, bool) and not isinstance(known[name], bool):
            raise InputError(f"Expected {name} of {type(estimator).__name__} to be a number or 'auto', got {value}")
    estimator.set_params(**parameters)
    if estimator.takes_images:
        name = type(estimator).__name__
        raise InputError(
            f"{name} changes the encoder itself, and a classifier keeps its encoder: run `tip-adapter fine-tune`, or "
            f"fit tip_adapter.methods.{name} on the photos and call its export_encoder('tuned'); then use 'tuned' as "
            "the encoder of any other method, zero-shot too"
        )
    if estimator.transductive:
        raise InputError(
            f"{type(estimator).__name__} answers many photos together, and a classifier answers each for itself: "
            "compare it with `tip-adapter bench --protocol transductive`, or fit it to features in Python"
        )
    return estimator


def fit_method(
    estimator: FewShotMethod,
    features: Float32Array,
    labels: IntArray,
    zero_shot_weights: Float32Array,
    logit_scale: float,
    class_texts: Sequence[Sequence[str]] = (),
    *,
    class_names: Sequence[str] | None = None,
    views: Float32Array | None = None,
    groups: IntArray | None = None,
    queries: Float32Array | None = None,
    encoder: TrainableEncoder | None = None,
    progress: Progress | None = None,
) -> tuple[Head, MethodRecord]:
    """Fit an estimator to a support set; `queries` are single views of the shots, where features are means of several.

    Methods on an encoder get `encoder` and the class texts, methods that train count their steps on the progress bar.

    Shapes: `features` (N, D), `labels` (N,), `zero_shot_weights` (C, D), `views` (N, V, D), `groups` (N,), `queries`
    (N, D).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.model.fitting import fit_method, make_estimator
    >>> eye = np.eye(2, dtype=np.float32)
    >>> _, record = fit_method(make_estimator("gda", {"alpha": 1.0}), eye, np.array([0, 1]), eye, 10.0)
    >>> record.name, record.held
    ('gda', {'alpha': 1.0, 'ridge': 1.0, 'text_weight': 1.0})
    """
    from tip_adapter.methods import method_name
    from tip_adapter.methods.spec import GIVEN

    weights = None if without_text(zero_shot_weights).all() else zero_shot_weights
    estimator.set_params(zero_shot_weights=weights, logit_scale=logit_scale)
    # Without texts the rows of the weights cannot tell the classes, so names do, whatever they are.
    names = [str(index) for index in range(len(zero_shot_weights))] if class_names is None else list(class_names)
    given: dict[str, Any] = {"groups": groups, "queries": queries, "progress": for_steps(progress)}
    if estimator.takes_views:
        given["views"] = views
    if estimator.needs_encoder:
        given |= {"encoder": encoder, "class_texts": class_texts}
    estimator.set_params(class_names=names).fit(features, labels, **given)
    parameters = {name: value for name, value in estimator.get_params(deep=False).items() if name not in GIVEN}
    record = MethodRecord(
        method_name(type(estimator)),
        parameters,
        _chosen(estimator),
        estimator.held_parameters(),
        bool(estimator.trains),
    )
    return estimator.head_, record


def calibrate_on_shots(
    estimator: FewShotMethod,
    features: Float32Array,
    labels: IntArray,
    queries: Float32Array | None = None,
    *,
    views: Float32Array | None = None,
    groups: IntArray | None = None,
    means: bool = False,
) -> Calibration | None:
    """Learn from left-out shots what the answers of a fitted estimator are worth.

    Shapes: `features` (N, D), `labels` (N,), `queries` (N, D), `views` (N, V, D).

    Parameters
    ----------
    queries : ndarray, optional
        Single views of the shots, where their features are means of several.
    means : bool, default=False
        Whether the features are means of views and `queries` are not known. Such questions are easier than photos will
        be, so that nothing is added for the shots that a fold lacks.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.model.fitting import calibrate_on_shots, fit_method, make_estimator
    >>> eye, labels = np.eye(2, dtype=np.float32), np.array([0, 0, 0, 1, 1, 1])
    >>> estimator = make_estimator("gda", {})
    >>> _ = fit_method(estimator, eye[labels], labels, eye, 10.0)
    >>> calibrate_on_shots(estimator, eye[labels], labels).origin
    '6 shots, left out in 3 folds'
    """
    from tip_adapter.methods.left_out import left_out_logits

    if estimator.needs_encoder:
        return None
    asked = features if queries is None else queries
    try:
        several = views if estimator.takes_views else None
        answers = left_out_logits(estimator, features, labels, queries=queries, views=several, groups=groups)
    except KeyboardInterrupt:
        if not estimator.trains:
            raise
        warn(
            "The calibration was interrupted: the training is kept, without one",
            TrainingWarning,
        )
        return None
    with single_threaded_blas():
        return Calibration.of(
            answers.logits,
            answers.labels,
            (asked[answers.rows], features, labels),
            folds=(answers.folds[answers.rows], answers.folds),
            shots=answers.shots,
            fewer=None if means else answers.fewer,
        )


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
