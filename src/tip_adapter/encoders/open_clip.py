"""Load an encoder of open_clip."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tip_adapter.encoders.open_clip_config import preprocessing_of
from tip_adapter.encoders.tokenizer import TextSettings, TextTokenizer, with_canonical_texts
from tip_adapter.encoders.torch_encoder import TorchEncoder
from tip_adapter.errors import EncoderError
from tip_adapter.libraries import require_extra
from tip_adapter.storage.escaping import reason_of

_PREFIX = "open-clip:"
_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_PROBE_TEXTS = ("a photo of a cat.", "It's 12 RED  hats, isn't it?", "", "so many words " * 100)


def load_open_clip(name: str, *, logit_scale: float | None = None) -> TorchEncoder:
    """Load a model of open_clip with pretrained weights.

    Parameters
    ----------
    name : str
        ``open-clip:architecture/weights``, such as ``open-clip:ViT-B-16/laion2b_s34b_b88k``; open_clip's
        ``list_pretrained()`` has the pairs.
    """
    open_clip = require_extra("open_clip", "open-clip")
    architecture, _, weights = name.removeprefix(_PREFIX).partition("/")
    _expect_known(open_clip.list_pretrained(), architecture, weights, name)
    try:
        model = open_clip.create_model(architecture, pretrained=weights)
    except Exception as error:  # the network's many ways to fail
        reason = reason_of(error)
        raise EncoderError(
            f"Could not load {name} ({reason}). Offline? Choose the encoder lite, which needs no download, "
            "or give the path of a local ONNX directory"
        ) from error
    from tip_adapter.encoders.open_clip_towers import ImageTower, TextTower

    model = model.float().eval()
    return TorchEncoder(
        name,
        ImageTower(model),
        TextTower(model),
        OpenClipTokenizer(open_clip.get_tokenizer(architecture), name),
        preprocessing_of(open_clip.get_model_preprocess_cfg(model), name),
        logit_scale=math.exp(float(model.logit_scale.detach())) if logit_scale is None else logit_scale,
        # With its weights: those of OpenAI need another activation.
        architecture=name,
    )


class OpenClipTokenizer:
    """A tokenizer of open_clip, as it is; translated into a ``tokenizer.json`` only when that is asked for.

    Parameters
    ----------
    tokenizer : callable
        What ``open_clip.get_tokenizer`` returns.
    name : str
        What messages call the encoder.
    """

    def __init__(self, tokenizer: Any, name: str) -> None:
        self._tokenizer = tokenizer
        self._name = name
        self._wrapped = getattr(tokenizer, "tokenizer", None)  # of transformers, in open_clip's HFTokenizer
        # open_clip's own tokenizer fills up with zeros, whatever token that is.
        pad_token = self._wrapped.pad_token if self._wrapped else _token_of(tokenizer, 0)
        self.settings = TextSettings(int(tokenizer.context_length), pad_token, pad_to_context=True)

    def __call__(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return token ids and a mask of ones, which these models do not ask for, of shape (T, context length)."""
        ids = np.asarray(self._tokenizer(list(texts)).numpy(), dtype=np.int64)
        return ids, np.ones_like(ids)

    @property
    def identity(self) -> str:
        """Name of the encoder: a tokenizer goes with its architecture."""
        return self._name

    def to_json(self) -> str:
        """Translate into a ``tokenizer.json`` that gives the same ids."""
        content = self._wrapped.backend_tokenizer.to_str() if self._wrapped else _byte_pair_json(self._tokenizer)
        for cleaned in (content, with_canonical_texts(content)):
            translated = TextTokenizer(cleaned, self.settings, source=f"the tokenizer of {self._name}")
            if np.array_equal(translated(_PROBE_TEXTS)[0], self(_PROBE_TEXTS)[0]):
                return translated.to_json()
        raise EncoderError(
            f"The tokenizer of {self._name} cannot be written as a tokenizer.json: use it without export"
        )


def _expect_known(pairs: Sequence[tuple[str, str]], architecture: str, weights: str, name: str) -> None:
    if (architecture, weights) in {tuple(pair) for pair in pairs}:
        return
    tags = sorted(tag for known, tag in pairs if known == architecture)
    if tags:
        raise EncoderError(f"Unknown weights in {name!r}: {architecture} has {', '.join(tags)}")
    architectures = ", ".join(sorted({known for known, _ in pairs}))
    raise EncoderError(f"Expected {_PREFIX}architecture/weights, got {name!r}: choose one of {architectures}")


def _token_of(tokenizer: Any, token_id: int) -> str:
    return next(str(token) for token, index in tokenizer.encoder.items() if index == token_id)


def _byte_pair_json(tokenizer: Any) -> str:
    """Write open_clip's SimpleTokenizer, CLIP's byte pairs, with the parts of the library `tokenizers`."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    merges = sorted(tokenizer.bpe_ranks, key=tokenizer.bpe_ranks.get)
    start, end = (_token_of(tokenizer, index) for index in (tokenizer.sot_token_id, tokenizer.eot_token_id))
    translated = Tokenizer(
        models.BPE(vocab=dict(tokenizer.encoder), merges=merges, end_of_word_suffix="</w>", unk_token=end)
    )
    translated.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    translated.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PATTERN), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    translated.post_processor = processors.RobertaProcessing(
        (end, tokenizer.eot_token_id), (start, tokenizer.sot_token_id), trim_offsets=False, add_prefix_space=False
    )
    return str(translated.to_str())
