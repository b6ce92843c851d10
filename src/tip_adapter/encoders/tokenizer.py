"""Tokenize texts with a ``tokenizer.json``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tip_adapter.errors import EncoderError
from tip_adapter.storage.escaping import reason_of


@dataclass(frozen=True)
class TextSettings:
    """How texts become token ids, besides the vocabulary.

    Parameters
    ----------
    context_length : int
        Longest number of tokens, special ones included; longer texts are cut, and keep their end token.
    pad_token : str
        Appended on the right.
    pad_to_context : bool
        Pad every text to the context length, as SigLIP needs; otherwise to the longest of the batch, which gives CLIP
        the same features several times faster.
    clean : {"", "lower", "canonicalize"}, default=""
        What is done to texts first, where the ``tokenizer.json`` leaves that to others: lower case, for SigLIP 2; or
        lower case without punctuation, as open_clip does for its SigLIPs.
    """

    context_length: int
    pad_token: str
    pad_to_context: bool
    clean: str = ""


class Tokenizer(Protocol):
    """What a `TorchEncoder` asks of its tokenizer."""

    @property
    def settings(self) -> TextSettings:
        """How texts are cut and padded."""
        ...

    @property
    def identity(self) -> str:
        """Text that is another one for another vocabulary."""
        ...

    def __call__(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return token ids and attention mask, both of shape (T, L)."""
        ...

    def to_json(self) -> str:
        """Return the content of a ``tokenizer.json``."""
        ...


class TextTokenizer:
    """A Hugging Face tokenizer with the context length and the padding that a text tower was trained with.

    Parameters
    ----------
    tokenizer_json : str
        Content of a ``tokenizer.json``.
    settings : TextSettings
    source : str, default="tokenizer.json"
        What messages call the tokenizer.

    Raises
    ------
    EncoderError
        When the content is no tokenizer, or has no such padding token.
    """

    def __init__(self, tokenizer_json: str, settings: TextSettings, *, source: str = "tokenizer.json") -> None:
        from tokenizers import Tokenizer

        with _clear_errors(f"Expected {source} to be a tokenizer, got"):
            self._tokenizer = Tokenizer.from_str(tokenizer_json)
            if settings.clean == "canonicalize":
                self._tokenizer = Tokenizer.from_str(with_canonical_texts(tokenizer_json))
        pad_token, length = settings.pad_token, settings.context_length
        pad_id = self._tokenizer.token_to_id(pad_token)
        if pad_id is None:
            raise EncoderError(f"Expected {source} to know the padding token {pad_token!r:.80}: it fits another model")
        self.settings = settings
        fixed = length if settings.pad_to_context else None
        with _clear_errors(f"Expected {source} to cut texts at {length} tokens, got"):
            self._tokenizer.enable_truncation(max_length=length)
            self._tokenizer.enable_padding(direction="right", pad_id=pad_id, pad_token=pad_token, length=fixed)
        self._source = source

    def __call__(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return token ids and attention mask, both of shape (T, L) with L ≤ context length."""
        lowered = [text.lower() if self.settings.clean == "lower" else text for text in texts]
        with _clear_errors(f"Expected {self._source} to encode texts, got"):
            encodings = self._tokenizer.encode_batch(lowered)
        if len({len(encoding.ids) for encoding in encodings}) != 1:
            raise EncoderError(f"Expected {self._source} to pad texts to one length, got several: fetch it again")
        ids = np.array([encoding.ids for encoding in encodings], dtype=np.int64)
        mask = np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64)
        return ids, mask

    @property
    def identity(self) -> str:
        """The tokenizer itself."""
        return self.to_json()

    def to_json(self) -> str:
        """Return the tokenizer in the form that it was built from, truncation and padding included."""
        return str(self._tokenizer.to_str())


def with_canonical_texts(tokenizer_json: str) -> str:
    """Let a tokenizer lower-case texts and drop punctuation first, as open_clip does for SigLIP."""
    from tokenizers import Regex, Tokenizer, normalizers

    tokenizer = Tokenizer.from_str(tokenizer_json)
    steps = [
        normalizers.Replace("_", " "),
        normalizers.Replace(Regex(r"[!-/:-@\[-`{-~]"), ""),
        normalizers.Lowercase(),
        normalizers.Replace(Regex(r"\s+"), " "),
        normalizers.Strip(),
    ]
    tokenizer.normalizer = normalizers.Sequence([*steps, *([tokenizer.normalizer] if tokenizer.normalizer else [])])
    return str(tokenizer.to_str())


@contextmanager
def _clear_errors(expected: str) -> Iterator[None]:
    """Turn what the Rust side raises, bare exceptions and its panics, into one line."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic is no Exception
        raise EncoderError(f"{expected} {reason_of(error)}: fetch it again") from error
