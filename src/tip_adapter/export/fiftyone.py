"""A classifier as a model of FiftyOne: predictions with logits, embeddings of photos and of texts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tip_adapter.classifier import ImageClassifier
from tip_adapter.features.extraction import extract_features
from tip_adapter.libraries import require_extra
from tip_adapter.methods.heads.base import unit
from tip_adapter.typing import Float32Array, UInt8Array


def fiftyone_model(classifier: ImageClassifier) -> Any:
    """Make a model for ``dataset.apply_model`` and ``dataset.compute_embeddings`` of FiftyOne.

    Parameters
    ----------
    classifier : ImageClassifier
        Fitted.

    Returns
    -------
    fiftyone.core.models.Model
        Its predictions are `fiftyone.Classification`, with calibrated confidence, and logits where they are asked for;
        its embeddings are unit features. Texts can be embedded where the encoder reads them.

    Raises
    ------
    MissingExtraError
        When FiftyOne is not installed.
    """
    interface = require_extra("fiftyone.core.models", "fiftyone")
    bases = (interface.LogitsMixin, interface.EmbeddingsMixin, interface.PromptMixin, interface.Model)
    return type("TipAdapterModel", (PhotoModel, *bases), {})(classifier)


class PhotoModel:
    """What FiftyOne calls; photos are arrays of shape (H, W, 3), uint8, as it has read them."""

    media_type = "image"
    has_logits = has_embeddings = True
    ragged_batches = preprocess = False
    transforms = config = None
    store_logits = False

    def __init__(self, classifier: ImageClassifier) -> None:
        self.classifier = classifier
        self._features: Float32Array | None = None

    @property
    def can_embed_prompts(self) -> bool:
        """Whether texts become features of the same space."""
        return self.classifier.encoder.has_text_tower

    def predict(self, arg: UInt8Array) -> Any:
        """Name the class of one photo."""
        return self.predict_all([arg])[0]

    def predict_all(self, args: Iterable[UInt8Array]) -> list[Any]:
        """Name the class of every photo."""
        from fiftyone.core.labels import Classification

        model = self.classifier.model_
        logits = model.logits(self.embed_all(args))
        return [
            Classification(
                label=model.class_names[best],
                confidence=float(probabilities[best]),
                logits=row if self.store_logits else None,
            )
            for best, row, probabilities in zip(logits.argmax(axis=1), logits, model.probabilities(logits), strict=True)
        ]

    def get_embeddings(self) -> Float32Array:
        """Return the features of the photos that were looked at last."""
        if self._features is None:
            raise ValueError("No photo has been looked at yet: call predict or embed")
        return self._features

    def embed(self, arg: UInt8Array) -> Float32Array:
        """Return the feature of one photo."""
        feature: Float32Array = self.embed_all([arg])[0]
        return feature

    def embed_all(self, args: Iterable[UInt8Array]) -> Float32Array:
        """Return the features of photos."""
        self._features = extract_features(self.classifier.encoder, list(args)).features.unit
        return self._features

    def embed_prompt(self, arg: str) -> Float32Array:
        """Return the feature of one text."""
        feature: Float32Array = self.embed_prompts([arg])[0]
        return feature

    def embed_prompts(self, args: Iterable[str]) -> Float32Array:
        """Return the features of texts."""
        rows = self.classifier.encoder.encode_texts(list(args))
        return unit(rows)
