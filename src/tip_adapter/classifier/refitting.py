"""New heads for a fitted classifier: with the hyper-parameters as they are, or chosen again; and back."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter.classifier.changing import ChangingPart
from tip_adapter.errors import InputError, ModelFileError, TipAdapterError
from tip_adapter.features.feature_set import FeatureSet
from tip_adapter.features.pipeline import CENTER_VIEW
from tip_adapter.heads import CacheHead, Head
from tip_adapter.model import edits
from tip_adapter.model.few_shot_model import FewShotModel
from tip_adapter.model.fitting import MethodRecord, calibrate_on_shots, fit_method, make_estimator
from tip_adapter.model.journal import JournalEntry, Undo
from tip_adapter.progress import announce
from tip_adapter.storage.escaping import reason_of
from tip_adapter.typing import Float32Array

if TYPE_CHECKING:
    from tip_adapter.methods import FewShotMethod
    from tip_adapter.progress import Progress


class RefittingPart(ChangingPart):
    """The part of `ImageClassifier` that fits again what was fitted before."""

    @property
    def journal(self) -> tuple[JournalEntry, ...]:
        """What was done since the classifier was fitted, the first thing first."""
        return self._fitted().journal

    def refit(self, *, amend: bool = False, progress: Progress | None = None) -> None:
        """Choose hyper-parameters again, for the shots and classes as they are; no photo is needed.

        Parameters
        ----------
        amend : bool, default=False
            Count it as part of the last edit, so that one `undo` takes back both.
        progress : Progress, optional
            Of a method that trains.
        """

        def refitted(model: FewShotModel) -> tuple[FewShotModel, None]:
            changed = self._committed(edits.Edit(model, "refit", undo=Undo()), refit=True, progress=progress)
            return edits.joined_to_last(changed) if amend else changed, None

        self._change(refitted)

    def undo(self, *, refit: bool = False) -> JournalEntry:
        """Take back the last edit that was not taken back yet.

        Parameters
        ----------
        refit : bool, default=False
            Choose hyper-parameters again. Methods that train cannot do without.

        Returns
        -------
        JournalEntry
            What was taken back.

        Raises
        ------
        InputError
            When there is nothing to take back.
        """
        self._check_method(refit)
        return self._change(lambda model: self._undone(model, refit))

    def _undone(self, model: FewShotModel, refit: bool) -> tuple[FewShotModel, JournalEntry]:
        changed = self._committed(edits.undo_last(model), refit=refit)
        return changed, [entry for entry in model.journal if entry.undo is not None][-1]

    def _check_method(self, refit: bool) -> None:
        method = self._fitted().method
        if method.trains and not refit:
            raise InputError(
                f"{method.name} trains, so it has to be trained again after an edit: ask for that (refit=True, "
                "--refit), or fit a method that does not train."
            )

    def _committed(self, edit: edits.Edit, *, refit: bool, progress: Progress | None = None) -> FewShotModel:
        """Fit the head of an edit; nothing of the classifier changes before that is done."""
        model = edit.model
        if not refit:
            with _clear_errors(model.method):
                return edits.finished(edit, self._held_head(model))
        with _clear_errors(model.method):
            estimator = self._estimator_for_edits(model.method.parameters)
        if progress is not None and "progress" in estimator.get_params(deep=False):
            estimator.set_params(progress=lambda done, total, _: progress(done, total, 0))
        announce(progress, "Training" if estimator.trains else "Choosing hyper-parameters on the shots", "steps")
        with _clear_errors(model.method):
            head, record = self._fit(estimator, model)
        if edit.undo is not None and edit.action != "undo":
            edit = dataclasses.replace(edit, undo=_undo_of_choice(edit.undo, model))
        return edits.finished(edit, head, method=record, **self._recalibrated(estimator, model))

    def _recalibrated(self, estimator: FewShotMethod, model: FewShotModel) -> dict[str, Any]:
        """A new calibration on the shots, if one on them is in use and their photos' single views are known."""
        if model.calibration is not None and model.calibration.source == "photos":
            return {}
        queries = None
        if model.views > 1:
            queries = self._stored_queries(model)
            if queries is None:
                return {}
        features, labels = model.shots.features, model.shots.labels
        groups = model.shots.group_numbers
        calibration = calibrate_on_shots(
            estimator, features.unit, labels, queries, views=features.unit_views, groups=groups
        )
        return {"calibration": calibration}

    def _stored_queries(self, model: FewShotModel) -> Float32Array | None:
        """Features of the shots as photos to classify are seen, from the store; None if it lacks one."""
        digests = model.shots.features.digests
        with self._open_store() as store:
            found = {} if store is None else store.get(model.encoder.image_id, [(one, CENTER_VIEW) for one in digests])
        if len(found) < len(set(digests)):
            return None
        raw = np.stack([found[one, CENTER_VIEW] for one in digests])[:, None]
        return FeatureSet(raw, model.encoder.image_id, digests, model.shots.features.names).unit

    def _held_head(self, model: FewShotModel) -> Head:
        """Fit to a model's shots with the hyper-parameters as they are."""
        if model.method.name != "tip-adapter" or not isinstance(model.head, CacheHead):
            return self._fit(self._estimator_for_edits({**model.method.parameters, **model.method.held}), model)[0]
        # Without scikit-learn, which takes longer to load than all else, and without looking at every number.
        silent = bool(np.isnan(model.zero_shot_weights[:, 0]).all())
        return dataclasses.replace(
            model.head,
            n_classes=len(model.class_names),
            zero_shot_weights=None if silent else model.zero_shot_weights,
            keys=model.shots.features.unit,
            labels=model.shots.labels,
            logit_scale=model.encoder.logit_scale * float(model.method.held["text_weight"]),
            alpha=float(model.method.held["alpha"]),
            beta=float(model.method.held["beta"]),
        )

    def _fit(self, estimator: FewShotMethod, model: FewShotModel) -> tuple[Head, MethodRecord]:
        self._give_prompts(estimator, model.class_texts, model.templates, model.class_names)
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
        )

    def _estimator_for_edits(self, parameters: Mapping[str, Any]) -> FewShotMethod:
        return make_estimator(self.method, parameters, self._source_for_training())


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
