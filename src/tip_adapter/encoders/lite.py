"""The packages of the extra `lite` go in, once; a small encoder without download, and then without torch, comes out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from tip_adapter.data.decoding import Preprocessing
from tip_adapter.encoders.layout import METADATA_FILE
from tip_adapter.encoders.onnx import OnnxEncoder
from tip_adapter.errors import EncoderError, require_extra
from tip_adapter.storage.cache_folder import cache_dir

__all__ = ["LITE_LOGIT_SCALE", "LITE_PREPROCESSING", "SOURCES", "lite_directory", "load_lite", "prepare_lite"]

LITE_LOGIT_SCALE = 20.0
LITE_PREPROCESSING = Preprocessing(224, 256, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
SOURCES = {
    "image weights": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "text weights": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "text tokenizer": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "class texts": "a7d7ac40b2b8fc12c9b019e832dd4cb940e9d2b9f96e6a23ab5803a5e06e203f",
}
"""SHA-256 of everything that the features of `lite` depend on. With the recipe they make its identity, which is so the
same on every machine, whatever versions of torch and ONNX wrote the graphs."""

_RECIPE = "1: EfficientNet-Lite0 pooled; MiniLM keys, softmax(10 cosine) over centred classifier rows"


def weights_id() -> str:
    """Return the hash of sources and recipe."""
    return hashlib.sha256(json.dumps([_RECIPE, SOURCES], sort_keys=True).encode()).hexdigest()


def lite_directory() -> Path:
    """Return where the prepared encoder is, or will be."""
    return cache_dir() / "encoders" / f"lite-{weights_id()[:16]}"


def load_lite(*, precision: str = "fp32", logit_scale: float | None = None) -> OnnxEncoder:
    """Load the encoder `lite`, preparing it when this is the first time.

    Image tower: EfficientNet-Lite0 trained on ImageNet, pooled to 1280 numbers. Text tower: a cache model of its own,
    in the spirit of Tip-Adapter. Keys are sentence embeddings of the 1,000 ImageNet classes, values the centred rows of
    the image tower's classifier; a text becomes the softmax-weighted sum of those rows.

    Parameters
    ----------
    precision : str, default="fp32"
    logit_scale : float, optional
        Instead of 20.

    Returns
    -------
    encoder : OnnxEncoder

    Raises
    ------
    MissingExtraError
        When it is not prepared yet and the packages of the extra `lite` are missing.
    EncoderError
        When their files are not the expected ones.

    Examples
    --------
    >>> from tip_adapter.encoders.lite import lite_directory
    >>> lite_directory().name.startswith("lite-")
    True
    """
    directory = lite_directory()
    if not (directory / METADATA_FILE).is_file():
        _prepare_with_status()
    return OnnxEncoder(directory, name="lite", precision=precision, logit_scale=logit_scale)


def prepare_lite(progress: Callable[[str], None] | None = None) -> Path:
    """Build the towers with torch and write them into the cache folder as an ONNX directory.

    Takes about half a minute. Several processes may do so at once: each writes its own folder, the first one to finish
    puts it in place.

    Parameters
    ----------
    progress : callable, optional
        Gets one line of text at every step.

    Returns
    -------
    directory : pathlib.Path

    Raises
    ------
    MissingExtraError
        When the packages of the extra `lite` are missing.
    EncoderError
        When their files are not the expected ones, or the graphs do not reproduce the torch modules.
    """
    report = progress or (lambda _: None)
    directory = lite_directory()
    if (directory / METADATA_FILE).is_file():
        return directory
    for module in ("torch", "transformers", "onnx"):
        require_extra(module, "lite")
    from tip_adapter.encoders.export import export_towers
    from tip_adapter.encoders.lite_torch import load_lite_torch

    encoder = load_lite_torch(report)
    report("writing the towers as ONNX graphs")
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        return export_towers(encoder, directory, replace_equal=True)
    except OSError as error:
        raise EncoderError(
            f"Could not prepare lite in {directory}: {error}. To put it elsewhere, set TIP_ADAPTER_CACHE"
        ) from error


def _prepare_with_status() -> None:
    from rich.console import Console

    console = Console(stderr=True)
    title = "Preparing the encoder lite (once, about half a minute)"
    if not console.is_terminal:  # where a status line would not show
        console.print(title)
    with console.status(title) as status:
        prepare_lite(lambda step: status.update(f"{title}: {step}"))
