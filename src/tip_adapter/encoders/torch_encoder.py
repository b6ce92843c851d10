"""An encoder of two torch modules, which `export` can turn into ONNX graphs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter.data.preprocessing import Preprocessing
from tip_adapter.encoders.base import BaseEncoder
from tip_adapter.encoders.tokenizer import Tokenizer
from tip_adapter.libraries import import_library
from tip_adapter.typing import Float32Array, UInt8Array

if TYPE_CHECKING:
    import torch

_TEXTS_PER_RUN = 32


class TorchEncoder(BaseEncoder):
    """An encoder made of torch modules on the CPU, in evaluation mode.

    Parameters
    ----------
    name : str
    image_tower : torch.nn.Module
        ``image_tower(pixel_values)`` of shape (B, 3, S, S) gives features (B, D).
    text_tower : torch.nn.Module or None
        ``text_tower(*inputs)``, of token ids (T, L) and whatever else `text_inputs` names, gives features (T, D).
    tokenizer : Tokenizer or None
        None where there is no text tower.
    preprocessing : Preprocessing
    logit_scale : float
    text_inputs : sequence of str
        ``("input_ids",)`` or ``("input_ids", "attention_mask")``.
    architecture : str, default=""
        What features depend on besides the state of the modules, their classes, the vocabulary and `config`.
    config : mapping, optional
        Content of the model's config.json, which an export passes on.
    """

    preprocessing: Preprocessing

    def __init__(
        self,
        name: str,
        image_tower: torch.nn.Module,
        text_tower: torch.nn.Module | None,
        tokenizer: Tokenizer | None,
        preprocessing: Preprocessing,
        *,
        logit_scale: float,
        text_inputs: Sequence[str] = ("input_ids",),
        architecture: str = "",
        config: Mapping[str, Any] | None = None,
    ) -> None:
        import torch

        self.image_tower = image_tower.eval()
        self.text_tower = None if text_tower is None else text_tower.eval()
        self.tokenizer = tokenizer
        self.text_inputs = tuple(text_inputs)
        self.config = dict(config or {})
        size = preprocessing.size
        with torch.no_grad():
            dim = int(image_tower(torch.zeros(1, 3, size, size)).shape[1])
        self.architecture = architecture
        described = json.dumps([architecture, self.config, self.text_inputs], sort_keys=True)
        text_weights = "none"
        if text_tower is not None and tokenizer is not None:
            vocabulary = json.dumps([tokenizer.identity, asdict(tokenizer.settings)], sort_keys=True)
            text_weights = state_hash(text_tower, described + vocabulary)
        super().__init__(
            name,
            image_weights=state_hash(image_tower, described),
            text_weights=text_weights,
            dim=dim,
            logit_scale=logit_scale,
            preprocessing=preprocessing,
            has_text_tower=text_tower is not None,
        )

    def text_arguments(self, texts: Sequence[str]) -> tuple[torch.Tensor, ...]:
        """Return what the text tower takes: tensors (T, L) of int64, in the order of `text_inputs`."""
        import torch

        assert self.tokenizer is not None  # noqa: S101 - only called where there is a text tower
        ids, mask = self.tokenizer(texts)
        inputs = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
        return tuple(inputs[name] for name in self.text_inputs)

    def _encode_views(self, pixels: UInt8Array) -> Float32Array:
        inputs = self.preprocessing.normalize(pixels)
        import torch

        with torch.no_grad():
            return np.asarray(self.image_tower(torch.from_numpy(inputs)).numpy(), dtype=np.float32)

    def _encode_texts(self, texts: list[str]) -> Float32Array:
        import torch

        assert self.text_tower is not None  # noqa: S101 - as above
        features = np.empty((len(texts), self.dim), dtype=np.float32)
        order = np.argsort([len(text) for text in texts], kind="stable")  # equal lengths together: little padding
        with torch.no_grad():
            for start in range(0, len(texts), _TEXTS_PER_RUN):
                rows = order[start : start + _TEXTS_PER_RUN]
                features[rows] = self.text_tower(*self.text_arguments([texts[row] for row in rows])).numpy()
        return features


def state_hash(module: torch.nn.Module, described: str) -> str:
    """Return a hash of a module's weights that does not depend on file formats."""
    digest = hashlib.sha256(f"{type(module).__qualname__} {described}".encode())
    for key, tensor in sorted(module.state_dict().items()):
        array = np.ascontiguousarray(tensor.detach().cpu().float().numpy())
        digest.update(f"{key} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers from drawing its loading bar and its advice on stderr, and restore its settings afterwards."""
    logging = import_library("transformers.utils.logging")
    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
