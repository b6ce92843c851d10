"""The queue of unlabelled photos, ranked by what their labels would teach."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tip_adapter.classifier.encoding import PhotoEncoder
from tip_adapter.classifier.predicting import worth_labelling
from tip_adapter.data.decoding import ImageSource, NamedBytes, StoredImage, image_digest, read_image_bytes
from tip_adapter.data.thumbnails import make_thumbnails
from tip_adapter.errors import ImageError, TipAdapterError
from tip_adapter.model.few_shot_model import FewShotModel
from tip_adapter.model.predictions import Prediction
from tip_adapter.model.shots import shot_ids
from tip_adapter.serve.encoding import Encoded
from tip_adapter.serve.kept_requests import KeptRequests
from tip_adapter.serve.problems import Problem
from tip_adapter.serve.sent_photos import SentPhotos
from tip_adapter.serve.settings import Settings
from tip_adapter.serve.uploads import shown
from tip_adapter.typing import Float32Array

if TYPE_CHECKING:
    from tip_adapter.encoders import Encoder

AT_ONCE = 64
"""Photos of the folder that are encoded before others are shown beside them."""

COME_BACK = 100
"""Photos that were skipped last, and sent ones labelled last, may wait again; of those before nothing is kept."""

PICTURE_SIDE = 480
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Unlabelled:
    """A photo without a label: what it is called, where its bytes are, its unit feature."""

    name: str
    source: ImageSource
    feature: Float32Array


class UnlabelledPhotos:
    """The photos without labels of one classifier, by the SHA-256 of their bytes.

    Those of the operator's folder are read where they are, and never written. Those that clients send wait in one file
    without a name. Those of requests are kept where that was asked.
    """

    def __init__(self, encoder: Encoder, settings: Settings, kept: KeptRequests | None = None) -> None:
        self.encoder, self.settings, self.kept = encoder, settings, kept
        self.unread = self.unreadable = 0
        """Photos of the folder that are still to be encoded, or cannot be."""
        self._photos: dict[str, Unlabelled] = {}
        self._passed_over: set[str] = set()
        # The last of each come last.
        self._skipped: dict[str, Unlabelled] = {}
        self._labelled: dict[str, None] = {}
        self._lock, self._ranking = threading.Lock(), threading.Lock()
        self._sent = SentPhotos(settings.sent_bytes)
        self._closing = False
        self.reading: threading.Thread | None = None
        self._version = 0
        self._ranked: tuple[object, ...] = ()
        self._next: tuple[int, list[tuple[str, Prediction]]] = (0, [])

    def start(self, model: FewShotModel | None) -> None:
        """Encode what is on the disk, in a thread, beside the requests: some of the folder, where it holds too many."""
        paths = list(self.settings.unlabelled)
        if len(paths) > self.settings.max_unlabelled:
            drawn = np.random.default_rng(0).choice(len(paths), self.settings.max_unlabelled, replace=False)
            paths = [paths[place] for place in sorted(drawn)]
        kept: list[ImageSource] = []
        if self.kept is not None:
            labelled = set(model.shots.features.digests) if model else set()
            for digest in labelled:
                self.kept.delete(digest)
            kept = [_of_request(digest, path) for digest, path in self.kept]
        self.unread = len(paths) + len(kept)
        if self.unread:
            self.reading = threading.Thread(target=self._read_all, args=(paths, kept), name="unlabelled", daemon=True)
            self.reading.start()

    def _read_all(self, paths: Sequence[ImageSource], kept: Sequence[ImageSource]) -> None:
        # Of kept photos nothing is kept elsewhere.
        for sources, store in ((kept, None), (paths, self.settings.store)):
            for start in range(0, len(sources), AT_ONCE):
                if not self._closing:
                    self._read(sources[start : start + AT_ONCE], PhotoEncoder(self.encoder, store=store))

    def _read(self, sources: Sequence[ImageSource], photos: PhotoEncoder) -> None:
        found: dict[str, Unlabelled] = {}
        try:
            extraction = photos.extract(sources, skip_bad=True)
            features = extraction.features
            for row, place in enumerate(extraction.kept):
                name, source = shown(features.names[row]), sources[place]
                found.setdefault(features.digests[row], Unlabelled(name, source, features.unit[row]))
            self.unreadable += len(extraction.skipped)
        except (TipAdapterError, OSError) as error:
            log.warning("%d unlabelled photos cannot be read, such as this: %s", len(sources), error)
            self.unreadable += len(sources)
        self._take(found)
        self.unread -= len(sources)

    def _take(self, found: dict[str, Unlabelled]) -> None:
        with self._lock:
            for digest, photo in found.items():
                if digest not in self._passed_over:
                    self._photos.setdefault(digest, photo)
            self._version += 1

    def send(self, photo: NamedBytes, digest: str, feature: Float32Array) -> bool:
        """Take a photo that a client sends; False where it waits already."""
        with self._lock:
            if digest in self._photos:
                return False
            if len(self._photos) >= self.settings.max_unlabelled:
                raise Problem(413, f"{len(self._photos)} photos wait to be labelled: label or skip some first")
            self._sent.write(digest, photo)
            self._passed_over.discard(digest)
            self._skipped.pop(digest, None)
            source = StoredImage(lambda: self._sent.read(digest), photo.filename)
            self._photos[digest] = Unlabelled(photo.filename, source, feature)
            self._version += 1
        return True

    def consider(self, model: FewShotModel, photos: Sequence[NamedBytes], encoded: Sequence[Encoded]) -> list[str]:
        """Keep those photos of a request that are worth a label, and tell why each is kept."""
        reasons: list[str] = []
        if self.kept is None or len(model.class_names) < 2:
            return reasons
        for photo, one in zip(photos, encoded, strict=True):
            if one.feature is None:
                continue
            reason = self.kept.reason(model.probabilities(model.logits(one.feature[None]))[0])
            known = one.digest in self._photos or one.digest in self._passed_over
            if reason is None or known or shot_ids([one.digest])[0] in model.shots.rows:
                continue
            path = self.kept.keep(one.digest, photo, reason)
            reasons.append(reason if path else "failed")
            if path:
                source = _of_request(one.digest, path)
                self._take({one.digest: Unlabelled(source.filename, source, one.feature)})
        return reasons

    def next(self, model: FewShotModel, count: int, n_classes: int) -> tuple[int, list[tuple[str, Prediction]]]:
        """Rank the photos that are no shots as `tip-adapter next` does: how many they are, and the first of them."""
        with self._ranking:  # the same question, asked by many at once, is answered once
            with self._lock:
                self._free(set(model.shots.features.digests))
                asked = (model, self._version, count, n_classes)
                photos = dict(self._photos)
            if not self._ranked or self._ranked[0] is not model or self._ranked[1:] != asked[1:]:
                self._next, self._ranked = _ranked(model, photos, count, n_classes), asked
            return self._next

    def bytes_of(self, digest: str) -> NamedBytes:
        """Read a photo; one that is gone, or another one now, waits no longer."""
        photo = self._waiting(digest)
        try:
            data = read_image_bytes(photo.source)
        except (ImageError, OSError):
            data = b""
        if image_digest(data) != digest:
            self.pass_over([digest])
            raise Problem(410, f"{photo.name} is gone, or was changed: it waits no longer")
        return NamedBytes(data, photo.name)

    def _waiting(self, digest: str) -> Unlabelled:
        if digest not in self._photos:
            raise Problem(404, f"No photo {digest!r} waits to be labelled")
        return self._photos[digest]

    def picture(self, digest: str) -> bytes:
        """Give a picture of a photo, a JPEG."""
        return make_thumbnails([self.bytes_of(digest)], PICTURE_SIDE)[0]

    def skip(self, digest: str) -> None:
        """Let a photo wait no longer, unless it is brought back before many others are skipped."""
        with self._lock:
            photo = self._waiting(digest)
            if self.kept is not None and digest in dict(self.kept):
                photo = self._copied(digest, photo)
                self.kept.delete(digest)
            self._photos.pop(digest, None)
            self._passed_over.add(digest)
            self._skipped[digest] = photo
            self._version += 1
            for old in tuple(self._skipped)[:-COME_BACK]:
                self._let_go(old)

    def _copied(self, digest: str, photo: Unlabelled) -> Unlabelled:
        """Move a photo of a request to those that clients sent, so that nothing of it stays where such are kept."""
        with contextlib.suppress(Problem, ImageError, OSError):  # then it cannot be brought back
            self._sent.write(digest, read_image_bytes(photo.source))
        return replace(photo, source=StoredImage(lambda: self._sent.read(digest), photo.name))

    def bring_back(self, digest: str) -> None:
        """Let a photo wait again that was skipped."""
        with self._lock:
            if digest not in self._skipped:
                raise Problem(404, f"No photo {digest!r} was skipped, or too many others since")
            self._photos[digest] = self._skipped.pop(digest)
            self._passed_over.discard(digest)
            self._version += 1

    def pass_over(self, digests: Iterable[str]) -> None:
        """Let photos wait no longer, and not come back either."""
        with self._lock:
            for digest in digests:
                self._passed_over.add(digest)
                self._let_go(digest)
            self._version += 1

    def _let_go(self, digest: str) -> None:
        """Keep nothing of a photo, whatever became of it."""
        for waiting in (self._photos, self._skipped, self._labelled):
            waiting.pop(digest, None)
        self._sent.delete(digest)
        if self.kept is not None:
            self.kept.delete(digest)

    def _free(self, shots: set[str]) -> None:
        """Let go of photos that were sent, and became shots so long ago that nobody takes that back."""
        for digest in self._sent:
            if digest not in shots:
                self._labelled.pop(digest, None)
            else:
                self._labelled.setdefault(digest)
        for old in tuple(self._labelled)[:-COME_BACK]:
            self._let_go(old)

    def close(self) -> None:
        """Read no further, and let go of what was sent."""
        self._closing = True
        if self.kept is not None:
            self.kept.close()
        self._sent.close()


def _of_request(digest: str, path: Path) -> StoredImage:
    return StoredImage(path.read_bytes, f"request {digest[:12]}")


def _ranked(
    model: FewShotModel, photos: dict[str, Unlabelled], count: int, n_classes: int
) -> tuple[int, list[tuple[str, Prediction]]]:
    known = set(model.shots.features.digests)
    waiting = {digest: photo for digest, photo in photos.items() if digest not in known}
    if not waiting:
        return 0, []
    digests = list(waiting)
    features = np.stack([photo.feature for photo in waiting.values()])
    names = [photo.name for photo in waiting.values()]
    rows, found = worth_labelling(model, features, digests, names, count, n_classes=n_classes)
    return len(waiting), [(digests[row], prediction) for row, prediction in zip(rows, found, strict=True)]
