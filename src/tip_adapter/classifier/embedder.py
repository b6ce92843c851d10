"""A scikit-learn transformer from photos to features."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags

from tip_adapter.classifier.encoding import PhotoEncoder
from tip_adapter.classifier.inputs import images_of
from tip_adapter.typing import Float32Array


class ImageEmbedder(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Turn photos into unit features, each photo encoded once.

    Parameters
    ----------
    encoder : str, path or Encoder, optional
        As for `ImageClassifier`.
    precision : {"fp32", "int8"}, default="fp32"
    store : "default", path or None, default="default"
        Where features are kept.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from tip_adapter import ImageEmbedder
    >>> photos = [np.full((32, 32, 3), value, dtype=np.uint8) for value in (20, 30, 220, 230)]
    >>> pipeline = make_pipeline(ImageEmbedder("fake", store=None), LogisticRegression())
    >>> pipeline.fit(photos, ["night", "night", "day", "day"]).predict(photos[:1]).tolist()
    ['night']
    """

    def __init__(self, encoder: Any = None, precision: str = "fp32", store: Any = "default") -> None:
        self.encoder = encoder
        self.precision = precision
        self.store = store

    def fit(self, X: Any, y: Any = None) -> Self:
        """Do nothing: the encoder is frozen.

        Parameters
        ----------
        X : iterable of images
        y : ignored
        """
        return self

    def transform(self, X: Any) -> Float32Array:
        """Encode photos.

        Parameters
        ----------
        X : image, iterable of images, or table with a column of them
            As `ImageClassifier.predict` takes them.

        Returns
        -------
        ndarray of shape (N, D), float32
            Unit rows.
        """
        return self._photos().extract(images_of(X)).features.unit

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray[Any, Any]:
        """Name the features by the encoder.

        Parameters
        ----------
        input_features : ignored

        Returns
        -------
        ndarray of shape (D,) of str
        """
        encoder = self._photos().encoder
        return np.array([f"{encoder.name}_{place}" for place in range(encoder.dim)], dtype=object)

    def _photos(self) -> PhotoEncoder:
        """The encoder, opened once for the same parameters."""
        wanted = self.encoder, self.precision, self.store
        if self.__dict__.get("_opened_as") != wanted:
            self._opened_as = wanted
            self._opened = PhotoEncoder(self.encoder, precision=self.precision, store=self.store)
        return self._opened

    def __sklearn_is_fitted__(self) -> bool:
        """Nothing has to be fitted."""
        return True

    def __sklearn_tags__(self) -> Tags:
        """Say that it takes photos, not numbers."""
        tags: Tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.requires_fit = False
        tags.no_validation = True
        return tags
