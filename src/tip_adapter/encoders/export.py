"""Write an encoder as a directory of ONNX graphs, in the layout of transformers.js."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tip_adapter.data.preprocessing import Preprocessing
from tip_adapter.encoders.file_hashes import file_sha256
from tip_adapter.encoders.graph_files import graph_files
from tip_adapter.encoders.layout import METADATA_VERSION, layout_of, weight_files
from tip_adapter.encoders.layouts import METADATA_FILE
from tip_adapter.encoders.onnx import OnnxEncoder
from tip_adapter.encoders.parity import PROBE_TEXTS, check_parity
from tip_adapter.encoders.static_int8 import quantise
from tip_adapter.encoders.tokenizer import TextSettings, Tokenizer
from tip_adapter.encoders.torch_encoder import TorchEncoder
from tip_adapter.errors import EncoderError
from tip_adapter.libraries import require_extra
from tip_adapter.storage.atomic import new_folder
from tip_adapter.typing import StrPath, UInt8Array

if TYPE_CHECKING:
    import torch

_OPSET = 17


@dataclass(frozen=True)
class EncoderDescription:
    """What an ONNX directory says besides its graphs."""

    logit_scale: float
    preprocessing: Preprocessing
    tokenizer: Tokenizer | None
    config: Mapping[str, Any] = field(default_factory=dict)


def export_towers(encoder: TorchEncoder, out_dir: StrPath) -> Path:
    """Write both towers as ONNX graphs with a dynamic batch, check them against torch, and put them in place."""
    require_extra("onnx", "torch")
    with _new_directory(Path(out_dir)) as directory:
        (directory / "onnx").mkdir()
        _write_graphs(encoder, directory / "onnx")
        description = EncoderDescription(encoder.logit_scale, encoder.preprocessing, encoder.tokenizer, encoder.config)
        write_side_files(description, directory)
        check_parity(encoder, OnnxEncoder(directory), "nothing was written, please report it")
    return Path(out_dir)


def copy_encoder(encoder: OnnxEncoder, out_dir: StrPath) -> Path:
    """Copy an encoder that is an ONNX directory already, such as `lite` or a downloaded one."""
    with _new_directory(Path(out_dir)) as directory:
        _copy_files(encoder, directory)
        _write_metadata(directory, encoder.logit_scale, encoder.layout.text, eight_bit=encoder.layout.eight_bit)
    return Path(out_dir)


@contextmanager
def eight_bit_copy(
    members: Sequence[OnnxEncoder], views: Sequence[UInt8Array], out_dir: StrPath
) -> Iterator[list[Path]]:
    """Copy encoders with image towers of int8, calibrated on views of photos, one array a member.

    Yields their folders in a temporary sibling of `out_dir`, which takes its place when the block ends well: one member
    is the folder itself, several are folders in it, which have the members' names.
    """
    with _new_directory(Path(out_dir)) as directory:
        names = [Path(member.name).name for member in members]
        if len(set(names)) < len(names) or any("+" in name for name in names):
            names = [str(number + 1) for number in range(len(names))]
        places = [directory] if len(members) == 1 else [directory / name for name in names]
        for member, pixels, place in zip(members, views, places, strict=True):
            place.mkdir(exist_ok=True)
            _copy_files(member, place)
            target = place / member.layout.files.image_model
            for path in graph_files(target):
                path.unlink()
            quantise(member.image_tower, member.preprocessing.normalize(pixels), target)
            _write_metadata(place, member.logit_scale, member.layout.text, eight_bit=True)
        yield places


def _copy_files(encoder: OnnxEncoder, directory: Path) -> None:
    source, layout = encoder.layout.directory, encoder.layout.files
    for name in dict.fromkeys([*weight_files(source, layout), *layout.side_files]):
        if (source / name).is_file():
            (directory / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(source / name, directory / name)  # follows the links of the Hub's cache


def _write_graphs(encoder: TorchEncoder, folder: Path) -> None:
    import torch

    size = encoder.preprocessing.size
    pixels = torch.zeros(2, 3, size, size)
    name = "vision_model" if encoder.has_text_tower else "model"
    _write_graph(encoder.image_tower, (pixels,), folder / f"{name}.onnx", ["pixel_values"], "image_embeds")
    if encoder.text_tower is None:
        return
    texts = encoder.text_arguments(PROBE_TEXTS[1:3])  # two lengths: the mask has to matter in the trace
    _write_graph(encoder.text_tower, texts, folder / "text_model.onnx", list(encoder.text_inputs), "text_embeds")


def _write_graph(
    module: torch.nn.Module, arguments: tuple[Any, ...], path: Path, inputs: Sequence[str], output: str
) -> None:
    import torch

    axes = {name: {0: "batch"} if name == "pixel_values" else {0: "batch", 1: "length"} for name in inputs}
    with torch.no_grad(), _exporter_warnings(), _plain_attention():
        # The TorchScript exporter: the newer one needs onnxscript, and eight times as long.
        torch.onnx.export(
            module,
            arguments,
            str(path),
            input_names=list(inputs),
            output_names=[output],
            dynamic_axes={**axes, output: {0: "batch"}},
            opset_version=_OPSET,
            dynamo=False,
        )


@contextmanager
def _exporter_warnings() -> Iterator[None]:
    """Ignore what the exporter always says; the parity check tells whether it mattered."""
    import torch

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "You are using the legacy TorchScript-based", DeprecationWarning)
        warnings.filterwarnings("ignore", "The feature will be removed", DeprecationWarning)
        warnings.filterwarnings("ignore", "Constant folding", UserWarning)
        warnings.filterwarnings("ignore", "Exporting aten::index operator", UserWarning)
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)  # type: ignore[attr-defined]
        yield


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Keep torch from its fused attention, which ONNX has no operator for."""
    import torch

    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


def write_side_files(description: EncoderDescription, directory: Path) -> None:
    """Write what an ONNX directory needs besides its graphs."""
    tokenizer = description.tokenizer
    _write_json(directory / "preprocessor_config.json", description.preprocessing.to_preprocessor_config())
    if description.config:
        _write_json(directory / "config.json", description.config)
    if tokenizer is not None:
        (directory / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
        # For readers such as transformers.js; our own settings are in the metadata.
        lengths = {"model_max_length": tokenizer.settings.context_length, "pad_token": tokenizer.settings.pad_token}
        _write_json(directory / "tokenizer_config.json", lengths)
    _write_metadata(directory, description.logit_scale, tokenizer.settings if tokenizer else None)


def _write_metadata(
    directory: Path, logit_scale: float, settings: TextSettings | None, *, eight_bit: bool = False
) -> None:
    content: dict[str, Any] = {
        "format_version": METADATA_VERSION,
        "logit_scale": logit_scale,
        "text": asdict(settings) if settings else None,
        "files": {name: file_sha256(path) for name, path in weight_files(directory, layout_of(directory)).items()},
    }
    _write_json(directory / METADATA_FILE, content | ({"precision": "int8"} if eight_bit else {}))


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(dict(content), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def _new_directory(target: Path) -> Iterator[Path]:
    """Yield a temporary sibling that becomes `target` when the block ends well, and disappears when it does not."""
    if target.exists():
        raise EncoderError(f"Expected {target} not to exist yet: choose another place or remove it")
    try:
        with new_folder(target) as working:
            yield working
    except OSError as error:
        raise EncoderError(f"{target} cannot be written: {error.strerror or error}: choose another place") from error
