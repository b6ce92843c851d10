"""The protocol of an encoder: views of photos and texts in one feature space."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from tip_adapter.data.decoding import ImageSource, load_image
from tip_adapter.data.joined_preprocessing import JoinedPreprocessing
from tip_adapter.data.preprocessing import Preprocessing
from tip_adapter.errors import EncoderError, InputError
from tip_adapter.typing import Float32Array, UInt8Array


@runtime_checkable
class Encoder(Protocol):
    """What the rest of the package asks of an encoder, whatever runs inside.

    Attributes
    ----------
    name : str
        What `load_encoder` was asked for.
    image_id, text_id : str
        Hexadecimal SHA-256 of what features of photos and of texts are computed from, as it was loaded: weights, the
        preprocessing with its version, and the precision; weights and vocabulary. No file says what they are. Features
        of equal ids may be compared and stored together.
    dim : int
        D, the length of a feature.
    logit_scale : float
        What the cosine similarity of image and text is multiplied by (1/temperature); 100 for OpenAI's CLIP.
    preprocessing : Preprocessing or JoinedPreprocessing
        How photos become the views that `encode_pixels` takes.
    has_text_tower : bool
        Whether texts can be encoded; without, classifiers learn from the shots alone.
    """

    @property
    def name(self) -> str: ...  # noqa: D102 - the class docstring covers the attributes

    @property
    def image_id(self) -> str: ...  # noqa: D102

    @property
    def text_id(self) -> str: ...  # noqa: D102

    @property
    def dim(self) -> int: ...  # noqa: D102

    @property
    def logit_scale(self) -> float: ...  # noqa: D102

    @property
    def preprocessing(self) -> Preprocessing | JoinedPreprocessing: ...  # noqa: D102

    @property
    def has_text_tower(self) -> bool: ...  # noqa: D102

    def encode_pixels(self, pixels: UInt8Array) -> Float32Array:
        """Encode views.

        Parameters
        ----------
        pixels : ndarray of shape (B, S, S, 3), uint8
            Views as `preprocessing` makes them, S being ``preprocessing.size``; for joined encoders one row a photo.

        Returns
        -------
        features : ndarray of shape (B, D), float32
            Not normalised: a cache key is the mean of these over the views of a shot.
        """
        ...

    def encode_texts(self, texts: Sequence[str]) -> Float32Array:
        """Encode texts; what does not fit into the context length is cut off.

        Parameters
        ----------
        texts : sequence of T str

        Returns
        -------
        features : ndarray of shape (T, D), float32
            Not normalised.
        """
        ...

    def encode_images(self, images: Sequence[ImageSource]) -> Float32Array:
        """Decode photos, take the middle of each, and encode them in one batch.

        Parameters
        ----------
        images : sequence of B paths, bytes, Pillow images or uint8 arrays

        Returns
        -------
        features : ndarray of shape (B, D), float32
            Not normalised.
        """
        ...


class BaseEncoder(ABC):
    """The part that all encoders of this package share: identity, checks, and decoding.

    Parameters
    ----------
    name : str
    image_weights, text_weights : str
        Hashes over what features of photos depend on besides preprocessing and precision, and features of texts.
    dim : int
    logit_scale : float
        Positive.
    preprocessing : Preprocessing or JoinedPreprocessing
    precision : str, default="fp32"
    has_text_tower : bool, default=True

    Raises
    ------
    EncoderError
        When the logit scale is not a positive number.
    """

    def __init__(
        self,
        name: str,
        *,
        image_weights: str,
        text_weights: str,
        dim: int,
        logit_scale: float,
        preprocessing: Preprocessing | JoinedPreprocessing,
        precision: str = "fp32",
        has_text_tower: bool = True,
    ) -> None:
        if not (math.isfinite(logit_scale) and logit_scale > 0):
            raise EncoderError(f"Expected a positive logit scale for the encoder {name}, got {logit_scale}")
        self.name = name
        self.image_weights = image_weights
        self.text_weights = text_weights
        self.dim = dim
        self.logit_scale = float(logit_scale)
        self.preprocessing = preprocessing
        self.precision = precision
        self.has_text_tower = has_text_tower

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} dim={self.dim} precision={self.precision}>"

    @property
    def image_id(self) -> str:
        """Hexadecimal SHA-256 over the image tower's weights, preprocessing and precision."""
        parts = "\n".join((self.image_weights, self.preprocessing.key, self.precision))
        return hashlib.sha256(parts.encode()).hexdigest()

    @property
    def text_id(self) -> str:
        """Hexadecimal SHA-256 over the text tower's weights and vocabulary."""
        return hashlib.sha256(self.text_weights.encode()).hexdigest()

    def encode_pixels(self, pixels: UInt8Array) -> Float32Array:
        """Encode views (B, S, S, 3) of uint8, or rows of joined views, into un-normalised features (B, D)."""
        self.preprocessing.check_views(pixels)
        if len(pixels) == 0:
            return np.empty((0, self.dim), dtype=np.float32)
        return self._encode_views(pixels)

    def encode_texts(self, texts: Sequence[str]) -> Float32Array:
        """Encode T texts into un-normalised features (T, D)."""
        if not self.has_text_tower:
            raise EncoderError(
                f"The encoder {self.name} has no text tower: name one that reads texts, alone or joined "
                f"(lite+{self.name})"
            )
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise InputError(f"Expected a sequence of texts, got {texts!r:.80}: put a single text into a list")
        if len(texts) == 0:
            return np.empty((0, self.dim), dtype=np.float32)
        return self._encode_texts(list(texts))

    def in_full_precision(self) -> BaseEncoder:
        """Return the same encoder with weights of 32 bits."""
        return self

    def encode_images(self, images: Sequence[ImageSource]) -> Float32Array:
        """Decode B photos, take the middle of each, and encode them in one batch: features (B, D)."""
        if isinstance(images, str | bytes):
            raise InputError("Expected a sequence of images, got a single one: put it into a list")
        if len(images) == 0:
            return np.empty((0, self.dim), dtype=np.float32)
        min_side = self.preprocessing.min_side()
        views = [self.preprocessing.center_view(load_image(image, min_side=min_side)) for image in images]
        return self.encode_pixels(np.stack(views))

    @abstractmethod
    def _encode_views(self, pixels: UInt8Array) -> Float32Array:
        """Normalise and encode views, B ≥ 1."""

    @abstractmethod
    def _encode_texts(self, texts: list[str]) -> Float32Array:
        """Encode a list of at least one text."""
