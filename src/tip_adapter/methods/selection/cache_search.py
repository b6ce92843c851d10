"""Select Tip-Adapter's α and β from the support set alone.

One shot of every class is left out at once (never one image alone, which handicaps its own class and drives α to 0),
the rest answers for it, and the negative log-likelihood of those answers decides. For one β the best α is found without
a grid.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from tip_adapter.errors import InputError
from tip_adapter.methods.heads.affinity import Cache
from tip_adapter.methods.heads.base import nll_per_sample
from tip_adapter.methods.selection.cache_logits import MAX_COSINES, CacheLogits, affordable_images
from tip_adapter.methods.selection.evidence import Selection, TextOf
from tip_adapter.methods.selection.folds import asked_shots, one_of_each, shots_per_class, spread_over, support_folds
from tip_adapter.methods.selection.line_search import best_accuracy_alpha, best_likelihood_alpha
from tip_adapter.methods.selection.prior import WIDTH, expected_spread, likely_ratio, likely_text_weight
from tip_adapter.methods.selection.weight import is_worse, nll_and_accuracy
from tip_adapter.typing import BoolArray, Float32Array, FloatArray, IntArray

BETAS = tuple(0.25 * 2.0**power for power in range(10))
"""The coarse grid of β; then the steps around the best are halved, in logarithms, `REFINEMENTS` times."""

REFINEMENTS = {"likelihood": 2, "accuracy": 4}
"""Likelihood is smooth in β; accuracy jumps, so it is looked at more closely."""

PRIOR_BETA = 5.5
"""With one shot per class there is nothing to leave out. Then β is the paper's, and α gives the cache logits the spread
over classes that is expected of one shot. With more, log β is expected around it with the width of every weight: few
shots may well be a nat likelier under kernels so narrow that a new photo is near one shot or none, and α has no end."""

Criterion = Literal["likelihood", "accuracy"]


@dataclass(frozen=True)
class SearchPoint:
    """One β that was tried, the best α for it, and how the pair did on the scored images.

    `penalty` is what the distance of α and β from what is expected of them adds to `nll`, in nats per image.
    """

    beta: float
    alpha: float
    nll: float
    accuracy: float
    penalty: float = 0.0


@dataclass(frozen=True, kw_only=True)
class SearchResult(Selection):
    """What was chosen for Tip-Adapter.

    Attributes
    ----------
    beta : float
        β, sharpness of the affinity.
    criterion : {"likelihood", "accuracy"}
        What was optimised.
    cache_helps : bool
        False when the evidence says that text alone does better; then `alpha` is 0.
    points : tuple of SearchPoint
        Every β that was tried, ascending.
    """

    beta: float
    criterion: Criterion = "likelihood"
    cache_helps: bool
    points: tuple[SearchPoint, ...] = ()

    @property
    def summary(self) -> str:
        """One sentence for people."""
        if self.cache_helps or self.rule == "prior":
            return self._sentence(f"α = {self.alpha:.3g}, β = {self.beta:.3g}")
        return self._sentence("α = 0 (the cache does not help, so text alone answers)")


def search(
    features: Float32Array,
    labels: IntArray,
    text: FloatArray | TextOf,
    *,
    alpha: float | None = None,
    beta: float | None = None,
    text_weight: float | None = None,
    balanced: bool = True,
    validation: tuple[Float32Array, IntArray, Float32Array] | None = None,
    groups: IntArray | None = None,
    queries: Float32Array | None = None,
) -> SearchResult:
    """Choose α, β and t of Tip-Adapter, ``t·text + α·A·Y``, from the support set, or from a validation set.

    Parameters
    ----------
    features : ndarray of shape (N, D), float32
        Support features, unit rows.
    labels : ndarray of shape (N,), integers in [0, C)
    text : ndarray of shape (N, C), or callable
        Zero-shot logits of the support features, or what gives those of some rows.
    alpha, beta, text_weight : float, optional
        A value that is given and not to be chosen. With α given, or a validation set, t is 1, as in the paper.
    balanced : bool, default=True
        As in `tip_adapter.methods.heads.affinity.Cache.build`.
    validation : tuple of features (B, D), labels (B,) and zero-shot logits (B, C), optional
        Images apart from the support set. With them accuracy on them decides, as in the paper; without, shots are left
        out in turn and likelihood decides.
    queries : ndarray of shape (N, D), optional
        The shots as they are asked about, see `tip_adapter.methods.support_set.SupportSet`; `text` is of them.

    References
    ----------
    Zhang et al., Tip-Adapter, ECCV 2022, section 4 searches a grid of (β, α) on the validation split instead.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.selection.cache_search import search
    >>> features = np.array([[1, 0], [0.96, 0.28], [0, 1], [0.28, 0.96]], dtype=np.float32)
    >>> result = search(features, np.array([0, 0, 1, 1]), np.zeros((4, 2), dtype=np.float32))
    >>> result.rule, result.n_folds, result.accuracy
    ('cross-validation', 2, 1.0)
    """
    for name, value in (("alpha", alpha), ("beta", beta)):
        if value is not None and not value >= 0:
            raise InputError(f"Expected {name} to be at least 0, or 'auto', got {value}")
    asked = asked_shots(features, labels, groups, affordable_images(len(labels)))
    text = text(asked) if callable(text) else text[asked]
    cache = Cache.build(features, labels, text.shape[1], balanced=balanced)
    images = features if queries is None else queries
    chosen = text_weight is None and alpha is None and validation is None
    t = likely_text_weight(text, labels[asked]) if chosen else 1.0 if text_weight is None else text_weight
    if validation is not None:
        scored: _Scored | None = _Scored(CacheLogits(validation[0], cache), *validation[1:], 0, "accuracy")
    else:
        scored = _left_out(cache, images, labels, text, asked, groups)
    if scored is None:
        return replace(_prior(cache, images, alpha, beta, groups), text_weight=t)
    found = scored.weighing(t).choose(alpha, beta)
    if not chosen or not text.any():
        return found
    # What is its class's only shot, or group, asks the texts alone.
    alone = asked & (np.bincount(labels[one_of_each(features, labels, groups)])[labels] == 1)
    beside = found.alpha * scored.cache_logits.of(found.beta)
    t = likely_text_weight(
        np.concatenate([scored.zero_shot, text[alone[asked]]]),
        np.concatenate([scored.labels, labels[alone]]),
        np.concatenate([beside, np.zeros((int(alone.sum()), beside.shape[1]))]),
    )
    return scored.weighing(t).choose(alpha, beta)


@dataclass(frozen=True, eq=False)
class Landscape:
    """How pairs of α and β do on left-out shots.

    Attributes
    ----------
    alphas : ndarray of shape (A,)
    betas : ndarray of shape (B,)
    nll, accuracy : ndarray of shape (A, B)
        Of the left-out shots, in nats per image and as a fraction.
    """

    alphas: FloatArray
    betas: FloatArray
    nll: FloatArray
    accuracy: FloatArray


def landscape(
    features: Float32Array,
    labels: IntArray,
    text: Float32Array,
    *,
    alphas: FloatArray,
    betas: FloatArray,
    balanced: bool = True,
    groups: IntArray | None = None,
    queries: Float32Array | None = None,
) -> Landscape | None:
    """Score a grid of α and β on left-out shots, to be looked at; `search` needs no grid.

    Parameters
    ----------
    features, labels, text, balanced, groups, queries
        As in `search`.
    alphas, betas : ndarray of shape (A,) and (B,)

    Returns
    -------
    Landscape or None
        None where nothing can be left out: with one shot, or group of them, per class.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.selection.cache_search import landscape
    >>> features = np.array([[1, 0], [0.96, 0.28], [0, 1], [0.28, 0.96]], dtype=np.float32)
    >>> text, axis = np.zeros((4, 2), dtype=np.float32), np.array([1.0, 2.0])
    >>> landscape(features, np.array([0, 0, 1, 1]), text, alphas=axis, betas=axis).accuracy
    array([[1., 1.],
           [1., 1.]])
    """
    cache = Cache.build(features, labels, text.shape[1], balanced=balanced)
    asked = asked_shots(features, labels, groups, affordable_images(len(labels)))
    images = features if queries is None else queries
    scored = _left_out(cache, images, labels, text[asked], asked, groups)
    if scored is None:
        return None
    nll, right = np.empty((2, len(alphas), len(betas)))
    for column, beta in enumerate(betas):
        mass = scored.cache_logits.of(float(beta))
        for row, alpha in enumerate(alphas):
            nll[row, column] = scored._nll(mass, float(alpha))
            right[row, column] = scored._right(mass, float(alpha)).mean()
    return Landscape(alphas, betas, nll, right)


def _left_out(
    cache: Cache, images: Float32Array, labels: IntArray, text: FloatArray, asked: BoolArray, groups: IntArray | None
) -> _Scored | None:
    """Score a shot of every group by the keys of the other folds, each class's sum scaled up for the keys it lost.

    None where no class has a key left: with one group each, or groups that go through several classes.
    """
    order = cache.order
    groups = None if groups is None else groups[order]
    folds = support_folds(cache.keys, labels[order], groups=groups)
    n_folds = int(folds.max()) + 1
    total = np.bincount(labels, minlength=cache.n_classes)
    kept = np.stack(
        [total - np.bincount(labels[order][folds == fold], minlength=cache.n_classes) for fold in range(n_folds)]
    )
    scale = np.divide(total, kept, out=np.zeros(kept.shape), where=kept > 0)
    # A shot whose class has no key left says nothing about the cache.
    scored = np.flatnonzero(asked[order] & (kept[folds, labels[order]] > 0))
    if not len(scored):
        return None
    rows = order[scored]
    cache_logits = CacheLogits(images[rows], cache, (folds[scored], folds), scale[folds[scored]])
    text, shots = text[(np.cumsum(asked) - 1)[rows]], shots_per_class(labels[order], groups)
    return _Scored(cache_logits, labels[rows], text, n_folds, "likelihood", shots)


@dataclass
class _Scored:
    """Images on which pairs of α and β are scored."""

    cache_logits: CacheLogits
    labels: IntArray
    zero_shot: FloatArray
    n_folds: int
    criterion: Criterion
    shots: float = 1.0
    text_weight: float = 1.0

    @cached_property
    def text(self) -> FloatArray:
        """Zero-shot logits, counting what they count."""
        return self.text_weight * self.zero_shot

    def weighing(self, text_weight: float) -> _Scored:
        """The same images, beside texts that count so much."""
        return replace(self, text_weight=text_weight)

    def choose(self, alpha: float | None, beta: float | None) -> SearchResult:
        points: dict[float, SearchPoint] = {}
        start = alpha or 0.0
        if beta is None:
            self.cache_logits.prepare(BETAS)
        for tried in BETAS if beta is None else (beta,):
            points[tried] = self._point(tried, alpha, start)
            start = points[tried].alpha
        if beta is None:
            for halving in range(1, REFINEMENTS[self.criterion] + 1):
                centre = self._best(points)
                for tried in (centre.beta * 2.0 ** -(0.5**halving), centre.beta * 2.0 ** (0.5**halving)):
                    points[tried] = self._point(tried, alpha, centre.alpha)
        return self._result(tuple(points[tried] for tried in sorted(points)), self._best(points), alpha)

    def _best(self, points: dict[float, SearchPoint]) -> SearchPoint:
        if self.criterion == "likelihood":
            return min(points.values(), key=lambda point: point.nll + point.penalty)
        return min(points.values(), key=lambda point: (-point.accuracy, point.nll))

    def _point(self, beta: float, alpha: float | None, start: float) -> SearchPoint:
        mass = self.cache_logits.of(beta)
        if alpha is None and self.criterion == "likelihood":
            return self._likely_point(beta, mass, start)
        if alpha is None:
            alpha, _ = best_accuracy_alpha(self.text, mass, self.labels)
        return SearchPoint(beta, alpha, self._nll(mass, alpha), float(self._right(mass, alpha).mean()))

    def _likely_point(self, beta: float, mass: FloatArray, start: float) -> SearchPoint:
        """Take the likeliest α, held near what is expected: else it has no end where few shots are all right."""
        alpha, nll = best_likelihood_alpha(self.text, mass, self.labels, start=start)
        spread = float(mass.std(axis=1).mean())
        # β = 0 is given or not tried.
        penalty = float(np.log(beta / PRIOR_BETA)) ** 2 / (2 * WIDTH**2 * len(self.labels)) if beta else 0.0
        if alpha > 0 and spread > 0:
            expected = expected_spread(self.shots)
            weight = likely_ratio(self.text, mass / spread, self.labels, expected, start=alpha * spread)
            alpha, nll = weight / spread, self._nll(mass, weight / spread)
            penalty += float(np.log(weight / expected)) ** 2 / (2 * WIDTH**2 * len(self.labels))
        return SearchPoint(beta, alpha, nll, float(self._right(mass, alpha).mean()), penalty)

    def _right(self, mass: FloatArray, alpha: float) -> BoolArray:
        right: BoolArray = (self.text + alpha * mass).argmax(axis=1) == self.labels
        return right

    def _nll(self, mass: FloatArray, alpha: float) -> float:
        return float(nll_per_sample(self.text + alpha * mass, self.labels).mean())

    def _result(self, points: tuple[SearchPoint, ...], best: SearchPoint, alpha: float | None) -> SearchResult:
        mass, text = self.cache_logits.of(best.beta), bool(self.zero_shot.any())
        # Likelihood can gain where accuracy loses.
        helps = best.alpha > 0 and not (text and is_worse(self.text, self.text + best.alpha * mass, self.labels))
        if alpha is None and not helps:
            best = self._point(best.beta, 0.0, 0.0)
        zero_shot_nll, zero_shot_accuracy = nll_and_accuracy(self.zero_shot, self.labels if text else self.labels[:0])
        return SearchResult(
            alpha=best.alpha,
            beta=best.beta,
            rule="cross-validation" if self.n_folds else "validation",
            criterion=self.criterion,
            cache_helps=helps,
            n_folds=self.n_folds,
            n_scored=len(self.labels),
            nll=best.nll,
            accuracy=best.accuracy,
            zero_shot_nll=zero_shot_nll,
            zero_shot_accuracy=zero_shot_accuracy,
            points=points,
            text_weight=self.text_weight,
        )


def _prior(
    cache: Cache, images: Float32Array, alpha: float | None, beta: float | None, groups: IntArray | None
) -> SearchResult:
    """One shot per class: the spread stated beforehand, over the other classes' keys."""
    chosen_beta = PRIOR_BETA if beta is None else beta
    n_keys = len(cache.keys)
    rows = spread_over(np.arange(n_keys), MAX_COSINES // n_keys)
    mass = np.exp(chosen_beta * (images[cache.order[rows]] @ cache.keys.T - 1.0))
    own = np.arange(n_keys) if groups is None else groups[cache.order]
    mass[own[rows][:, None] == own] = np.nan
    spread = float(np.nanstd(mass, axis=1).mean()) if len(np.unique(own)) > 1 else 0.0
    chosen_alpha = alpha if alpha is not None else expected_spread(1) / spread if spread > 0 else 1.0
    return SearchResult(alpha=chosen_alpha, beta=chosen_beta, rule="prior", cache_helps=chosen_alpha > 0)
