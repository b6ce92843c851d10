"""The saved classifiers of a service: read again when somebody changes them, edited as the command line edits them."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from PIL import Image
from starlette.concurrency import run_in_threadpool

from tip_adapter.classifier import ImageClassifier, default_encoder
from tip_adapter.data.decoding import NamedBytes
from tip_adapter.encoders import load_encoder
from tip_adapter.errors import InputError
from tip_adapter.explain.explainer import Explainer
from tip_adapter.model.few_shot_model import FewShotModel
from tip_adapter.model.fitting import make_estimator
from tip_adapter.serve.encoding import EncodingQueue
from tip_adapter.serve.kept_requests import KeptRequests
from tip_adapter.serve.metrics import Metrics
from tip_adapter.serve.problems import Problem
from tip_adapter.serve.settings import Settings
from tip_adapter.serve.unlabelled import UnlabelledPhotos
from tip_adapter.storage.bundle_archives import unpack_bundle
from tip_adapter.storage.bundle_files import CONFIG_FILE, fingerprint
from tip_adapter.storage.escaping import for_path
from tip_adapter.typing import StrPath

if TYPE_CHECKING:
    from tip_adapter.encoders import Encoder

T = TypeVar("T")
BACKGROUND = "background"
"""A class of photos alone: a text would say nothing of what is not there."""


class ServedModel:
    """One saved classifier, or the folder where one is to be saved."""

    def __init__(
        self, name: str, folder: Path, encoder: Encoder, model: FewShotModel | None, settings: Settings
    ) -> None:
        self.name, self.folder, self.encoder, self._settings = name, folder, encoder, settings
        self.queue: EncodingQueue
        """Of its encoder, which other models may share."""
        kept = None
        if settings.keep_requests is not None:
            place = Path(settings.keep_requests) / for_path(name)
            kept = KeptRequests(place, settings.keep_photos, settings.keep_bytes)
        self.unlabelled = UnlabelledPhotos(encoder, settings, kept)
        self._state = (self._stamp() if model else None), model
        self._explainer: Explainer | None = None
        self._turn, self._settling = asyncio.Lock(), asyncio.Lock()
        self._measuring: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._known: dict[str, tuple[tuple[int, int, int], dict[str, Any]]] = {}

    def _stamp(self) -> tuple[int, int, int]:
        """Tell saved states apart without reading them: every save puts a new file in place."""
        facts = (self.folder / CONFIG_FILE).stat()
        return facts.st_ino, facts.st_mtime_ns, facts.st_size

    @property
    def taught(self) -> bool:
        """Whether there is a classifier."""
        return self._state[1] is not None

    @property
    def model(self) -> FewShotModel:
        """The classifier as it is on the disk, or as it was when it can no longer be read."""
        stamp, model = self._state
        if model is None:
            raise self._untaught()
        try:
            if (now := self._stamp()) == stamp:
                return model
        except OSError:
            return model
        model = ImageClassifier.load(self.folder, encoder=self.encoder, store=None).model_
        self._state = now, model
        return model

    @staticmethod
    def _untaught() -> Problem:
        return Problem(409, "Nothing was taught yet: send photos of two classes or more to POST /v1/fit")

    @property
    def explainer(self) -> Explainer:
        """Explainer of the present state, prepared once for it."""
        model, explainer = self.model, self._explainer
        if explainer is None or explainer.model is not model:
            self._explainer = explainer = Explainer(model)
        return explainer

    async def measured(self, what: str, measure: Callable[[ImageClassifier], dict[str, Any]]) -> dict[str, Any]:
        """Measure something of the saved classifier in a thread, once for every saved state."""
        async with self._measuring[what]:
            return await run_in_threadpool(self._measured, what, measure)

    def _measured(self, what: str, measure: Callable[[ImageClassifier], dict[str, Any]]) -> dict[str, Any]:
        if not self.taught:
            raise self._untaught()
        # Another state may be read than the one of this moment; then the next who asks measures again.
        try:
            now = self._stamp()
        except OSError:
            raise Problem(503, f"The saved classifier {self.name} cannot be read any more") from None
        if what not in self._known or self._known[what][0] != now:
            classifier = ImageClassifier.load(self.folder, encoder=self.encoder, store=self._settings.store)
            self._known[what] = now, {**measure(classifier), "edits": len(classifier.model_.journal) - 1}
        return self._known[what][1]

    def warm_up(self) -> None:
        """Load what the first edit and the first photo need, which takes seconds, before somebody waits for it."""
        make_estimator(self._state[1].method.name if self._state[1] else self._settings.method, {})
        picture = BytesIO()
        Image.new("RGB", (64, 64)).save(picture, "PNG")
        self.queue.submit([NamedBytes(picture.getvalue(), "grey.png")])

    async def edit(self, change: Callable[[ImageClassifier], T]) -> tuple[T, FewShotModel]:
        """Change the saved classifier, in a thread, after those who came before; what returns is on the disk."""
        if not self._settings.editing:
            raise Problem(403, "This service was started with --read-only")
        if not self.taught:
            raise self._untaught()
        return await self._in_turn(lambda: self._edited(change))

    def _edited(self, change: Callable[[ImageClassifier], T]) -> tuple[T, FewShotModel]:
        wait_s, store = self._settings.edit_wait_s, self._settings.store
        with ImageClassifier.editing(self.folder, encoder=self.encoder, store=store, wait_s=wait_s) as classifier:
            result = change(classifier)
        # Read again rather than kept: somebody else may have edited the classifier since.
        return result, self.model

    async def settle(self) -> FewShotModel:
        """Choose what the last edits made stale again, as part of the last of them; edits meanwhile go first."""
        async with self._settling:
            before = self.model
            if not before.stale or not self._settings.editing:
                return before
            classifier = await run_in_threadpool(self._refitted)
            return await self._in_turn(lambda: self._kept(before, classifier))

    def _refitted(self) -> ImageClassifier:
        classifier = ImageClassifier.load(self.folder, encoder=self.encoder, store=self._settings.store)
        classifier.refit(amend=True)
        return classifier

    def _kept(self, before: FewShotModel, settled: ImageClassifier) -> FewShotModel:
        if self.model is before:
            settled.save(self.folder, wait_s=self._settings.edit_wait_s)
        return self.model

    async def fit(self, images: list[NamedBytes], labels: list[str], groups: list[str] | None) -> FewShotModel:
        """Teach the first state, and save it."""
        return await self._in_turn(lambda: self._fitted(images, labels, groups))

    def _fitted(self, images: list[NamedBytes], labels: list[str], groups: list[str] | None) -> FewShotModel:
        if self.taught or not self._settings.teaching:
            raise Problem(409, "There is a classifier already: add shots to it")
        wordless = {name: () for name in labels if name == BACKGROUND}
        method, store = self._settings.method, self._settings.store
        classifier = ImageClassifier(self.encoder, method, class_texts=wordless or None, store=store)
        classifier.fit(images, labels, groups=groups, skip_bad=True).save(self.folder)
        self._state = self._stamp(), classifier.model_
        return classifier.model_

    async def open(self, archive: bytes) -> FewShotModel:
        """Go on with a saved classifier out of a ZIP file."""
        return await self._in_turn(lambda: self._opened(archive))

    def _opened(self, archive: bytes) -> FewShotModel:
        if self.taught or not self._settings.teaching:
            raise Problem(409, "There is a classifier already: start the studio with a new name to open another")
        unpack_bundle(archive, self.folder, lambda place: ImageClassifier.load(place, encoder=self.encoder, store=None))
        model = ImageClassifier.load(self.folder, encoder=self.encoder, store=None).model_
        self._state = self._stamp(), model
        return model

    async def _in_turn(self, change: Callable[[], T]) -> T:
        try:
            async with asyncio.timeout(self._settings.edit_wait_s):
                await self._turn.acquire()
        except TimeoutError:
            raise Problem(503, "Others are editing: try again later", Retry_After="5") from None
        try:
            return await run_in_threadpool(change)
        finally:
            self._turn.release()


class Models:
    """All classifiers of a service, by name; those with the same encoder share it, and its queue."""

    def __init__(self, folders: Mapping[str, StrPath], encoder: StrPath | None, settings: Settings) -> None:
        if not folders:
            raise InputError("Expected at least one saved classifier to serve, got none")
        self._served: dict[str, ServedModel] = {}
        self._queues: list[EncodingQueue] = []
        for name, folder in folders.items():
            self._served[name] = self._load(name, Path(folder), encoder, settings)

    def _load(self, name: str, folder: Path, encoder: StrPath | None, settings: Settings) -> ServedModel:
        if settings.teaching and fingerprint(folder) is None:
            return ServedModel(name, folder.resolve(), load_encoder(encoder or default_encoder()), None, settings)
        classifier = ImageClassifier.load(folder, encoder=encoder, store=None)
        record = classifier.model_.encoder
        for other in self._served.values():
            if (other.encoder.image_id, other.encoder.text_id) == (record.image_id, record.text_id):
                classifier = ImageClassifier.load(folder, encoder=other.encoder, store=None)
                break
        return ServedModel(name, folder.resolve(), classifier.encoder, classifier.model_, settings)

    def start(self, settings: Settings, metrics: Metrics) -> None:
        """Begin to take photos."""
        queues: dict[int, EncodingQueue] = {}
        for served in self._served.values():
            encoder: Encoder = served.encoder
            if id(encoder) not in queues:
                queues[id(encoder)] = EncodingQueue(encoder, settings, metrics)
            served.queue = queues[id(encoder)]
            served.unlabelled.start(served.model if served.taught else None)
            if settings.teaching:
                threading.Thread(target=served.warm_up, name="warming up", daemon=True).start()
        self._queues = list(queues.values())

    def close(self) -> None:
        """Finish what was accepted."""
        for served in self._served.values():
            served.unlabelled.close()
        for queue in self._queues:
            queue.close()

    def __getitem__(self, name: str | None) -> ServedModel:
        if name is None and len(self._served) > 1:
            raise Problem(422, f"Which model? ?model= is one of {', '.join(self._served)}")
        wanted = next(iter(self._served)) if name is None else name
        if wanted not in self._served:
            raise Problem(404, f"There is no model {name!r}: there are {', '.join(self._served)}")
        return self._served[wanted]

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._served.values())
