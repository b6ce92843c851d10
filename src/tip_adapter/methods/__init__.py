"""The methods of the literature: support features and labels in, logits out; `METHODS` names them all."""

from __future__ import annotations

from tip_adapter.errors import InputError
from tip_adapter.methods.auto import Auto
from tip_adapter.methods.base import FewShotMethod
from tip_adapter.methods.closed_form.ape import APE
from tip_adapter.methods.closed_form.gda import GDA
from tip_adapter.methods.closed_form.knn import KNN
from tip_adapter.methods.closed_form.proker import ProKeR
from tip_adapter.methods.closed_form.prototype import Prototype
from tip_adapter.methods.closed_form.tip_adapter import TipAdapter
from tip_adapter.methods.closed_form.tip_x import TipX
from tip_adapter.methods.closed_form.zero_shot import ZeroShot
from tip_adapter.methods.on_encoder.coop import CoOp
from tip_adapter.methods.on_encoder.full_fine_tuning import FullFineTuning
from tip_adapter.methods.trained.clap import CLAP
from tip_adapter.methods.trained.clip_adapter import CLIPAdapter
from tip_adapter.methods.trained.linear_probe import LinearProbe
from tip_adapter.methods.trained.lp_plus_plus import LPPlusPlus
from tip_adapter.methods.trained.task_res import TaskRes
from tip_adapter.methods.trained.tip_adapter_f import TipAdapterF

__all__ = [
    "APE",
    "CLAP",
    "DESCRIPTIONS",
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

DESCRIPTIONS: dict[str, str] = {
    "zero-shot": "the class texts alone; what every other method has to beat",
    "tip-adapter": "texts, and shots by how near they are; exact evidence for every answer",
    "tip-x": "tip-adapter, and how alike photos and shots are to the texts",
    "ape": "tip-adapter on the channels that tell the classes apart",
    "gda": "texts, and class means under one shared covariance; good from four shots",
    "proker": "texts, and a kernel ridge regression that corrects them on the shots",
    "prototype": "the nearest class mean; a quick baseline",
    "knn": "votes of the nearest shots; a baseline",
    "linear-probe": "logistic regression on the features; the classic baseline",
    "tip-adapter-f": "tip-adapter with trained keys",
    "clip-adapter": "a small network that adapts the features of photos",
    "task-res": "a trained residual for every class text",
    "lp-plus-plus": "a linear probe that mixes in the texts; nothing to choose",
    "clap": "a linear probe held near the texts; nothing to choose",
    "coop": "prompt tuning: the words around the class names are trained",
    "full-fine-tuning": "both towers of the encoder are trained (FLYP, WiSE-FT)",
    "auto": "gda and proker together, unless another is clearly likelier on left-out shots; the default",
}
"""What each method goes by, in one line."""


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
