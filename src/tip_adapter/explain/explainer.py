"""Explain predictions on features: the contribution of the class texts and of every shot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tip_adapter.errors import InputError
from tip_adapter.explain.explanation import Explanation, ShotEvidence, Term
from tip_adapter.explain.terms import Contributions, TakenApart
from tip_adapter.methods.heads.base import row_chunks
from tip_adapter.model.few_shot_model import FewShotModel
from tip_adapter.typing import Float32Array, FloatArray, IntArray

FIXED = {
    "zero-shot": "The answer is the texts' alone; shots have no part in it.",
    "tip-adapter": "Without a shot: as if it were removed, with the same α and β.",
    "tip-adapter-f": "Without a shot: its key is taken away; the other keys, trained together with it, stay.",
    "tip-x": "Without a shot: its key is taken away; the scale of the divergences, set with it, stays.",
    "ape": "Without a shot: its key is taken away; the choice of channels and the weights of keys, made with it, stay.",
    "proker": "Without a shot: its kernel is taken away; the other shots' coefficients, solved together with it, stay.",
    "proker again": (
        "Without a shot: the other shots' coefficients are solved again, with the same α, β, ridge and weights of "
        "classes."
    ),
    "gda": "Without a shot: its class has the mean of its other shots; the shared covariance, made with it, stays.",
    "prototype": "Without a shot: its class has the mean of its other shots; the scale stays.",
    "gda + proker": (
        "Without a shot: its kernel is taken away, and its class has the mean of its other shots; the other shots' "
        "coefficients and the shared covariance, made together with it, stay."
    ),
    "gda + proker again": (
        "Without a shot: the other shots' kernel coefficients are solved again, and its class has the mean of its "
        "other shots; the shared covariance, made with it, and the weights of methods and classes stay."
    ),
}
"""What stays as it is when a shot is left out, by method."""

VOTES = (
    "The nearest shots vote, which is no sum, so no shot has a share; the answers without each of them are exact: the "
    "next nearest votes in its place."
)

PARTLY = (
    "Text and the shots' kernels are exact; the rest is {method}'s linear part, which mixes all shots. Without a shot: "
    "its kernel is taken away; everything else, fitted together with it, stays."
)

OTHERWISE = (
    "{method} mixes all shots, so its answer is no sum over them: the texts' part is exact, the rest is what the shots "
    "taught it, and the shots shown are the nearest ones, as an illustration."
)

MADE_OF_SHOTS = {"gda": "gaussian", "auto": "gaussian", "prototype": "prototype"}
"""Methods whose linear part is a sum over shots, and which sum it is."""


def ridge_held(held: Mapping[str, Any]) -> float:
    """Ridge of the Gaussians among what a method holds."""
    parameters = held.get("held", {}).get("parameters", {})
    return float(held.get("ridge", parameters.get("gda ridge", 1.0)))


@dataclass(frozen=True, eq=False)
class Explainer:
    """A model ready to explain its answers."""

    model: FewShotModel

    @cached_property
    def _head(self) -> TakenApart:
        model = self.model
        return TakenApart(
            model.head,
            model.shots.features.unit,
            model.shots.labels,
            MADE_OF_SHOTS.get(model.method.name),
            model.encoder.logit_scale,
            ridge_held(model.method.held),
        )

    @cached_property
    def _shot_classes(self) -> tuple[str, ...]:
        return tuple(self.model.class_names[label] for label in self.model.shots.labels)

    def explain(self, features: Float32Array, paths: Sequence[str], *, shots: int = 5) -> list[Explanation]:
        """Explain the predictions for photos by their unit features, with the `shots` that decide most.

        Shapes: `features` (B, D).
        """
        if shots < 0:
            raise InputError(f"Expected the number of shots to show to be at least 0, got {shots}")
        result: list[Explanation] = []
        for rows in row_chunks(len(features), len(self.model.shots)):
            parts = self._head.contributions(features[rows])
            logits = parts.logits()
            for query, (feature, path) in enumerate(zip(features[rows], paths[rows], strict=True)):
                result.append(self._explain(parts, query, logits[query], feature, path, shots))
        return result

    def _explain(
        self, parts: Contributions, query: int, logits: FloatArray, feature: Float32Array, path: str, n_shown: int
    ) -> Explanation:
        names = self.model.class_names
        best, second = np.argsort(-logits, kind="stable")[:2].tolist()
        to_best, to_second = parts.to_class(query, best), parts.to_class(query, second)
        margins = to_best - to_second
        has_terms = bool(parts.parts) and parts.is_sum

        def term(row: FloatArray) -> Term:
            return Term(float(row[best]), float(row[best] - row[second]))

        deciding = [
            self._evidence(
                shot,
                feature,
                best,
                Term(float(to_best[shot]), float(margins[shot])) if has_terms else None,
                parts.logits_without(query, shot) if parts.parts else None,
            )
            for shot in self._shown(parts, (query, best, second), feature, n_shown).tolist()
        ]
        probabilities = self.model.probabilities(logits[None])[0]
        all_shots = sum((part.logits()[query] for part in parts.parts), np.zeros(len(names)))
        return Explanation(
            path=path,
            answer=names[best],
            probability=float(probabilities[best]),
            runner_up=names[second],
            runner_up_probability=float(probabilities[second]),
            logit=float(logits[best]),
            margin=float(logits[best] - logits[second]),
            text=term(parts.text[query]),
            shots=term(all_shots),
            rest=None if parts.rest is None else term(parts.rest[query]),
            text_answer=names[int(parts.text[query].argmax())] if self._has_text else None,
            deciding=tuple(deciding),
            shot_ids=self.model.shots.ids,
            shot_classes=self._shot_classes,
            shot_logits=to_best if has_terms else None,
            shot_margins=margins if has_terms else None,
            exact=parts.exact,
            note=self._note(parts),
        )

    @property
    def _has_text(self) -> bool:
        return getattr(self.model.head, "zero_shot_weights", None) is not None

    def _shown(self, parts: Contributions, asked: tuple[int, int, int], feature: Float32Array, n: int) -> IntArray:
        """Rows of the shots with the largest say; the nearest where none has a say of its own."""
        if parts.parts and parts.is_sum:
            query, best, second = asked
            return _largest(np.abs(parts.taken_from_class(query, best) - parts.taken_from_class(query, second)), n)
        if not parts.parts and parts.rest is None:
            return np.zeros(0, dtype=np.intp)
        # Above 0 whatever the angle.
        return _largest(2.0 + self.model.shots.features.unit @ feature, n)

    def _evidence(
        self, shot: int, feature: Float32Array, answer: int, term: Term | None, without: FloatArray | None
    ) -> ShotEvidence:
        shots, names = self.model.shots, self.model.class_names
        found: dict[str, Any] = {"answer_without": None, "margin_without": None, "probability_without": None}
        if without is not None:
            found = {
                "answer_without": names[int(without.argmax())],
                "margin_without": float(without[answer] - np.delete(without, answer).max()),
                "probability_without": float(self.model.probabilities(without[None])[0, answer]),
            }
        return ShotEvidence(
            id=shots.ids[shot],
            name=shots.features.names[shot],
            class_name=names[shots.labels[shot]],
            cosine=float(feature @ shots.features.unit[shot]),
            term=term,
            thumbnail=shots.thumbnails.get(shots.ids[shot]),
            **found,
        )

    def _note(self, parts: Contributions) -> str:
        """What is exact, and what stays as it is when a shot is left out."""
        method = self.model.method
        if not parts.is_sum:
            return VOTES
        if parts.rest is not None:
            return (PARTLY if parts.parts else OTHERWISE).format(method=method.name)
        # What auto chose answers in its name.
        name = str(method.chosen.get("method", method.name)) if method.name == "auto" else method.name
        if self._head.solves_again:
            name += " again"
        return FIXED.get(name, FIXED["tip-adapter"]) if parts.parts else FIXED["zero-shot"]


def _largest(values: FloatArray, n: int) -> IntArray:
    """Indices of the n largest values above 0, the largest first; equal ones in their order."""
    candidates = np.argpartition(-values, n)[:n] if n < len(values) else np.arange(len(values))
    candidates = np.sort(candidates[values[candidates] > 0])
    order: IntArray = candidates[np.argsort(-values[candidates], kind="stable")]
    return order
