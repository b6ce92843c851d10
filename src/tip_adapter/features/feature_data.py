"""Features of a data set: photos to learn from and to test on, labels, and the weights of the class texts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tip_adapter.data.groups import numbered_groups
from tip_adapter.errors import DatasetError, FeatureError
from tip_adapter.typing import Float32Array, IntArray

DEFAULT_LOGIT_SCALE = 100.0


@dataclass(frozen=True, eq=False)
class Part:
    """Features of some photos with their labels.

    Attributes
    ----------
    features : ndarray of shape (N, D), float32
        Unit rows.
    labels : ndarray of shape (N,), integers in [0, C)
    views : ndarray of shape (N, V, D), float32, or None
        Unit rows: augmented views of each photo, where there are several.
    names, digests : sequence of N str, or None
        What the photos are called, and the SHA-256 of their files.
    groups : tuple of N str, or None
        What each photo belongs to, such as a burst or a patient; empty for one that stands alone.
    """

    features: Float32Array
    labels: IntArray
    views: Float32Array | None = None
    names: Sequence[str] | None = None
    digests: Sequence[str] | None = None
    groups: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, rows: IntArray) -> Part:
        """Keep some of the photos.

        Parameters
        ----------
        rows : ndarray of int
        """
        views = None if self.views is None else self.views[rows]
        named = (self.names, self.digests, self.groups)
        chosen = np.asarray(rows).tolist()
        texts = (None if text is None else tuple(map(text.__getitem__, chosen)) for text in named)
        return Part(self.features[rows], self.labels[rows], views, *texts)

    @property
    def group_numbers(self) -> IntArray | None:
        """Number of every photo's group, (N,); None where each is its own."""
        return None if self.groups is None else numbered_groups(self.groups)

    @property
    def digest(self) -> str:
        """SHA-256 of features, labels, views and groups."""
        more = [values for values in (self.views, self.group_numbers) if values is not None]
        return digest(self.features, self.labels, *more)


@dataclass(frozen=True, eq=False)
class FeatureData:
    """All that methods on features need of one data set.

    Attributes
    ----------
    name : str
        What results call it.
    class_names : tuple of C str
    test : Part
    zero_shot_weights : ndarray of shape (C, D), float32, or None
        Unit rows; None where there are no texts.
    logit_scale : float
        s, the inverse temperature the encoder was trained with.
    validation : Part or None
        What the protocol "paper" tunes on.
    supports : dict of int to Part
        Given K-shot support sets, by K.
    train : Part or None
        Photos that support sets are drawn from; without it they are drawn from the largest given one.
    description : dict of str to JSON value
        Where the features come from: encoder, templates, views …
    prompt_features : ndarray of shape (C, P, D), float32, or None
        Unit rows, one per prompt, for methods that weigh prompts; rows of NaN fill up classes with fewer than P.
    """

    name: str
    class_names: tuple[str, ...]
    test: Part
    zero_shot_weights: Float32Array | None = None
    logit_scale: float = DEFAULT_LOGIT_SCALE
    validation: Part | None = None
    supports: Mapping[int, Part] = field(default_factory=dict)
    train: Part | None = None
    description: Mapping[str, Any] = field(default_factory=dict)
    prompt_features: Float32Array | None = None

    def __post_init__(self) -> None:
        if len(set(self.class_names)) != len(self.class_names) or len(self.class_names) < 2:
            raise DatasetError(f"Expected at least two different class names in {self.name}, got others: rename them")
        weights = self.zero_shot_weights
        expected = (len(self.class_names), self.dim)
        if weights is not None and weights.shape != expected:
            raise FeatureError(f"Expected zero_shot_weights of shape {expected} in {self.name}, got {weights.shape}")
        prompts = self.prompt_features
        if prompts is not None and (prompts.ndim != 3 or (len(prompts), prompts.shape[2]) != expected):
            raise FeatureError(
                f"Expected prompt_features of shape (C, P, D) with C and D as in {expected} in {self.name}, got "
                f"{prompts.shape}"
            )
        for what, part in self.parts().items():
            check_part(part, what, self.name, expected)
        if not self.supports and self.train is None:
            raise DatasetError(
                f"Expected support_K_features or train_features in {self.name}, found neither: add some to learn from"
            )
        for shots, part in self.supports.items():
            counts = np.bincount(part.labels, minlength=len(self.class_names))
            if counts.max() != shots or counts.min() != shots:
                wrong = self.class_names[int(np.argmax(counts != shots))]
                raise DatasetError(
                    f"Expected {shots} shots of every class in support_{shots} of {self.name}, got "
                    f"{counts[self.class_names.index(wrong)]} of {wrong!r}"
                )

    @property
    def dim(self) -> int:
        """D."""
        return int(self.test.features.shape[1])

    @property
    def pool(self) -> Part:
        """Photos that support sets are drawn from."""
        return self.train if self.train is not None else self.supports[max(self.supports)]

    @property
    def digest(self) -> str:
        """SHA-256 of what all results on this data set share: classes, texts and test photos."""
        weights = [texts for texts in (self.zero_shot_weights, self.prompt_features) if texts is not None]
        names = np.frombuffer(json.dumps([self.class_names, self.logit_scale]).encode(), dtype=np.uint8)
        return digest(names, self.test.features, self.test.labels, *weights)

    def parts(self) -> dict[str, Part]:
        """Every part by the name it has in a file."""
        named = {"test": self.test, "validation": self.validation, "train": self.train}
        given = {f"support_{shots}": part for shots, part in self.supports.items()}
        return {name: part for name, part in named.items() if part is not None} | given


def digest(*arrays: np.ndarray[Any, Any]) -> str:
    """Hash arrays with their kinds and shapes.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.features.feature_data import digest
    >>> digest(np.zeros(2)) == digest(np.zeros(2)), digest(np.zeros(2)) == digest(np.zeros((2, 1)))
    (True, False)
    """
    whole = hashlib.sha256()
    for array in arrays:
        whole.update(f"{array.dtype.str} {array.shape};".encode())
        # Not as bytes, which would be a copy of what may lie on the disk.
        whole.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return whole.hexdigest()


def check_part(part: Part, what: str, name: str, expected: tuple[int, int]) -> None:
    """Raise where features, views or labels of a part do not fit C classes and D dimensions."""
    n_classes, dim = expected
    if part.features.shape != (len(part.labels), dim):
        raise FeatureError(
            f"Expected {what}_features of shape ({len(part.labels)}, {dim}) in {name}, as its labels and test_features "
            f"have it, got {part.features.shape}"
        )
    if part.views is not None and (len(part.views), part.views.shape[2]) != part.features.shape:
        raise FeatureError(f"Expected {what}_views of shape (N, V, {dim}) in {name}, got {part.views.shape}")
    if len(part.labels) == 0 or part.labels.min() < 0 or part.labels.max() >= n_classes:
        got = f"{part.labels.min()} to {part.labels.max()}" if len(part.labels) else "none"
        raise DatasetError(f"Expected {what}_labels from 0 to {n_classes - 1} in {name}, got {got}")
