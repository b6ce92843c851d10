"""Load a data set's features, or encode its photos, and draw the support sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tip_adapter.bench.draws import Draws, Wanted, draw_all, draws_of_features
from tip_adapter.bench.protocols import PAPER
from tip_adapter.bench.splits import ImageSplits, load_splits
from tip_adapter.bench.standard import STANDARD_DATASETS, load_standard, standard_name
from tip_adapter.bench.texts import class_texts_of, templates_of
from tip_adapter.data import ImageDataset
from tip_adapter.data.groups import numbered_groups
from tip_adapter.errors import DatasetError
from tip_adapter.features.extraction import extract_features
from tip_adapter.features.feature_data import FeatureData, Part
from tip_adapter.features.feature_files import is_feature_file, load_feature_file
from tip_adapter.features.prompts import mean_prompts, prompt_features
from tip_adapter.typing import StrPath

if TYPE_CHECKING:
    from tip_adapter.encoders import Encoder
    from tip_adapter.features.store import FeatureStore
    from tip_adapter.progress import Progress


@dataclass(frozen=True, eq=False)
class BenchmarkData:
    """A data set ready to be measured on."""

    features: FeatureData
    draws: Draws
    path: Path | None = None
    """Feature file that holds `features` already."""
    encoder: str | None = None
    """Name to load the encoder by, for methods that need it; None for feature files."""
    class_texts: tuple[tuple[str, ...], ...] = ()
    templates: tuple[str, ...] = ()
    photos: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    """Photos of every part, in the order of its rows; empty for feature files."""
    skipped: tuple[tuple[str, str], ...] = ()
    """Photos that cannot be read, and why."""


@dataclass(frozen=True)
class PhotoSettings:
    """How photos become features; the settings are those of `tip_adapter.bench.run`."""

    encoder: Callable[[], Encoder]
    """Loads the encoder, when the first photos need it."""
    encoder_name: str
    class_texts: StrPath | None = None
    templates: str | Sequence[str] | None = None
    views: int = 1
    data_root: StrPath | None = None
    skip_bad: bool = False
    store: FeatureStore | None = None
    no_text: bool = False


def prepare(
    source: StrPath | FeatureData,
    settings: PhotoSettings,
    wanted: Wanted,
    *,
    progress: Progress | None = None,
) -> BenchmarkData:
    """Load features, or encode the photos that are needed, and draw the support sets."""
    if isinstance(source, FeatureData) or is_feature_file(source):
        data = source if isinstance(source, FeatureData) else load_feature_file(source)
        path = None if isinstance(source, FeatureData) else Path(source).resolve()
        draws = draws_of_features(data, wanted)
        # Other features than the file's are kept with the results.
        return BenchmarkData(without_text(data), draws) if settings.no_text else BenchmarkData(data, draws, path)
    splits = _splits(source, settings)
    class_texts_of(splits, settings.class_texts)  # wrong texts are said before photos are encoded
    templates_of(splits, settings.templates)
    parts = {"test": splits.test}
    if PAPER in wanted.protocols and splits.validation is not None:
        parts["validation"] = splits.validation
    draws, train, skipped = _encode_drawn(splits, wanted, settings, progress)
    findings = splits.train.findings
    draws = replace(draws, notes=(*findings.lines, *draws.notes, *_shared_groups(splits)))
    skipped = (*findings.skipped, *skipped)
    encoded = {"train": train}
    for what, photos in parts.items():
        encoded[what], unreadable = _encode(photos, settings, progress=progress, skip_bad=settings.skip_bad)
        skipped += unreadable
    return _described(splits, encoded, draws, settings, skipped)


def _shared_groups(splits: ImageSplits) -> tuple[str, ...]:
    """Say where splits that were given tear groups apart."""
    known = set(splits.train.groups or ()) - {""}
    shared = sum(name in known for name in splits.test.groups or ())
    if not shared:
        return ()
    photos = f"{shared} test photos of {splits.name} belong" if shared > 1 else f"a test photo of {splits.name} belongs"
    return (f"{photos} to groups of the training photos, which makes every figure too good: move whole groups",)


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
            f"(.npz), or one of {', '.join(STANDARD_DATASETS)} with --data-root"
        )
    if settings.data_root is None:
        raise DatasetError(
            f"Expected --data-root, the folder that holds {STANDARD_DATASETS[known].folder}/, for {known}"
        )
    return load_standard(known, settings.data_root)


def _encode_drawn(
    splits: ImageSplits, wanted: Wanted, settings: PhotoSettings, progress: Progress | None
) -> tuple[Draws, _Encoded, Skipped]:
    """Draw shots and encode them; those that cannot be read go, and it is drawn again."""
    pool, skipped = splits.train, Skipped()
    while True:
        groups = None if pool.groups is None else numbered_groups(pool.groups)
        drawn = draw_all(pool.labels, wanted, splits.class_names, splits.name, groups)
        used = drawn.rows()
        encoded, unreadable = _encode(
            pool.subset(used), settings, progress=progress, skip_bad=settings.skip_bad, views=settings.views
        )
        if not unreadable:
            return drawn.among(used), encoded, skipped
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
    part = Part(extraction.features.unit, kept.labels, extraction.features.unit_views, groups=kept.groups)
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
    prompts = prompt_features(encoder, texts, templates, store=settings.store)
    features = FeatureData(
        splits.name,
        splits.class_names,
        encoded["test"].part,
        mean_prompts(prompts) if encoder.has_text_tower else None,
        float(encoder.logit_scale),
        encoded["validation"].part if "validation" in encoded else None,
        {},
        encoded["train"].part,
        description,
        prompts if encoder.has_text_tower else None,
    )
    photos = {what: part.photos.paths for what, part in encoded.items()}
    if settings.no_text:
        features, texts = without_text(features), ()
    return BenchmarkData(features, draws, None, settings.encoder_name, texts, templates, photos, tuple(skipped))


def without_text(data: FeatureData) -> FeatureData:
    """Leave the class texts out; the digest, and so the data set in the results, is another."""
    description = {key: value for key, value in data.description.items() if key not in ("class_texts", "templates")}
    return replace(data, zero_shot_weights=None, prompt_features=None, description=description)
