"""The support set of a model: features, labels, names and small pictures of its shots; pictures ↔ one archive."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np

from tip_adapter.errors import InputError, ModelFileError
from tip_adapter.features.feature_set import FeatureSet
from tip_adapter.typing import Float32Array, IntArray

__all__ = ["Archive", "Shots", "Thumbnails", "features_from_state", "features_state", "shot_ids", "thumbnail_archive"]

LONG_AGO = (1980, 1, 1, 0, 0, 0)
"""The date of every picture in an archive, so that the same pictures give the same bytes."""


@dataclass(frozen=True, eq=False)
class Shots:
    """The support set of a model, sorted by class, so that no edit has to sort it again.

    Attributes
    ----------
    features : FeatureSet
        Un-normalised: one per shot, the mean over its views, or all views, where the method trains on them.
    labels : ndarray of shape (N,), integers that index the class names, ascending
    ids : tuple of N str
        Short names of the shots, unique, made of their digests.
    thumbnails : Thumbnails
        Small JPEG pictures by id; may be empty.
    """

    features: FeatureSet
    labels: IntArray
    ids: tuple[str, ...]
    thumbnails: Thumbnails

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def rows(self) -> Mapping[str, int]:
        """Row of every shot, by id."""
        return {name: row for row, name in enumerate(self.ids)}

    def take(self, rows: Sequence[int]) -> Shots:
        """Return some of the shots.

        Parameters
        ----------
        rows : sequence of int, ascending

        Returns
        -------
        Shots
            With copies of their features, and the pictures of its own shots alone.
        """
        ids = tuple(self.ids[row] for row in rows)
        places = np.asarray(rows, dtype=np.intp)
        return Shots(self.features.subset(places), self.labels[places], ids, self.thumbnails.only(ids))

    def without(self, rows: Sequence[int]) -> Shots:
        """Return all shots but some.

        Parameters
        ----------
        rows : sequence of int

        Returns
        -------
        Shots
        """
        ids = list(self.ids)
        for row in sorted(set(rows), reverse=True):
            del ids[row]
        thumbnails = self.thumbnails.without(self.ids[row] for row in rows)
        return Shots(self.features.without(rows), np.delete(self.labels, list(rows)), tuple(ids), thumbnails)

    def added(self, other: Shots) -> Shots:
        """Return these shots with others, each behind those of its class.

        Parameters
        ----------
        other : Shots

        Returns
        -------
        Shots
        """
        return self._inserted(other, np.searchsorted(self.labels, other.labels, side="right"))

    def put_back(self, other: Shots, rows: Sequence[int]) -> Shots:
        """Return these shots with others at the rows where they were.

        Parameters
        ----------
        other : Shots
        rows : sequence of int, ascending
            Rows among all of them; where shots were forgotten since, only the class decides.

        Returns
        -------
        Shots
        """
        before = np.minimum(np.asarray(rows, dtype=np.intp) - np.arange(len(rows)), len(self))
        return self._inserted(other, before)._in_order()

    def relabelled(self, labels: IntArray) -> Shots:
        """Return the same shots with other labels.

        Parameters
        ----------
        labels : ndarray of shape (N,)

        Returns
        -------
        Shots
        """
        return replace(self, labels=labels)._in_order()

    def _inserted(self, other: Shots, before: IntArray) -> Shots:
        ids = list(self.ids)
        for moved, (row, name) in enumerate(zip(before.tolist(), other.ids, strict=True)):
            ids.insert(row + moved, name)
        return Shots(
            self.features.inserted(other.features, before.tolist()),
            np.insert(self.labels, before, other.labels),
            tuple(ids),
            Thumbnails({**self.thumbnails.sources, **other.thumbnails.sources}),
        )

    def _in_order(self) -> Self:
        if (np.diff(self.labels) >= 0).all():
            return self
        order = np.argsort(self.labels, kind="stable")
        ids = tuple(map(self.ids.__getitem__, order.tolist()))
        return replace(self, features=self.features.subset(order), labels=self.labels[order], ids=ids)


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
    >>> from tip_adapter.model.shots import shot_ids
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


def features_state(features: FeatureSet, prefix: str) -> dict[str, Float32Array]:
    """Take the numbers of features apart for saving.

    Parameters
    ----------
    features : FeatureSet
    prefix : str
        Of the names.

    Returns
    -------
    dict of str to ndarray
        ``features`` (N, D), the means over the views, and only where there are several ``views`` (N, V, D).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.features.feature_set import FeatureSet
    >>> from tip_adapter.model.shots import features_state
    >>> features = FeatureSet(np.array([[[1.0, 0.0], [0.0, 1.0]]], dtype=np.float32), "my-encoder", ("d",), ("a.jpg",))
    >>> {name: array.shape for name, array in features_state(features, "shots.").items()}
    {'shots.features': (1, 2), 'shots.views': (1, 2, 2)}
    """
    means = {f"{prefix}features": features.averaged().raw[:, 0]}
    return means if features.n_views == 1 else {**means, f"{prefix}views": features.raw}


def features_from_state(
    arrays: Mapping[str, Float32Array], prefix: str, encoder_id: str, digests: Sequence[str], names: Sequence[str]
) -> FeatureSet:
    """Put features together again; the inverse of `features_state`.

    Parameters
    ----------
    arrays, prefix
        As from and for `features_state`.
    encoder_id, digests, names
        See `FeatureSet`.

    Returns
    -------
    FeatureSet

    Raises
    ------
    KeyError
        When the features are missing.
    InputError
        When views and features do not fit each other.
    """
    means, views = arrays[f"{prefix}features"], arrays.get(f"{prefix}views")
    if views is not None and (views.ndim != 3 or (len(views), views.shape[2]) != means.shape):
        raise InputError(f"its views of shape {views.shape} do not fit its features of shape {means.shape}")
    return FeatureSet(means[:, None] if views is None else views, encoder_id, tuple(digests), tuple(names))


def thumbnail_archive(pictures: Mapping[str, bytes]) -> bytes:
    """Put pictures into one ZIP archive, which any viewer opens: thousands of files would take minutes to flush.

    Parameters
    ----------
    pictures : mapping of id to bytes
        JPEG files.

    Returns
    -------
    bytes

    Examples
    --------
    >>> from tip_adapter.model.shots import Archive, thumbnail_archive
    >>> data = thumbnail_archive({"a": b"picture"})
    >>> Archive(lambda: data).read("a")
    b'picture'
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in pictures.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.jpg", LONG_AGO), data)
    return buffer.getvalue()


class Archive:
    """An archive of `thumbnail_archive` that stays on the disk until somebody looks at one of its pictures.

    Parameters
    ----------
    load : callable
        Returns the bytes of the archive.
    """

    def __init__(self, load: Callable[[], bytes]) -> None:
        self._load = load
        self._opened: zipfile.ZipFile | None = None

    def read(self, name: str) -> bytes:
        """Read one picture.

        Parameters
        ----------
        name : str

        Returns
        -------
        bytes

        Raises
        ------
        ModelFileError
            When it is not in the archive, or the archive is damaged or changed since.
        """
        try:
            if self._opened is None:
                self._opened = zipfile.ZipFile(io.BytesIO(self._load()))
            entry = self._opened.getinfo(f"{name}.jpg")
            if entry.compress_type != zipfile.ZIP_STORED:  # ours are: a small archive cannot become a large picture
                raise ModelFileError(f"Expected the picture of the shot {name} as it is, got it compressed: not ours")
            return self._opened.read(entry)
        except (KeyError, zipfile.BadZipFile) as error:
            raise ModelFileError(
                f"The saved pictures lack the one of the shot {name}: copy the whole saved classifier again"
            ) from error


class Thumbnails(Mapping[str, bytes]):
    """Pictures by the ids of their shots, some in memory, some still unread in an archive.

    Parameters
    ----------
    sources : mapping of id to bytes or (Archive, name in it)

    Examples
    --------
    >>> from tip_adapter.model.shots import Archive, Thumbnails, thumbnail_archive
    >>> archive = Archive(lambda: thumbnail_archive({"a": b"picture"}))
    >>> Thumbnails({"a": (archive, "a"), "b": b"another"})["a"]
    b'picture'
    """

    def __init__(self, sources: Mapping[str, bytes | tuple[Archive, str]] | None = None) -> None:
        self.sources = dict(sources or {})

    def __getitem__(self, name: str) -> bytes:
        source = self.sources[name]
        return source if isinstance(source, bytes) else source[0].read(source[1])

    def __iter__(self) -> Iterator[str]:
        return iter(self.sources)

    def __len__(self) -> int:
        return len(self.sources)

    def only(self, names: Sequence[str]) -> Thumbnails:
        """Return some of the pictures, unread ones still unread.

        Parameters
        ----------
        names : sequence of str
            Those without a picture are left out.

        Returns
        -------
        Thumbnails
        """
        return Thumbnails({name: self.sources[name] for name in names if name in self.sources})

    def without(self, names: Iterable[str]) -> Thumbnails:
        """Return all pictures but some, unread ones still unread.

        Parameters
        ----------
        names : iterable of str
            Those without a picture do not matter.

        Returns
        -------
        Thumbnails
        """
        rest = Thumbnails(self.sources)
        for name in names:
            rest.sources.pop(name, None)
        return rest
