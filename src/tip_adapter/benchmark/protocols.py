"""The two ways to choose hyper-parameters, named in every result."""

from __future__ import annotations

from collections.abc import Sequence

from tip_adapter.errors import InputError

__all__ = ["FAIR", "PAPER", "choose_protocols", "tuning_of"]

FAIR, PAPER = "fair", "paper"

PUBLISHED_TUNING = {
    "zero-shot": "nothing to choose",
    "tip-adapter": "α and β by accuracy on the validation split, as the official code searches them",
    "tip-adapter-f": "20 epochs, the last one kept; α and β by accuracy on the validation split",
    "tip-x": "α, β and γ by accuracy on the validation split",
    "ape": "channels, α, β and γ by accuracy on the validation split",
    "gda": "the ratio of Gaussian classifier and text by accuracy on the validation split",
    "proker": "ridge and weight by accuracy on the validation split",
    "linear-probe": "L2 strength by accuracy on the validation split",
    "knn": "k by accuracy on the validation split",
    "prototype": "scale by the validation split",
    "clip-adapter": "the published schedule; the residual ratio by accuracy on the validation split where it is 'auto'",
    "task-res": "the published schedule and α",
    "lp-plus-plus": "step sizes from the data; whatever is left at 'auto' on the validation split",
    "clap": "the published schedule; nothing to choose",
    "coop": "the published schedule, last step kept",
    "full-fine-tuning": "the published schedule; whatever is left at 'auto' on the validation split",
    "auto": "no publication: the method with the best accuracy on the validation split",
}


def choose_protocols(wanted: str) -> tuple[str, ...]:
    """Read the name of a protocol, or both.

    Parameters
    ----------
    wanted : {"fair", "paper", "both"}

    Returns
    -------
    tuple of str

    Raises
    ------
    InputError
        When it is another.

    Examples
    --------
    >>> from tip_adapter.benchmark.protocols import choose_protocols
    >>> choose_protocols("both")
    ('fair', 'paper')
    """
    known: dict[str, Sequence[str]] = {FAIR: (FAIR,), PAPER: (PAPER,), "both": (FAIR, PAPER)}
    if wanted not in known:
        raise InputError(f"Unknown protocol {wanted!r}: choose one of {', '.join(known)}.")
    return tuple(known[wanted])


def tuning_of(method: str, protocol: str) -> str:
    """Say how a method's hyper-parameters are chosen.

    Parameters
    ----------
    method : str
        One of `tip_adapter.METHODS`.
    protocol : {"fair", "paper"}

    Returns
    -------
    str

    Examples
    --------
    >>> from tip_adapter.benchmark.protocols import tuning_of
    >>> tuning_of("tip-adapter", "fair")
    'from the support set alone'
    """
    if protocol == FAIR:
        return "from the support set alone"
    return PUBLISHED_TUNING.get(method, "whatever is left at 'auto' by accuracy on the validation split")
