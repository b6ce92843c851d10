"""The methods of the literature as scikit-learn estimators on features; `METHODS` has them by name."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from tip_adapter.errors import InputError, probably
from tip_adapter.libraries import Plugin, plugins

if TYPE_CHECKING:
    from tip_adapter.methods.auto import Auto
    from tip_adapter.methods.base import FewShotMethod
    from tip_adapter.methods.closed_form.ape import APE
    from tip_adapter.methods.closed_form.gda import GDA
    from tip_adapter.methods.closed_form.knn import KNN
    from tip_adapter.methods.closed_form.proker import ProKeR
    from tip_adapter.methods.closed_form.prototype import Prototype
    from tip_adapter.methods.closed_form.timo import TIMO
    from tip_adapter.methods.closed_form.tip_adapter import TipAdapter
    from tip_adapter.methods.closed_form.tip_adapter_top_k import TipAdapterTopK
    from tip_adapter.methods.closed_form.tip_x import TipX
    from tip_adapter.methods.closed_form.zero_shot import ZeroShot
    from tip_adapter.methods.on_encoder.clip_lora import CLIPLoRA
    from tip_adapter.methods.on_encoder.coop import CoOp
    from tip_adapter.methods.on_encoder.full_fine_tuning import FullFineTuning
    from tip_adapter.methods.trained.clap import CLAP
    from tip_adapter.methods.trained.clip_adapter import CLIPAdapter
    from tip_adapter.methods.trained.linear_probe import LinearProbe
    from tip_adapter.methods.trained.lp_plus_plus import LPPlusPlus
    from tip_adapter.methods.trained.task_res import TaskRes
    from tip_adapter.methods.trained.tip_adapter_f import TipAdapterF
    from tip_adapter.methods.transductive.tda import TDA
    from tip_adapter.methods.transductive.transclip import TransCLIP

__all__ = [
    "APE",
    "CLAP",
    "GDA",
    "KNN",
    "METHODS",
    "TDA",
    "TIMO",
    "Auto",
    "CLIPAdapter",
    "CLIPLoRA",
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
    "TipAdapterTopK",
    "TipX",
    "TransCLIP",
    "ZeroShot",
    "describe",
    "method_class",
    "method_name",
]

# A new method is a file and a line here: its name, where its class is, and what it is in a few words.
_TABLE = {
    "zero-shot": ("closed_form.zero_shot:ZeroShot", "the class texts alone; what every other method has to beat"),
    "tip-adapter": (
        "closed_form.tip_adapter:TipAdapter",
        "texts, and shots by how near they are; exact evidence for every answer",
    ),
    "tip-adapter-topk": (
        "closed_form.tip_adapter_top_k:TipAdapterTopK",
        "tip-adapter on the nearest shots alone; for caches of very many",
    ),
    "tip-x": ("closed_form.tip_x:TipX", "tip-adapter, and how alike photos and shots are to the texts"),
    "ape": ("closed_form.ape:APE", "tip-adapter on the channels that tell the classes apart"),
    "gda": ("closed_form.gda:GDA", "texts, and class means under one shared covariance; good from four shots"),
    "timo": ("closed_form.timo:TIMO", "gda whose prompts are weighed by the shots, and stand among them"),
    "proker": ("closed_form.proker:ProKeR", "texts, and a kernel ridge regression that corrects them on the shots"),
    "prototype": ("closed_form.prototype:Prototype", "the nearest class mean; a quick baseline"),
    "knn": ("closed_form.knn:KNN", "votes of the nearest shots; a baseline"),
    "linear-probe": ("trained.linear_probe:LinearProbe", "logistic regression on the features; the classic baseline"),
    "tip-adapter-f": ("trained.tip_adapter_f:TipAdapterF", "tip-adapter with trained keys"),
    "clip-adapter": ("trained.clip_adapter:CLIPAdapter", "a small network that adapts the features of photos"),
    "task-res": ("trained.task_res:TaskRes", "a trained residual for every class text"),
    "lp-plus-plus": ("trained.lp_plus_plus:LPPlusPlus", "a linear probe that mixes in the texts; nothing to choose"),
    "clap": ("trained.clap:CLAP", "a linear probe held near the texts; nothing to choose"),
    "coop": ("on_encoder.coop:CoOp", "prompt tuning: the words around the class names are trained"),
    "clip-lora": ("on_encoder.clip_lora:CLIPLoRA", "the attention of both towers is changed a little, by low rank"),
    "full-fine-tuning": (
        "on_encoder.full_fine_tuning:FullFineTuning",
        "both towers of the encoder are trained (FLYP, WiSE-FT)",
    ),
    "transclip": (
        "transductive.transclip:TransCLIP",
        "texts, shots and all photos asked about, classified together (for benchmarks)",
    ),
    "tda": (
        "transductive.tda:TDA",
        "texts, and caches that the photos asked about fill one after the other (for benchmarks)",
    ),
    "auto": ("auto:Auto", "texts, gda and proker, each weighed by shots it has not seen; the default"),
}

_CLASSES = {path.partition(":")[2]: path for path, _ in _TABLE.values()} | {"FewShotMethod": "base:FewShotMethod"}


def __getattr__(name: str) -> Any:
    if name not in _CLASSES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _imported(_CLASSES[name])


def _imported(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)


class _Methods(Mapping[str, "type[FewShotMethod]"]):
    """Methods by name, those of other packages last; each is imported when it is asked for."""

    def __getitem__(self, name: str) -> type[FewShotMethod]:
        if name in _TABLE:
            found: type[FewShotMethod] = _imported(_TABLE[name][0])
            return found
        other: type[FewShotMethod] = _others()[name].load()
        return other

    def __iter__(self) -> Iterator[str]:
        yield from _TABLE
        yield from (name for name, plugin in _others().items() if plugin.works())

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return name in _TABLE or name in _others()


METHODS: Mapping[str, type[FewShotMethod]] = _Methods()
"""Every method by the name that `ImageClassifier`, the command line and benchmarks use. Other packages add theirs with
an entry point of the group ``tip_adapter.methods``."""


@cache
def _others() -> dict[str, Plugin]:
    return {name: plugin for name, plugin in plugins("tip_adapter.methods").items() if name not in _TABLE}


def describe(name: str) -> str:
    """Say in a few words what a method is; of another package's, with the first line of its docstring."""
    if name in _TABLE:
        return _TABLE[name][1]
    return f"{(method_class(name).__doc__ or '').strip().splitlines()[0]} ({_others()[name].package})"


def method_class(name: str) -> type[FewShotMethod]:
    """Look a method up by its name.

    Examples
    --------
    >>> from tip_adapter.methods import method_class
    >>> method_class("tip-adapter").__name__
    'TipAdapter'
    """
    if name not in METHODS:
        raise InputError(f"Unknown method {name!r}{probably(name, METHODS)}: choose one of {', '.join(METHODS)}")
    return METHODS[name]


def method_name(method: type[FewShotMethod]) -> str:
    """Return the name of a method's class in `METHODS`, importing none of the others, or else that of the class.

    Examples
    --------
    >>> from tip_adapter.methods import TipAdapter, method_name
    >>> method_name(TipAdapter)
    'tip-adapter'
    """
    path = f"{method.__module__.removeprefix(f'{__name__}.')}:{method.__qualname__}"
    own = (name for name, (found, _) in _TABLE.items() if found == path)
    others = (name for name, plugin in _others().items() if plugin.works() and plugin.load() is method)
    return next(itertools.chain(own, others), method.__name__)
