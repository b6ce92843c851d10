"""A fitted classifier ↔ its folder on the disk, one process at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from tip_adapter.classifier.encoding import EncodingPart
from tip_adapter.errors import InputError, TipAdapterError
from tip_adapter.model.few_shot_model import FewShotModel
from tip_adapter.storage.bundle_files import fingerprint
from tip_adapter.storage.hub_folders import HUB_PREFIX
from tip_adapter.storage.locking import WAIT_S, FolderLock, locked
from tip_adapter.typing import StrPath

if TYPE_CHECKING:
    from tip_adapter.encoders import Encoder

__all__ = ["SavingPart"]


class SavingPart(EncodingPart):
    """The part of `ImageClassifier` that is saved and loaded."""

    def save(self, path: StrPath) -> None:
        """Save the classifier as a folder; the encoder is named in it, not copied.

        Parameters
        ----------
        path : path-like
            Such as ``clothes.tip``. A classifier saved there before is replaced.

        Raises
        ------
        TipAdapterError
            When it cannot be written (nothing half-written stays), or it was loaded from there and changed there since.
        """
        model, path = self._fitted(), Path(path)
        folder = path.resolve()
        with self._locked(folder) as lock:
            here = fingerprint(folder)
            if here is not None and self._origin is not None and self._origin[0] == folder and self._origin[1] != here:
                raise TipAdapterError(
                    f"{path} was changed since it was loaded, and saving would undo that: load it again and repeat the "
                    "edit (ImageClassifier.editing keeps others out meanwhile), or save under another name."
                )
            model.save(folder, lock=lock)
            self._origin = (folder, fingerprint(folder) or "")

    @contextlib.contextmanager
    def _locked(self, folder: Path) -> Iterator[FolderLock | None]:
        """The lock that is held already, or a new one; none for a new folder, which is locked once it is made."""
        if self._lock is not None and self._lock.folder == folder:
            yield self._lock
        elif fingerprint(folder) is None:
            yield None
        else:
            with locked(folder) as lock:
                yield lock

    @classmethod
    def load(
        cls,
        path: StrPath,
        *,
        encoder: StrPath | Encoder | None = None,
        store: StrPath | Literal["default"] | None = "default",
    ) -> Self:
        """Load a saved classifier.

        Parameters
        ----------
        path : path-like
            The folder, or ``hub:owner/name``.
        encoder : str, path or Encoder, optional
            Where the encoder is now, such as an ONNX directory. Default: the name that was saved.
        store : "default", path or None, default="default"

        Returns
        -------
        ImageClassifier

        Raises
        ------
        ModelFileError
            When it is no saved classifier, truncated, changed since, or of a newer version.
        """
        on_hub = isinstance(path, str) and path.startswith(HUB_PREFIX)
        # Before the rest is read: what changes in between is then noticed when it is saved.
        before = None if on_hub else fingerprint(path)
        model = FewShotModel.load(path)
        classifier = cls(
            model.encoder.name if encoder is None else encoder,
            model.method.name,
            method_parameters=model.method.parameters,
            templates=model.templates,
            class_texts=dict(zip(model.class_names, model.class_texts, strict=True)),
            views=model.views,
            precision=model.encoder.precision,
            store=store,
        )
        classifier.model_ = model
        classifier._origin = None if before is None else (Path(path).resolve(), before)
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
        """Load a saved classifier to correct it, and save it at the end; other processes wait meanwhile.

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
            When another process holds it for longer, or it cannot be written.
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
            raise InputError(f"Expected a folder to edit, got {path}: load it, save it in a folder, and edit that.")
        # Looked at before the lock, so that a mistyped path leaves no file behind.
        if fingerprint(path) is None:
            FewShotModel.load(path)
        with locked(Path(path).resolve(), wait_s) as lock:
            classifier = cls.load(path, encoder=encoder, store=store)
            classifier._lock = lock
            try:
                yield classifier
                classifier.save(path)
            finally:
                classifier._lock = None
