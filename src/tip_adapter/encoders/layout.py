"""Read and check everything of an ONNX directory, in the layout of transformers.js, but the graphs themselves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tip_adapter.data.decoding import Preprocessing
from tip_adapter.encoders.file_hashes import file_sha256
from tip_adapter.encoders.graph_files import graph_digest, graph_files
from tip_adapter.encoders.tokenizer import TextSettings, TextTokenizer
from tip_adapter.errors import EncoderError
from tip_adapter.storage.json_files import read_json
from tip_adapter.storage.schema import fields, flag, mapping, number, one_of, text, whole

__all__ = [
    "METADATA_FILE",
    "METADATA_VERSION",
    "SIDE_FILES",
    "TOWERS",
    "OnnxLayout",
    "read_config",
    "read_layout",
    "text_weights",
    "usual_text_settings",
    "weight_files",
]

TOWERS = ("vision_model", "text_model")
METADATA_FILE = "tip_adapter.json"
METADATA_VERSION = 2
SIDE_FILES = (
    "config.json",
    "preprocessor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    METADATA_FILE,
)
MAX_CONTEXT = 8192
"""Of tokens, far above what text towers take; tokenizers without a limit say more."""

_MAX_JSON_BYTES = 16 * 2**20
_MAX_VOCABULARY_BYTES = 256 * 2**20
_METADATA = fields(
    {
        "format_version": one_of(METADATA_VERSION),
        "logit_scale": number(above=0, high=1e6),
        "text": fields(
            {
                "context_length": whole(1, MAX_CONTEXT),
                "pad_token": text(),
                "pad_to_context": flag,
                "lowercase": flag,
            }
        ),
        "files": mapping(text(pattern="[0-9a-f]{64}", named="a SHA-256 in hexadecimal")),
    }
)
_CONTEXT_LENGTHS = {"clip": 77, "siglip": 64}
_LOGIT_SCALES = {"clip": 100.0}  # where every released CLIP stopped, as it is clipped there


@dataclass(frozen=True)
class OnnxLayout:
    """What an ONNX directory says about itself.

    Attributes
    ----------
    directory : pathlib.Path
    vision_model, text_model : pathlib.Path
        The graphs.
    preprocessing : Preprocessing
    text : TextSettings
    logit_scale : float or None
        None when neither our export recorded it nor the kind of model tells.
    model_type : str or None
        ``"clip"`` or ``"siglip"``, when config.json says so.
    text_weights : str
        SHA-256 over the text tower, its vocabulary, and how texts are cut and padded.
    """

    directory: Path
    vision_model: Path
    text_model: Path
    preprocessing: Preprocessing
    text: TextSettings
    logit_scale: float | None
    model_type: str | None
    text_weights: str

    def tokenizer(self) -> TextTokenizer:
        """Read the tokenizer, which is only needed once texts are encoded."""
        path = self.directory / "tokenizer.json"
        try:
            if path.stat().st_size > _MAX_VOCABULARY_BYTES:
                raise EncoderError(
                    f"Expected {path} of at most {_MAX_VOCABULARY_BYTES // 2**20} MiB, got more: fetch it again"
                )
            content = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise EncoderError(f"Expected {path} in UTF-8, got other bytes: fetch it again") from error
        except OSError as error:
            raise EncoderError(f"{path} cannot be read ({error.strerror}): check it, or fetch it again") from error
        return TextTokenizer(content, self.text, source=str(path))


def read_layout(directory: Path) -> OnnxLayout:
    """Read and check the small files of an ONNX directory, and hash the large ones.

    Parameters
    ----------
    directory : pathlib.Path
        Holds ``onnx/vision_model.onnx``, ``onnx/text_model.onnx``, ``tokenizer.json``, ``preprocessor_config.json``.

    Returns
    -------
    layout : OnnxLayout

    Raises
    ------
    EncoderError
        When a file is missing, damaged, or not what our export recorded.
    """
    vision_model, text_model = (directory / "onnx" / f"{tower}.onnx" for tower in TOWERS)
    for path in (vision_model, text_model, directory / "tokenizer.json", directory / "preprocessor_config.json"):
        if not path.is_file():
            raise EncoderError(
                f"Expected the encoder {directory} to have {path.relative_to(directory)}, found none: "
                "it needs both ONNX towers, tokenizer.json and preprocessor_config.json (see export-encoder)"
            )
    metadata = _read_metadata(directory)
    _check_recorded(directory, metadata)
    config = _read_optional(directory / "config.json")
    model_type = config.get("model_type")
    settings = _recorded_text(metadata) or usual_text_settings(directory, config)
    return OnnxLayout(
        directory=directory,
        vision_model=vision_model,
        text_model=text_model,
        preprocessing=Preprocessing.from_preprocessor_config(read_config(directory / "preprocessor_config.json")),
        text=settings,
        logit_scale=metadata.get("logit_scale", _LOGIT_SCALES.get(str(model_type))),
        model_type=model_type,
        text_weights=text_weights(text_model, settings),
    )


def weight_files(directory: Path) -> dict[str, Path]:
    """Return the files that the features depend on by their names in the directory, external data included."""
    graphs = [path for tower in TOWERS for path in graph_files(directory / "onnx" / f"{tower}.onnx")]
    return {path.relative_to(directory).as_posix(): path for path in [*graphs, directory / "tokenizer.json"]}


def text_weights(text_model: Path, settings: TextSettings) -> str:
    """Identify all that the features of texts depend on, as it is on the disk now."""
    tokenizer = text_model.parents[1] / "tokenizer.json"
    try:
        vocabulary = file_sha256(tokenizer)
    except OSError as error:
        raise EncoderError(f"{tokenizer} cannot be read ({error.strerror}): check it, or fetch it again") from error
    content = [graph_digest(text_model), vocabulary, asdict(settings)]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_config(path: Path) -> dict[str, Any]:
    """Read a JSON object, or raise an `EncoderError` that names the file."""
    try:
        content = read_json(path, most=_MAX_JSON_BYTES)
    except ValueError as error:
        raise EncoderError(
            f"Expected {path} to be a readable JSON file, got something else ({error}): fetch it again"
        ) from error
    if not isinstance(content, dict):
        raise EncoderError(f"Expected {path} to hold a JSON object, got {type(content).__name__}: fetch it again")
    return content


def _read_optional(path: Path) -> dict[str, Any]:
    return read_config(path) if path.is_file() else {}


def _read_metadata(directory: Path) -> dict[str, Any]:
    path = directory / METADATA_FILE
    metadata = _read_optional(path)
    version = metadata.get("format_version", METADATA_VERSION)
    if version != METADATA_VERSION:
        newer = isinstance(version, int) and version > METADATA_VERSION
        what_to_do = "update tip-adapter" if newer else "export the encoder again"
        raise EncoderError(f"Expected {path} of format {METADATA_VERSION}, got {version!r:.40}: {what_to_do}")
    if path.is_file():
        try:
            _METADATA(metadata, METADATA_FILE)
        except ValueError as error:
            raise EncoderError(f"Expected {path} as an export writes it, but {error}: export again") from error
    return metadata


def _recorded_text(metadata: Mapping[str, Any]) -> TextSettings | None:
    return TextSettings(**metadata["text"]) if metadata else None


def usual_text_settings(directory: Path, config: Mapping[str, Any]) -> TextSettings:
    """Work out what the files of CLIP and SigLIP leave unsaid.

    Parameters
    ----------
    directory : pathlib.Path
        With the files that go with the tokenizer.
    config : mapping
        Content of config.json.

    Returns
    -------
    settings : TextSettings

    Raises
    ------
    EncoderError
        When the files tell neither context length nor padding token.
    """
    kind = str(config.get("model_type"))
    tokenizer_config = _read_optional(directory / "tokenizer_config.json")
    text_config = config.get("text_config")
    lengths: tuple[Any, ...] = (
        text_config.get("max_position_embeddings") if isinstance(text_config, dict) else None,
        tokenizer_config.get("model_max_length"),
        _CONTEXT_LENGTHS.get(kind),
    )
    # Tokenizers without a limit write 1e30.
    length = next((int(length) for length in filter(_is_length, lengths)), None)
    if length is None:
        raise EncoderError(f"Expected {directory}/tokenizer_config.json to give model_max_length: add it")
    return TextSettings(
        context_length=length,
        pad_token=_pad_token(directory, tokenizer_config, kind),
        # Only CLIP reads its text feature at the end token, so that padding after it does not matter.
        pad_to_context=kind != "clip",
        # SigLIP 2 was trained on lower-cased texts; the tokenizer is Gemma's, which keeps the case.
        lowercase=kind == "siglip" and str(tokenizer_config.get("tokenizer_class")).startswith(("Gemma", "Siglip2")),
    )


def _is_length(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value <= MAX_CONTEXT


def _pad_token(directory: Path, tokenizer_config: Mapping[str, Any], kind: str) -> str:
    for config in (tokenizer_config, _read_optional(directory / "special_tokens_map.json")):
        token = config.get("pad_token")
        token = token.get("content") if isinstance(token, dict) else token
        if isinstance(token, str):
            return token
    if kind == "clip":
        return "<|endoftext|>"
    raise EncoderError(f"Expected {directory}/tokenizer_config.json to name a pad_token: add it")


def _check_recorded(directory: Path, metadata: Mapping[str, Any]) -> None:
    """Tell a damaged copy of an export; the identity of an encoder does not hang on what is recorded."""
    recorded = metadata.get("files")
    if recorded is None:
        return
    hashes = {name: file_sha256(path) for name, path in weight_files(directory).items()}
    for name in sorted(hashes | recorded):
        if hashes.get(name) != recorded.get(name):
            raise EncoderError(
                f"Expected {directory / name} to be the file that was exported, but its SHA-256 differs: "
                f"delete {directory} and export (or prepare) the encoder again"
            )
