"""Prompt tuning (CoOp): a learned context in front of the class texts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from tip_adapter.encoders import Encoder
from tip_adapter.encoders.trainable import TrainableEncoder, load_trainable_encoder
from tip_adapter.errors import FeatureError, InputError
from tip_adapter.features.prompts import texts_for
from tip_adapter.methods.heads import LinearHead
from tip_adapter.methods.inputs import as_names
from tip_adapter.methods.on_encoder.learned_prompts import (
    CLASS_POSITIONS,
    ClassPosition,
    LearnedPrompts,
    word_embeddings,
)
from tip_adapter.methods.support_set import FitCall, SupportSet
from tip_adapter.methods.trained.base import TrainedMethod, Trainings, TrainingSet
from tip_adapter.methods.trained.loop import Schedule, TrainingProgress, require_torch
from tip_adapter.typing import Float32Array, StrPath

if TYPE_CHECKING:
    import torch

_PAPER_EPOCHS = {1: 50, 2: 100, 4: 100, 8: 200, 16: 200}


class CoOp(TrainedMethod):
    """CoOp, prompt tuning: ``s·f·g([v₁ … v_M, class tokens])ᵀ``, where the context vectors v are trained.

    g is the encoder's text tower, which stays as it is; only the input embeddings of M "words" change. What is fitted
    are class weights like any other, so predicting, saving and exporting need no torch.

    Parameters
    ----------
    zero_shot_weights : array-like of shape (C, D), optional
        Only their number matters: this method computes its own weights from its prompts.
    class_names : sequence of str, optional
        Names of the classes.
    n_context : int, default=16
        M, context vectors.
    context_init : str, optional
        Words whose embeddings the context begins with, such as "a photo of a"; M is then the number of their tokens.
        By default numbers from N(0, .02²).
    class_specific : bool, default=False
        Learn a context for each class instead of one for all.
    class_position : {"end", "middle", "front"}, default="end"
        Where the class text stands among the context vectors.
    logit_scale : float, default=100.0
        s, the inverse temperature the encoder was trained with.
    epochs : int or "paper", default="paper"
        "paper" takes 50, 100, 100, 200, 200 for 1, 2, 4, 8, 16 shots per class, by the class with most shots.
    learning_rate : float, default=0.002
        Of SGD with momentum .9 and weight decay 5e-4: a first epoch at 1e-5, then a cosine from it to 0.
    batch_size : int, default=32
        Shots per step.
    random_state : int, generator or None, default=0
        Seed of the first context and of the order of the shots.

    Attributes
    ----------
    context_ : ndarray of shape (M, E), or (C, M, E) where class-specific
        The learned vectors.
    class_weights_ : ndarray of shape (C, D)
        Unit rows: features of the prompts.
    trainable_parameters_ : int
        M·E, or C·M·E.
    training_ : TrainingRun

    Notes
    -----
    The image tower is never run: `fit` takes features, or several views of each shot as features. A step costs one
    pass of all class texts through the text tower, forth and back: 0.1 to 0.2 s for 10 classes and `lite-fast`, 4 s of
    one core for 64 classes with the text tower of a CLIP. Up to 64 texts take one pass (0.8 GB there); more take
    passes of 64 that are computed twice, so that memory stays bounded and time grows in proportion: 16 s for 200
    classes, which makes large class lists a matter for the shorter schedules (`epochs`) or the other methods.

    The last state is kept, as in the paper; there is nothing to choose, so `validation` changes nothing.

    References
    ----------
    Zhou et al., "Learning to Prompt for Vision-Language Models", IJCV 2022, equations 2 to 4 and section 4.1.

    Examples
    --------
    >>> from tip_adapter.methods import CoOp
    >>> CoOp(class_names=["hat", "cap"]).fit([[1.0, 0.0], [0.0, 1.0]], ["hat", "cap"], encoder="fake")
    Traceback (most recent call last):
    tip_adapter.errors.EncoderError: The encoder fake gives no gradients, which training it or its prompts needs: ...
    """

    needs_encoder = True

    n_context: int = 16
    context_init: str | None = None
    class_specific: bool = False
    class_position: ClassPosition = "end"
    epochs: int | str = "paper"
    learning_rate: float = 0.002
    batch_size: int = 32

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        encoder: StrPath | Encoder | TrainableEncoder | None = None,
        class_texts: Sequence[str | Sequence[str]] | None = None,
        checkpoint: StrPath | None = None,
        validation: tuple[Any, Any] | None = None,
        views: Any = None,
        groups: Any = None,
        queries: Any = None,
        progress: TrainingProgress | None = None,
    ) -> Self:
        """Train the context on the support set; Ctrl-C keeps what the last finished epoch reached, and says so.

        Parameters
        ----------
        X, y, validation, groups, queries, progress : see `FewShotMethod.fit`
        encoder : str, path or TrainableEncoder
            The encoder that the features come from, one of those that give gradients; see `load_trainable_encoder`.
        class_texts : sequence of C texts or of C sequences of texts, optional
            Words for every class, in the order of `class_names`; by default the names. The features of several texts
            are averaged.
        checkpoint : path, optional
            File that training goes on from when it is there, to the same result; written after every epoch.
        views : array-like or tensor of shape (N, V, D), optional
            Features of augmented views of each shot; one of each is drawn per epoch. By default `X` itself.

        Returns
        -------
        self

        Raises
        ------
        FeatureError, InputError, TrainingError, MissingExtraError
            As for all methods that train.
        EncoderError
            When the encoder gives no gradients.
        """
        require_torch()
        call = FitCall(progress, encoder, class_texts, checkpoint)
        return self._fitted(X, y, validation, call, views=views, groups=groups, queries=queries)

    def _fit_head(self, support: SupportSet) -> LinearHead:
        trainings = self._trainings(support, self._schedule(support))
        call = support.call or FitCall()
        encoder = self._encoder(call.encoder, support.features.shape[1])
        texts = aligned_texts(call.class_texts, self.class_names, self.classes_)
        context = self._first_context(encoder, support.n_classes, trainings.seed)
        # Kept for fits to a part of the shots.
        self._prompts = LearnedPrompts.build(encoder, texts, context.shape[-2], self.class_position)
        self.class_weights_ = self._train_context(context, support, trainings, final=True)
        self.context_ = context.detach().numpy()
        return _head(self.class_weights_, support)

    def _refit_head(self, support: SupportSet) -> LinearHead:
        schedule = replace(self._schedule(support), epochs=self.training_.epochs)
        trainings = self._trainings(support, schedule)
        context = self._first_context(self._prompts.encoder, support.n_classes, trainings.seed)
        return _head(self._train_context(context, support, trainings, final=False), support)

    def _train_context(
        self, context: torch.Tensor, support: SupportSet, trainings: Trainings, *, final: bool
    ) -> Float32Array:
        """Train, and give the features of the prompts, (C, D)."""
        import torch
        from torch.nn.functional import cross_entropy

        prompts, shots = self._prompts, self._training_set(support)
        batch = shots.batches()

        def loss_of(rows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            features, labels = batch(rows, generator)
            return cross_entropy(support.logit_scale * features @ prompts.class_features(context).T, labels)

        optimizer = torch.optim.SGD([context], momentum=0.9, weight_decay=5e-4)
        described = _described(prompts, shots, support.logit_scale, self)
        self._train(trainings, loss_of, optimizer, len(shots.labels), final=final, describes=described)
        with torch.no_grad():
            weights: Float32Array = prompts.class_features(context).numpy()
        return weights

    def _schedule(self, support: SupportSet) -> Schedule:
        if self.class_position not in CLASS_POSITIONS:
            raise InputError(
                f"Unknown class_position {self.class_position!r}: choose one of {', '.join(CLASS_POSITIONS)}"
            )
        epochs = self.epochs
        if isinstance(epochs, str):
            if epochs != "paper":
                raise InputError(f"Expected epochs as a number or 'paper', got {epochs!r}")
            epochs = paper_epochs(int(support.counts.max()))
        return Schedule(epochs, self.batch_size, self.learning_rate, warmup_epochs=1)

    def _encoder(self, given: StrPath | Encoder | TrainableEncoder | None, dim: int) -> TrainableEncoder:
        if given is None:
            raise InputError(
                "CoOp trains prompts through the text tower: give fit the encoder that the features are of, such as "
                "encoder='huggingface:owner/name'"
            )
        encoder = load_trainable_encoder(given)
        if encoder.dim != dim:
            raise FeatureError(
                f"Expected features of shape (N, {encoder.dim}), as of the encoder {encoder.name}, got {dim} "
                "dimensions: was another encoder used?"
            )
        return encoder

    def _first_context(self, encoder: TrainableEncoder, n_classes: int, seed: int) -> torch.Tensor:
        import torch

        if self.context_init is not None:
            context = word_embeddings(encoder, self.context_init)
            context = context.expand(n_classes, *context.shape).clone() if self.class_specific else context
            return context.requires_grad_()
        if self.n_context < 1:
            raise InputError(f"Expected n_context to be at least 1, got {self.n_context}")
        width = encoder.prompt_tower.embed_tokens(torch.zeros(1, 1, dtype=torch.long)).shape[2]
        shape = (n_classes, self.n_context, width) if self.class_specific else (self.n_context, width)
        generator = torch.Generator().manual_seed(seed)
        return torch.empty(shape).normal_(0, 0.02, generator=generator).requires_grad_()


def paper_epochs(shots: int) -> int:
    """Give the paper's number of epochs.

    Examples
    --------
    >>> from tip_adapter.methods.on_encoder.coop import paper_epochs
    >>> [paper_epochs(shots) for shots in (1, 2, 3, 4, 8, 16, 100)]
    [50, 100, 100, 100, 200, 200, 200]
    """
    return next((_PAPER_EPOCHS[known] for known in sorted(_PAPER_EPOCHS, reverse=True) if shots >= known), 50)


def aligned_texts(
    class_texts: Sequence[str | Sequence[str]] | None, class_names: Sequence[str] | None, classes: np.ndarray[Any, Any]
) -> list[tuple[str, ...]]:
    """Choose the words for every class, in the order of a fitted method's classes.

    Shapes: `classes` (C,).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.on_encoder.coop import aligned_texts
    >>> aligned_texts([["hat"], "big cap"], ["b", "a"], np.array(["a", "b"]))
    [('big cap',), ('hat',)]
    """
    integers = np.issubdtype(classes.dtype, np.integer)
    names = as_names(class_names)
    if names is None:
        if class_texts is None and integers:
            raise InputError("Prompts need words for the classes: give class_names or class_texts")
        names = [str(name) for name in classes]
    given = texts_for(names, None) if class_texts is None else class_texts
    texts = [(row,) if isinstance(row, str) else tuple(row) for row in given]
    if len(texts) != len(classes):
        raise InputError(f"Expected class_texts for each of the {len(classes)} classes, got {len(texts)}")
    for row in texts:
        if not row or not all(isinstance(text, str) and text.strip() for text in row):
            raise InputError(f"Expected a text or several for every class, got {row!r}")
    return texts if integers else [texts[names.index(name)] for name in classes.tolist()]


def _head(class_weights: Float32Array, support: SupportSet) -> LinearHead:
    scaled = (support.logit_scale * class_weights.astype(np.float64)).astype(np.float32)
    return LinearHead(support.n_classes, None, support.logit_scale, weights=scaled)


def _described(prompts: LearnedPrompts, shots: TrainingSet, logit_scale: float, method: CoOp) -> dict[str, Any]:
    """Tell a checkpoint what the training depends on besides its schedule."""
    digest = hashlib.sha256(shots.views.tobytes())
    for array in (shots.labels, prompts.ids.numpy(), prompts.context_index.numpy(), prompts.classes.numpy()):
        digest.update(np.ascontiguousarray(array).tobytes())
    return {
        "method": "coop",
        "encoder": [prompts.encoder.image_id, prompts.encoder.text_id],
        "data": digest.hexdigest(),
        "logit_scale": logit_scale,
        "context_init": method.context_init,
    }
