"""Correct a fitted classifier: add, remove, relabel and erase shots and classes, exactly and at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter.classifier.adding import AddedShots, apart, first_shots, like_shots, unknown_classes
from tip_adapter.classifier.inputs import EncodedPhotos, grouped, images_of, labelled_images
from tip_adapter.classifier.refitting import Refitter, check_method
from tip_adapter.classifier.trusting import TrustedClassifier
from tip_adapter.data import ImageDataset
from tip_adapter.data.decoding import ImageSource
from tip_adapter.data.groups import GroupBy
from tip_adapter.data.sequences import Images, Labels
from tip_adapter.features.prompts import text_of
from tip_adapter.model import edits
from tip_adapter.model.few_shot_model import FewShotModel
from tip_adapter.model.journal import JournalEntry
from tip_adapter.typing import Float32Array

if TYPE_CHECKING:
    from tip_adapter.features.sinks import FeatureSink
    from tip_adapter.progress import Progress


class EditableClassifier(TrustedClassifier):
    """A classifier whose shots and classes come and go; see `ImageClassifier`."""

    @property
    def _refitter(self) -> Refitter:
        return Refitter(self._photos, self.method)

    @property
    def journal(self) -> tuple[JournalEntry, ...]:
        """What was done since the classifier was fitted, the first thing first."""
        return self._fitted().journal

    def refit(
        self, parameters: Mapping[str, Any] | None = None, *, amend: bool = False, progress: Progress | None = None
    ) -> None:
        """Choose hyper-parameters again, for the shots and classes as they are; no photo is needed.

        Parameters
        ----------
        parameters : mapping of str to value, optional
            Of the method, held from now on, such as ``{"alpha": 1.0}``; with "auto" one is chosen anew, held no more.
        amend : bool, default=False
            Count it as part of the last edit, so that one `undo` takes back both.
        progress : Progress, optional
            Of a method that trains.

        Raises
        ------
        InputError
            When the method has no such parameter, or not that value.
        """
        check_method(self._fitted(), refit=True)

        def refitted(model: FewShotModel) -> tuple[FewShotModel, None]:
            return self._refitter.refitted(model, parameters=parameters or {}, amend=amend, progress=progress), None

        self._live.change(refitted)

    def undo(self, *, refit: bool = False) -> JournalEntry:
        """Take back the last edit that was not taken back yet.

        Parameters
        ----------
        refit : bool, default=False
            Choose hyper-parameters again. Methods that train cannot do without.

        Returns
        -------
        JournalEntry
            What was taken back.

        Raises
        ------
        InputError
            When there is nothing to take back.
        """
        check_method(self._fitted(), refit)
        return self._live.change(lambda model: self._refitter.undone(model, refit=refit))

    def add_shots(
        self,
        data: Images | ImageDataset | Any,
        labels: Labels | None = None,
        *,
        new_classes: bool = False,
        groups: Iterable[Any] | GroupBy | None = None,
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
        groups : iterable of N names or integers, "folder", "exif-time" or "duplicates", optional
            What each photo belongs to, such as a burst, as in `fit`; shots of the same name belong together. Default: a
            near-copy of a shot of its class joins that one's group.
        refit : bool, default=False
            Choose hyper-parameters again. Methods that train cannot do without.
        skip_bad : bool, default=False
            Go on without photos that cannot be read; they are in `skipped` of the result.
        progress : Progress, optional

        Raises
        ------
        DatasetError
            When a class is unknown.
        ImageError
            When a photo cannot be read.
        EncoderError
            When the encoder is not the one the classifier was fitted with.
        """
        model = self._live.latest()
        check_method(self._fitted(), refit)
        photos = grouped(labelled_images(data, labels, min_classes=1, prefer=("train",), skip_bad=skip_bad), groups)
        unknown = unknown_classes(model, photos.class_names, allowed=new_classes)
        texts = {name: self._texts_of(name, None) for name in unknown}
        encoded = self._encoded(photos.images, skip_bad=skip_bad, progress=progress)
        names = [photos.class_names[number] for number in photos.labels]
        skipped = (*photos.skipped, *encoded.extraction.skipped)

        def added(present: FewShotModel) -> tuple[FewShotModel, AddedShots]:
            for name in unknown_classes(present, photos.class_names, allowed=new_classes):
                words = texts.get(name) or self._texts_of(name, None)
                present = self._refitter.committed(edits.add_class(present, name, *words), refit=False)
            fresh, known = apart(encoded, present, names)
            columns = np.array([present.class_names.index(name) for name in names], dtype=np.intp)
            present, new = like_shots(present, fresh, columns, photos.groups)
            if len(new):
                present = self._refitter.committed(edits.add_shots(present, new), refit=refit, progress=progress)
            return present, AddedShots(new.ids, known, skipped)

        return self._live.change(added)

    def remove_shots(
        self, ids: Sequence[str], *, forget: bool = False, sinks: Sequence[FeatureSink] = (), refit: bool = False
    ) -> tuple[str, ...]:
        """Take shots out.

        Parameters
        ----------
        ids : sequence of str
            Ids, their beginnings, or names of files, as ``model_.shots`` has them.
        forget : bool, default=False
            For good: their features, pictures and names leave the classifier, its journal and the feature store, and
            nothing brings them back. On the disk they are gone once the classifier is saved again.
        sinks : sequence of FeatureSink, optional
            What forgets them, too, such as `tip_adapter.features.sinks.ParquetRows` of the files of a job.
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
        check_method(self._fitted(), refit)
        if forget:
            gone = self._live.change(
                lambda model: self._without_photos(model, ids, refit),
                ready=lambda shots: self._forget_elsewhere(shots, sinks),
            )
            return tuple(shot["id"] for shot in gone)

        def removed(model: FewShotModel) -> tuple[FewShotModel, tuple[str, ...]]:
            rows = edits.shot_rows(model, ids)
            changed = self._refitter.committed(edits.remove_shots(model, rows), refit=refit)
            return changed, tuple(model.shots.ids[row] for row in rows)

        return self._live.change(removed)

    def _without_photos(
        self, model: FewShotModel, ids: Sequence[str], refit: bool
    ) -> tuple[FewShotModel, list[dict[str, str]]]:
        """Forget the photos of some shots; return all shots that are gone."""
        interrupted = self._live.interrupted
        if interrupted and edits.all_among(ids, interrupted):
            # Asked for again after an interruption: it is complete since the session began.
            return model, interrupted
        digests = {model.shots.features.digests[row] for row in edits.shot_rows(model, ids)}
        changed = self._refitter.committed(edits.forget_photos(model, digests, "forget"), refit=refit)
        return changed, edits.named(model.shots, digests)

    def purge(self, *, sinks: Sequence[FeatureSink] = ()) -> int:
        """Forget for good what was removed earlier: undo cannot bring it back, and the feature store loses it.

        Parameters
        ----------
        sinks : sequence of FeatureSink, optional
            As for `remove_shots`.

        Returns
        -------
        int
            How many photos were forgotten.

        Raises
        ------
        TipAdapterError
            When another process uses the feature store; nothing is changed then.
        """

        def purged(model: FewShotModel) -> tuple[FewShotModel, list[dict[str, str]]]:
            present = set(model.shots.features.digests)
            gone = {
                digest: one for entry in model.journal for one, digest in zip(entry.ids, entry.digests, strict=True)
            }
            shots = [{"id": one, "digest": digest} for digest, one in gone.items() if digest not in present]
            if not shots:
                return model, shots
            # No shot is among them, so that the head stays, a trained one, too.
            edit = edits.forget_photos(model, {shot["digest"] for shot in shots}, "purge")
            return edits.finished(edit, model.head), shots

        gone = self._live.change(purged, ready=lambda shots: self._forget_elsewhere(shots, sinks))
        return len({shot["digest"] for shot in (*gone, *self._live.interrupted)})

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
        check_method(self._fitted(), refit)

        def relabelled(model: FewShotModel) -> tuple[FewShotModel, tuple[str, ...]]:
            rows = edits.shot_rows(model, ids)
            changed = self._refitter.committed(edits.relabel_shots(model, rows, class_name), refit=refit)
            return changed, tuple(model.shots.ids[row] for row in rows)

        return self._live.change(relabelled)

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
        """Add a class after the others.

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

        Raises
        ------
        InputError
            When there is a class of that name, it has neither shots nor text, or a photo is another class's shot.
        """
        check_method(self._fitted(), refit)
        name = edits.check_new_name(self._live.latest(), name)
        words, weights = self._texts_of(name, texts)
        images = images_of(images)
        encoded = self._encoded(images, skip_bad=skip_bad, progress=progress) if images else None

        def added(model: FewShotModel) -> tuple[FewShotModel, AddedShots]:
            new = None if encoded is None else first_shots(model, encoded, name)
            edit = edits.add_class(model, name, words, weights, new)
            skipped = () if encoded is None else encoded.extraction.skipped
            changed = self._refitter.committed(edit, refit=refit, progress=progress)
            return changed, AddedShots(() if new is None else new.ids, skipped=skipped)

        return self._live.change(added)

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
        check_method(self._fitted(), refit)

        def removed(model: FewShotModel) -> tuple[FewShotModel, tuple[str, ...]]:
            edit = edits.remove_class(model, name)
            return self._refitter.committed(edit, refit=refit), edit.about.ids if edit.about else ()

        return self._live.change(removed)

    def rename_class(
        self, name: str, new_name: str, texts: str | Sequence[str] | None = None, *, refit: bool = False
    ) -> None:
        """Rename a class.

        Parameters
        ----------
        name, new_name : str
            The same name twice changes the texts alone.
        texts : str or sequence of str, optional
            New texts for it. Default: the texts stay, and with them every prediction.
        refit : bool, default=False
            Choose hyper-parameters again.

        Raises
        ------
        InputError
            When there is no such class, or another one has the new name.
        """
        if texts is not None:
            check_method(self._fitted(), refit)
        words, weights = (None, None) if texts is None else self._texts_of(new_name, texts)

        def renamed(model: FewShotModel) -> tuple[FewShotModel, None]:
            edit = edits.rename_class(model, name, new_name, words, weights)
            if texts is None and not refit:
                return edits.finished(edit, model.head), None
            return self._refitter.committed(edit, refit=refit), None

        self._live.change(renamed)

    def _texts_of(self, name: str, texts: str | Sequence[str] | None) -> tuple[tuple[str, ...], Float32Array | None]:
        """Words for a class, and their weights."""
        words = (text_of(name),) if texts is None else (texts,) if isinstance(texts, str) else tuple(texts)
        if not words:
            return (), None
        return words, self._photos.weights_of((words,), self._fitted().templates, [name])[0]

    def _encoded(self, images: Sequence[ImageSource], *, skip_bad: bool, progress: Progress | None) -> EncodedPhotos:
        """Do all with new photos that takes long."""
        model = self._fitted()
        extraction = self._photos.extract(
            images, views=model.views, random_state=model.random_state, skip_bad=skip_bad, progress=progress
        )
        if self._photos.store is not None:
            # The middle views, which a refit asks about: it has no photos, only what is stored.
            self._photos.middle_views([images[index] for index in extraction.kept], model.views, progress)
        return EncodedPhotos.of(extraction, images)

    def _forget_elsewhere(self, shots: list[dict[str, str]], sinks: Sequence[FeatureSink]) -> None:
        """Forget in stores first: if that fails, the classifier still knows what has to be forgotten."""
        if not shots:
            return
        for sink in sinks:
            sink.delete(shot["digest"] for shot in shots)
        self._photos.forget(shot["digest"] for shot in shots)
        self._live.forgetting = [*self._live.forgetting, *shots]
