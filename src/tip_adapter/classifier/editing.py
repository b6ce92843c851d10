"""Corrections of a fitted classifier: shots and classes come and go, exactly and at once; some for good."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter.classifier.inputs import images_of, labelled_images, new_shots
from tip_adapter.classifier.refitting import RefittingPart
from tip_adapter.data import ImageDataset
from tip_adapter.data.decoding import ImageSource
from tip_adapter.data.sequences import Images, Labels
from tip_adapter.errors import DatasetError, InputError
from tip_adapter.features.extraction import Extraction
from tip_adapter.features.prompts import text_of, zero_shot_weights
from tip_adapter.model import edits
from tip_adapter.model.few_shot_model import FewShotModel
from tip_adapter.model.predictions import Skipped
from tip_adapter.model.shots import Shots
from tip_adapter.typing import Float32Array, IntArray

if TYPE_CHECKING:
    from tip_adapter.progress import Progress

__all__ = ["AddedShots", "EditingPart"]


@dataclass(frozen=True)
class AddedShots:
    """What `ImageClassifier.add_shots` did.

    Attributes
    ----------
    ids : tuple of str
        The new shots.
    known : tuple of (name, id, class name)
        Photos that were there already, and were not added again.
    skipped : tuple of (name, reason)
        Photos that could not be read; empty unless they were to be skipped.
    """

    ids: tuple[str, ...]
    known: tuple[tuple[str, str, str], ...] = ()
    skipped: Skipped = ()


class EditingPart(RefittingPart):
    """The part of `ImageClassifier` that corrects."""

    def add_shots(
        self,
        data: Images | ImageDataset | Any,
        labels: Labels | None = None,
        *,
        new_classes: bool = False,
        refit: bool = False,
        skip_bad: bool = False,
        progress: Progress | None = None,
    ) -> AddedShots:
        """Add labelled photos; only they are encoded.

        Parameters
        ----------
        data, labels
            As `fit` takes them.
        new_classes : bool, default=False
            Add classes that the classifier does not know yet, with their names as texts.
        refit : bool, default=False
            Choose hyper-parameters again. Methods that train cannot do without.
        skip_bad : bool, default=False
            Go on without photos that cannot be read; they are in `skipped` of the result.
        progress : Progress, optional

        Returns
        -------
        AddedShots

        Raises
        ------
        DatasetError
            When a class is unknown.
        ImageError
            When a photo cannot be read.
        EncoderError
            When the encoder is not the one the classifier was fitted with.
        """
        model = self._fitted()
        self._check_method(refit)
        photos = labelled_images(data, labels, min_classes=1, prefer=("train",), skip_bad=skip_bad)
        images, numbers, names = photos.images, photos.labels, photos.class_names
        unknown = [name for name in names if name not in model.class_names]
        if unknown and not new_classes:
            raise DatasetError(
                f"The photos have classes that the classifier does not know: {', '.join(unknown[:5])}. Add them first "
                "(add_class, `tip-adapter class add`), or say that they are new (new_classes=True, --new-classes)."
            )
        texts = {name: self._texts_of(name, None) for name in unknown}
        extraction = self._extract(
            images, views=model.views, random_state=model.random_state, skip_bad=skip_bad, progress=progress
        )
        fresh, known = _apart(extraction, model, [names[number] for number in numbers])
        for name in unknown:
            model = self._committed(edits.add_class(model, name, *texts[name]), refit=False)
        if not len(fresh.kept):
            self.model_ = model
            return AddedShots((), known, (*photos.skipped, *extraction.skipped))
        self._keep_queries(model, fresh, images, progress)
        columns = np.array([model.class_names.index(name) for name in names], dtype=np.intp)
        new = _like_shots(model, fresh, images, columns[numbers])
        self.model_ = self._committed(edits.add_shots(model, new), refit=refit, progress=progress)
        return AddedShots(new.ids, known, (*photos.skipped, *extraction.skipped))

    def remove_shots(self, ids: Sequence[str], *, forget: bool = False, refit: bool = False) -> tuple[str, ...]:
        """Take shots out.

        Parameters
        ----------
        ids : sequence of str
            Ids, their beginnings, or names of files, as ``model_.shots`` has them.
        forget : bool, default=False
            For good: their features, pictures and names leave the classifier, its journal and the feature store, and
            nothing brings them back. On the disk they are gone once the classifier is saved again.
        refit : bool, default=False
            Choose hyper-parameters again.

        Returns
        -------
        tuple of str
            Ids of the shots that are gone: with `forget` all shots of the same photos.

        Raises
        ------
        InputError
            When there is no such shot, or a class would be left with neither shots nor text.
        """
        model = self._fitted()
        self._check_method(refit)
        rows = edits.shot_rows(model, ids)
        if not forget:
            self.model_ = self._committed(edits.remove_shots(model, rows), refit=refit)
            return tuple(model.shots.ids[row] for row in rows)
        digests = {model.shots.features.digests[row] for row in rows}
        gone = [name for name, one in zip(model.shots.ids, model.shots.features.digests, strict=True) if one in digests]
        changed = self._committed(edits.forget_photos(model, digests, "forget"), refit=refit)
        self._forget_in_store(digests)
        self.model_ = changed
        return tuple(gone)

    def purge(self) -> int:
        """Forget for good what was removed earlier: undo cannot bring it back, and the feature store loses it.

        Returns
        -------
        int
            How many photos were forgotten.

        Raises
        ------
        TipAdapterError
            When another process uses the feature store; nothing is changed then.
        """
        model = self._fitted()
        present = set(model.shots.features.digests)
        digests = {digest for entry in model.journal for digest in entry.digests if digest not in present}
        if digests:
            # No shot is among them, so that the head stays, a trained one, too.
            self._forget_in_store(digests)
            self.model_ = edits.finished(edits.forget_photos(model, digests, "purge"), model.head)
        return len(digests)

    def relabel(self, ids: Sequence[str], class_name: str, *, refit: bool = False) -> tuple[str, ...]:
        """Give shots another class.

        Parameters
        ----------
        ids : sequence of str
            As `remove_shots` takes them.
        class_name : str
        refit : bool, default=False
            Choose hyper-parameters again.

        Returns
        -------
        tuple of str
            Ids of the shots.

        Raises
        ------
        InputError
            When there is no such shot or class, or a class would be left with neither shots nor text.
        """
        model = self._fitted()
        self._check_method(refit)
        rows = edits.shot_rows(model, ids)
        self.model_ = self._committed(edits.relabel_shots(model, rows, class_name), refit=refit)
        return tuple(model.shots.ids[row] for row in rows)

    def add_class(
        self,
        name: str,
        texts: str | Sequence[str] | None = None,
        *,
        images: Images = (),
        refit: bool = False,
        skip_bad: bool = False,
        progress: Progress | None = None,
    ) -> AddedShots:
        """Add a class, behind the others.

        Parameters
        ----------
        name : str
        texts : str or sequence of str, optional
            Words for it; default: its name. An empty sequence for a class without text, which then needs `images`.
        images : image, or iterable of images, optional
            Its first shots, as `predict` takes them.
        refit : bool, default=False
            Choose hyper-parameters again.
        skip_bad : bool, default=False
        progress : Progress, optional

        Returns
        -------
        AddedShots

        Raises
        ------
        InputError
            When there is a class of that name, it has neither shots nor text, or a photo is another class's shot.
        """
        model = self._fitted()
        self._check_method(refit)
        name = edits.check_new_name(model, name)
        words, weights = self._texts_of(name, texts)
        new, images = None, images_of(images)
        skipped: Skipped = ()
        if images:
            extraction = self._extract(
                images, views=model.views, random_state=model.random_state, skip_bad=skip_bad, progress=progress
            )
            skipped = extraction.skipped
            fresh, known = _apart(extraction, model, [name] * len(images))
            if known:
                photo, shot, other = known[0]
                raise InputError(f"{photo} is the shot {shot} of {other!r} already: add the class, and relabel it.")
            self._keep_queries(model, fresh, images, progress)
            new = _like_shots(model, fresh, images, np.zeros(len(images), dtype=np.intp))
        edit = edits.add_class(model, name, words, weights, new)
        self.model_ = self._committed(edit, refit=refit, progress=progress)
        return AddedShots(() if new is None else new.ids, skipped=skipped)

    def remove_class(self, name: str, *, refit: bool = False) -> tuple[str, ...]:
        """Take a class out, with its shots.

        Parameters
        ----------
        name : str
        refit : bool, default=False
            Choose hyper-parameters again.

        Returns
        -------
        tuple of str
            Ids of its shots.

        Raises
        ------
        InputError
            When there is no such class, or too little would be left.
        """
        model = self._fitted()
        self._check_method(refit)
        edit = edits.remove_class(model, name)
        self.model_ = self._committed(edit, refit=refit)
        return edit.about.ids if edit.about else ()

    def rename_class(
        self, name: str, new_name: str, texts: str | Sequence[str] | None = None, *, refit: bool = False
    ) -> None:
        """Call a class by another name.

        Parameters
        ----------
        name, new_name : str
            The same name twice changes the texts alone.
        texts : str or sequence of str, optional
            New words for it. Default: the words stay, and with them every answer.
        refit : bool, default=False
            Choose hyper-parameters again.

        Raises
        ------
        InputError
            When there is no such class, or another one has the new name.
        """
        model = self._fitted()
        if texts is not None:
            self._check_method(refit)
        edits.class_column(model, name)
        words, weights = (None, None) if texts is None else self._texts_of(new_name, texts)
        edit = edits.rename_class(model, name, new_name, words, weights)
        if texts is None and not refit:
            self.model_ = edits.finished(edit, model.head)
        else:
            self.model_ = self._committed(edit, refit=refit)

    def _texts_of(self, name: str, texts: str | Sequence[str] | None) -> tuple[tuple[str, ...], Float32Array | None]:
        """Words for a class, and their weights."""
        words = (text_of(name),) if texts is None else (texts,) if isinstance(texts, str) else tuple(texts)
        if not words:
            return (), None
        return words, zero_shot_weights(self._text_encoder, [words], self._fitted().templates, class_names=[name])[0]

    def _keep_queries(
        self, model: FewShotModel, fresh: Extraction, images: Sequence[ImageSource], progress: Progress | None
    ) -> None:
        """Store the middle views of new shots, which a refit asks about: it has no photos, only what is stored."""
        if self.store is not None:
            self._as_queries([images[index] for index in fresh.kept], model.views, progress)

    def _forget_in_store(self, digests: set[str]) -> None:
        """Forget in the store first: if that fails, the classifier still knows what has to be forgotten."""
        with self._open_store() as store:
            if store is not None:
                store.delete(digests)


def _like_shots(model: FewShotModel, fresh: Extraction, images: Sequence[ImageSource], columns: IntArray) -> Shots:
    """Make shots that the model's own can be joined with: with their single views, if those have theirs."""
    return new_shots(fresh, images, columns, model.shots.ids, keep_views=model.shots.features.n_views > 1)


def _apart(
    extraction: Extraction, model: FewShotModel, classes: Sequence[str]
) -> tuple[Extraction, tuple[tuple[str, str, str], ...]]:
    """Part encoded photos from those that are shots already, or were given twice; `classes` are those given."""
    features, shots = extraction.features, model.shots
    there, given = set(shots.features.digests), dict[str, tuple[str, str]]()
    fresh, known = [], []
    for row, (digest, name) in enumerate(zip(features.digests, features.names, strict=True)):
        if digest in there:
            shot = shots.features.digests.index(digest)
            known.append((name, shots.ids[shot], model.class_names[shots.labels[shot]]))
        elif digest in given:
            known.append((name, *given[digest]))
        else:
            given[digest] = (digest[:12], classes[extraction.kept[row]])
            fresh.append(row)
    return Extraction(features.subset(fresh), extraction.kept[fresh], extraction.skipped), tuple(known)
