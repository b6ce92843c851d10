"""Know where published ONNX encoders keep their files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

METADATA_FILE = "tip_adapter.json"
_TOKENIZER_FILES = ("special_tokens_map.json", "tokenizer_config.json")


@dataclass(frozen=True)
class Layout:
    """Names of an encoder's files in its folder.

    Attributes
    ----------
    image_model : str
    text_model : str or None
        None for an encoder of photos alone.
    preprocessing : str
        How photos are prepared.
    tokenizer : str or None
    config : str
        What kind of model it is.
    """

    image_model: str
    text_model: str | None = None
    preprocessing: str = "preprocessor_config.json"
    tokenizer: str | None = None
    config: str = "config.json"

    @property
    def graphs(self) -> tuple[str, ...]:
        """The ONNX graphs, the large files beside them apart."""
        return tuple(graph for graph in (self.image_model, self.text_model) if graph)

    @property
    def needed(self) -> tuple[str, ...]:
        """All that has to be there."""
        return (*self.graphs, *(name for name in (self.tokenizer, self.preprocessing) if name))

    @property
    def side_files(self) -> tuple[str, ...]:
        """The small files, which need not all be there."""
        folder = PurePosixPath(self.tokenizer or "").parent
        beside = [str(folder / name) for name in _TOKENIZER_FILES] if self.tokenizer else []
        names = (self.config, self.preprocessing, self.tokenizer, *beside, METADATA_FILE)
        return tuple(dict.fromkeys(name for name in names if name))


def _transformers_js(suffix: str) -> Layout:
    image, text = (f"onnx/{tower}_model{suffix}.onnx" for tower in ("vision", "text"))
    return Layout(image, text, tokenizer="tokenizer.json")


LAYOUTS = (
    # transformers.js, and `export_encoder`.
    _transformers_js(""),
    _transformers_js("_fp16"),
    # Immich.
    Layout("visual/model.onnx", "textual/model.onnx", "visual/preprocess_cfg.json", "textual/tokenizer.json"),
    # open_clip's two halves.
    Layout("visual.onnx", "text.onnx", "open_clip_config.json", "tokenizer.json", "open_clip_config.json"),
    # Encoders of photos alone.
    Layout("onnx/model.onnx"),
    Layout("model.onnx"),
    Layout("onnx/model_fp16.onnx"),
)
"""Where a folder has the graphs of several, the first counts."""


def choose_layout(has: Callable[[str], bool]) -> Layout | None:
    """Tell the layout of a folder, or of a repository.

    Examples
    --------
    >>> from tip_adapter.encoders.layouts import choose_layout
    >>> choose_layout({"model.onnx", "preprocessor_config.json"}.__contains__).text_model is None
    True
    """
    return next((layout for layout in LAYOUTS if has(layout.image_model)), None)
