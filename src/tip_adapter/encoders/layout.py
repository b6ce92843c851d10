"""Read and check everything in an ONNX directory except the graphs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tip_adapter.data.preprocessing import Preprocessing
from tip_adapter.encoders.file_hashes import file_sha256
from tip_adapter.encoders.graph_files import graph_digest, graph_files
from tip_adapter.encoders.layouts import LAYOUTS, METADATA_FILE, Layout, choose_layout
from tip_adapter.encoders.open_clip_config import (
    CLIP_LOGIT_SCALE,
    SIGLIP_LOGIT_SCALE,
    cleaning_of,
    context_length_of,
    logit_scale_of,
    preprocessing_of,
)
from tip_adapter.encoders.tokenizer import TextSettings, TextTokenizer
from tip_adapter.errors import EncoderError
from tip_adapter.storage.json_files import read_object
from tip_adapter.storage.schema import fields, flag, mapping, number, one_of, optional, text, whole

METADATA_VERSION = 3
MAX_CONTEXT = 8192
"""Of tokens, far above what text towers take; tokenizers without a limit say more."""

_MAX_JSON_BYTES = 16 * 2**20
_MAX_VOCABULARY_BYTES = 256 * 2**20
_METADATA = fields(
    {
        "format_version": one_of(METADATA_VERSION),
        "logit_scale": number(above=0, high=1e6),
        "text": optional(
            fields(
                {
                    "context_length": whole(1, MAX_CONTEXT),
                    "pad_token": text(),
                    "pad_to_context": flag,
                    "clean": one_of("", "lower", "canonicalize"),
                }
            )
        ),
        "files": mapping(text(pattern="[0-9a-f]{64}", named="a SHA-256 in hexadecimal")),
    },
    others={"precision": one_of("int8")},
)
_CONTEXT_LENGTHS = {"clip": 77, "siglip": 64}
_LOGIT_SCALES = {"clip": CLIP_LOGIT_SCALE, "siglip": SIGLIP_LOGIT_SCALE, "siglip2": SIGLIP_LOGIT_SCALE}
_OPEN_CLIP = "open_clip"


@dataclass(frozen=True)
class OnnxLayout:
    """What an ONNX directory says about itself.

    Attributes
    ----------
    directory : pathlib.Path
    files : Layout
        Names of the files in it.
    preprocessing : Preprocessing
    text : TextSettings or None
        None without a text tower.
    logit_scale : float or None
        None when neither our export recorded it nor the kind of model tells.
    model_type : str or None
        Such as ``"clip"`` or ``"siglip"``, when config.json says so; ``"open_clip"`` for its models.
    text_weights : str
        SHA-256 over the text tower, its vocabulary, and how texts are cut and padded.
    patch_size : int or None
        Side of the patches of a vision transformer, where config.json says it.
    eight_bit : bool
        Whether the image tower multiplies bytes, as our export recorded.
    """

    directory: Path
    files: Layout
    preprocessing: Preprocessing
    text: TextSettings | None
    logit_scale: float | None
    model_type: str | None
    text_weights: str
    patch_size: int | None = None
    eight_bit: bool = False

    @property
    def image_model(self) -> Path:
        """Graph of the image tower."""
        return self.directory / self.files.image_model

    @property
    def text_model(self) -> Path | None:
        """Graph of the text tower, if there is one."""
        return self.directory / self.files.text_model if self.files.text_model else None

    def tokenizer(self, *, pad_to_context: bool = False) -> TextTokenizer:
        """Read the tokenizer, which is only needed once texts are encoded; some graphs take one length alone."""
        if self.text is None or self.files.tokenizer is None:
            raise EncoderError(f"The encoder {self.directory} has no text tower")
        path = self.directory / self.files.tokenizer
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
        settings = replace(self.text, pad_to_context=True) if pad_to_context else self.text
        return TextTokenizer(content, settings, source=str(path))


def read_layout(directory: Path) -> OnnxLayout:
    """Read and check the small files of an ONNX directory, and hash the large ones."""
    files = layout_of(directory)
    metadata = _read_metadata(directory)
    _check_recorded(directory, files, metadata)
    config = _model_config(directory, files)
    model_type = config.get("model_type")
    if "vision_cfg" in config:
        model_type = _OPEN_CLIP
    settings = None
    if files.text_model:
        settings = _recorded_text(metadata) or _text_settings(directory, files, config)
    known_scale = logit_scale_of(config) if model_type == _OPEN_CLIP else _LOGIT_SCALES.get(str(model_type))
    return OnnxLayout(
        directory=directory,
        files=files,
        preprocessing=_preprocessing(directory / files.preprocessing),
        text=settings,
        logit_scale=metadata.get("logit_scale", known_scale if files.text_model else CLIP_LOGIT_SCALE),
        model_type=model_type,
        text_weights=text_weights(directory, files, settings),
        patch_size=config["patch_size"] if _is_length(config.get("patch_size")) else None,
        eight_bit="precision" in metadata,
    )


def layout_of(directory: Path) -> Layout:
    """Tell the layout of a folder, all of whose files are there."""
    files = choose_layout(lambda name: (directory / name).is_file()) or LAYOUTS[0]
    for name in files.needed:
        if not (directory / name).is_file():
            raise EncoderError(
                f"Expected the encoder {directory} to have {name}, found none: an encoder is a folder with "
                f"{', '.join(LAYOUTS[0].needed)} (see export-encoder), or in another layout of docs/encoders.md"
            )
    return files


def weight_files(directory: Path, files: Layout) -> dict[str, Path]:
    """Return the files that the features depend on by their names in the directory, external data included."""
    graphs = [path for name in files.graphs for path in graph_files(directory / name)]
    vocabulary = [directory / files.tokenizer] if files.tokenizer else []
    return {path.relative_to(directory).as_posix(): path for path in [*graphs, *vocabulary]}


def text_weights(directory: Path, files: Layout, settings: TextSettings | None) -> str:
    """Identify all that the features of texts depend on, as it is on the disk now."""
    if settings is None or files.tokenizer is None or files.text_model is None:
        return "none"
    tokenizer = directory / files.tokenizer
    try:
        vocabulary = file_sha256(tokenizer)
    except OSError as error:
        raise EncoderError(f"{tokenizer} cannot be read ({error.strerror}): check it, or fetch it again") from error
    content = [graph_digest(directory / files.text_model), vocabulary, asdict(settings)]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _model_config(directory: Path, files: Layout) -> dict[str, Any]:
    config = _read_optional(directory / files.config)
    inner = config.get("model_cfg")
    return inner if isinstance(inner, dict) else config


def _preprocessing(path: Path) -> Preprocessing:
    config = read_config(path)
    if path.name == "preprocessor_config.json":
        return Preprocessing.from_preprocessor_config(config)
    inner = config.get("preprocess_cfg", config)
    if not isinstance(inner, dict):
        raise EncoderError(f"Expected preprocess_cfg in {path} to be an object, got {type(inner).__name__}")
    return preprocessing_of(inner, str(path.parent))


def _text_settings(directory: Path, files: Layout, config: Mapping[str, Any]) -> TextSettings:
    """Work out how texts are cut where our export has not recorded it."""
    folder = (directory / (files.tokenizer or "")).parent
    if "vision_cfg" not in config:
        return usual_text_settings(folder, config)
    length = context_length_of(config)
    if not _is_length(length):
        raise EncoderError(f"Expected {directory / files.config} to give a context_length, got {length!r:.40}")
    tokenizer_config = _read_optional(folder / "tokenizer_config.json")
    return TextSettings(
        context_length=int(length),
        pad_token=_pad_token(folder, tokenizer_config, "clip"),
        pad_to_context=True,
        clean=cleaning_of(config, str(directory)),
    )


def read_config(path: Path) -> dict[str, Any]:
    """Read a JSON object, or raise an `EncoderError` that names the file."""
    return read_object(path, "settings", error=EncoderError, remedy="fetch it again", most=_MAX_JSON_BYTES)


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
    return TextSettings(**metadata["text"]) if metadata.get("text") else None


def usual_text_settings(directory: Path, config: Mapping[str, Any]) -> TextSettings:
    """Work out what the files of CLIP and SigLIP leave unsaid."""
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
        clean="lower" if kind == "siglip" and _is_gemma(tokenizer_config) else "",
    )


def _is_gemma(tokenizer_config: Mapping[str, Any]) -> bool:
    return str(tokenizer_config.get("tokenizer_class")).startswith(("Gemma", "Siglip2"))


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


def _check_recorded(directory: Path, files: Layout, metadata: Mapping[str, Any]) -> None:
    """Tell a damaged copy of an export; the identity of an encoder does not hang on what is recorded."""
    recorded = metadata.get("files")
    if recorded is None:
        return
    hashes = {name: file_sha256(path) for name, path in weight_files(directory, files).items()}
    for name in sorted(hashes | recorded):
        if hashes.get(name) != recorded.get(name):
            raise EncoderError(
                f"Expected {directory / name} to be the file that was exported, but its SHA-256 differs: "
                f"delete {directory} and export (or prepare) the encoder again"
            )
