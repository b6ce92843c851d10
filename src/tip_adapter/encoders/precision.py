"""Quantise the image tower of a transformer to int8, once, and keep the result."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter.encoders.file_hashes import file_sha256
from tip_adapter.encoders.graph_files import graph_digest
from tip_adapter.errors import EncoderError
from tip_adapter.libraries import import_library, require_extra
from tip_adapter.storage.atomic import new_folder
from tip_adapter.storage.cache_folder import cache_dir
from tip_adapter.storage.escaping import reason_of
from tip_adapter.storage.json_files import read_json

if TYPE_CHECKING:
    import onnx

PRECISIONS = ("fp32", "int8")
_RECIPE = "int8-1: MatMul and Gemm with constant weights, dynamic, signed, one scale for each output"
_NOTE = "int8.json"
_GRAPH = "vision_model.onnx"
_QUANTIZED = ("MatMul", "Gemm")

# An ONNX graph: MatMulInteger of four unsigned bytes with four signed ones, 127 each.
_PROBE = (
    "CAg6XAoYCgFhCgF3EgF5Ig1NYXRNdWxJbnRlZ2VyEgVwcm9iZSoPCAQIARADQgF3SgR/f39/WhMKAWESDgoMCAISCAoCCAEKAggEYhMKAXkSDgoM"
    "CAYSCAoCCAEKAggBQgQKABAR"
)


def check_precision(name: str, precision: str) -> None:
    """Raise for a precision that no encoder has."""
    if precision not in PRECISIONS:
        valid = ", ".join(PRECISIONS)
        raise EncoderError(f"Unknown precision {precision!r} for the encoder {name}: choose one of {valid}")


@cache
def eight_bit_products_are_exact() -> bool:
    """Tell whether this processor multiplies bytes without overflow: those with VNNI, or with Arm's dot product.

    Older ones add pairs of products in 16 bits, which overflow: features would be wrong, and another machine's.
    """
    onnxruntime = import_library("onnxruntime")
    session = onnxruntime.InferenceSession(base64.b64decode(_PROBE), providers=["CPUExecutionProvider"])
    (product,) = session.run(None, {"a": np.full((1, 4), 255, dtype=np.uint8)})
    return int(product[0, 0]) == 4 * 255 * 127


def eight_bit_tower(tower: Path) -> Path:
    """Quantise a transformer's image tower, or find it in the cache folder.

    Activations are quantised while it runs, with a scale from all the rows of the run. So only runs of one image give
    the same feature whatever other images there are.
    """
    key = hashlib.sha256(f"{_RECIPE}\n{graph_digest(tower)}".encode()).hexdigest()
    folder = cache_dir() / "encoders" / f"int8-{key[:16]}"
    if not (folder / _NOTE).is_file():
        _expect_transformer(tower)
        _make(tower, folder)
    if _recorded_digest(folder / _NOTE) != file_sha256(folder / _GRAPH):
        raise EncoderError(
            f"Expected {folder / _GRAPH} to be the tower that was quantised, but its SHA-256 differs: delete {folder}"
        )
    return folder / _GRAPH


def _recorded_digest(note: Path) -> str | None:
    """SHA-256 that was written down when the tower was made; None where the note is damaged."""
    try:
        content = read_json(note)
    except (OSError, ValueError):
        return None
    return content.get("sha256") if isinstance(content, dict) else None


def _expect_transformer(tower: Path) -> None:
    require_extra("onnx", "export")
    import onnx

    try:
        graph = onnx.load(tower, load_external_data=False).graph
    except Exception as error:  # protobuf raises its own
        raise EncoderError(f"Expected {tower} to be a whole ONNX graph: fetch or export it again") from error
    convolutions, products = (_weights_of(graph, kinds) for kinds in (("Conv",), _QUANTIZED))
    if convolutions > products:
        raise EncoderError(
            f"Expected a transformer for precision int8, got convolutions in {tower}: export the encoder in int8, "
            "calibrated on photos (export-encoder --int8-photos), or use fp32"
        )


def _weights_of(graph: onnx.GraphProto, kinds: tuple[str, ...]) -> int:
    """Count the numbers that nodes of these kinds multiply with."""
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in graph.initializer}
    # Weights may have names of their own, or be passed on by nodes that do nothing.
    passed = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Identity"}
    names = [name for node in graph.node if node.op_type in kinds for name in node.input]
    return sum(sizes.get(passed.get(name, name), 0) for name in names)


def _make(tower: Path, folder: Path) -> None:
    """Write into a temporary sibling first: what is in place is whole."""
    from rich.console import Console

    console = Console(stderr=True)
    console.print("Making the int8 image tower (once, about half a minute)", highlight=False)
    try:
        with new_folder(folder, accept_existing=True) as working:
            with quiet_logging():
                _quantize(tower, working / _GRAPH)
            (working / _NOTE).write_text(json.dumps({"recipe": _RECIPE, "sha256": file_sha256(working / _GRAPH)}))
    except OSError as error:
        raise EncoderError(
            f"Could not write the int8 tower to {folder}: {error}. To put it elsewhere, set TIP_ADAPTER_CACHE"
        ) from error


def _quantize(tower: Path, output: Path) -> None:
    quantization = import_library("onnxruntime.quantization")
    options: dict[str, Any] = {"MatMulConstBOnly": True}
    try:
        quantization.quantize_dynamic(
            tower,
            output,
            op_types_to_quantize=list(_QUANTIZED),
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            extra_options=options,
        )
    except OSError:
        raise
    except Exception as error:  # the quantiser raises whatever it meets
        reason = reason_of(error, longest=300)
        raise EncoderError(f"The tower {tower} cannot be quantised ({reason}): use precision fp32") from error


@contextmanager
def quiet_logging() -> Iterator[None]:
    """Keep the quantiser from setting up the logging of the whole process in order to give advice."""
    root = logging.getLogger()
    handler, level = logging.NullHandler(), root.level
    root.addHandler(handler)
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
