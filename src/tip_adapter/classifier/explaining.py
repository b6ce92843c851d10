"""Why a fitted classifier answers as it does: photos in, explanations out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

from tip_adapter.classifier.encoding import EncodingPart
from tip_adapter.classifier.inputs import path_of
from tip_adapter.data.decoding import ImageSource
from tip_adapter.explain.explainer import Explainer
from tip_adapter.explain.explanation import Explanation

if TYPE_CHECKING:
    from tip_adapter.progress import Progress

__all__ = ["ExplainingPart"]


class ExplainingPart(EncodingPart):
    """The part of `ImageClassifier` that says why."""

    _explainer: Explainer | None = None

    @overload
    def explain(
        self,
        images: list[ImageSource] | tuple[ImageSource, ...],
        *,
        shots: int = ...,
        skip_bad: bool = ...,
        progress: Progress | None = ...,
    ) -> list[Explanation]: ...

    @overload
    def explain(
        self, images: ImageSource, *, shots: int = ..., skip_bad: bool = ..., progress: Progress | None = ...
    ) -> Explanation: ...

    def explain(
        self,
        images: ImageSource | Sequence[ImageSource],
        *,
        shots: int = 5,
        skip_bad: bool = False,
        progress: Progress | None = None,
    ) -> Explanation | list[Explanation]:
        """Say why photos get their answers: the texts' part, every shot's, and the answer without each deciding shot.

        Parameters
        ----------
        images : path, bytes, Image or array; or a list of them
        shots : int, default=5
            Deciding shots to list.
        skip_bad : bool, default=False
            Leave out photos of a list that cannot be read; they are listed in `skipped_`.
        progress : Progress, optional

        Returns
        -------
        Explanation, or a list of Explanation for a list
            What is exact with which method, and what stays fixed when a shot is left out, is in its `note`.

        Raises
        ------
        ImageError
            When a photo cannot be read.
        InputError
            When `shots` is negative.

        Examples
        --------
        >>> import numpy as np
        >>> from tip_adapter import ImageClassifier
        >>> dark, light = (np.full((32, 32, 3), value, dtype=np.uint8) for value in (30, 220))
        >>> clf = ImageClassifier(encoder="fake", store=None).fit([dark, light], ["night", "day"])
        >>> why = clf.explain(dark + 3)
        >>> why.answer, why.deciding[0].class_name, why.exact
        ('night', 'night', True)
        """
        model = self._fitted()
        sources = list(images) if isinstance(images, list | tuple) else None
        extraction = self._extract(
            [images] if sources is None else sources,  # type: ignore[list-item]
            skip_bad=skip_bad and sources is not None,
            progress=progress,
        )
        names = extraction.features.names
        given = [images] if sources is None else [sources[index] for index in extraction.kept]
        paths = [path_of(source, name) for source, name in zip(given, names, strict=True)]  # type: ignore[arg-type]
        # Preparing an explainer takes longer than an explanation.
        if self._explainer is None or self._explainer.model is not model:
            self._explainer = Explainer(model)
        found = self._explainer.explain(extraction.features.unit, paths, shots=shots)
        return found[0] if sources is None else found
