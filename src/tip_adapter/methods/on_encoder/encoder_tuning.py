"""What methods share that tune an encoder on photos."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from tip_adapter.data.decoding import ImageSource
from tip_adapter.data.sequences import list_images
from tip_adapter.encoders import Encoder
from tip_adapter.encoders.trainable import TrainableEncoder, load_trainable_encoder
from tip_adapter.errors import InputError
from tip_adapter.features.extraction import extract_features
from tip_adapter.features.prompts import resolve_templates, zero_shot_weights
from tip_adapter.methods.base import FewShotMethod
from tip_adapter.methods.heads import Head, LinearHead
from tip_adapter.methods.inputs import aligned, as_labels, as_names
from tip_adapter.methods.on_encoder.coop import aligned_texts
from tip_adapter.methods.support_set import FitCall, SupportSet
from tip_adapter.methods.trained.loop import TrainingProgress, require_torch
from tip_adapter.typing import Float32Array, IntArray, StrPath

if TYPE_CHECKING:
    from tip_adapter.encoders.torch_encoder import TorchEncoder

LabelledPhotos = tuple[Sequence[ImageSource], Any]
"""Photos, and the class of each, or its number."""


class EncoderTuning(FewShotMethod):
    """Base of the methods that take photos, not features, and give an encoder.

    Attributes
    ----------
    encoder_ : TorchEncoder
        The tuned encoder.
    """

    trains = True
    needs_torch = True
    needs_encoder = True
    takes_images = True

    templates: str | Sequence[str] = "ensemble"
    logit_scale: Any = None
    random_state: Any = 0

    def fit(
        self,
        X: Sequence[ImageSource],
        y: Any,
        *,
        encoder: StrPath | Encoder | TrainableEncoder | None = None,
        class_texts: Sequence[str | Sequence[str]] | None = None,
        checkpoint: StrPath | None = None,
        validation: LabelledPhotos | None = None,
        groups: Any = None,
        queries: Any = None,
        progress: TrainingProgress | None = None,
    ) -> Self:
        """Tune the encoder on labelled photos.

        Parameters
        ----------
        X : sequence of N paths, bytes, Pillow images or uint8 arrays
            Photos, not features.
        y : array-like of shape (N,)
            Class names, or integers that index `class_names` (without them: the rows of `zero_shot_weights`).
        encoder : str, path or TrainableEncoder
            What to tune; see `load_trainable_encoder`. It stays as it is: a copy is tuned.
        class_texts : sequence of C texts or of C sequences of texts, optional
            Words for every class, in the order of `class_names`; by default the names.
        checkpoint : path, optional
            File written after an epoch, at most every 30 s; beside it `FullFineTuning` writes the learning rates tried,
            with the suffix ``.rates.json``. When they are there, training goes on from them, to the same result.
        validation : tuple of photos and labels, optional
            Photos apart from the shots. `FullFineTuning` chooses a learning rate left at "auto" by accuracy on them, as
            papers do; `CLIPLoRA` has nothing to choose.
        groups, queries : ignored
            Nothing is left out.
        progress : callable, optional
            Called with steps done, steps in all at most, and the loss.

        Returns
        -------
        self

        Raises
        ------
        InputError
            When labels do not fit the photos or the classes, or features were given.
        EncoderError
            When the encoder cannot be tuned like this.
        ImageError
            When a photo cannot be read.
        TrainingError
            When training diverges, or the checkpoint is of another training.
        MissingExtraError
            When torch is not installed.
        """
        require_torch()
        self._check_parameters()
        if encoder is None:
            raise InputError(
                f"{type(self).__name__} tunes an encoder: give fit one, such as encoder='huggingface:owner/name'"
            )
        photos = self._listed_photos(X)
        labels = self._checked_labels(photos, y)
        self._texts = aligned_texts(class_texts, self.class_names, self.classes_)
        self._templates = resolve_templates(self.templates)
        call = FitCall(progress, checkpoint=checkpoint)
        self._tune(load_trainable_encoder(encoder), (photos, labels), validation, call)
        return self

    @abstractmethod
    def _check_parameters(self) -> None:
        """Refuse parameters out of range before any work is done."""

    @abstractmethod
    def _tune(
        self, encoder: TrainableEncoder, shots: LabelledPhotos, apart: LabelledPhotos | None, call: FitCall
    ) -> None:
        """Tune the encoder, and set what `fit` gives."""

    @property
    def _prompts(self) -> list[list[str]]:
        """What the templates make of every class's texts."""
        return [[template.replace("{}", text) for text in row for template in self._templates] for row in self._texts]

    def _classify_with(self, encoder: TorchEncoder, logit_scale: float) -> None:
        """Make a tuned encoder, and what it says of the class texts, the fitted method."""
        encoder.logit_scale = logit_scale
        self.encoder_ = encoder
        weights = zero_shot_weights(encoder, self._texts, self._templates)
        self.head_ = LinearHead(len(weights), weights, logit_scale)

    def logits(self, X: Sequence[ImageSource]) -> Float32Array:
        """Logits of every class.

        Parameters
        ----------
        X : sequence of B paths, bytes, Pillow images or uint8 arrays
            Photos.

        Returns
        -------
        ndarray of shape (B, C), float32
            Columns as `classes_`.
        """
        check_is_fitted(self, "head_")
        X = self._listed_photos(X)
        return self.head_.logits(extract_features(self.encoder_, X).features.unit)

    def export_encoder(self, out_dir: StrPath) -> Path:
        """Write the tuned towers as an ONNX directory, which runs without torch.

        ``ImageClassifier(encoder=out_dir, method="zero-shot")``, with the same class texts, then predicts what this
        method does; any other method can build on the tuned features as well.

        Parameters
        ----------
        out_dir : path
            Must not exist yet.

        Returns
        -------
        directory : pathlib.Path

        Raises
        ------
        EncoderError
            When the folder exists, or the graphs do not reproduce the towers.
        """
        check_is_fitted(self, "head_")
        from tip_adapter.encoders.export import export_towers

        return export_towers(self.encoder_, out_dir)

    def _checked_labels(self, X: Any, y: Any) -> IntArray:
        names, known = np.asarray(as_labels(y)), as_names(self.class_names)
        if names.ndim != 1 or len(names) != len(X) or not len(names):
            raise InputError(f"Expected a label for each of the {len(X)} photos, got labels of shape {names.shape}")
        n_texts = None if self.zero_shot_weights is None else len(self.zero_shot_weights)
        self.classes_, labels, _ = aligned(names, known, n_texts)
        if len(self.classes_) < 2:
            only = self.classes_[0] if known is None else known[0]
            raise InputError(f"Expected at least two classes, got one class, {str(only)!r}: add photos")
        return labels

    def _listed_photos(self, X: Any) -> list[ImageSource]:
        """List photos; refuse features, which other methods take, in words that say what to give instead."""
        if hasattr(X, "dtype") and getattr(X, "ndim", 0) == 2 and "float" in str(X.dtype):
            raise InputError(
                f"{type(self).__name__} takes photos (paths, bytes, Pillow images or uint8 arrays), got features of "
                f"shape {tuple(X.shape)}: give the photos themselves"
            )
        return list_images(X)

    def _fit_head(self, support: SupportSet) -> Head:
        raise InputError(f"{type(self).__name__} takes photos, not features: call fit with photos")
