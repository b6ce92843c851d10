"""Save and load a fitted classifier, and edit a saved one together with others."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from tip_adapter.classifier.changing import ChangingPart, EditingSession
from tip_adapter.encoders.joined import member_names
from tip_adapter.errors import InputError, StorageWarning, TipAdapterError, warn
from tip_adapter.model.few_shot_model import FewShotModel
from tip_adapter.storage.bundle_files import fingerprint
from tip_adapter.storage.bundles import Bundle, load_bundle
from tip_adapter.storage.hub_folders import HUB_PREFIX
from tip_adapter.storage.locking import WAIT_S, locked
from tip_adapter.typing import StrPath

if TYPE_CHECKING:
    from tip_adapter.encoders import Encoder


def _encoder_of(bundle: Bundle, model: FewShotModel) -> str:
    """Where the encoder is that was saved: a folder may have moved together with the classifier beside it."""
    folder = bundle.path.resolve().parent

    def found(name: str) -> str:
        saved, beside = Path(name), folder / Path(name).name
        return str(beside) if saved.is_absolute() and not saved.exists() and beside.is_dir() else name

    def is_one(name: str) -> bool:
        return os.path.isdir(name) or ("+" not in name.rpartition(os.sep)[0] and os.path.isdir(found(name)))

    return "+".join(map(found, member_names(model.encoder.name, is_one)))


class SavingPart(ChangingPart):
    """The part of `ImageClassifier` that is saved and loaded."""

    def save(self, path: StrPath, *, wait_s: float = WAIT_S) -> None:
        """Save the classifier as a folder; the encoder is named in it, not copied.

        Parameters
        ----------
        path : path-like
            Such as ``clothes.tip``. A classifier saved there before is replaced.
        wait_s : float, default=60
            How long to wait for another process that changes what is there, in seconds.

        Raises
        ------
        TipAdapterError
            When it cannot be written (nothing half-written stays), or it was loaded from there and changed there since.
        """
        with self._changing:
            model, folder, session = self._fitted(), Path(path).resolve(), self._session
            held = session.lock if session is not None and session.folder == folder else None
            # A new folder is locked once it is made.
            needs_lock = held is None and fingerprint(folder) is not None
            with locked(folder, wait_s) if needs_lock else contextlib.nullcontext(held) as lock:
                here = fingerprint(folder)
                if here is not None and self._origin not in (None, (folder, here)) and self._origin[0] == folder:
                    raise TipAdapterError(
                        f"{path} was changed since it was loaded, and saving would undo that: load it again and repeat "
                        "the edit (ImageClassifier.editing applies edits to what is there), or save under another name"
                    )
                saved = model.save(folder, forgetting=self._forgetting, lock=lock)
            self._origin, self._forgetting = (folder, saved), []

    @classmethod
    def load(
        cls,
        path: StrPath,
        *,
        encoder: StrPath | Encoder | None = None,
        store: StrPath | Literal["default"] | None = "default",
        allow_truncated: bool = False,
    ) -> Self:
        """Load a saved classifier.

        Parameters
        ----------
        path : path-like
            The folder, or ``hub:owner/name``.
        encoder : str, path or Encoder, optional
            Where the encoder is now, such as an ONNX directory. Default: the name that was saved, which makes nothing
            be downloaded but the encoders of `tip_adapter.encoders.ENCODERS`: give the name of others yourself.
        store : "default", path or None, default="default"
        allow_truncated : bool, default=False

        Returns
        -------
        ImageClassifier

        Raises
        ------
        ModelFileError
            When it is no saved classifier, truncated, changed since, or of a newer version.
        """
        bundle = load_bundle(path)
        if bundle.forgetting:
            warn(
                f"Photos were being forgotten in {bundle.path} when that was interrupted, and traces of them are left "
                f"there: complete it with tip-adapter purge {bundle.path}",
                StorageWarning,
            )
        classifier = cls._of_bundle(bundle, encoder, store)
        classifier.allow_truncated = allow_truncated
        return classifier

    @classmethod
    def _of_bundle(
        cls, bundle: Bundle, encoder: StrPath | Encoder | None, store: StrPath | Literal["default"] | None
    ) -> Self:
        model = FewShotModel.from_bundle(bundle)
        words = dict(zip(model.class_names, model.class_texts, strict=True))
        classifier = cls(
            _encoder_of(bundle, model) if encoder is None else encoder,
            model.method.name,
            method_parameters=model.method.parameters,
            templates=model.templates,
            class_texts=words if any(model.class_texts) else "none",
            views=model.views,
            precision=model.encoder.precision,
            store=store,
        )
        classifier.model_ = model
        classifier._may_download = encoder is not None
        classifier._origin = (bundle.path.resolve(), bundle.fingerprint)
        return classifier

    @classmethod
    @contextlib.contextmanager
    def editing(
        cls,
        path: StrPath,
        *,
        encoder: StrPath | Encoder | None = None,
        store: StrPath | Literal["default"] | None = "default",
        wait_s: float = WAIT_S,
    ) -> Iterator[Self]:
        """Load a saved classifier to correct it, together with others who may do the same; saved at the end.

        Photos are encoded while others may edit, too. The first edit keeps them out until the block ends; what they
        have changed since it began is read before, and the edit is applied to that.

        Parameters
        ----------
        path : path-like
            The folder.
        encoder, store
            As for `load`.
        wait_s : float, default=60
            How long to wait for another process that edits the same classifier, in seconds.

        Yields
        ------
        ImageClassifier
            Saved when the block ends without an error; else what is on the disk stays.

        Raises
        ------
        TipAdapterError
            When another process keeps it for longer, it cannot be written, or somebody fitted it anew meanwhile.
        ModelFileError
            When it is no saved classifier.

        Examples
        --------
        >>> import numpy as np, pathlib, tempfile
        >>> from tip_adapter import ImageClassifier
        >>> photos = [np.full((32, 32, 3), value, dtype=np.uint8) for value in (30, 40, 220, 230)]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "light.tip"
        ...     ImageClassifier("fake", store=None).fit(photos, ["night", "night", "day", "day"]).save(path)
        ...     with ImageClassifier.editing(path, store=None) as classifier:
        ...         classifier.rename_class("night", "dark")
        ...     ImageClassifier.load(path).class_names
        ('day', 'dark')
        """
        if isinstance(path, str) and path.startswith(HUB_PREFIX):
            raise InputError(f"Expected a folder to edit, got {path}: load it, save it in a folder, and edit that")
        bundle = load_bundle(Path(path).resolve())
        classifier = cls._of_bundle(bundle, encoder, store)
        session = EditingSession(bundle.path, classifier.model_, bundle.fingerprint, wait_s)
        classifier._session = session
        try:
            yield classifier
            if classifier.model_ is not session.model:
                classifier.save(bundle.path, wait_s=wait_s)
        finally:
            classifier._session = None
            session.close()
