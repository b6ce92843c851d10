"""Hold the support set of a model: features, labels, names and small pictures of its shots."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tip_adapter.data.groups import numbered_groups
from tip_adapter.errors import InputError
from tip_adapter.features.feature_set import FeatureSet
from tip_adapter.methods.selection.folds import support_folds
from tip_adapter.model.picture_archive import Source, Thumbnails
from tip_adapter.typing import Float32Array, IntArray


@dataclass(frozen=True, eq=False)
class Shots:
    """The support set of a model, in the order of the fit and then of the edits."""

    features: FeatureSet
    """Un-normalised: one per shot, the mean over its views, or all views, where the method trains on them."""
    labels: IntArray
    """(N,) that index the class names."""
    ids: tuple[str, ...]
    """N of them: short names of the shots, unique, made of their digests."""
    thumbnails: Thumbnails
    """Small JPEG pictures by id; may be empty."""
    groups: tuple[str, ...] = ()
    """N of them: what each shot belongs to, such as a burst; empty for a shot that is its own. Default: all are."""

    def __post_init__(self) -> None:
        if not self.groups:
            object.__setattr__(self, "groups", ("",) * len(self.labels))

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def rows(self) -> Mapping[str, int]:
        """Row of every shot, by id."""
        return {name: row for row, name in enumerate(self.ids)}

    @cached_property
    def group_numbers(self) -> IntArray | None:
        """Number of every shot's group, (N,); None where each shot is its own."""
        return numbered_groups(self.groups)

    @cached_property
    def folds(self) -> IntArray:
        """Fold of every shot, (N,), in which it is left out with its group."""
        return support_folds(self.features.unit, self.labels, groups=self.group_numbers)

    @property
    def n_groups(self) -> int:
        """How many groups there are, shots that are their own among them."""
        return len(self) if self.group_numbers is None else int(self.group_numbers.max()) + 1

    @property
    def counted(self) -> str:
        """How many shots, and groups where these are fewer, in words."""
        groups = f", {self.n_groups} group{'' if self.n_groups == 1 else 's'}" if self.n_groups < len(self) else ""
        return f"{len(self)} shots{groups}"

    @property
    def of_one_group(self) -> list[int]:
        """Classes with several shots that are all of one group: of these nothing can be left out."""
        numbers = self.group_numbers
        if numbers is None:
            return []
        pairs = np.unique(np.stack([self.labels, numbers]), axis=1)[0]
        alone = (np.bincount(pairs) == 1) & (np.bincount(self.labels) > 1)
        return [int(column) for column in np.flatnonzero(alone)]

    def pictures(self) -> dict[str, Source]:
        """Say where the thumbnails are, by the SHA-256 of their photos."""
        return {self.features.digests[self.rows[name]]: source for name, source in self.thumbnails.sources.items()}

    def ids_with(self, pictures: Collection[str]) -> list[str]:
        """List the shots with a picture among these, which are named by the SHA-256 of their photos."""
        rows = zip(self.ids, self.features.digests, strict=True)
        return [one for one, digest in rows if one in self.thumbnails.sources and digest in pictures]

    def take(self, rows: Sequence[int] | IntArray) -> Shots:
        """Return some of the shots, in the given order, with copies of their features, and their pictures alone."""
        places = np.asarray(rows, dtype=np.intp)
        ids, groups = (tuple(map(words.__getitem__, places.tolist())) for words in (self.ids, self.groups))
        return Shots(self.features.subset(places), self.labels[places], ids, self.thumbnails.only(ids), groups)

    def without(self, rows: Sequence[int]) -> Shots:
        """Return all shots but some."""
        return self.take(np.delete(np.arange(len(self)), list(rows)))

    def added(self, other: Shots) -> Shots:
        """Return these shots with others behind them; where there is room, their features are not copied."""
        return Shots(
            self.features.extended(other.features),
            np.concatenate([self.labels, other.labels]),
            (*self.ids, *other.ids),
            Thumbnails({**self.thumbnails.sources, **other.thumbnails.sources}),
            (*self.groups, *other.groups),
        )

    def put_back(self, other: Shots, rows: Sequence[int]) -> Shots:
        """Return these shots with others at the rows they had, or at the end where shots were forgotten since."""
        before = np.minimum(np.asarray(rows, dtype=np.intp) - np.arange(len(rows)), len(self))
        places = np.arange(len(self) + len(other))
        return self.added(other).take(np.insert(places[: len(self)], before, places[len(self) :]))


def shot_ids(digests: Sequence[str], taken: Sequence[str] = ()) -> tuple[str, ...]:
    """Name shots by the first 12 digits of their digests, with a number behind for the same photo again.

    Examples
    --------
    >>> from tip_adapter.model.shots import shot_ids
    >>> shot_ids(("a" * 64, "b" * 64, "a" * 64), ["b" * 12])
    ('aaaaaaaaaaaa', 'bbbbbbbbbbbb-2', 'aaaaaaaaaaaa-2')
    """
    shorts, ids = [digest[:12] for digest in digests], []
    seen = set(shorts).intersection(taken)
    if seen or len(set(shorts)) < len(shorts):
        seen = set(taken)
    for short in shorts:
        name, number = short, 2
        while name in seen:
            name, number = f"{short}-{number}", number + 1
        seen.add(name)
        ids.append(name)
    return tuple(ids)


def features_state(features: FeatureSet, prefix: str) -> dict[str, Float32Array]:
    """Take the numbers of features apart for saving.

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
    """Put features together again; the inverse of `features_state`."""
    means, views = arrays[f"{prefix}features"], arrays.get(f"{prefix}views")
    if views is not None and (views.ndim != 3 or (len(views), views.shape[2]) != means.shape):
        raise InputError(f"its views of shape {views.shape} do not fit its features of shape {means.shape}")
    raw = means[:, None] if views is None else views
    return FeatureSet(raw, encoder_id, tuple(digests), tuple(names)).with_room()
