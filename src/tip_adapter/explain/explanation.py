"""The explanation of one prediction, as an object, as JSON and as a row of a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tip_adapter.typing import FloatArray

_CANCELLING = 4.0
"""From so many times their sum on, terms are better shown as the sum that is left of them."""


CANCELLING = 3.0
"""Shots' terms cancel where they are, without their signs, so many times their sum."""

CANCEL = (
    "The shots' terms are large and cancel each other: without a shot the margin changes far less than its term, so go "
    "by the prediction without it."
)


@dataclass(frozen=True)
class Term:
    """What one part adds."""

    logit: float
    """To the logit of the answer."""
    margin: float
    """To the margin: the logit of the answer minus that of the runner-up."""


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
        What it adds; None where it has no term of its own.
    answer_without : str or None
        The answer without this shot.
    margin_without : float or None
        By how much the answer's logit is above every other's without this shot; negative where the answer changes.
    probability_without : float or None
        Probability of the answer (the one with this shot) without it.
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
    probability_without: float | None
    thumbnail: bytes | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, without the picture."""
        return {
            "id": self.id,
            "name": self.name,
            "class": self.class_name,
            "cosine": self.cosine,
            "logit": None if self.term is None else self.term.logit,
            "margin": None if self.term is None else self.term.margin,
            "answer_without": self.answer_without,
            "margin_without": self.margin_without,
            "probability_without": self.probability_without,
        }


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why a photo got its answer.

    Attributes
    ----------
    path : str
        The photo.
    answer, runner_up : str
        The two classes with the largest logits.
    probability, runner_up_probability : float
    logit, margin : float
        Logit of the answer, and how far it is above the runner-up's.
    text, shots : Term
        What the class texts add, and all shots together. Text, shots and rest are the whole.
    rest : Term or None
        What cannot be told apart by shots.
    text_answer : str or None
        The answer of the texts alone; None where they say nothing.
    deciding : tuple of ShotEvidence
        The shots with the largest say in the margin, or the nearest ones where no shot has a say of its own.
    shot_ids, shot_classes : tuple of N str
        All shots.
    shot_logits, shot_margins : ndarray of shape (N,), or None
        What every shot adds to logit and margin.
    exact : bool
        Whether the answer is the sum of the texts' term and one term per shot.
    note : str
        What is exact, and what stays as it is when a shot is left out.
    """

    path: str
    answer: str
    probability: float
    runner_up: str
    runner_up_probability: float
    logit: float
    margin: float
    text: Term
    shots: Term
    rest: Term | None
    text_answer: str | None
    deciding: tuple[ShotEvidence, ...]
    shot_ids: tuple[str, ...]
    shot_classes: tuple[str, ...]
    shot_logits: FloatArray | None
    shot_margins: FloatArray | None
    exact: bool
    note: str

    @property
    def flipping(self) -> tuple[ShotEvidence, ...]:
        """The deciding shots without which the answer would be another."""
        return tuple(shot for shot in self.deciding if shot.answer_without not in (None, self.answer))

    @property
    def terms_cancel(self) -> bool:
        """Whether shots have large terms that cancel: without one the margin changes far less than its term."""
        told = [
            (shot.term.margin, self.margin - shot.margin_without)
            for shot in self.deciding
            if shot.term is not None and shot.margin_without is not None
        ]
        if self.shot_margins is None or not abs(self.shot_margins).sum() > CANCELLING * abs(self.shots.margin):
            return False
        return sum(abs(term - change) for term, change in told) > sum(abs(term) for term, _ in told) / 2

    @property
    def notes(self) -> tuple[str, ...]:
        """What people should know: what is exact, and whether terms mislead."""
        return (self.note, CANCEL) if self.terms_cancel else (self.note,)

    def margin_by_class(self) -> dict[str, float]:
        """What the shots of every class add to the margin; empty where shots have no terms.

        Returns
        -------
        dict
            The largest in size first.
        """
        sums: dict[str, float] = {}
        if self.shot_margins is not None:
            for name, margin in zip(self.shot_classes, self.shot_margins.tolist(), strict=True):
                sums[name] = sums.get(name, 0.0) + margin
        return dict(sorted(sums.items(), key=lambda item: -abs(item[1])))

    @property
    def cancelling(self) -> bool:
        """Whether the terms of the shots nearly cancel each other, so that single ones say little."""
        apart = sum(map(abs, self.margin_by_class().values()))
        return apart > _CANCELLING * max(abs(self.shots.margin), abs(self.margin))

    def margin_parts(self) -> dict[str, float]:
        """What the margin is made of, for people: it is the sum of these.

        Returns
        -------
        dict
            "texts"; the shots of the answer, of the runner-up and of other classes, or "shots" in one where theirs
            cancel each other; "learned from all shots", where that is told apart by no shot.
        """
        parts = {} if self.text_answer is None else {"texts": self.text.margin}
        by_class = self.margin_by_class()
        if self.cancelling:
            parts["shots"] = self.shots.margin
        elif by_class:
            parts |= {f"shots of {name}": by_class.pop(name, 0.0) for name in (self.answer, self.runner_up)}
            if any(by_class.values()):
                parts["other shots"] = sum(by_class.values())
        elif self.rest is None and self.deciding:
            parts["shots"] = self.shots.margin
        return parts if self.rest is None else parts | {"learned from all shots": self.rest.margin}

    def share(self, term: Term | None) -> dict[str, float | None]:
        """A term with its fractions of the answer's logit and of the margin.

        Parameters
        ----------
        term : Term or None

        Returns
        -------
        dict
            Fractions are None where the whole is 0.
        """
        if term is None:
            return {"logit": None, "share_of_logit": None, "margin": None, "share_of_margin": None}
        return {
            "logit": term.logit,
            "share_of_logit": term.logit / self.logit if self.logit else None,
            "margin": term.margin,
            "share_of_margin": term.margin / self.margin if self.margin else None,
        }

    def to_dict(self, *, all_shots: bool = False) -> dict[str, Any]:
        """As JSON values; shares are fractions of the logit and of the margin.

        Parameters
        ----------
        all_shots : bool, default=False
            Also what each of the other shots adds.
        """
        facts: dict[str, Any] = {
            "path": self.path,
            "answer": self.answer,
            "probability": self.probability,
            "runner_up": self.runner_up,
            "runner_up_probability": self.runner_up_probability,
            "logit": self.logit,
            "margin": self.margin,
            "text": self.share(self.text) | {"answer": self.text_answer},
            "shots": self.share(self.shots),
            "rest": None if self.rest is None else self.share(self.rest),
            "exact": self.exact,
            "notes": list(self.notes),
            "deciding": [shot.to_dict() | self.share(shot.term) for shot in self.deciding],
        }
        if all_shots and self.shot_logits is not None and self.shot_margins is not None:
            pairs = zip(self.shot_ids, self.shot_logits.tolist(), self.shot_margins.tolist(), strict=True)
            facts["all_shots"] = [{"id": name} | self.share(Term(logit, margin)) for name, logit, margin in pairs]
        return facts

    def flat(self) -> dict[str, Any]:
        """As one row of a table."""
        return {
            "path": self.path,
            "class": self.answer,
            "probability": self.probability,
            "runner_up": self.runner_up,
            "margin": self.margin,
            "margin_text": self.text.margin,
            "margin_shots": self.shots.margin,
            "margin_rest": None if self.rest is None else self.rest.margin,
            "text_answer": self.text_answer,
            "deciding_shots": " ".join(shot.id for shot in self.deciding),
            "flipping_shots": " ".join(shot.id for shot in self.flipping),
        }
