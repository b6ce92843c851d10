"""Encode photos of many requests together: one worker for each encoder, with a bounded queue."""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tip_adapter.data.decoding import NamedBytes
from tip_adapter.errors import ImageError
from tip_adapter.features.extraction import extract_features
from tip_adapter.serve.metrics import Metrics
from tip_adapter.serve.problems import Problem
from tip_adapter.serve.settings import Settings
from tip_adapter.typing import Float32Array

if TYPE_CHECKING:
    from tip_adapter.encoders import Encoder


@dataclass(frozen=True)
class Encoded:
    """A photo's unit feature and the SHA-256 of its bytes, or the reason why there is none."""

    feature: Float32Array | None
    digest: str = ""
    error: str = ""


class EncodingQueue:
    """Encode photos as they come, those that wait together in one batch."""

    def __init__(self, encoder: Encoder, settings: Settings, metrics: Metrics) -> None:
        self.encoder, self.settings, self.metrics = encoder, settings, metrics
        self._waiting: deque[tuple[NamedBytes, Future[Encoded]]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._worker = threading.Thread(target=self._work, name="encoding", daemon=True)
        self._worker.start()

    def submit(self, uploads: list[NamedBytes]) -> list[Future[Encoded]]:
        """Put photos into the queue, all of them or none."""
        futures: list[Future[Encoded]] = [Future() for _ in uploads]
        with self._changed:
            if self._closing:
                raise Problem(503, "The service is shutting down", Retry_After="5")
            if len(self._waiting) + len(uploads) > max(self.settings.queue, len(uploads) * (not self._waiting)):
                raise Problem(503, f"{len(self._waiting)} photos are waiting: try again later", Retry_After="1")
            self._waiting.extend(zip(uploads, futures, strict=True))
            self.metrics.waiting.set(len(self._waiting))
            self._changed.notify()
        return futures

    def close(self) -> None:
        """Finish what was accepted, and take nothing more."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._worker.join()

    def _work(self) -> None:
        while batch := self._next_batch():
            asked = [(upload, future) for upload, future in batch if future.set_running_or_notify_cancel()]
            if not asked:
                continue
            self.metrics.batches.observe(len(asked))
            try:
                found = self._encoded([upload for upload, _ in asked])
            except Exception as error:
                for _, future in asked:
                    future.set_exception(error)
                continue
            for (_, future), encoded in zip(asked, found, strict=True):
                future.set_result(encoded)

    def _next_batch(self) -> list[tuple[NamedBytes, Future[Encoded]]]:
        """Wait for a photo, and a moment for more; nothing once the queue is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            end = time.monotonic() + self.settings.window_s
            while len(self._waiting) < self.settings.batch and not self._closing:
                left = end - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    break
            batch = [self._waiting.popleft() for _ in range(min(self.settings.batch, len(self._waiting)))]
            self.metrics.waiting.set(len(self._waiting))
        return batch

    def _encoded(self, uploads: list[NamedBytes]) -> list[Encoded]:
        try:
            extraction = extract_features(
                self.encoder, uploads, store=None, batch_size=self.settings.batch, skip_bad=len(uploads) > 1
            )
        except ImageError as error:
            if len(uploads) > 1:
                return [self._encoded([upload])[0] for upload in uploads]
            return [Encoded(None, error=str(error))]
        features, digests = extraction.features.unit, extraction.features.digests
        rows = {int(place): row for row, place in enumerate(extraction.kept)}
        return [
            Encoded(np.array(features[rows[place]]), digests[rows[place]])
            if place in rows
            # Alone, so that the reason has the name that its own client gave it.
            else self._encoded([upload])[0]
            for place, upload in enumerate(uploads)
        ]
