"""Change a fitted classifier in one step, of several threads and processes one after the other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from tip_adapter.classifier.encoding import EncodingPart
from tip_adapter.errors import TipAdapterError
from tip_adapter.model.few_shot_model import FewShotModel
from tip_adapter.storage.bundle_files import fingerprint
from tip_adapter.storage.bundles import finish_forgetting, load_bundle
from tip_adapter.storage.locking import FolderLock, locked

_T = TypeVar("_T")


class EditingSession:
    """A saved classifier that is being edited: others are kept out from the first edit on.

    Parameters
    ----------
    folder : pathlib.Path
    model : FewShotModel
        As it was read.
    seen : str
        Fingerprint of the state that was read.
    wait_s : float
        How long to wait for others, in seconds.

    Attributes
    ----------
    lock : FolderLock or None
        None before the first edit.
    interrupted : list of dict
        Shots whose forgetting was interrupted, and is complete since.
    """

    def __init__(self, folder: Path, model: FewShotModel, seen: str, wait_s: float) -> None:
        self.folder, self.model, self.seen, self.wait_s = folder, model, seen, wait_s
        self.lock: FolderLock | None = None
        self.interrupted: list[dict[str, str]] = []
        self._held = ExitStack()

    def begin(self) -> bool:
        """Keep others out, and read again what they have changed; return whether they have."""
        if self.lock is not None:
            return False
        self.lock = self._held.enter_context(locked(self.folder, self.wait_s, longer="wait_s, --wait SECONDS"))
        self.interrupted = finish_forgetting(self.lock)
        return self.refresh()

    def refresh(self) -> bool:
        """Read again what others have changed; return whether they have."""
        if fingerprint(self.folder) == self.seen:
            return False
        bundle = load_bundle(self.folder)
        model = FewShotModel.from_bundle(bundle)
        if _fitted_as(model) != _fitted_as(self.model):
            raise TipAdapterError(f"{self.folder} was fitted anew by somebody else meanwhile: run this again")
        self.model, self.seen = model, bundle.fingerprint
        return True

    def close(self) -> None:
        """Let others in again."""
        self._held.close()


def _fitted_as(model: FewShotModel) -> tuple[object, ...]:
    """What no edit changes: what features of new photos and a new head depend on."""
    encoder, method = model.encoder, model.method
    photos = encoder.image_id, model.views, model.random_state
    return *photos, encoder.text_id, model.templates, method.name, method.parameters


class ChangingPart(EncodingPart):
    """The part of `ImageClassifier` through which its model changes."""

    def _latest(self) -> FewShotModel:
        """The model; in an editing block before its first edit, with what others have changed meanwhile."""
        with self._changing:
            session = self._session
            if session is not None and session.lock is None and session.refresh():
                self.model_, self._origin = session.model, (session.folder, session.seen)
            return self._fitted()

    def _change(
        self,
        change: Callable[[FewShotModel], tuple[FewShotModel, _T]],
        *,
        ready: Callable[[_T], None] | None = None,
    ) -> _T:
        """Put what a function makes of the model in its place, and return its result.

        In an editing block the function runs before others are kept out, and again where they have changed the saved
        classifier since it was read; so it must change nothing itself. What has to be done once, before the change
        counts, is for `ready`, which is given the result.
        """
        with self._changing:
            model, session = self._latest(), self._session
            done = None
            try:
                done = change(model)
            except TipAdapterError:
                # What is not there, somebody else may have added.
                if session is None or session.lock is not None:
                    raise
            if session is not None and session.begin():
                model, done = session.model, None
                self._origin = (session.folder, session.seen)
            changed, result = change(model) if done is None else done
            if ready is not None:
                ready(result)
            self.model_ = changed
            return result
