"""Learn from features of very many photos: the head is fitted to all of them, and some are kept to show."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tip_adapter.classifier.support import Support, groups_of_rows
from tip_adapter.data.groups import numbered_groups
from tip_adapter.features.feature_data import Part
from tip_adapter.features.feature_files import TrainingFeatures
from tip_adapter.methods.heads import Head
from tip_adapter.methods.heads.base import without_text
from tip_adapter.model.few_shot_model import FewShotModel
from tip_adapter.model.fitting import MethodRecord
from tip_adapter.trust.calibration import Calibration
from tip_adapter.typing import Float32Array

if TYPE_CHECKING:
    from tip_adapter.methods import FewShotMethod
    from tip_adapter.methods.many_shots import HeadChoice

TOP_K = "tip-adapter-topk"


def is_for_very_many(estimator: FewShotMethod, part: Part) -> bool:
    """Whether a head is to be chosen for all of these photos: by "auto", where they are very many."""
    from tip_adapter.methods import Auto
    from tip_adapter.methods.many_shots import MANY

    return type(estimator) is Auto and len(part) > MANY and part.views is None


def head_of_very_many(
    found: TrainingFeatures,
    weights: Float32Array,
    logit_scale: float,
    groups: Iterable[Any] | str | None,
    path: str,
) -> HeadChoice | None:
    """Choose a head for all photos of a file; None where no group of them can be left out."""
    from tip_adapter.methods.many_shots import choose_head

    part, textless = found.part, bool(without_text(weights).all())
    return choose_head(
        part.features,
        part.labels,
        None if textless else weights,
        logit_scale,
        len(found.class_names),
        groups=numbered_groups(groups_of_rows(groups, part, path)),
    )


def fitted_to_very_many(choice: HeadChoice, support: Support) -> tuple[Head, MethodRecord, Calibration]:
    """Give the chosen head, what is recorded of it, and what its answers to the photos left out are worth."""
    assert choice.head is not None  # noqa: S101 - a cache is fitted like any other
    shots, unit = choice.shots, support.shots.features.unit
    calibration = Calibration.of(choice.logits, shots.truth, (shots.queries, unit, support.shots.labels))
    chosen = {"summary": choice.summary, "head": choice.name, "fitted_to": int(shots.learned.sum())}
    record = MethodRecord("auto", {}, chosen, trains=choice.name == "linear-probe")
    return choice.head, record, calibration


def told_of_choice(model: FewShotModel, choice: HeadChoice) -> FewShotModel:
    """Say of a cache why it was chosen."""
    chosen = dict(model.method.chosen) | {"summary": choice.summary}
    return replace(model, method=replace(model.method, chosen=chosen))
