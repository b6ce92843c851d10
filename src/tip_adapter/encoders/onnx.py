"""Views and texts go through the two ONNX graphs of a directory; features come out, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tip_adapter.encoders.base import BaseEncoder
from tip_adapter.encoders.layout import OnnxLayout, read_layout
from tip_adapter.encoders.tokenizer import TextTokenizer
from tip_adapter.errors import EncoderError
from tip_adapter.typing import Float32Array, StrPath

__all__ = ["OnnxEncoder", "OnnxTower"]

_TEXTS_PER_RUN = 32
_SILENT = 4  # severity "fatal": what matters is raised as well


class OnnxEncoder(BaseEncoder):
    """An encoder from a directory that holds its towers as ONNX graphs, as transformers.js and our export write it.

    The image tower is opened at once, the text tower when the first text comes.

    Parameters
    ----------
    directory : path
        With ``onnx/vision_model.onnx``, ``onnx/text_model.onnx``, ``tokenizer.json`` and ``preprocessor_config.json``.
    name : str, optional
        How messages and saved classifiers call the encoder; by default what the export recorded, or the path.
    precision : str, default="fp32"
    logit_scale : float, optional
        Of CLIP and of our own exports it is known; other graphs do not contain it.

    Raises
    ------
    EncoderError
        When a file is missing or damaged, a graph has other inputs or outputs, or the logit scale is unknown.

    Notes
    -----
    A directory whose config.json says ``clip``, without a recorded scale, gets 100, where OpenAI's CLIP and nearly all
    of its relatives end up, because training clips it there.
    """

    def __init__(
        self,
        directory: StrPath,
        *,
        name: str | None = None,
        precision: str = "fp32",
        logit_scale: float | None = None,
    ) -> None:
        self.layout = read_layout(Path(directory), precision)
        outputs = _output_names(self.layout)
        self.image_tower = OnnxTower(self.layout.vision_model, {"pixel_values"}, outputs)
        self.image_tower.expect_sizes({1: 3, 2: self.layout.preprocessing.size, 3: self.layout.preprocessing.size})
        self._text_tower: OnnxTower | None = None
        self._tokenizer: TextTokenizer | None = None
        super().__init__(
            name or self.layout.name or str(directory),
            weights_id=self.layout.weights_id,
            dim=_image_dim(self.image_tower, self.layout),
            logit_scale=_logit_scale(self.layout, logit_scale),
            preprocessing=self.layout.preprocessing,
            precision=precision,
        )

    def _encode_inputs(self, inputs: Float32Array) -> Float32Array:
        return self.image_tower.run({"pixel_values": inputs})

    def _encode_texts(self, texts: list[str]) -> Float32Array:
        tokenizer, tower = self._open_text_tower()
        features = np.empty((len(texts), self.dim), dtype=np.float32)
        # Texts of about the same length share a run, so that little padding is computed.
        order = np.argsort([len(text) for text in texts], kind="stable")
        for start in range(0, len(texts), _TEXTS_PER_RUN):
            rows = order[start : start + _TEXTS_PER_RUN]
            ids, mask = tokenizer([texts[row] for row in rows])
            found = tower.run({"input_ids": ids, "attention_mask": mask})
            if found.shape[1] != self.dim:
                expected = f"text features of {self.dim} dimensions, as of the image tower"
                raise EncoderError(f"Expected {expected}, got {found.shape[1]}: {tower.path} belongs to another model")
            features[rows] = found
        return features

    def _open_text_tower(self) -> tuple[TextTokenizer, OnnxTower]:
        if self._text_tower is None or self._tokenizer is None:
            self._tokenizer = self.layout.tokenizer()
            optional = {"attention_mask"}
            self._text_tower = OnnxTower(self.layout.text_model, {"input_ids"}, _output_names(self.layout), optional)
        return self._tokenizer, self._text_tower


class OnnxTower:
    """One ONNX graph on the CPU, with the inputs and the output that an encoder needs.

    Parameters
    ----------
    path : pathlib.Path
    required : set of str
        Names of the inputs that the graph must have.
    outputs : sequence of str
        Names of outputs that will do, best first.
    optional : set of str
        Names of inputs that the graph may have.

    Raises
    ------
    EncoderError
        When the file is no such graph.
    """

    def __init__(
        self, path: Path, required: set[str], outputs: Sequence[str], optional: set[str] | None = None
    ) -> None:
        self.path = path
        self._session = _open_session(path)
        self._inputs = {node.name: node for node in self._session.get_inputs()}
        if not required <= set(self._inputs) <= required | (optional or set()):
            raise EncoderError(f"Expected {path} to have the inputs {sorted(required)}, got {sorted(self._inputs)}")
        found = {node.name: node for node in self._session.get_outputs()}
        output = next((found[name] for name in outputs if name in found), None)
        if output is None:
            raise EncoderError(f"Expected {path} to have an output {' or '.join(outputs)}, got {sorted(found)}")
        self.output = output.name
        self.output_dim = output.shape[-1] if output.shape and isinstance(output.shape[-1], int) else None
        for node in self._inputs.values():
            if node.shape and isinstance(node.shape[0], int):
                raise EncoderError(f"Expected {path} to take batches of any size, got {node.shape[0]}: export it anew")

    def expect_sizes(self, sizes: dict[int, int]) -> None:
        """Compare the axes of the only input that have a fixed size."""
        (node,) = self._inputs.values()
        for axis, size in sizes.items():
            if len(node.shape) != 4 or (isinstance(node.shape[axis], int) and node.shape[axis] != size):
                expected = f"(batch, {', '.join(str(size) for size in sizes.values())})"
                raise EncoderError(
                    f"Expected {self.path} to take {node.name} of shape {expected} as preprocessor_config.json says, "
                    f"got {tuple(node.shape)}: the files are of different models"
                )

    def run(self, inputs: dict[str, NDArray[Any]]) -> Float32Array:
        """Run the graph on those of the inputs that it has."""
        feeds = {name: values for name, values in inputs.items() if name in self._inputs}
        try:
            (features,) = self._session.run([self.output], feeds)
        except Exception as error:  # ONNX Runtime's exceptions have no common base but Exception
            raise EncoderError(f"The graph {self.path} failed: {_one_line(error)}") from error
        if features.ndim != 2:
            raise EncoderError(f"Expected {self.path} to give features (B, D), got {self.output} of {features.shape}")
        return np.ascontiguousarray(features, dtype=np.float32)


def _open_session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _SILENT
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no common base but Exception
        raise EncoderError(
            f"Expected {path} to be a whole ONNX graph, got {_one_line(error)}: fetch or export it again"
        ) from error


def _output_names(layout: OnnxLayout) -> tuple[str, ...]:
    """Of CLIP, the pooled output is not yet projected into the common space; SigLIP has no projection."""
    projected = ("image_embeds", "text_embeds")
    return projected if layout.model_type == "clip" else (*projected, "pooler_output")


def _image_dim(tower: OnnxTower, layout: OnnxLayout) -> int:
    if tower.output_dim is not None:
        return tower.output_dim
    size = layout.preprocessing.size
    return int(tower.run({"pixel_values": np.zeros((1, 3, size, size), dtype=np.float32)}).shape[1])


def _logit_scale(layout: OnnxLayout, given: float | None) -> float:
    scale = given if given is not None else layout.logit_scale
    if scale is None:
        raise EncoderError(f"The encoder {layout.directory} does not say its logit scale: pass logit_scale=")
    return scale


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:500]
