"""Keep the thumbnails of shots in one archive, and read each only when it is needed."""

from __future__ import annotations

import contextlib
import io
import struct
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from tip_adapter.errors import ModelFileError, StorageWarning, warn
from tip_adapter.storage.atomic import MissingFileError

LONG_AGO = (1980, 1, 1, 0, 0, 0)
"""The date of every picture in an archive, so that the same pictures give the same bytes."""


def thumbnail_archive(pictures: Mapping[str, bytes]) -> bytes:
    """Put pictures into one ZIP archive, which any viewer opens: thousands of files would take minutes to flush.

    Examples
    --------
    >>> from tip_adapter.model.picture_archive import Archive, thumbnail_archive
    >>> data = thumbnail_archive({"a": b"picture"})
    >>> Archive(lambda: (data, True), "clothes.tip").read("a")
    b'picture'
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for digest, data in pictures.items():
            archive.writestr(zipfile.ZipInfo(f"{digest}.jpg", LONG_AGO), data)
    return buffer.getvalue()


DAMAGES = (KeyError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, struct.error)
"""What `zipfile` raises for archives with odd flags and places, those that ask for a password among them."""


class Archive:
    """An archive of `thumbnail_archive` that stays on the disk until somebody looks at one of its pictures.

    `load` returns its bytes, and whether it is the one that was saved with the shots: where others have saved since,
    pictures may have been forgotten.
    """

    def __init__(self, load: Callable[[], tuple[bytes, bool]], name: str) -> None:
        self._load, self._name = load, name
        self._opened: zipfile.ZipFile | None = None
        self._data, self._own, self._warned = b"", False, False

    def read(self, digest: str) -> bytes:
        """Read one picture."""
        try:
            entry = self._archive().getinfo(f"{digest}.jpg")
            if entry.compress_type != zipfile.ZIP_STORED:  # ours are: a small archive cannot become a large picture
                raise ModelFileError(f"Expected the picture of {digest[:12]} as it is, got it compressed: not ours")
            return self._archive().read(entry)
        except DAMAGES as error:
            if isinstance(error, KeyError) and not self._own:
                self._warn()
                raise
            raise ModelFileError(
                f"The saved pictures lack the one of the shot {digest[:12]}: copy the whole saved classifier again"
            ) from error

    def whole(self, digests: Collection[str]) -> bytes | None:
        """The archive as it is, if it holds the pictures of just these photos."""
        try:
            names = self._archive().namelist()
        except DAMAGES:
            return None
        same = len(names) == len(digests) and set(names) == {f"{digest}.jpg" for digest in digests}
        return self._data if same else None

    def _archive(self) -> zipfile.ZipFile:
        if self._opened is None:
            try:
                self._data, self._own = self._load()
            except MissingFileError as error:
                raise KeyError(str(error)) from error
            self._opened = zipfile.ZipFile(io.BytesIO(self._data))
        return self._opened

    def _warn(self) -> None:
        if not self._warned:
            self._warned = True
            warn(
                f"{self._name} was changed since it was loaded, and pictures of shots were deleted: they are left out",
                StorageWarning,
            )


Source = bytes | tuple[Archive, str]
"""A picture, or the archive it is in and the SHA-256 of its photo."""


def pack(sources: Mapping[str, Source]) -> tuple[bytes, set[str]]:
    """Put pictures into one archive; one that holds just these is taken as it is."""
    archives = {None if isinstance(source, bytes) else source[0] for source in sources.values()}
    if len(archives) == 1 and (archive := archives.pop()) is not None:
        whole = archive.whole(sources)
        if whole is not None:
            return whole, set(sources)
    pictures = {}
    for digest, source in sources.items():
        with contextlib.suppress(KeyError):
            pictures[digest] = source if isinstance(source, bytes) else source[0].read(source[1])
    return thumbnail_archive(pictures), set(pictures)


class Thumbnails(Mapping[str, bytes]):
    """Pictures by the ids of their shots, some in memory, some still unread in an archive.

    Examples
    --------
    >>> from tip_adapter.model.picture_archive import Archive, Thumbnails, thumbnail_archive
    >>> archive = Archive(lambda: (thumbnail_archive({"a": b"picture"}), True), "clothes.tip")
    >>> Thumbnails({"1": (archive, "a"), "2": b"another"})["1"]
    b'picture'
    """

    def __init__(self, sources: Mapping[str, Source] | None = None) -> None:
        self.sources = dict(sources or {})

    def __getitem__(self, name: str) -> bytes:
        source = self.sources[name]
        return source if isinstance(source, bytes) else source[0].read(source[1])

    def __reduce__(self) -> tuple[type[Thumbnails], tuple[dict[str, bytes]]]:
        """Take the pictures along, since a pickle may be read where the archive is not."""
        return Thumbnails, (self.readable(),)

    def readable(self) -> dict[str, bytes]:
        """Read all pictures but those that were forgotten since the classifier was loaded."""
        found = {}
        for name in self.sources:
            with contextlib.suppress(KeyError):
                found[name] = self[name]
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self.sources)

    def __len__(self) -> int:
        return len(self.sources)

    def only(self, names: Sequence[str]) -> Thumbnails:
        """Return some of the pictures, unread ones still unread; names without a picture are left out."""
        return Thumbnails({name: self.sources[name] for name in names if name in self.sources})


def archived_thumbnails(
    archive: Archive, ids: Sequence[str], digests: Sequence[str], with_picture: Collection[str]
) -> Thumbnails:
    """Say where the pictures of shots are in an archive."""
    wanted = set(with_picture)
    return Thumbnails({name: (archive, one) for name, one in zip(ids, digests, strict=True) if name in wanted})
