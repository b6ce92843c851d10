"""Load a data set's features, or encode its photos, and draw the support sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tip_adapter.bench.protocols import few_shot_validation
from tip_adapter.bench.splits import ImageSplits, load_splits
from tip_adapter.bench.standard import STANDARD_DATASETS, load_standard, standard_name
from tip_adapter.bench.texts import class_texts_of, templates_of
from tip_adapter.data import ImageDataset
from tip_adapter.data.sampling import sample_shots
from tip_adapter.errors import DatasetError, InputError
from tip_adapter.features.extraction import extract_features
from tip_adapter.features.feature_data import FeatureData, Part
from tip_adapter.features.feature_files import is_feature_file, load_feature_file
from tip_adapter.features.prompts import prompt_features, zero_shot_weights
from tip_adapter.typing import IntArray, StrPath

if TYPE_CHECKING:
    from tip_adapter.encoders import Encoder
    from tip_adapter.features.store import FeatureStore
    from tip_adapter.progress import Progress

DEFAULT_SHOTS = (1, 2, 4, 8, 16)


@dataclass(frozen=True, eq=False)
class Draw:
    """One support set.

    Attributes
    ----------
    part : str
        Name of the part of the data that holds it.
    rows : ndarray of int, or None
        Which photos of that part; None takes all.
    """

    part: str
    rows: IntArray | None = None

    def of(self, data: FeatureData) -> Part:
        """Take the support set out of the data.

        Parameters
        ----------
        data : FeatureData

        Returns
        -------
        Part
        """
        part = data.parts()[self.part]
        return part if self.rows is None else part.subset(self.rows)


@dataclass(frozen=True, eq=False)
class Draws:
    """All support sets of a data set.

    Attributes
    ----------
    sets : dict of (shots, seed) to Draw
    validation : dict of (shots, seed) to Draw
        For the protocol "paper-few": training photos apart from that support set.
    single : frozenset of int
        Shots for which there is one possible support set, so that other seeds would repeat it.
    notes : tuple of str
        What was left out, and why.
    """

    sets: dict[tuple[int, int], Draw]
    validation: dict[tuple[int, int], Draw] = field(default_factory=dict)
    single: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class BenchmarkData:
    """A data set ready to be measured on.

    Attributes
    ----------
    features : FeatureData
    draws : Draws
    path : Path or None
        Feature file that holds `features` already.
    encoder : str or None
        Name to load the encoder by, for methods that need it; None for feature files.
    class_texts : tuple of C tuples of str
    templates : tuple of str
    photos : dict of str to tuple of Path
        Photos of every part, in the order of its rows; empty for feature files.
    skipped : tuple of (str, str)
        Photos that cannot be read, and why.
    """

    features: FeatureData
    draws: Draws
    path: Path | None = None
    encoder: str | None = None
    class_texts: tuple[tuple[str, ...], ...] = ()
    templates: tuple[str, ...] = ()
    photos: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    skipped: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class PhotoSettings:
    """How photos become features.

    Attributes
    ----------
    encoder : callable
        Loads the encoder, when the first photos need it.
    encoder_name : str
    class_texts, templates, views, data_root, skip_bad
        As in `tip_adapter.bench.run`.
    store : FeatureStore or None
    """

    encoder: Callable[[], Encoder]
    encoder_name: str
    class_texts: StrPath | None = None
    templates: str | Sequence[str] | None = None
    views: int = 1
    data_root: StrPath | None = None
    skip_bad: bool = False
    store: FeatureStore | None = None


def prepare(
    source: StrPath | FeatureData,
    settings: PhotoSettings,
    *,
    shots: Sequence[int] | None,
    n_seeds: int,
    validation: bool,
    few: bool = False,
    progress: Progress | None = None,
) -> BenchmarkData:
    """Load features, or encode the photos that are needed, and draw the support sets."""
    if isinstance(source, FeatureData):
        return BenchmarkData(source, _draws_of_features(source, shots, n_seeds))
    if is_feature_file(source):
        data = load_feature_file(source)
        return BenchmarkData(data, _draws_of_features(data, shots, n_seeds), Path(source).resolve())
    splits = _splits(source, settings)
    class_texts_of(splits, settings.class_texts)  # wrong texts are said before photos are encoded
    templates_of(splits, settings.templates)
    parts = {"test": splits.test}
    if validation and splits.validation is not None:
        parts["validation"] = splits.validation
    shots_wanted = _Wanted(shots, n_seeds, few)
    draws, train, skipped = _encode_drawn(splits, shots_wanted, settings, progress)
    findings = splits.train.findings
    draws = replace(draws, notes=(*findings.lines, *draws.notes))
    skipped = (*findings.skipped, *skipped)
    encoded = {"train": train}
    for what, photos in parts.items():
        encoded[what], unreadable = _encode(photos, settings, progress=progress, skip_bad=settings.skip_bad)
        skipped += unreadable
    return _described(splits, encoded, draws, settings, skipped)


@dataclass(frozen=True)
class _Wanted:
    shots: Sequence[int] | None
    n_seeds: int
    few: bool


@dataclass(frozen=True, eq=False)
class _Encoded:
    """Photos of one part that could be read, and their features."""

    photos: ImageDataset
    part: Part


Skipped = tuple[tuple[str, str], ...]


def _splits(source: StrPath, settings: PhotoSettings) -> ImageSplits:
    path = Path(source)
    known = standard_name(str(source))
    if path.exists():
        return load_splits(path, skip_bad=settings.skip_bad)
    if known is None:
        raise DatasetError(
            f"Unknown data set {str(source)!r}: expected a folder, a manifest (.csv, .jsonl, .parquet), a feature file "
            f"(.npz), or one of {', '.join(STANDARD_DATASETS)} with --data-root."
        )
    if settings.data_root is None:
        raise DatasetError(
            f"Expected --data-root, the folder that holds {STANDARD_DATASETS[known].folder}/, for {known}."
        )
    return load_standard(known, settings.data_root)


def _draws_of_features(data: FeatureData, shots: Sequence[int] | None, n_seeds: int) -> Draws:
    part = "train" if data.train is not None else f"support_{max(data.supports)}"
    given = {number: Draw(f"support_{number}") for number in data.supports}
    wanted = sorted(given) if shots is None and data.train is None else shots
    drawn = _drawn(data.pool.labels, wanted, n_seeds, data.class_names, data.name, part)
    published = {key for key in drawn.sets if key[1] == 0 and key[0] in given}
    sets = {key: given[key[0]] if key in published else draw for key, draw in drawn.sets.items()}
    # A given set may hold other views of any photo of the largest one: what is apart from it is not known.
    validation = {key: draw for key, draw in drawn.validation.items() if key not in published}
    return Draws(sets, validation, drawn.single, drawn.notes)


def _drawn(
    labels: IntArray,
    shots: Sequence[int] | None,
    n_seeds: int,
    class_names: Sequence[str],
    name: str,
    part: str = "train",
) -> Draws:
    counts = np.bincount(labels, minlength=len(class_names))
    fewest, rarest = int(counts.min()), class_names[int(counts.argmin())]
    wanted = DEFAULT_SHOTS if shots is None else tuple(sorted(set(shots)))
    if min(wanted) < 1 or n_seeds < 1:
        raise InputError(f"Expected shots and seeds of at least 1, got {list(wanted)} and {n_seeds}.")
    too_many = [number for number in wanted if number > fewest]
    has = f"{name} has {fewest} photo{'s' * (fewest != 1)} of {rarest!r} to learn from"
    if too_many and (shots is not None or len(too_many) == len(wanted)):
        raise DatasetError(f"Expected at most {fewest} shots, got {too_many[-1]}: {has}; add photos, or ask for fewer.")
    listed = ", ".join(map(str, too_many))
    notes = (f"{has}, so {listed} shots are left out",) if too_many else ()
    single = frozenset(number for number in wanted if number == counts.max())
    sets = {
        (number, seed): Draw(part, sample_shots(labels, number, random_state=seed))
        for number in wanted
        if number not in too_many
        for seed in range(1 if number in single else n_seeds)
    }
    validation = {
        (number, seed): Draw(part, np.setdiff1d(sample_shots(labels, number + more, random_state=seed), draw.rows))
        for (number, seed), draw in sets.items()
        if draw.rows is not None and number + (more := few_shot_validation(number)) <= fewest
    }
    return Draws(sets, validation, single, notes)


def _encode_drawn(
    splits: ImageSplits, wanted: _Wanted, settings: PhotoSettings, progress: Progress | None
) -> tuple[Draws, _Encoded, Skipped]:
    """Draw shots and encode them; those that cannot be read go, and it is drawn again."""
    pool, skipped = splits.train, Skipped()
    while True:
        drawn = _drawn(pool.labels, wanted.shots, wanted.n_seeds, splits.class_names, splits.name)
        apart = drawn.validation if wanted.few else {}
        draws = [*drawn.sets.values(), *apart.values()]
        used = np.unique(np.concatenate([draw.rows for draw in draws if draw.rows is not None]))
        encoded, unreadable = _encode(
            pool.subset(used), settings, progress=progress, skip_bad=settings.skip_bad, views=settings.views
        )
        if not unreadable:
            sets, validation = (
                {
                    key: Draw("train", np.searchsorted(used, draw.rows))
                    for key, draw in part.items()
                    if draw.rows is not None
                }
                for part in (drawn.sets, apart)
            )
            return Draws(sets, validation, drawn.single, drawn.notes), encoded, skipped
        skipped += unreadable
        read = set(encoded.photos.paths)
        drawn_paths = {pool.paths[row] for row in used}
        pool = pool.subset([path in read or path not in drawn_paths for path in pool.paths])


def _encode(
    photos: ImageDataset,
    settings: PhotoSettings,
    *,
    progress: Progress | None,
    skip_bad: bool,
    views: int = 1,
) -> tuple[_Encoded, Skipped]:
    extraction = extract_features(
        settings.encoder(), photos.paths, views=views, store=settings.store, skip_bad=skip_bad, progress=progress
    )
    kept = photos.subset(extraction.kept)
    part = Part(extraction.features.unit, kept.labels, extraction.features.unit_views)
    return _Encoded(kept, part), extraction.skipped


def _described(
    splits: ImageSplits, encoded: dict[str, _Encoded], draws: Draws, settings: PhotoSettings, skipped: Skipped
) -> BenchmarkData:
    """Put features, texts and what they come from together."""
    texts = class_texts_of(splits, settings.class_texts)
    templates = templates_of(splits, settings.templates)
    encoder = settings.encoder()
    description = {
        "encoder": settings.encoder_name,
        "encoder_ids": [encoder.image_id, encoder.text_id],
        "templates": list(templates),
        "class_texts": [list(row) for row in texts],
        "views": settings.views,
        "origin": splits.origin,
    }
    features = FeatureData(
        splits.name,
        splits.class_names,
        encoded["test"].part,
        zero_shot_weights(encoder, texts, templates),
        float(encoder.logit_scale),
        encoded["validation"].part if "validation" in encoded else None,
        {},
        encoded["train"].part,
        description,
        prompt_features(encoder, texts, templates) if encoder.has_text_tower else None,
    )
    photos = {what: part.photos.paths for what, part in encoded.items()}
    return BenchmarkData(features, draws, None, settings.encoder_name, texts, templates, photos, tuple(skipped))
