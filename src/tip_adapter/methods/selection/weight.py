"""Choose how much to trust a term beside the texts, from its logits on held-out images.

Every method that adds ``α·term`` to the zero-shot logits meets the question how large α should be. From shots alone,
the likelihood of the answers to left-out shots decides, corrected for what leaving out changes (fewer shots) and, where
shots are few, held near a spread stated beforehand. With a validation set accuracy on it decides, as in most papers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tip_adapter.methods.heads.base import nll_per_sample
from tip_adapter.methods.selection.evidence import Evidence, Fit, Selection, spread
from tip_adapter.methods.selection.line_search import best_accuracy_alpha
from tip_adapter.methods.selection.prior import expected_spread, likely_ratio, likely_text_weight
from tip_adapter.typing import FloatArray, IntArray


def nll_and_accuracy(logits: FloatArray, labels: IntArray) -> tuple[float, float]:
    """Negative log-likelihood (nats per image) and accuracy; NaN without images.

    Shapes: `logits` (B, C), `labels` (B,).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.selection.weight import nll_and_accuracy
    >>> nll_and_accuracy(np.array([[0.0, 50.0]]), np.array([1]))
    (0.0, 1.0)
    """
    if not len(labels):
        return float("nan"), float("nan")
    return float(np.mean(nll_per_sample(logits, labels))), float(np.mean(logits.argmax(axis=1) == labels))


@dataclass(frozen=True, kw_only=True)
class Choice(Selection):
    """What was chosen for ``t·text + α·term``, the term fitted to all shots.

    Attributes
    ----------
    parameters : dict of str to float
        The term's parameters.
    alpha_seen : float
        Weight that the terms of the left-out shots were given when they were scored.
    tried : tuple of (dict, float)
        Every combination of parameters with its negative log-likelihood.
    """

    parameters: dict[str, float]
    alpha_seen: float
    tried: tuple[tuple[dict[str, float], float], ...] = ()

    @property
    def summary(self) -> str:
        """One sentence for people."""
        values = {"alpha": self.alpha, **self.parameters}
        return self._sentence(", ".join(f"{name} = {value:.3g}" for name, value in values.items()))


def choose(
    evidence: Evidence,
    term: Callable[[dict[str, float]], Fit],
    axes: Mapping[str, Sequence[float]] | None = None,
    *,
    growth: float = 0.0,
    alpha: float | None = None,
    text_weight: float | None = None,
    left_out: Callable[[dict[str, float]], FloatArray] | None = None,
) -> tuple[Choice, FloatArray]:
    """Choose α, t, and the parameters of a term, for ``t·text + α·term``.

    Parameters
    ----------
    evidence : Evidence
    term : callable
        From parameters to a `tip_adapter.methods.selection.evidence.Fit`.
    axes : mapping of str to sequence of float, optional
        Values to try of every parameter, the one to take without evidence first. One parameter after another is chosen,
        the others held at the best so far.
    growth : float, default=0
        The best weight grows as the shots to this power, so what was found with the shots a fold keeps is scaled up. 0
        for terms whose own output grows as it should.
    alpha, text_weight : float, optional
        α and t that are given and not to be chosen. With α given, or a validation set, t is 1, as in papers.
    left_out : callable, optional
        A faster way to the logits of the images under some parameters than `Evidence.logits`.

    Returns
    -------
    Choice
    ndarray of shape (B, C)
        The chosen term's logits of images that its fits have not seen.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.selection.weight import choose
    >>> from tip_adapter.methods.selection.evidence import evidence_from_support
    >>> features, labels = np.eye(2, dtype=np.float32)[[0, 0, 0, 1, 1, 1]], np.repeat([0, 1], 3)
    >>> evidence = evidence_from_support(features, labels, np.zeros((6, 2)))
    >>> choice, _ = choose(
    ...     evidence,
    ...     lambda parameters: lambda kept: lambda queries: parameters["sign"] * queries,
    ...     {"sign": (-1.0, 1.0)},
    ... )
    >>> choice.parameters, choice.accuracy
    ({'sign': 1.0}, 1.0)
    """
    from threadpoolctl import threadpool_limits

    axes = axes or {}

    def weigh(parameters: dict[str, float]) -> tuple[Choice, FloatArray]:
        fit = term(parameters)
        logits = evidence.logits(fit) if left_out is None else left_out(parameters)
        return _weigh(evidence, fit, logits, parameters, growth, (alpha, text_weight)), logits

    # Many small systems: threads of the linear algebra would wait for each other longer than they work.
    with threadpool_limits(1, user_api="blas"):
        best, logits = weigh({name: values[0] for name, values in axes.items()})
        tried = [(best.parameters, best.nll)]
        for name, values in axes.items() if evidence.rule != "prior" else ():
            for value in values[1:]:
                choice, others = weigh({**best.parameters, name: value})
                tried.append((choice.parameters, choice.nll))
                if _order(choice) < _order(best):
                    best, logits = choice, others
    return dataclasses.replace(best, tried=tuple(tried)), logits


def _order(choice: Choice) -> tuple[float, float]:
    return (-choice.accuracy, choice.nll) if choice.rule == "validation" else (choice.nll, 0.0)


def _weigh(
    evidence: Evidence,
    fit: Fit,
    term: FloatArray,
    parameters: dict[str, float],
    growth: float,
    given: tuple[float | None, float | None],
) -> Choice:
    rows = evidence.scored
    text, labels, term = evidence.text[rows], evidence.labels[rows], term[rows]
    alpha, text_weight = given
    if alpha is not None or evidence.rule == "validation":
        text_weight = 1.0 if text_weight is None else text_weight
        full = seen = best_accuracy_alpha(text_weight * text, term, labels)[0] if alpha is None else alpha
    else:
        full, seen, text_weight = _weights_from_shots(evidence, fit, term, growth, text_weight)
    nll, accuracy = nll_and_accuracy(text_weight * text + seen * term, labels)
    zero_shot_nll, zero_shot_accuracy = nll_and_accuracy(text, labels if text.any() else labels[:0])
    if alpha is None and text.any() and is_worse(text, text_weight * text + seen * term, labels):
        full, seen, text_weight, nll, accuracy = 0.0, 0.0, 1.0, zero_shot_nll, zero_shot_accuracy
    return Choice(
        parameters=parameters,
        alpha=float(full),
        alpha_seen=float(seen),
        rule=evidence.rule,
        n_folds=evidence.n_folds if rows.any() else 0,
        n_scored=len(labels),
        nll=nll,
        accuracy=accuracy,
        zero_shot_nll=zero_shot_nll,
        zero_shot_accuracy=zero_shot_accuracy,
        text_weight=float(text_weight),
    )


def is_worse(before: FloatArray, after: FloatArray, labels: IntArray) -> bool:
    """Tell whether accuracy falls by more than two standard errors: likelihood can gain where accuracy loses.

    Shapes: logits (B, C), `labels` (B,).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.selection.weight import is_worse
    >>> right = np.eye(2)[[0] * 9]
    >>> is_worse(right, 1 - right, np.zeros(9, dtype=int)), is_worse(1 - right, right, np.zeros(9, dtype=int))
    (True, False)
    """
    first, second = before.argmax(axis=1) == labels, after.argmax(axis=1) == labels
    lost, won = int(np.sum(first & ~second)), int(np.sum(~first & second))
    return bool(lost - won > 2 * np.sqrt(lost + won))


def _weights_from_shots(
    evidence: Evidence, fit: Fit, term: FloatArray, growth: float, text_weight: float | None
) -> tuple[float, float, float]:
    """α of the full term, of the terms that the left-out shots were shown to, and t.

    Logits of a known spread are weighed, so that what is expected does not depend on the term's scale.
    """
    expected, rows = expected_spread(evidence.shots), evidence.scored
    asked = evidence.asked
    t = evidence.text_weight if text_weight is None else text_weight
    full_spread = evidence.new_image_spread(fit) if evidence.few else spread(term)
    if full_spread == 0:
        return 0.0, 0.0, t
    if evidence.rule == "prior":
        return expected / full_spread, expected / full_spread, t
    fold_spread = spread(term)
    if fold_spread == 0:
        return 0.0, 0.0, t
    grown, unit = evidence.growth**growth, term / fold_spread
    text, labels, beside = evidence.text[rows], evidence.labels[rows], np.zeros(evidence.text.shape)
    weight = likely_ratio(t * text, unit, labels, expected / grown)
    for _ in range(ROUNDS if text_weight is None and text.any() else 0):
        # Shots that are their classes' only ones were shown to no term: they ask the texts alone.
        beside[rows] = weight * unit
        t = likely_text_weight(evidence.text[asked], evidence.labels[asked], beside[asked])
        weight = likely_ratio(t * text, unit, labels, expected / grown)
    return weight * grown / full_spread, weight / fold_spread, t


ROUNDS = 2
"""Of finding t and α with the other one held; the loss is smooth, and hardly changes afterwards."""


def likely_weights(
    logits: FloatArray, labels: IntArray, expected: Sequence[float], widths: Sequence[float]
) -> FloatArray:
    """Find non-negative weights of several terms' logits: the likeliest, given what is expected of them.

    Minimises the sum of negative log-likelihood plus ``Σ ((w - expected) / (width · expected))² / 2``, which is convex.

    Parameters
    ----------
    logits : ndarray of shape (E, B, C)
        Of E terms, text among them.
    labels : ndarray of shape (B,), integers in [0, C)
    expected : sequence of E floats
        Weights expected beforehand, above 0.
    widths : sequence of E floats
        How far weights may well be from that, as fractions of it; inf for no expectation.

    Returns
    -------
    ndarray of shape (E,)

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods.selection.weight import likely_weights
    >>> good, useless = np.eye(2)[[0, 0, 1, 1, 0]], np.eye(2)[[0, 1, 0, 1, 0]]
    >>> labels = np.array([0, 0, 1, 1, 1])
    >>> likely_weights(np.stack([good, useless]), labels, (1, 1), (np.inf, np.inf)).round(2).tolist()
    [1.39, 0.0]
    >>> likely_weights(np.stack([good, useless]), labels, (1, 1), (np.inf, 0.1)).round(2).tolist()
    [1.47, 0.98]
    """
    from scipy.optimize import minimize

    start, spreads = np.asarray(expected, dtype=np.float64), np.multiply(widths, expected)
    # Logits less those of the true class: the loss is then the log of the sum of their powers.
    lead = logits - np.take_along_axis(logits, labels[None, :, None], axis=2)

    def loss(weights: FloatArray) -> tuple[float, FloatArray]:
        total = np.tensordot(weights, lead, axes=1)
        top = total.max(axis=1, keepdims=True)
        powers = np.exp(total - top)
        sums = powers.sum(axis=1, keepdims=True)
        away = (weights - start) / spreads
        value = float(np.sum(np.log(sums) + top) + np.sum(away**2) / 2)
        return value, np.einsum("bc,ebc->e", powers / sums, lead) + away / spreads

    bounds = [(0.0, 1e3 * weight) for weight in expected]
    found: FloatArray = minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B").x
    return found
