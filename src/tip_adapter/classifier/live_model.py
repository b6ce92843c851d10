"""What a classifier has learned, which several threads and processes change one after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any, TypeVar

from tip_adapter.errors import InputError, TipAdapterError
from tip_adapter.model.few_shot_model import FewShotModel
from tip_adapter.storage.bundle_files import fingerprint
from tip_adapter.storage.bundles import finish_forgetting, load_bundle
from tip_adapter.storage.locking import FolderLock, locked
from tip_adapter.typing import StrPath

_T = TypeVar("_T")


class EditingSession:
    """A saved classifier that is being edited; the first edit takes its lock."""

    def __init__(self, folder: Path, model: FewShotModel, seen: str, wait_s: float) -> None:
        self.folder, self.model, self.wait_s = folder, model, wait_s
        self.seen = seen
        """Fingerprint of the state that was read."""
        self.lock: FolderLock | None = None
        self.interrupted: list[dict[str, str]] = []
        """Shots whose forgetting was interrupted, and is complete since."""
        self._held = ExitStack()

    def begin(self) -> bool:
        """Take the lock, and read what others have changed since; return whether they have."""
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
            raise TipAdapterError(f"{self.folder} was fitted again by somebody else in the meantime: run this again")
        self.model, self.seen = model, bundle.fingerprint
        return True

    def close(self) -> None:
        """Release the lock."""
        self._held.close()


def _fitted_as(model: FewShotModel) -> tuple[object, ...]:
    """What no edit changes: what features of new photos and a new head depend on."""
    encoder, method = model.encoder, model.method
    photos = encoder.image_id, model.views, model.random_state
    return *photos, encoder.text_id, model.templates, method.name


class LiveModel:
    """The model of a classifier, if it has one, and where it is saved."""

    def __init__(self) -> None:
        self.model: FewShotModel | None = None
        self.origin: tuple[Path, str] | None = None
        """Which saved classifier this is, and as which it was read or written."""
        self.forgetting: list[dict[str, str]] = []
        """Shots that have to be forgotten on the disk, too, when it is saved."""
        self.session: EditingSession | None = None
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the lock, and the session: a copy is not what is being edited."""
        state = vars(self) | {"session": None}
        del state["_lock"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.RLock())

    def put(self, model: FewShotModel, origin: tuple[Path, str] | None = None) -> None:
        """Replace the model, as fitting and loading do."""
        self.model, self.origin = model, origin

    def present(self) -> FewShotModel:
        """The model; it is an error to have none."""
        if self.model is None:
            raise InputError("This classifier is not fitted yet: call fit with labelled photos, or load a saved one")
        return self.model

    @property
    def interrupted(self) -> list[dict[str, str]]:
        """Shots whose forgetting was interrupted, and is complete since the session began."""
        return [] if self.session is None else self.session.interrupted

    def latest(self) -> FewShotModel:
        """The model; in an editing block before its first edit, with what others have changed meanwhile."""
        with self._lock:
            session = self.session
            if session is not None and session.lock is None and session.refresh():
                self.model, self.origin = session.model, (session.folder, session.seen)
            return self.present()

    def change(
        self,
        change: Callable[[FewShotModel], tuple[FewShotModel, _T]],
        *,
        ready: Callable[[_T], None] | None = None,
    ) -> _T:
        """Replace the model by what a function makes of it, and return the result of the function.

        In an editing block the function runs before the lock is taken, and again where others have changed the saved
        classifier since it was read; so it must have no side effects. What has to be done once, before the change
        counts, is for `ready`, which is given the result.
        """
        with self._lock:
            model, session = self.latest(), self.session
            done = None
            try:
                done = change(model)
            except TipAdapterError:
                # What is not there, somebody else may have added.
                if session is None or session.lock is not None:
                    raise
            if session is not None and session.begin():
                model, done = session.model, None
                self.origin = (session.folder, session.seen)
            changed, result = change(model) if done is None else done
            if ready is not None:
                ready(result)
            self.model = changed
            return result

    def save(self, path: StrPath, wait_s: float) -> None:
        """Save the model as a folder, unless others have changed what it was loaded from."""
        with self._lock:
            model, folder, session = self.present(), Path(path).resolve(), self.session
            held = session.lock if session is not None and session.folder == folder else None
            # A new folder is locked once it is made.
            needs_lock = held is None and fingerprint(folder) is not None
            with locked(folder, wait_s) if needs_lock else nullcontext(held) as lock:
                here = fingerprint(folder)
                if here is not None and self.origin not in (None, (folder, here)) and self.origin[0] == folder:
                    raise TipAdapterError(
                        f"{path} was changed since it was loaded, and saving would undo that: load it again and repeat "
                        "the edit (ImageClassifier.editing applies edits to what is there), or save under another name"
                    )
                saved = model.save(folder, forgetting=self.forgetting, lock=lock)
            self.origin, self.forgetting = (folder, saved), []
