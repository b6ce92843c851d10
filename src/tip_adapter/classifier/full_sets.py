"""Decide which classifiers can give full conformal sets, and what these guarantee."""

from __future__ import annotations

from typing import Literal

from tip_adapter.classifier.encoding import Queries
from tip_adapter.errors import InputError
from tip_adapter.methods.heads import CacheHead
from tip_adapter.model.few_shot_model import FewShotModel
from tip_adapter.model.predictions import PredictionSets, named_sets
from tip_adapter.trust.conformal import SetKind, check_enough
from tip_adapter.trust.full_conformal import FullConformal

SetGuarantee = Literal["calibrated", "full"]


def check_full(model: FewShotModel, coverage: float, kind: SetKind, guarantee: str) -> None:
    """Refuse what full conformal sets cannot be of, before photos are encoded."""
    if guarantee != "full":
        raise InputError(f"Expected a guarantee, calibrated or full, got {guarantee!r}")
    if kind != "lac":
        raise InputError(f"Expected sets of the kind lac with the guarantee full, got {kind!r}")
    shots = model.shots
    if not isinstance(model.head, CacheHead):
        name = model.method.name
        raise InputError(
            f"Full conformal sets are exact where a photo joins the shots at no cost, which {name} has to be fitted "
            "again for: fit with the method tip-adapter, or calibrate with photos apart from the shots"
        )
    if shots.n_groups < len(shots):
        raise InputError(
            f"Full conformal sets need shots that were drawn one by one, like the photos to come, got {shots.counted}: "
            "keep one of each group, or calibrate with photos apart from the shots"
        )
    if model.views > 1:
        raise InputError(
            f"Full conformal sets need shots that are seen as photos are, got means of {model.views} views: fit with "
            "one view, or calibrate with photos apart from the shots"
        )
    check_enough(len(shots), coverage)


def full_sets(model: FewShotModel, queries: Queries, coverage: float, *, allow_empty: bool) -> PredictionSets:
    """Compare photos, as each class, with all the shots."""
    if not isinstance(model.head, CacheHead):
        raise TypeError(type(model.head).__name__)
    # A temperature that these shots chose would treat them otherwise than the photo.
    apart = model.calibration is not None and model.calibration.source == "photos"
    temperature = model.temperature if apart else 1.0
    probabilities = model.probabilities(model.logits(queries.features))
    inside = FullConformal.of(model.head, temperature).sets(queries.features, coverage)
    if not allow_empty:
        inside[range(len(inside)), probabilities.argmax(axis=1)] = True
    return PredictionSets(
        coverage,
        "lac",
        allow_empty,
        f"all {len(model.shots)} shots, which each photo joins as every class",
        "holds on average for new photos drawn like the shots, as far as α, β and the text's weight, which are held, "
        "were not chosen from them",
        named_sets(probabilities, inside, model.class_names, queries.names),
        queries.extraction.skipped,
    )
