"""Load and export encoders; `ENCODERS` has them by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tip_adapter.encoders.base import BaseEncoder, Encoder
from tip_adapter.encoders.hub import HUB_ALIASES
from tip_adapter.encoders.joined import JoinedEncoder, load_joined, member_names
from tip_adapter.encoders.layouts import choose_layout
from tip_adapter.encoders.precision import check_precision
from tip_adapter.errors import EncoderError
from tip_adapter.libraries import plugins
from tip_adapter.typing import StrPath

__all__ = ["ENCODERS", "ENCODER_PREFIXES", "Encoder", "export_encoder", "load_encoder", "members_of"]

ENCODERS = {
    "lite": "EfficientNet-Lite0 and 2 joined, and MiniLM, whose weights pip brings: no download (extra lite)",
    "lite-fast": "EfficientNet-Lite0 alone: a third of the time",
    **{alias: f"hub:{model.repository}" for alias, model in HUB_ALIASES.items()},
    "fake": "colours and hashes, without weights: for tests and examples",
}
"""Names of encoders, each with what it stands for."""

ENCODER_PREFIXES = {
    "hub:": "hub:owner/name, a Hugging Face repository with ONNX towers",
    "huggingface:": "huggingface:owner/name or huggingface:/a/folder, CLIP, SigLIP or DINO on torch (extra torch)",
    "open-clip:": "open-clip:ViT-B-16/laion2b_s34b_b88k, a model of open_clip on torch (extra open-clip)",
}
"""Beginnings of names that say where an encoder comes from."""


def load_encoder(
    name_or_path: StrPath, *, precision: str = "fp32", logit_scale: float | None = None, download: bool = True
) -> BaseEncoder:
    """Load an encoder by its name, by where it comes from, or from a local ONNX directory; or several joined by +.

    Nothing is ever downloaded but for a Hub alias, ``hub:``, ``huggingface:`` with a repository, and ``open-clip:``;
    and then only what the local cache does not have yet.

    Parameters
    ----------
    name_or_path : str or path
        A name of `ENCODERS`; a name that begins with one of `ENCODER_PREFIXES`; or the path of a directory that holds
        ``onnx/vision_model.onnx``, ``onnx/text_model.onnx``, ``tokenizer.json`` and ``preprocessor_config.json``, the
        layout of transformers.js and of `export_encoder`, or has another of the layouts in docs/encoders.md. Names with
        ``+`` between them are encoders whose features stand side by side: see `JoinedEncoder`.
    precision : {"fp32", "int8"}, default="fp32"
        Of the image tower. "int8" is for transformers as ONNX graphs, on processors with VNNI: three times as fast.
        Joined encoders take one for all, or one each: ``"int8+fp32"``.
    logit_scale : float, optional
        Instead of the encoder's own, or that of every member. Needed for ONNX directories that do not say it.
    download : bool, default=True
        Whether what is not on this machine yet may be fetched.

    Returns
    -------
    encoder : Encoder

    Raises
    ------
    EncoderError
        When there is no such encoder, it is out of reach, or its files are missing or damaged.
    MissingExtraError
        When it needs packages that are not installed.

    Examples
    --------
    >>> from tip_adapter.encoders import load_encoder
    >>> encoder = load_encoder("fake")
    >>> encoder.dim, encoder.logit_scale
    (64, 20.0)
    """
    name = os.fspath(name_or_path)
    members = members_of(name)
    if len(members) > 1:
        return load_joined(name, members, precision, lambda one, own: _loader(one, download)(one, own, logit_scale))
    return _loader(name, download)(name, precision, logit_scale)


def export_encoder(encoder_name: StrPath, out_dir: StrPath, *, logit_scale: float | None = None) -> Path:
    """Write an encoder as an ONNX directory, which runs without torch and without a network.

    Parameters
    ----------
    encoder_name : str or path
        Whatever `load_encoder` takes, except ``fake``.
    out_dir : path
        Must not exist yet. It appears at the end, complete and checked: features equal the source's within 1e-4.
    logit_scale : float, optional
        Recorded instead of the encoder's own.

    Returns
    -------
    directory : pathlib.Path

    Raises
    ------
    EncoderError
        When the encoder cannot be loaded or exported, or the folder exists already.
    MissingExtraError
        When packages are not installed.
    """
    from tip_adapter.encoders.export import copy_encoder, export_towers
    from tip_adapter.encoders.onnx import OnnxEncoder
    from tip_adapter.encoders.torch_encoder import TorchEncoder

    encoder = load_encoder(encoder_name, logit_scale=logit_scale)
    if isinstance(encoder, OnnxEncoder):
        return copy_encoder(encoder, out_dir)
    if isinstance(encoder, TorchEncoder):
        return export_towers(encoder, out_dir)
    if isinstance(encoder, JoinedEncoder):
        raise EncoderError(f"Expected one encoder to export, got {encoder.name}, which joins several: export each")
    raise EncoderError(f"The encoder {encoder.name} has no towers to export: choose another one")


_Loader = Callable[[str, str, float | None], BaseEncoder]
"""From a name, a precision and a logit scale to an encoder; other packages add theirs with an entry point of the group
``tip_adapter.encoders``."""


def members_of(name: str) -> list[str]:
    """Return the names of the encoders that a name joins, or the name itself.

    Examples
    --------
    >>> from tip_adapter.encoders import members_of
    >>> members_of("lite+clip-vit-b-32")
    ['lite', 'clip-vit-b-32']
    """
    return member_names(name, lambda part: os.path.isdir(_path_in(part)[1]))


def anchored(name: str) -> str:
    """Make the paths in an encoder's name absolute, so that they mean the same folders wherever it is read.

    Examples
    --------
    >>> from tip_adapter.encoders import anchored
    >>> anchored("lite")
    'lite'
    """
    found = []
    for member in members_of(name):
        prefix, path = _path_in(member)
        is_folder = member not in ENCODERS and os.path.isdir(path)
        found.append(prefix + os.path.abspath(path) if is_folder else member)
    return "+".join(found)


def without_paths(name: str) -> str:
    """Name folders in an encoder's name by their last part alone, for those whom it does not concern where they are.

    Examples
    --------
    >>> from tip_adapter.encoders import without_paths
    >>> without_paths("/home/ada/towers+lite")
    'towers+lite'
    """
    parts = [_path_in(member) for member in members_of(name)]
    return "+".join(prefix + (os.path.basename(path) if os.path.isabs(path) else path) for prefix, path in parts)


def _path_in(name: str) -> tuple[str, str]:
    """Return what a name begins with, if it says where the encoder comes from, and the rest."""
    prefix = next((prefix for prefix in _PREFIX_LOADERS if name.startswith(prefix)), "")
    return prefix, name.removeprefix(prefix)


def _loader(name: str, download: bool) -> _Loader:
    if name in HUB_ALIASES or name.startswith("hub:"):
        return partial(_load_from_hub, download=download)
    if name in _LOADERS:
        return _LOADERS[name]
    for prefix, loader in _PREFIX_LOADERS.items():
        if name.startswith(prefix):
            return partial(loader, download=download)
    if os.path.isdir(name):  # unlike pathlib, it says no to a name that is too long
        return _load_directory
    others = plugins("tip_adapter.encoders")
    if name in others:
        other: _Loader = others[name].load()
        return other
    if os.path.isabs(name):
        raise EncoderError(f"There is no encoder folder {name:.200}: give the folder where the encoder is now")
    valid = ", ".join([*ENCODERS, *others])
    forms = "; ".join(ENCODER_PREFIXES.values())
    raise EncoderError(f"Unknown encoder {name!r:.200}: choose one of {valid}; the path of an ONNX directory; {forms}")


def _load_lite(name: str, precision: str, logit_scale: float | None) -> BaseEncoder:
    from tip_adapter.encoders.lite import load_lite

    return load_lite(name, precision=precision, logit_scale=logit_scale)


def _load_fake(name: str, precision: str, logit_scale: float | None) -> BaseEncoder:
    from tip_adapter.encoders.fake import FakeEncoder

    _expect_fp32(name, precision)
    return FakeEncoder() if logit_scale is None else FakeEncoder(logit_scale=logit_scale)


def _load_from_hub(name: str, precision: str, logit_scale: float | None, *, download: bool) -> BaseEncoder:
    from tip_adapter.encoders.hub import load_hub_encoder

    return load_hub_encoder(name, precision=precision, logit_scale=logit_scale, download=download)


def _load_huggingface(name: str, precision: str, logit_scale: float | None, *, download: bool) -> BaseEncoder:
    _expect_fp32(name, precision)
    from tip_adapter.encoders.huggingface import load_huggingface

    return load_huggingface(name, logit_scale=logit_scale, download=download)


def _load_open_clip(name: str, precision: str, logit_scale: float | None, *, download: bool) -> BaseEncoder:
    _expect_fp32(name, precision)
    from tip_adapter.encoders.hub import not_here
    from tip_adapter.encoders.open_clip import load_open_clip

    if not download:  # open_clip does not tell whether it has the weights already
        raise not_here(name)
    return load_open_clip(name, logit_scale=logit_scale)


def _load_directory(name: str, precision: str, logit_scale: float | None) -> BaseEncoder:
    from tip_adapter.encoders.onnx import OnnxEncoder

    folder = Path(name)
    here = choose_layout(lambda part: (folder / part).is_file())
    if here is None and not (folder / "onnx").is_dir() and (folder / "config.json").is_file():
        raise EncoderError(f"Expected {name} to hold ONNX towers, got a torch model: use huggingface:{name}")
    return OnnxEncoder(name, precision=precision, logit_scale=logit_scale)


def _expect_fp32(name: str, precision: str) -> None:
    if precision != "fp32":
        check_precision(name, precision)
        raise EncoderError(
            f"The encoder {name} has no precision {precision!r}, only fp32: int8 needs a transformer as an ONNX folder "
            "(tip-adapter export-encoder makes one)"
        )


_LOADERS: dict[str, _Loader] = {"lite": _load_lite, "lite-fast": _load_lite, "fake": _load_fake}
_PREFIX_LOADERS = {"huggingface:": _load_huggingface, "open-clip:": _load_open_clip}
