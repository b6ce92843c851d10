"""The methods of the literature: support features and labels in, logits out; `METHODS` names them all."""

from __future__ import annotations

from tip_adapter.errors import InputError
from tip_adapter.methods.ape import APE
from tip_adapter.methods.auto import Auto
from tip_adapter.methods.base import FewShotMethod
from tip_adapter.methods.clap import CLAP
from tip_adapter.methods.clip_adapter import CLIPAdapter
from tip_adapter.methods.coop import CoOp
from tip_adapter.methods.full_fine_tuning import FullFineTuning
from tip_adapter.methods.gda import GDA
from tip_adapter.methods.knn import KNN
from tip_adapter.methods.linear_probe import LinearProbe
from tip_adapter.methods.lp_plus_plus import LPPlusPlus
from tip_adapter.methods.proker import ProKeR
from tip_adapter.methods.prototype import Prototype
from tip_adapter.methods.task_res import TaskRes
from tip_adapter.methods.tip_adapter import TipAdapter
from tip_adapter.methods.tip_adapter_f import TipAdapterF
from tip_adapter.methods.tip_x import TipX
from tip_adapter.methods.zero_shot import ZeroShot

__all__ = [
    "APE",
    "CLAP",
    "GDA",
    "KNN",
    "METHODS",
    "Auto",
    "CLIPAdapter",
    "CoOp",
    "FewShotMethod",
    "FullFineTuning",
    "LPPlusPlus",
    "LinearProbe",
    "ProKeR",
    "Prototype",
    "TaskRes",
    "TipAdapter",
    "TipAdapterF",
    "TipX",
    "ZeroShot",
    "method_class",
]

METHODS: dict[str, type[FewShotMethod]] = {
    "zero-shot": ZeroShot,
    "tip-adapter": TipAdapter,
    "tip-x": TipX,
    "ape": APE,
    "gda": GDA,
    "proker": ProKeR,
    "prototype": Prototype,
    "knn": KNN,
    "linear-probe": LinearProbe,
    "tip-adapter-f": TipAdapterF,
    "clip-adapter": CLIPAdapter,
    "task-res": TaskRes,
    "lp-plus-plus": LPPlusPlus,
    "clap": CLAP,
    "coop": CoOp,
    "full-fine-tuning": FullFineTuning,
    "auto": Auto,
}
"""Every method by the name that `ImageClassifier`, the command line and benchmarks use."""


def method_class(name: str) -> type[FewShotMethod]:
    """Look a method up by its name.

    Parameters
    ----------
    name : str
        One of `METHODS`.

    Returns
    -------
    type

    Raises
    ------
    InputError
        When there is none of that name.

    Examples
    --------
    >>> from tip_adapter.methods import method_class
    >>> method_class("tip-adapter").__name__
    'TipAdapter'
    """
    if name not in METHODS:
        raise InputError(f"Unknown method {name!r}: choose one of {', '.join(METHODS)}.")
    return METHODS[name]
