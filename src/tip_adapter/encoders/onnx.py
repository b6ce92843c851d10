"""Encode views and texts with the ONNX graphs of a directory, without torch."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np

from tip_adapter.data.preprocessing import Preprocessing
from tip_adapter.encoders.base import BaseEncoder
from tip_adapter.encoders.layout import OnnxLayout, read_layout, text_weights
from tip_adapter.encoders.onnx_tower import OnnxTower
from tip_adapter.encoders.pooling import pooling_of
from tip_adapter.encoders.precision import check_precision, eight_bit_products_are_exact, eight_bit_tower
from tip_adapter.encoders.tokenizer import TextTokenizer
from tip_adapter.errors import EncoderError, EncoderWarning, warn
from tip_adapter.typing import Float32Array, StrPath, UInt8Array

_TEXTS_PER_RUN = 32
_IMAGE_INPUTS = ("pixel_values", "image", "images", "input")
_TEXT_INPUTS = ("input_ids", "text", "input", "tokens")
_IMAGE_OUTPUTS = ("image_embeds", "image_embedding", "embedding", "image_features")
_TEXT_OUTPUTS = ("text_embeds", "text_embedding", "embedding", "text_features")


class OnnxEncoder(BaseEncoder):
    """An encoder from a directory that holds its towers as ONNX graphs, as transformers.js and our export write it.

    The image tower is opened at once, the text tower when the first text comes.

    Parameters
    ----------
    directory : path
        In one of the layouts of `tip_adapter.encoders.layouts.LAYOUTS`, such as that of transformers.js.
    name : str, optional
        How messages and saved classifiers call the encoder; by default its path.
    precision : {"fp32", "int8"}, default="fp32"
        With "int8" the weights of the image tower have 8 bits: three times as fast, features nearly the same. The tower
        is made at the first use. Texts are encoded in full precision, once a class.
    logit_scale : float, optional
        Of CLIP and of our own exports it is known; other graphs do not contain it.

    Raises
    ------
    EncoderError
        When a file is missing or damaged, a graph has other inputs or outputs, or the logit scale is unknown; with
        "int8", when the image tower is no transformer.

    Warns
    -----
    EncoderWarning
        When this processor cannot multiply bytes exactly: the encoder is the one of "fp32" then, in name and features.

    Notes
    -----
    A directory whose config.json says ``clip``, without a recorded scale, gets 100, where OpenAI's CLIP and nearly all
    of its relatives end up, because training clips it there; so does a model of open_clip, but for its SigLIPs: 115.

    A graph without text tower beside it may give tokens or places instead of one feature: see
    `tip_adapter.encoders.pooling.pooling_of`.
    """

    preprocessing: Preprocessing

    def __init__(
        self,
        directory: StrPath,
        *,
        name: str | None = None,
        precision: str = "fp32",
        logit_scale: float | None = None,
    ) -> None:
        self.layout = read_layout(Path(directory))
        precision = _usable_precision(name or str(directory), precision)
        if self.layout.eight_bit and not eight_bit_products_are_exact():
            raise EncoderError(
                f"The encoder {directory} needs a processor that multiplies 8-bit numbers exactly (with VNNI): use the "
                "encoder that it was exported from, and fit again"
            )
        eight_bit = precision == "int8"
        image_model = eight_bit_tower(self.layout.image_model) if eight_bit else self.layout.image_model
        tower = OnnxTower(image_model, _IMAGE_INPUTS, _image_outputs(self.layout))
        # Of several rows together, the 8-bit activations of one would depend on the others.
        self._views_per_run = 1 if eight_bit else tower.rows_per_run
        tower.expect_sizes({1: 3, 2: self.layout.preprocessing.size, 3: self.layout.preprocessing.size})
        self._opening = threading.RLock()
        self._image_tower: OnnxTower | None = tower
        self._text_tower: OnnxTower | None = None
        self._tokenizer: TextTokenizer | None = None
        super().__init__(
            name or str(directory),
            image_weights=tower.digest,
            text_weights=self.layout.text_weights,
            dim=_image_dim(tower, self.layout),
            logit_scale=_logit_scale(self.layout, logit_scale),
            preprocessing=self.layout.preprocessing,
            precision=precision,
            has_text_tower=self.layout.text_model is not None,
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is open: a copy opens it again, at its first use."""
        closed = {"_image_tower": None, "_text_tower": None, "_tokenizer": None}
        return {name: value for name, value in vars(self).items() if name != "_opening"} | closed

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _opening=threading.RLock())

    @property
    def image_tower(self) -> OnnxTower:
        """The graph of the image tower, opened again in a copy."""
        with self._opening:
            if self._image_tower is None:
                again = OnnxEncoder(
                    self.layout.directory, name=self.name, precision=self.precision, logit_scale=self.logit_scale
                )
                if (again.image_id, again.text_id) != (self.image_id, self.text_id):
                    raise EncoderError(
                        f"The encoder in {self.layout.directory} is another one than this copy was made of (id "
                        f"{again.image_id[:12]}, was {self.image_id[:12]}): load it again, and fit again"
                    )
                self._image_tower = again.image_tower
            return self._image_tower

    def in_full_precision(self) -> OnnxEncoder:
        """The encoder of the same directory with weights of 32 bits."""
        if self.precision == "fp32":
            return self
        return OnnxEncoder(self.layout.directory, name=self.name, logit_scale=self.logit_scale)

    def _encode_views(self, pixels: UInt8Array) -> Float32Array:
        def inputs_of(views: UInt8Array) -> dict[str, Float32Array]:
            return {tower.input: self.preprocessing.normalize(views)}

        tower = self.image_tower
        return tower.run_in_parallel(pixels, self._views_per_run, inputs_of)

    def _encode_texts(self, texts: list[str]) -> Float32Array:
        features = self.read_texts(texts)
        if features.shape[1] != self.dim:
            expected = f"text features of {self.dim} dimensions, as of the image tower"
            path = self.layout.text_model
            raise EncoderError(f"Expected {expected}, got {features.shape[1]}: {path} belongs to another model")
        return features

    def read_texts(self, texts: list[str]) -> Float32Array:
        """Run the text tower on at least one text, however long its features are: it may be that of several encoders.

        Shapes: → (T, any).
        """
        tokenizer, tower = self._open_text_tower()
        parts = []
        # Texts of about the same length share a run, so that little padding is computed.
        order = np.argsort([len(text) for text in texts], kind="stable")
        for start in range(0, len(texts), _TEXTS_PER_RUN):
            ids, mask = tokenizer([texts[row] for row in order[start : start + _TEXTS_PER_RUN]])
            parts.append(tower.run({tower.input: ids, "attention_mask": mask}))
        features = np.concatenate(parts)
        features[order] = features.copy()
        return features

    def _open_text_tower(self) -> tuple[TextTokenizer, OnnxTower]:
        with self._opening:
            if self._text_tower is None or self._tokenizer is None:
                self.image_tower  # noqa: B018 - a copy looks at first whether the files are the same
                layout = self.layout
                path = layout.directory / str(layout.files.text_model)
                tower = OnnxTower(path, _TEXT_INPUTS, _TEXT_OUTPUTS + _pooled_outputs(layout), {"attention_mask"})
                tokenizer = layout.tokenizer(pad_to_context=isinstance(tower.input_shape[-1], int))
                tower.expect_sizes({1: tokenizer.settings.context_length})
                if text_weights(layout.directory, layout.files, layout.text) != layout.text_weights:
                    raise EncoderError(f"Expected {layout.directory} to stay as it is while it is used: load it again")
                self._tokenizer, self._text_tower = tokenizer, tower
            return self._tokenizer, self._text_tower


def _usable_precision(name: str, precision: str) -> str:
    check_precision(name, precision)
    if precision == "fp32" or eight_bit_products_are_exact():
        return precision
    warn(
        f"This processor cannot multiply 8-bit numbers exactly (it lacks VNNI): the encoder {name} runs in fp32, which "
        "classifiers fitted with int8 do not take",
        EncoderWarning,
    )
    return "fp32"


def _image_outputs(layout: OnnxLayout) -> tuple[str, ...]:
    """Names of the output that holds features, the best first."""
    parts = () if layout.text_model else ("last_hidden_state", "output", "features")
    return (*_IMAGE_OUTPUTS, *_pooled_outputs(layout), *parts)


def _pooled_outputs(layout: OnnxLayout) -> tuple[str, ...]:
    """Of CLIP, the pooled output is not yet projected into the common space; SigLIP has no projection."""
    return () if layout.model_type == "clip" and layout.text_model else ("pooler_output",)


def _image_dim(tower: OnnxTower, layout: OnnxLayout) -> int:
    shape, size = tower.output_shape, layout.preprocessing.size
    if shape is not None and len(shape) == 2 and isinstance(shape[1], int):
        return int(shape[1])
    views = {tower.input: np.zeros((1, 3, size, size), dtype=np.float32)}
    if not layout.text_model:
        patch = layout.patch_size
        tower.pooling = pooling_of(tower.shape_of(views), (size // patch) ** 2 if patch else None)
    return int(tower.run(views).shape[1])


def _logit_scale(layout: OnnxLayout, given: float | None) -> float:
    scale = given if given is not None else layout.logit_scale
    if scale is None:
        raise EncoderError(f"The encoder {layout.directory} does not say its logit scale: pass logit_scale=")
    return scale
