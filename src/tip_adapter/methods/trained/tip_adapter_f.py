"""Tip-Adapter-F: the cache model with trained keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from tip_adapter.methods.heads import CacheHead
from tip_adapter.methods.heads.affinity import Cache, class_mass, mass_from_cosines
from tip_adapter.methods.inputs import given_or_auto
from tip_adapter.methods.selection.cache_search import SearchPoint, SearchResult, search
from tip_adapter.methods.selection.line_search import best_likelihood_alpha
from tip_adapter.methods.selection.weight import nll_and_accuracy
from tip_adapter.methods.support_set import SupportSet
from tip_adapter.methods.trained.base import Fold, TrainedMethod, Trainings, TrainingSet, folds_of, text_logits
from tip_adapter.methods.trained.loop import Schedule
from tip_adapter.typing import Float32Array, FloatArray

if TYPE_CHECKING:
    import torch

TRAINING_BETA = 1.0
INITIAL_ALPHAS = (1.0, 10.0)
"""Where "auto" keeps the α of the training, about the official code's range: keys learn little with less, and with more
(as where there is no text to outweigh) every step changes the logits too much."""

BETAS = tuple(2.0 ** (half / 2) for half in range(-4, 10))
"""Tried after training: keys trained at β = 1 are at their best near it."""


class TipAdapterF(TrainedMethod):
    """Tip-Adapter with trained keys, ``s·f·Wᵀ + α·exp(-β(1 - f·F'ᵀ))·Y``.

    The keys start as the support features and minimise the cross-entropy of the logits at β = 1 and a fixed α; the
    values ``Y`` stay. Then α and β are chosen again. Trained keys have memorised their own shots, so these cannot
    decide: without a validation set, keys are trained once per fold on the shots of the other folds, and the pair with
    the best likelihood on held-out shots is taken. With one shot per class nothing can be held out, and the α and β of
    the training stay. Ctrl-C during those folds skips to the training on all shots; a second one ends that early.

    Parameters
    ----------
    zero_shot_weights : array-like of shape (C, D), optional
        W, class text features; a row of NaN for a class without text. Without them the cache is used alone.
    class_names : sequence of str, optional
        Names of the rows of `zero_shot_weights`.
    alpha : float or "auto", default="auto"
        α after training. A number is used during training, too.
    beta : float or "auto", default="auto"
        β after training; during training it is 1.
    initial_alpha : float or "auto", default="auto"
        α during training. The official code sets it per data set, from 1.17 to 10; "auto" is the best α for the
        untrained keys at β = 1, chosen on left-out shots as `TipAdapter` chooses it, but at least 1 and at most 10.
    logit_scale : float, default=100.0
        s, the inverse temperature the encoder was trained with.
    balanced : bool, default=True
        Let classes count equally whatever their number of shots. False is the raw sum of the paper.
    epochs : int, default=20
        Passes over the shots.
    learning_rate : float, default=1e-3
        Of AdamW (ε = 1e-4, weight decay .01), a cosine from it to 0.
    batch_size : int, default=256
        Shots per step.
    max_folds : int, default=4
        How often keys are trained, at most, to choose α and β from the shots.
    random_state : int, generator or None, default=0
        Seed of the order of the shots.

    Attributes
    ----------
    alpha_, beta_, initial_alpha_ : float
        What was chosen.
    search_ : SearchResult or None
        The evidence for it; None where α and β were given or taken over from the training.
    trainable_parameters_ : int
        N·D.
    training_ : TrainingRun

    References
    ----------
    Zhang et al., "Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification", ECCV 2022, section 3.3.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods import TipAdapterF
    >>> texts = np.array([[1, 0, 0], [0, 1, 0]], dtype=np.float32)
    >>> shots = np.array([[0.6, 0, 0.8], [0, 0.6, 0.8]], dtype=np.float32)
    >>> method = TipAdapterF(texts, class_names=["hat", "cap"], epochs=5).fit(shots, ["hat", "cap"])
    >>> method.predict([[0.6, 0, 0.8]]).tolist(), method.trainable_parameters_
    (['hat'], 6)
    """

    _weights_of_sums = ("alpha", "initial_alpha")

    alpha: float | Literal["auto"] = "auto"
    beta: float | Literal["auto"] = "auto"
    initial_alpha: float | Literal["auto"] = "auto"
    balanced: bool = True
    epochs: int = 20
    learning_rate: float = 1e-3
    batch_size: int = 256
    max_folds: int = 4

    def _fit_head(self, support: SupportSet) -> CacheHead:
        alpha, beta = given_or_auto("alpha", self.alpha), given_or_auto("beta", self.beta)
        self.initial_alpha_ = self._initial_alpha(support, alpha)
        trainings, shots = self._trainings(support, self._schedule()), self._training_set(support)
        self.search_ = None
        folds = [] if support.validation or None not in (alpha, beta) else folds_of(support, self.max_folds)
        trainings.plan([*(len(fold.kept) for fold in folds), len(shots.labels)])
        asked = trainings.until_interrupted(lambda fold: self._ask(support, shots, fold, trainings), folds, "α and β")
        if asked:
            self.search_ = _search_left_out(support, asked, folds, alpha, beta)
        keys = self._train_keys(support, shots, trainings, final=True)
        if support.validation and None in (alpha, beta):
            self.search_ = search(
                keys,
                support.labels,
                support.text_logits,
                alpha=alpha,
                beta=beta,
                balanced=self.balanced,
                validation=support.validation_set,
            )
        if self.search_:
            alpha, beta = self.search_.alpha, self.search_.beta
        self.alpha_ = self.initial_alpha_ if alpha is None else alpha
        self.beta_ = TRAINING_BETA if beta is None else beta
        return CacheHead(
            support.n_classes,
            support.zero_shot_weights,
            support.logit_scale,
            keys=keys,
            labels=support.labels,
            alpha=self.alpha_,
            beta=self.beta_,
            balanced=self.balanced,
        )

    def _schedule(self) -> Schedule:
        return Schedule(self.epochs, self.batch_size, self.learning_rate)

    def _initial_alpha(self, support: SupportSet, alpha: float | None) -> float:
        given = given_or_auto("initial_alpha", self.initial_alpha)
        if given is None and alpha is None:
            given = search(
                support.features,
                support.labels,
                support.text_of,
                beta=TRAINING_BETA,
                balanced=self.balanced,
                groups=support.groups,
                queries=support.queries,
            ).alpha
            given = min(max(given, INITIAL_ALPHAS[0]), INITIAL_ALPHAS[1])
        # With α = 0 the keys would have no gradient; 1 is the default of Tip-Adapter.
        return (alpha if given is None else given) or 1.0

    def _train_keys(
        self, support: SupportSet, shots: TrainingSet, trainings: Trainings, *, final: bool
    ) -> Float32Array:
        import torch
        from torch.nn.functional import cross_entropy

        keys = torch.from_numpy(shots.features.copy()).requires_grad_()
        cache = self._cache(support, shots)
        key_labels = torch.from_numpy(shots.labels)
        class_weights = torch.zeros(support.n_classes)
        class_weights[torch.from_numpy(cache.classes)] = torch.from_numpy(self.initial_alpha_ * cache.weights).float()
        batch = shots.batches()

        def loss_of(rows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            features, labels = batch(rows, generator)
            # Keys along the rows, so that sums by class add whole rows.
            affinities = torch.exp(TRAINING_BETA * (keys @ features.T - 1))
            mass = torch.zeros(support.n_classes, len(rows)).index_add(0, key_labels, affinities)
            text = text_logits(features, support.zero_shot_weights, support.logit_scale, support.n_classes)
            return cross_entropy(text + (class_weights[:, None] * mass).T, labels)

        optimizer = torch.optim.AdamW([keys], eps=1e-4, weight_decay=0.01)
        self._train(trainings, loss_of, optimizer, len(shots.labels), final=final)
        return keys.detach().numpy()

    def _cache(self, support: SupportSet, shots: TrainingSet, keys: Float32Array | None = None) -> Cache:
        return Cache.build(
            shots.features if keys is None else keys, shots.labels, support.n_classes, balanced=self.balanced
        )

    def _ask(self, support: SupportSet, shots: TrainingSet, fold: Fold, trainings: Trainings) -> _Asked:
        """Train on the other folds, and ask about the left-out shots."""
        kept = shots.subset(fold.kept)
        cache = self._cache(support, kept, self._train_keys(support, kept, trainings, final=False))
        # A class that lost keys would weigh less than it will with all of them.
        full, left = (_mass_of_ones(part) for part in (self._cache(support, shots), cache))
        scale = np.divide(full, left, out=np.zeros_like(full), where=left > 0)
        return support.asked[fold.scored] @ cache.keys.T, cache, scale


_Asked = tuple[Float32Array, Cache, FloatArray]
"""Cosines (B, n) of left-out shots to keys trained without them, those keys, and each class's scale (C,)."""


def _search_left_out(
    support: SupportSet, asked: list[_Asked], folds: list[Fold], alpha: float | None, beta: float | None
) -> SearchResult:
    """Choose by the likelihood of the left-out shots, those of the folds that were asked about."""
    folds = folds[: len(asked)]
    rows = np.concatenate([fold.scored for fold in folds])
    text, labels = support.text_of(rows), support.labels[rows]
    points = []
    for tried in BETAS if beta is None else (beta,):
        mass = np.concatenate([mass_from_cosines(cosines, cache, tried) * scale for cosines, cache, scale in asked])
        best = best_likelihood_alpha(text, mass, labels)[0] if alpha is None else alpha
        points.append(SearchPoint(tried, best, *nll_and_accuracy(text + best * mass, labels)))
    chosen = min(points, key=lambda point: point.nll)
    zero_shot_nll, zero_shot_accuracy = nll_and_accuracy(text, labels if text.any() else labels[:0])
    return SearchResult(
        alpha=chosen.alpha,
        beta=chosen.beta,
        rule="cross-validation",
        cache_helps=chosen.alpha > 0,
        n_folds=len(folds),
        n_scored=len(rows),
        nll=chosen.nll,
        accuracy=chosen.accuracy,
        zero_shot_nll=zero_shot_nll,
        zero_shot_accuracy=zero_shot_accuracy,
        points=tuple(points),
    )


def _mass_of_ones(cache: Cache) -> FloatArray:
    """Give the cache logits (C,) if every affinity were 1."""
    mass: FloatArray = class_mass(np.ones((1, len(cache.keys)), dtype=np.float32), cache)[0]
    return mass
