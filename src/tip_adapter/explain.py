"""A fitted model and features of photos in; why each photo got its answer out: the text's part, and every shot's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tip_adapter.contributions import Contributions, contributions
from tip_adapter.errors import InputError
from tip_adapter.heads import CacheHead, KernelHead
from tip_adapter.heads.base import row_chunks
from tip_adapter.model import FewShotModel
from tip_adapter.predictions import Prediction, top_predictions
from tip_adapter.typing import Float32Array, FloatArray, IntArray

__all__ = ["Explanation", "ShotEvidence", "Term", "explain_features"]

FIXED = {
    "zero-shot": "The answer is the text's alone; shots have no part in it.",
    "tip-adapter": "Without a shot: as if it were removed, with the same α and β.",
    "tip-adapter-f": "Without a shot: its key is taken away; the other keys, trained together with it, stay as they are.",
    "tip-x": "Without a shot: its key is taken away; the scale of the divergences, set with it, stays.",
    "ape": "Without a shot: its key is taken away; the choice of channels and the weights of keys, made with it, stay.",
    "proker": "Without a shot: its kernel is taken away; the other shots' coefficients, solved together with it, stay.",
}
"""What stays as it is when a shot is left out, by method."""

PARTLY = (
    "Text and shots' kernels are exact; the rest is {method}'s Gaussian part, which mixes all shots. Without a shot: its "
    "kernel is taken away; the other shots' coefficients and the Gaussians, fitted together with it, stay."
)

OTHERWISE = (
    "{method} mixes all shots, so its answer is no sum over them: the text's term is exact, the rest is what the shots "
    "taught it, and the shots shown are the nearest ones, as an illustration."
)


@dataclass(frozen=True)
class Term:
    """What one part adds.

    Attributes
    ----------
    logit : float
        To the logit of the answer.
    margin : float
        To the margin: the logit of the answer minus that of the runner-up.
    """

    logit: float
    margin: float


@dataclass(frozen=True)
class ShotEvidence:
    """One shot's part in an answer.

    Attributes
    ----------
    id, name, class_name : str
        The shot, its file and its class.
    cosine : float
        Its similarity to the photo, from -1 to 1.
    term : Term or None
        What it adds; None where it is only an illustration.
    answer_without : str or None
        The answer without this shot.
    margin_without : float or None
        By how much the answer's logit is above every other's without this shot; negative where the answer changes.
    thumbnail : bytes or None
        A small JPEG picture.
    """

    id: str
    name: str
    class_name: str
    cosine: float
    term: Term | None
    answer_without: str | None
    margin_without: float | None
    thumbnail: bytes | None


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why a photo got its answer.

    Attributes
    ----------
    prediction : Prediction
    answer, runner_up : str
        The two classes with the largest logits.
    logit, margin : float
        Logit of the answer, and how far it is above the runner-up's.
    text, shots : Term
        What the class texts add, and all shots together. Text, shots and rest are the whole.
    rest : Term or None
        What cannot be told apart by shots.
    text_answer : str
        The answer of the texts alone.
    deciding : tuple of ShotEvidence
        The shots with the largest say in the margin, or the nearest ones where the method is no sum over shots.
    shot_ids : tuple of N str
        All shots.
    shot_logits, shot_margins : ndarray of shape (N,), or None
        What every shot adds to logit and margin.
    note : str
        What is exact, and what stays as it is when a shot is left out.
    """

    prediction: Prediction
    answer: str
    runner_up: str
    logit: float
    margin: float
    text: Term
    shots: Term
    rest: Term | None
    text_answer: str
    deciding: tuple[ShotEvidence, ...]
    shot_ids: tuple[str, ...]
    shot_logits: FloatArray | None
    shot_margins: FloatArray | None
    note: str

    @property
    def exact(self) -> bool:
        """Whether the answer is the sum of text and shots."""
        return self.rest is None

    def to_dict(self, *, all_shots: bool = False) -> dict[str, Any]:
        """As JSON values; shares are fractions of the logit and of the margin.

        Parameters
        ----------
        all_shots : bool, default=False
            Also what each of the other shots adds.

        Returns
        -------
        dict
        """
        facts: dict[str, Any] = {
            "path": self.prediction.path,
            "answer": self.answer,
            "runner_up": self.runner_up,
            "logit": self.logit,
            "margin": self.margin,
            "text": self._term(self.text) | {"answer": self.text_answer},
            "shots": self._term(self.shots),
            "rest": None if self.rest is None else self._term(self.rest),
            "exact": self.exact,
            "note": self.note,
            "deciding": [self._shot(shot) for shot in self.deciding],
        }
        if all_shots and self.shot_logits is not None and self.shot_margins is not None:
            pairs = zip(self.shot_ids, self.shot_logits.tolist(), self.shot_margins.tolist(), strict=True)
            facts["all_shots"] = [{"id": name} | self._term(Term(logit, margin)) for name, logit, margin in pairs]
        return facts

    def _term(self, term: Term) -> dict[str, float | None]:
        return {
            "logit": term.logit,
            "share_of_logit": term.logit / self.logit if self.logit else None,
            "margin": term.margin,
            "share_of_margin": term.margin / self.margin if self.margin else None,
        }

    def _shot(self, shot: ShotEvidence) -> dict[str, Any]:
        facts = {"id": shot.id, "name": shot.name, "class": shot.class_name, "cosine": shot.cosine}
        if shot.term is None:
            return facts
        without = {"answer_without": shot.answer_without, "margin_without": shot.margin_without}
        return facts | self._term(shot.term) | without


def explain_features(
    model: FewShotModel, features: Float32Array, paths: Sequence[str], *, shots: int = 5, top_k: int = 1
) -> list[Explanation]:
    """Explain the answers to photos.

    Parameters
    ----------
    model : FewShotModel
    features : ndarray of shape (B, D), float32
        Unit rows.
    paths : sequence of B str
        What the photos are called.
    shots : int, default=5
        Deciding shots to show per photo.
    top_k : int, default=1
        Classes in each prediction.

    Returns
    -------
    list of Explanation

    Raises
    ------
    InputError
        When `shots` is negative.
    """
    if shots < 0:
        raise InputError(f"Expected shots to be at least 0, got {shots}.")
    result: list[Explanation] = []
    for rows in row_chunks(len(features), len(model.shots)):
        parts = contributions(model.head, features[rows])
        logits = parts.logits()
        predictions = top_predictions(model.probabilities(logits), model.class_names, paths[rows], top_k)
        for query, prediction in enumerate(predictions):
            result.append(_explain(model, parts, query, features[rows][query], (logits[query], prediction), shots))
    return result


def _explain(
    model: FewShotModel,
    parts: Contributions,
    query: int,
    feature: Float32Array,
    answered: tuple[FloatArray, Prediction],
    n_shown: int,
) -> Explanation:
    logits, prediction = answered
    best, second = np.argsort(-logits, kind="stable")[:2].tolist()

    def term(row: FloatArray) -> Term:
        return Term(float(row[best]), float(row[best] - row[second]))

    to_best, to_second = _shot_terms(parts, query, (best, second))
    margins = to_best - to_second
    if len(margins):
        chosen = _largest(np.abs(margins), n_shown)
        deciding = [
            _evidence(
                model,
                shot,
                feature,
                Term(float(to_best[shot]), float(margins[shot])),
                parts.logits_without(query, shot),
                best,
            )
            for shot in chosen.tolist()
        ]
    else:
        # Nothing to take apart: the nearest shots illustrate, unless shots have no part at all.
        nearest = [] if parts.exact else _largest(1 + model.shots.features.unit @ feature, n_shown).tolist()
        deciding = [_evidence(model, shot, feature) for shot in nearest]
    return Explanation(
        prediction=prediction,
        answer=model.class_names[best],
        runner_up=model.class_names[second],
        logit=float(logits[best]),
        margin=float(logits[best] - logits[second]),
        text=term(parts.text[query]),
        shots=Term(float(to_best.sum()), float(margins.sum())),
        rest=None if parts.rest is None else term(parts.rest[query]),
        text_answer=model.class_names[int(parts.text[query].argmax())],
        deciding=tuple(deciding),
        shot_ids=model.shots.ids,
        shot_logits=to_best if len(margins) else None,
        shot_margins=margins if len(margins) else None,
        note=_note(model, parts),
    )


def _shot_terms(parts: Contributions, query: int, classes: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
    """What every shot adds to two classes of one query."""
    one = parts.of_query(query)
    first, second = (one.to_class(np.array([column]))[0] for column in classes)
    return first, second


def _largest(values: FloatArray, n: int) -> IntArray:
    """Indices of the n largest values above 0, the largest first."""
    candidates = np.argpartition(-values, n)[:n] if n < len(values) else np.arange(len(values))
    candidates = candidates[values[candidates] > 0]
    order: IntArray = candidates[np.argsort(-values[candidates], kind="stable")]
    return order


def _evidence(
    model: FewShotModel,
    shot: int,
    feature: Float32Array,
    term: Term | None = None,
    without: FloatArray | None = None,
    answer: int = 0,
) -> ShotEvidence:
    shots = model.shots
    key = shots.features.raw[shot].mean(axis=0, dtype=np.float64)
    rival = None if without is None else float(np.delete(without, answer).max())
    name = shots.ids[shot]
    return ShotEvidence(
        id=name,
        name=shots.features.names[shot],
        class_name=model.class_names[shots.labels[shot]],
        cosine=float(feature @ key / np.linalg.norm(key)),
        term=term,
        answer_without=None if without is None else model.class_names[int(without.argmax())],
        margin_without=None if without is None or rival is None else float(without[answer]) - rival,
        thumbnail=shots.thumbnails.get(name),
    )


def _note(model: FewShotModel, parts: Contributions) -> str:
    """What is exact, and what stays as it is when a shot is left out."""
    name = model.method.name
    if not parts.exact:
        return (PARTLY if parts.values.shape[1] else OTHERWISE).format(method=name)
    if name in FIXED:
        return FIXED[name]
    kind = "tip-adapter" if isinstance(model.head, CacheHead) else "proker"
    return FIXED[kind if isinstance(model.head, CacheHead | KernelHead) else "zero-shot"]
