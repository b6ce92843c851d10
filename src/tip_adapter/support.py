"""The support set of a model: features, labels, names and small pictures of its shots; pictures ↔ one archive."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tip_adapter.errors import ModelFileError
from tip_adapter.features import FeatureSet
from tip_adapter.typing import IntArray

__all__ = ["Shots", "StoredThumbnails", "shot_ids", "thumbnail_archive"]

LONG_AGO = (1980, 1, 1, 0, 0, 0)
"""The date of every picture in an archive, so that the same pictures give the same bytes."""


@dataclass(frozen=True, eq=False)
class Shots:
    """The support set of a model.

    Attributes
    ----------
    features : FeatureSet
        One un-normalised feature per shot, the mean over its views.
    labels : ndarray of shape (N,), integers that index the class names
    ids : tuple of N str
        Short names of the shots, unique, made of their digests.
    thumbnails : mapping of id to bytes
        Small JPEG pictures; may be empty.
    """

    features: FeatureSet
    labels: IntArray
    ids: tuple[str, ...]
    thumbnails: Mapping[str, bytes]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: IntArray) -> Shots:
        """Return some of the shots, in the given order.

        Parameters
        ----------
        rows : ndarray of int

        Returns
        -------
        Shots
            With the pictures of its own shots alone.
        """
        features = FeatureSet(
            self.features.raw[rows],
            self.features.encoder_id,
            *(tuple(map(texts.__getitem__, rows.tolist())) for texts in (self.features.digests, self.features.names)),
        )
        ids = tuple(map(self.ids.__getitem__, rows.tolist()))
        return Shots(features, self.labels[rows], ids, _of_ids(self.thumbnails, ids))

    def joined(self, other: Shots) -> Shots:
        """Return these shots followed by others.

        Parameters
        ----------
        other : Shots

        Returns
        -------
        Shots
        """
        return Shots(
            FeatureSet.concatenate([self.features, other.features]),
            np.concatenate([self.labels, other.labels]),
            self.ids + other.ids,
            {**self.thumbnails, **other.thumbnails},
        )

    def relabelled(self, labels: IntArray) -> Shots:
        """Return the same shots with other labels.

        Parameters
        ----------
        labels : ndarray of shape (N,)

        Returns
        -------
        Shots
        """
        return replace(self, labels=labels)


def shot_ids(digests: Sequence[str], taken: Sequence[str] = ()) -> tuple[str, ...]:
    """Name shots by the first 12 digits of their digests, with a number behind for the same photo again.

    Parameters
    ----------
    digests : sequence of N str
    taken : sequence of str
        Ids that other shots have.

    Returns
    -------
    tuple of N str
        All different.

    Examples
    --------
    >>> from tip_adapter.support import shot_ids
    >>> shot_ids(("a" * 64, "b" * 64, "a" * 64), ["b" * 12])
    ('aaaaaaaaaaaa', 'bbbbbbbbbbbb-2', 'aaaaaaaaaaaa-2')
    """
    seen = set(taken)
    ids = []
    for digest in digests:
        short, number = digest[:12], 2
        name = short
        while name in seen:
            name, number = f"{short}-{number}", number + 1
        seen.add(name)
        ids.append(name)
    return tuple(ids)


def thumbnail_archive(pictures: Mapping[str, bytes]) -> bytes:
    """Put pictures into one ZIP archive, which any viewer opens: thousands of files would take minutes to flush.

    Parameters
    ----------
    pictures : mapping of id to bytes
        JPEG files.

    Returns
    -------
    bytes
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in pictures.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.jpg", LONG_AGO), data)
    return buffer.getvalue()


class StoredThumbnails(Mapping[str, bytes]):
    """Pictures of an archive that stays on the disk until somebody looks at one.

    Parameters
    ----------
    read : callable
        Returns the bytes of the archive.
    names : sequence of str
        The ids that have a picture in it.

    Examples
    --------
    >>> from tip_adapter.support import StoredThumbnails, thumbnail_archive
    >>> archive = thumbnail_archive({"a": b"picture"})
    >>> StoredThumbnails(lambda: archive, ["a"])["a"]
    b'picture'
    """

    def __init__(self, read: Callable[[], bytes], names: Sequence[str]) -> None:
        self._read, self._names = read, dict.fromkeys(names)
        self._archive: zipfile.ZipFile | None = None

    def __getitem__(self, name: str) -> bytes:
        if name not in self._names:
            raise KeyError(name)
        try:
            if self._archive is None:
                self._archive = zipfile.ZipFile(io.BytesIO(self._read()))
            return self._archive.read(f"{name}.jpg")
        except (KeyError, zipfile.BadZipFile) as error:
            raise ModelFileError(f"The saved pictures lack the one of the shot {name}: save the classifier again") from error

    def only(self, names: Sequence[str]) -> StoredThumbnails:
        """Return some of the pictures, still unread.

        Parameters
        ----------
        names : sequence of str
            Those without a picture are left out.

        Returns
        -------
        StoredThumbnails
        """
        return StoredThumbnails(self._read, [name for name in names if name in self._names])

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _of_ids(pictures: Mapping[str, bytes], ids: Sequence[str]) -> Mapping[str, bytes]:
    if isinstance(pictures, StoredThumbnails):
        return pictures.only(ids)
    return {name: pictures[name] for name in ids if name in pictures}
