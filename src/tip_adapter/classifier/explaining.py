"""Explain the predictions of a fitted classifier."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, overload

from tip_adapter.classifier.encoding import EncodingPart
from tip_adapter.data.decoding import ImageSource
from tip_adapter.data.sequences import Images
from tip_adapter.explain.explainer import Explainer
from tip_adapter.explain.explanation import Explanation
from tip_adapter.model.few_shot_model import FewShotModel
from tip_adapter.model.predictions import Results

if TYPE_CHECKING:
    from tip_adapter.progress import Progress


class ExplainingPart(EncodingPart):
    """The part of `ImageClassifier` that says why."""

    _explainer: Explainer | None = None

    @overload
    def explain(  # type: ignore[overload-overlap]
        self, images: ImageSource, *, shots: int = ..., skip_bad: bool = ..., progress: Progress | None = ...
    ) -> Explanation: ...

    @overload
    def explain(
        self, images: Iterable[ImageSource], *, shots: int = ..., skip_bad: bool = ..., progress: Progress | None = ...
    ) -> Results[Explanation]: ...

    def explain(
        self,
        images: Images,
        *,
        shots: int = 5,
        skip_bad: bool = False,
        progress: Progress | None = None,
    ) -> Explanation | Results[Explanation]:
        """Say why photos get their answers: the texts' part, every shot's, and the answer without each deciding shot.

        Parameters
        ----------
        images : image, or iterable of images
            As `predict` takes them.
        shots : int, default=5
            Deciding shots to list.
        skip_bad : bool, default=False
            Leave out photos that cannot be read; they are in `skipped` of the result.
        progress : Progress, optional

        Returns
        -------
        Explanation, or Results of Explanation
            One for one image, a list for several.
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
        queries = self._queries(images, skip_bad=skip_bad, progress=progress)
        found = queries.results(self._explainer_of(model).explain(queries.features, queries.names, shots=shots))
        return found[0] if queries.one else found

    def _explainer_of(self, model: FewShotModel) -> Explainer:
        """Prepare an explainer, which takes longer than an explanation, once for every state of the classifier."""
        explainer = self._explainer
        if explainer is None or explainer.model is not model:
            # Another thread may do the same meanwhile; either explainer is right for its own model.
            self._explainer = explainer = Explainer(model)
        return explainer
