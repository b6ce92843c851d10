"""Fit heads for edited models, with the present hyper-parameters or with new ones."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tip_adapter.classifier.encoding import PhotoEncoder
from tip_adapter.errors import InputError, ModelFileError, TipAdapterError
from tip_adapter.methods.heads import CacheHead, Head
from tip_adapter.methods.heads.base import without_text
from tip_adapter.model import edits
from tip_adapter.model.few_shot_model import FewShotModel
from tip_adapter.model.fitting import MethodRecord, calibrate_on_shots, fit_method, make_estimator
from tip_adapter.model.journal import JournalEntry, Undo
from tip_adapter.progress import announce
from tip_adapter.storage.escaping import reason_of
from tip_adapter.typing import Float32Array

if TYPE_CHECKING:
    from tip_adapter.methods import FewShotMethod
    from tip_adapter.methods.left_out import LeftOut
    from tip_adapter.progress import Progress


def check_method(model: FewShotModel, refit: bool) -> None:
    """Refuse edits that keep the hyper-parameters of a method that trains, or of shots that are not kept."""
    method = model.method
    if n_fitted := method.fitted_to:
        raise InputError(
            f"This classifier was fitted to {n_fitted} photos, of which it keeps {len(model.shots)}, so it cannot be "
            "corrected: change the photos and fit again, or fit to fewer (shots=16, --shots 16), which can be corrected"
        )
    if method.trains and not refit:
        raise InputError(
            f"{method.name} trains, so it has to be trained again after an edit: ask for that (refit=True, "
            "--refit), or fit a method that does not train"
        )


@dataclass(frozen=True, eq=False)
class Refitter:
    """Fit a method to the shots of edited models."""

    photos: PhotoEncoder
    method: str | FewShotMethod

    def committed(
        self,
        edit: edits.Edit,
        *,
        refit: bool,
        progress: Progress | None = None,
        before: FewShotModel | None = None,
    ) -> FewShotModel:
        """Fit the head of an edit; nothing of the classifier changes before that is done.

        Undoing a new choice leads back to that of `before`, which is the edited model's unless the edit changes what is
        to be chosen.
        """
        model = edit.model
        if not refit:
            with _clear_errors(model.method):
                return edits.finished(edit, self._held_head(model))
        with _clear_errors(model.method):
            estimator = self._estimator(model.method.parameters)
        announce(progress, "Training" if estimator.trains else "Choosing hyper-parameters on the shots", "steps")
        queries = self.photos.stored_middle_views(model)
        with _clear_errors(model.method):
            head, record = self._fit(estimator, model, queries, progress)
        if edit.undo is not None and edit.action != "undo":
            edit = dataclasses.replace(edit, undo=_undo_of_choice(edit.undo, before or model))
        return edits.finished(edit, head, method=record, **_recalibrated(estimator, model, queries))

    def refitted(
        self, model: FewShotModel, *, parameters: Mapping[str, Any], amend: bool, progress: Progress | None
    ) -> FewShotModel:
        """Choose again what is not given, as an edit of its own or as part of the last one."""
        given = dataclasses.replace(model.method, parameters={**model.method.parameters, **parameters})
        edit = edits.Edit(dataclasses.replace(model, method=given), "refit", undo=Undo())
        changed = self.committed(edit, refit=True, progress=progress, before=model)
        return edits.joined_to_last(changed) if amend else changed

    def undone(self, model: FewShotModel, *, refit: bool) -> tuple[FewShotModel, JournalEntry]:
        """Take back the last edit, and say what that was."""
        changed = self.committed(edits.undo_last(model), refit=refit)
        return changed, [entry for entry in model.journal if entry.undo is not None][-1]

    def left_out(self, model: FewShotModel) -> LeftOut:
        """Ask about every group of shots as if it had not been seen, with the hyper-parameters as they are."""
        from tip_adapter.methods.left_out import left_out_logits

        with _clear_errors(model.method):
            estimator = self._estimator({**model.method.parameters, **model.method.held})
        if n_fitted := model.method.fitted_to:
            raise InputError(
                f"This classifier was fitted to {n_fitted} photos, of which it keeps {len(model.shots)}, and these do "
                "not tell how good it is: measure it on labelled photos apart from them (evaluate)"
            )
        if estimator.needs_encoder:
            raise InputError(
                f"{model.method.name} would have to be tuned again for every part of the shots, which takes too long: "
                "measure it on labelled photos apart from them (evaluate)"
            )
        features, queries = model.shots.features, self.photos.stored_middle_views(model)
        with _clear_errors(model.method):
            self._fit(estimator, model, queries)
        views, groups = features.unit_views if estimator.takes_views else None, model.shots.group_numbers
        answers = left_out_logits(
            estimator, features.unit, model.shots.labels, queries=queries, views=views, groups=groups
        )
        # Means of views are easier than photos will be, and gain less.
        return dataclasses.replace(answers, fewer=None) if model.views > 1 and queries is None else answers

    def _held_head(self, model: FewShotModel) -> Head:
        """Fit to a model's shots with the hyper-parameters as they are."""
        if model.method.name != "tip-adapter" or not isinstance(model.head, CacheHead):
            estimator = self._estimator({**model.method.parameters, **model.method.held})
            return self._fit(estimator, model, self.photos.stored_middle_views(model))[0]
        # Without scikit-learn, which takes longer to load than all else, and without looking at every number.
        textless = bool(without_text(model.zero_shot_weights).all())
        return dataclasses.replace(
            model.head,
            n_classes=len(model.class_names),
            zero_shot_weights=None if textless else model.zero_shot_weights,
            keys=model.shots.features.unit,
            labels=model.shots.labels,
            logit_scale=model.encoder.logit_scale * float(model.method.held["text_weight"]),
            alpha=float(model.method.held["alpha"]),
            beta=float(model.method.held["beta"]),
        )

    def _fit(
        self,
        estimator: FewShotMethod,
        model: FewShotModel,
        queries: Float32Array | None,
        progress: Progress | None = None,
    ) -> tuple[Head, MethodRecord]:
        self.photos.give_prompts(estimator, model.class_texts, model.templates, model.class_names)
        features = model.shots.features
        return fit_method(
            estimator,
            features.unit,
            model.shots.labels,
            model.zero_shot_weights,
            model.encoder.logit_scale,
            model.class_texts,
            class_names=model.class_names,
            views=features.unit_views,
            groups=model.shots.group_numbers,
            queries=queries,
            encoder=self.photos.towers_for(estimator),
            progress=progress,
        )

    def _estimator(self, parameters: Mapping[str, Any]) -> FewShotMethod:
        return make_estimator(self.method, parameters)


def _recalibrated(estimator: FewShotMethod, model: FewShotModel, queries: Float32Array | None) -> dict[str, Any]:
    """A new calibration on the shots, if one on them is in use and their photos' single views are known."""
    if model.calibration is not None and model.calibration.source == "photos":
        return {}
    if model.views > 1 and queries is None:
        return {}
    features, labels = model.shots.features, model.shots.labels
    groups = model.shots.group_numbers
    calibration = calibrate_on_shots(
        estimator, features.unit, labels, queries, views=features.unit_views, groups=groups
    )
    return {"calibration": calibration}


@contextlib.contextmanager
def _clear_errors(method: MethodRecord) -> Iterator[None]:
    """What a saved classifier says about its method is only looked at here: scikit-learn takes long to load."""
    try:
        yield
    except TipAdapterError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelFileError(
            f"Expected saved parameters that {method.name} takes, got others ({reason_of(error)}): fit again"
        ) from error


def _undo_of_choice(undo: Undo, model: FewShotModel) -> Undo | None:
    """Take a new choice back with the edit; trained numbers are not kept twice, so that a training alone cannot be."""
    if not model.method.trains:
        return dataclasses.replace(undo, method=dataclasses.asdict(model.method), calibration=model.calibration)
    return None if undo.empty else undo
