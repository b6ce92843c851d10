"""The ways to choose hyper-parameters, named in every result."""

from __future__ import annotations

from collections.abc import Sequence

from tip_adapter.errors import InputError

FAIR, PAPER, FEW = "fair", "paper", "paper-few"
AS_IT_COMES, BASE_TO_NEW, TRANSDUCTIVE = "as-it-comes", "base-to-new", "transductive"

TUNED = (PAPER, FEW)
"""Protocols that tune on photos apart from the shots."""

LEAST_SEEDS = 3
"""Support sets that the protocol fair asks for, where so many are possible."""

MOST_VALIDATION_SHOTS = 4

PUBLISHED_TUNING = {
    "zero-shot": "nothing to choose",
    "tip-adapter": "α and β by accuracy on the validation split, as the official code searches them",
    "tip-adapter-f": "20 epochs, the last one kept; α and β by accuracy on the validation split",
    "tip-adapter-topk": "k, α and β by accuracy on the validation split",
    "tip-x": "α, β and γ by accuracy on the validation split",
    "ape": "channels, α, β and γ by accuracy on the validation split",
    "gda": "the ratio of Gaussian classifier and text by accuracy on the validation split",
    "timo": "α by accuracy on the validation split; γ = 50, and every prompt among the shots once",
    "proker": "ridge and weight by accuracy on the validation split",
    "linear-probe": "L2 strength by accuracy on the validation split",
    "knn": "k by accuracy on the validation split",
    "prototype": "scale by the validation split",
    "clip-adapter": "the residual ratio by accuracy on the validation split; 50 epochs of AdamW at 1e-3",
    "task-res": "the published schedule, α = .5, without weight decay; nothing to choose",
    "lp-plus-plus": "300 iterations, step sizes from the data; nothing to choose",
    "clap": "the published schedule; nothing to choose",
    "coop": "the published schedule, last step kept",
    "clip-lora": "the published schedule; nothing to choose",
    "full-fine-tuning": "the published schedule; whatever is left at 'auto' on the validation split",
    "transclip": "nothing to choose: λ = .5, and every shot counts as much as every photo asked about",
    "tda": "nothing to choose: α = 2, β = 5, three photos of every class, as published for ImageNet",
    "auto": "no publication: the method with the best accuracy on the validation split",
}


def choose_protocols(wanted: str) -> tuple[str, ...]:
    """Read names of protocols.

    Examples
    --------
    >>> from tip_adapter.bench.protocols import choose_protocols
    >>> choose_protocols("both")
    ('fair', 'paper')
    """
    alone = (FAIR, PAPER, FEW, AS_IT_COMES, BASE_TO_NEW, TRANSDUCTIVE)
    known: dict[str, Sequence[str]] = {name: (name,) for name in alone} | {"both": (FAIR, PAPER)}
    words = [word.strip() for word in wanted.split(",")]
    for word in words:
        if word not in known:
            raise InputError(f"Unknown protocol {word!r}: choose one of {', '.join(known)}")
    return tuple(dict.fromkeys(protocol for word in words for protocol in known[word]))


def few_shot_validation(shots: int) -> int:
    """How many photos per class the protocol "paper-few" tunes on: CoOp's number, at most four.

    Examples
    --------
    >>> from tip_adapter.bench.protocols import few_shot_validation
    >>> few_shot_validation(2), few_shot_validation(16)
    (2, 4)
    """
    return min(shots, MOST_VALIDATION_SHOTS)


def tuning_of(method: str, protocol: str) -> str:
    """Say how a method's hyper-parameters are chosen.

    Examples
    --------
    >>> from tip_adapter.bench.protocols import tuning_of
    >>> tuning_of("tip-adapter", "fair")
    'from the support set alone'
    """
    if protocol not in (*TUNED, TRANSDUCTIVE):
        return "from the support set alone"
    tuning = PUBLISHED_TUNING.get(method, "whatever is left at 'auto' by accuracy on the validation split")
    return tuning if protocol != FEW else f"{tuning}; which is min(K, 4) more training photos per class, as in CoOp"
