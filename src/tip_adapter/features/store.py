"""Keep un-normalised features in one SQLite file, by encoder, image digest and view."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Self

import numpy as np

from tip_adapter.errors import FeatureError, ModelFileError, StorageWarning, TipAdapterError, warn
from tip_adapter.storage.atomic import can_write
from tip_adapter.storage.cache_folder import CACHE_VARIABLE, cache_dir
from tip_adapter.storage.escaping import reason_of
from tip_adapter.typing import Float32Array, FloatArray, StrPath

SCHEMA_VERSION = 1
BUSY_TIMEOUT_S = 30.0
# Two variables a key and one for the encoder must stay below 999, the smallest limit of any SQLite build.
KEYS_PER_QUERY = 400
MAX_FEATURE_BYTES = 4 * 2**20
RELATIVE_NORM_TOLERANCE = 1e-3

FeatureKey = tuple[str, str]
"""(SHA-256 of the image bytes, name of the view)."""

# Rows hold kilobytes, so the table keeps its rowid: WITHOUT ROWID would put the vectors into the tree of the keys.
SCHEMA = """
CREATE TABLE IF NOT EXISTS features (
    encoder_id TEXT NOT NULL,
    digest TEXT NOT NULL,
    view TEXT NOT NULL,
    norm REAL NOT NULL,
    vector BLOB NOT NULL,
    PRIMARY KEY (encoder_id, digest, view)
);
CREATE INDEX IF NOT EXISTS features_by_digest ON features (digest);
"""

# Primary result codes, https://www.sqlite.org/rescode.html, that a user can act on.
DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}
REMEDIES = {
    sqlite3.SQLITE_READONLY: "it cannot be written: check its permissions, or choose another place",
    sqlite3.SQLITE_PERM: "it cannot be written: check its permissions, or choose another place",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: check its permissions and its folder's, or choose another place",
    sqlite3.SQLITE_FULL: "the disk is full: free some space and run again, finished features are kept",
    sqlite3.SQLITE_IOERR: "the disk fails or is full: check it and run again, finished features are kept",
    sqlite3.SQLITE_BUSY: "another process keeps it locked: wait for it to end and run again",
    sqlite3.SQLITE_LOCKED: "another process keeps it locked: wait for it to end and run again",
}


class FeatureStore:
    """Features of images on disk, shared by every run and every process of one user.

    The file is an SQLite database in WAL mode: killed writers leave it whole, and several processes may write at once.
    One object may be used from several threads. Where file or folder are not to be written, what is there is used, and
    nothing is added.

    Parameters
    ----------
    path : path-like, optional
        The database file, made with its folder where it does not exist. Default: ``features.sqlite3`` in the user's
        cache folder.

    Attributes
    ----------
    path : pathlib.Path
    read_only : bool
        Whether nothing can be added, for lack of permission.

    Raises
    ------
    ModelFileError
        When the file is no feature store, is damaged, or was written by a newer version.
    TipAdapterError
        When it cannot be opened.

    Warns
    -----
    StorageWarning
        When nothing can be added.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from pathlib import Path
    >>> from tip_adapter.features.store import FeatureStore
    >>> folder = tempfile.TemporaryDirectory()
    >>> with FeatureStore(Path(folder.name) / "features.sqlite3") as store:
    ...     store.put("my-encoder", {("digest", "center"): np.array([3.0, 4.0], dtype=np.float32)})
    ...     store.get("my-encoder", [("digest", "center"), ("digest", "other view")])
    1
    {('digest', 'center'): array([3., 4.], dtype=float32)}
    >>> folder.cleanup()
    """

    def __init__(self, path: StrPath | None = None) -> None:
        self.path = Path(path) if path is not None else cache_dir() / "features.sqlite3"
        self._lock = threading.RLock()
        self.read_only = not can_write(self.path)
        if self.read_only:
            warn(
                f"The feature store {self.path} cannot be written: what it holds is used, what is new is not kept; "
                f"let {CACHE_VARIABLE} name a folder that can be written",
                StorageWarning,
            )
            with self._clear_errors():
                self._connection = self._opened_read_only()
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TipAdapterError(
                f"The folder of the feature store {self.path} cannot be made: {error.strerror}"
            ) from error
        with self._clear_errors():
            self._connection = _connect(self.path)
        try:
            with self._clear_errors():
                self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def _opened_read_only(self) -> sqlite3.Connection:
        """Open the file for reading; where there is none yet, an empty store in memory."""
        # In a folder that cannot be written SQLite reads a file in WAL mode only when told that nobody changes it.
        for mode in ("mode=ro", "immutable=1") if self.path.exists() else ():
            connection = _connect(f"{self.path.absolute().as_uri()}?{mode}", uri=True)
            with contextlib.ExitStack() as closing, contextlib.suppress(sqlite3.OperationalError):
                closing.callback(connection.close)
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                self._check_version(version)
                if version:
                    closing.pop_all()
                    return connection
        connection = _connect(":memory:")
        connection.executescript(SCHEMA)
        return connection

    def get(self, encoder_id: str, keys: Sequence[FeatureKey]) -> dict[FeatureKey, Float32Array]:
        """Look features up.

        Parameters
        ----------
        encoder_id : str
        keys : sequence of (digest, view)

        Returns
        -------
        dict
            Un-normalised features of shape (D,) of those keys that are stored.

        Raises
        ------
        ModelFileError
            When the file is damaged.
        """
        found: dict[FeatureKey, Float32Array] = {}
        remaining = iter(dict.fromkeys(keys))
        with self._lock, self._clear_errors():
            while chunk := list(islice(remaining, KEYS_PER_QUERY)):
                wanted = ", ".join(["(?, ?)"] * len(chunk))
                # CROSS JOIN fixes the order of the loops: one index look-up a key, never a scan.
                query = (
                    f"WITH wanted (digest, view) AS (VALUES {wanted}) "  # noqa: S608
                    "SELECT f.digest, f.view, f.norm, CASE WHEN typeof(f.vector) = 'blob' "
                    f"AND length(f.vector) BETWEEN 4 AND {MAX_FEATURE_BYTES} THEN f.vector END "
                    "FROM wanted CROSS JOIN features AS f "
                    "WHERE f.encoder_id = ? AND f.digest = wanted.digest AND f.view = wanted.view"
                )
                values = [part for key in chunk for part in key]
                for digest, view, norm, blob in self._connection.execute(query, [*values, encoder_id]):
                    found[digest, view] = self._decode(blob, norm)
        return found

    def put(self, encoder_id: str, features: Mapping[FeatureKey, FloatArray]) -> int:
        """Store features in one transaction; those that are already there stay as they are.

        Parameters
        ----------
        encoder_id : str
        features : mapping of (digest, view) to array of shape (D,)
            Un-normalised, finite.

        Returns
        -------
        int
            How many were new.

        Raises
        ------
        FeatureError
            When a feature is no finite vector.
        TipAdapterError
            When the disk is full or the file cannot be written.
        """
        rows = [(encoder_id, digest, view, *_encode(vector, digest)) for (digest, view), vector in features.items()]
        if self.read_only:
            return 0
        with self._transaction():
            before = self._connection.total_changes
            self._connection.executemany("INSERT OR IGNORE INTO features VALUES (?, ?, ?, ?, ?)", rows)
            return self._connection.total_changes - before

    def count(self, encoder_id: str | None = None) -> int:
        """Count the stored features, all or those of one encoder."""
        with self._lock, self._clear_errors():
            if encoder_id is None:
                row = self._connection.execute("SELECT COUNT(*) FROM features").fetchone()
            else:
                row = self._connection.execute(
                    "SELECT COUNT(*) FROM features WHERE encoder_id = ?", [encoder_id]
                ).fetchone()
        return int(row[0])

    def delete(self, digests: Iterable[str]) -> int:
        """Forget images: their features are overwritten, and no trace of them stays in the database or its log.

        Parameters
        ----------
        digests : iterable of str
            SHA-256 of the bytes of the images, as in ``FeatureSet.digests``. Every view under every encoder goes.

        Returns
        -------
        int
            How many features were deleted.

        Raises
        ------
        TipAdapterError
            When another process reads or writes the store, so that its log cannot be emptied now, or the store holds
            features of them and cannot be written.
        """
        if self.read_only:
            return self._refuse_to_delete(set(digests))
        with self._transaction():
            before = self._connection.total_changes
            self._connection.executemany(
                "DELETE FROM features WHERE digest = ?", [(digest,) for digest in set(digests)]
            )
            deleted = self._connection.total_changes - before
        # Also when nothing matched: an earlier call may have been refused after its deletion, with the log still full.
        with self._lock, self._clear_errors():
            self._connection.execute("VACUUM")
            blocked, _, _ = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if blocked:
            raise TipAdapterError(
                f"{deleted} features were deleted from {self.path}, but its log keeps traces while another process "
                "uses it: end that process and delete again"
            )
        return deleted

    def _refuse_to_delete(self, digests: set[str]) -> int:
        """Raise where there is something to delete in a store that cannot be written."""
        with self._lock, self._clear_errors():
            counts = [
                self._connection.execute("SELECT COUNT(*) FROM features WHERE digest = ?", [digest]).fetchone()[0]
                for digest in digests
            ]
        if any(counts):
            raise TipAdapterError(
                f"{sum(counts)} features in {self.path} are to be deleted, but it cannot be written: make it writable, "
                "then forget again"
            )
        return 0

    def close(self) -> None:
        """Close the database; closing it again does nothing."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        """Return the store itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the store."""
        self.close()

    def _prepare(self) -> None:
        """Switch the database to WAL mode and make the table."""
        version = int(self._connection.execute("PRAGMA user_version").fetchone()[0])
        self._check_version(version)
        self._switch_to_wal()
        # A feature that a power cut takes is encoded again; the file itself stays whole under NORMAL.
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.execute("PRAGMA secure_delete = ON")
        if version == SCHEMA_VERSION:
            return
        with self._transaction():
            (others,) = self._connection.execute(
                "SELECT COUNT(*) FROM sqlite_master WHERE name NOT LIKE 'features%' AND name NOT LIKE 'sqlite_%'"
            ).fetchone()
            if others:
                raise ModelFileError(
                    f"Expected a feature store, got another program's database {self.path}: choose another file"
                )
            for statement in filter(str.strip, SCHEMA.split(";")):
                self._connection.execute(statement)
            self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _check_version(self, version: int) -> None:
        if version > SCHEMA_VERSION:
            raise ModelFileError(
                f"Expected a feature store of version {SCHEMA_VERSION} or older, got version {version} in {self.path}: "
                "upgrade tip-adapter, or choose another file"
            )

    def _switch_to_wal(self) -> None:
        """Ask for WAL mode until it is there: SQLite does not wait when two processes switch a new file at once."""
        deadline = time.monotonic() + BUSY_TIMEOUT_S
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """Write all or nothing; the write lock is taken first, since a lock taken midway can fail at once."""
        with self._lock, self._clear_errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                # A full disk may have rolled back already; then there is nothing left to undo.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _clear_errors(self) -> Iterator[None]:
        """Turn SQLite's errors into one line with a remedy."""
        try:
            yield
        except sqlite3.ProgrammingError as error:
            raise TipAdapterError(f"The feature store {self.path} is closed: open it again") from error
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
            if code in REMEDIES:
                raise TipAdapterError(f"The feature store {self.path}: {REMEDIES[code]} ({error})") from error
            if code in DAMAGED or isinstance(error, sqlite3.OperationalError):  # another table than ours, other kinds
                raise self._damaged(reason_of(error)) from error
            raise

    def _damaged(self, reason: str) -> ModelFileError:
        return ModelFileError(
            f"The feature store {self.path} is damaged ({reason}): delete it and its -wal and -shm files, "
            "its features will be encoded again"
        )

    def _decode(self, blob: bytes, norm: float) -> Float32Array:
        """Turn stored bytes into a feature, once its norm has shown that they are the bytes that were written."""
        if not isinstance(blob, bytes) or not isinstance(norm, int | float):
            raise self._damaged("a feature is of another kind or size")
        if len(blob) % 4:
            raise self._damaged(f"a feature of {len(blob)} bytes")
        vector = np.frombuffer(blob, dtype="<f4").astype(np.float32)
        if not abs(_norm(vector) - norm) <= RELATIVE_NORM_TOLERANCE * norm:
            raise self._damaged("a feature does not have its norm")
        return vector


def _connect(address: StrPath, *, uri: bool = False) -> sqlite3.Connection:
    return sqlite3.connect(address, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, uri=uri)


def _encode(vector: FloatArray, digest: str) -> tuple[float, bytes]:
    """Return the norm and the little-endian bytes of a feature."""
    vector = np.asarray(vector)
    if vector.ndim != 1 or vector.size == 0:
        raise FeatureError(
            f"Expected a feature of shape (D,) to store, got shape {vector.shape} for image {digest[:12]}"
        )
    if not np.isfinite(vector).all():
        raise FeatureError(f"Expected a finite feature to store, got NaN or infinity for image {digest[:12]}")
    vector = vector.astype("<f4")
    return _norm(vector), vector.tobytes()


def _norm(vector: FloatArray) -> float:
    # In float64: squares of large float32 values would overflow.
    return float(np.linalg.norm(vector.astype(np.float64)))
