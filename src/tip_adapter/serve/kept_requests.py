"""Keep photos of requests that are worth a label in a folder, on request and within bounds."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tip_adapter.data.pixels import HEAD_BYTES, image_format
from tip_adapter.errors import TipAdapterError
from tip_adapter.storage.atomic import clear_errors, write_file
from tip_adapter.storage.locking import locked
from tip_adapter.typing import FloatArray

UNCERTAIN, RARE, RANDOM = REASONS = ("uncertain", "rare", "random")
RECENT = 1000
MORE_UNCERTAIN_THAN = 0.9
"""Kept as uncertain: a photo less certain than this share of the last `RECENT`, whatever the classifier is used to."""
RARELY = 0.25
"""Kept as rare: a photo of a class that is named less than this share as often as if all were equally frequent."""
AT_RANDOM = 0.01
"""Of the others: what the classifier is sure of, and perhaps wrong about, is found by chance alone."""

_NAME = re.compile(r"[0-9a-f]{64}\.[a-z]+")
log = logging.getLogger(__name__)


class KeptRequests:
    """Kept photos of one classifier: in a folder for each reason, each file named by the SHA-256 of its bytes.

    Where one more would be too many, the oldest of whatever reason has most goes. Nobody but the owner of the process
    may look into the folder.
    """

    def __init__(self, folder: Path, most: int, most_bytes: int) -> None:
        self.folder, self.most, self.most_bytes = folder, most, most_bytes
        self._files: dict[str, dict[str, tuple[Path, int]]] = {reason: {} for reason in REASONS}
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._named: Counter[int] = Counter()
        self._chance = np.random.default_rng()
        self._writing, self._held, self._failed = threading.Lock(), contextlib.ExitStack(), False
        with clear_errors(folder):
            for reason in REASONS:
                (folder / reason).mkdir(mode=0o700, parents=True, exist_ok=True)
        self._held.enter_context(locked(folder, 0))
        for reason in REASONS:
            self._find(reason)
        self._make_room(0, 0)

    def _find(self, reason: str) -> None:
        with clear_errors(self.folder):
            for left in (self.folder / reason).glob(".*.tmp-*"):  # of a service that was killed: this one has the lock
                left.unlink()
            found = [(path, path.stat()) for path in (self.folder / reason).iterdir() if _NAME.fullmatch(path.name)]
        for path, facts in sorted(found, key=lambda one: one[1].st_mtime_ns):
            self._files[reason][path.stem] = path, facts.st_size

    def __iter__(self) -> Iterator[tuple[str, Path]]:
        """Go through the SHA-256 and the file of every photo."""
        files = [(digest, path) for kept in self._files.values() for digest, (path, _) in kept.items()]
        return iter(files)

    def reason(self, probabilities: FloatArray) -> str | None:
        """Tell why a photo is worth keeping, if it is, from its probabilities (C,), C ≥ 2; each is counted."""
        first, second = np.argsort(-probabilities, kind="stable")[:2]
        uncertain = 1.0 - float(probabilities[first] - probabilities[second])
        less = np.array(self._recent) < uncertain
        expected = self._named.total() / len(probabilities) + 1  # one of each class is taken for seen
        rare = self._named[int(first)] + 1 < RARELY * expected
        self._recent.append(uncertain)
        self._named[int(first)] += 1
        if not less.size or less.mean() >= MORE_UNCERTAIN_THAN:
            return UNCERTAIN
        if rare:
            return RARE
        return RANDOM if self._chance.random() < AT_RANDOM else None

    def keep(self, digest: str, data: bytes, reason: str) -> Path | None:
        """Write a photo to the disk; None where it cannot be, which is no reason for a request to fail."""
        if len(data) > self.most_bytes:
            return None
        with self._writing:
            kind = image_format(data[:HEAD_BYTES]) or "image"
            path = self.folder / reason / f"{digest}.{kind.lower()}"
            try:
                self._make_room(1, len(data))
                write_file(path, data)
            except (TipAdapterError, OSError) as error:
                if not self._failed:
                    log.warning("Photos of requests are not kept: %s", error)
                self._failed = True
                return None
            self._failed = False
            self._files[reason][digest] = path, len(data)
        return path

    def delete(self, digest: str) -> None:
        """Keep a photo no longer."""
        for kept in self._files.values():
            if digest in kept:
                kept.pop(digest)[0].unlink(missing_ok=True)

    def _make_room(self, count: int, size: int) -> None:
        while True:
            sizes = [one for kept in self._files.values() for _, one in kept.values()]
            if len(sizes) + count <= self.most and sum(sizes) + size <= self.most_bytes:
                return
            most = max(self._files.values(), key=len)
            self.delete(next(iter(most)))

    def close(self) -> None:
        """Let others keep photos there."""
        self._held.close()
