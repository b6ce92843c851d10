"""Features of prompts that start with learned context vectors, with gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tip_adapter.errors import InputError

if TYPE_CHECKING:
    import torch

    from tip_adapter.encoders.trainable import TrainableEncoder

ClassPosition = Literal["end", "middle", "front"]
CLASS_POSITIONS = ("end", "middle", "front")

_TEXTS_PER_CHUNK = 64
"""More prompts than this go through the text encoder in chunks, each computed twice, so that memory stays bounded."""


def content_tokens(encoder: TrainableEncoder, texts: Sequence[str]) -> list[list[int]]:
    """Tokenise texts without the special tokens at both ends and without padding."""
    start, end = _special_tokens(encoder)
    return [_unpadded(encoder, text)[len(start) : -len(end) or None] for text in texts]


def word_embeddings(encoder: TrainableEncoder, words: str) -> torch.Tensor:
    """Look up the input embeddings of words, such as "a photo of a".

    Shapes: → (M, E).
    """
    import torch

    (tokens,) = content_tokens(encoder, [words])
    if not tokens:
        raise InputError(f"Expected words that the context begins with, got {words!r}")
    return encoder.prompt_tower.embed_tokens(torch.tensor([tokens]))[0].detach().clone()


@dataclass(frozen=True)
class LearnedPrompts:
    """Prompts of which everything but the context vectors is fixed.

    Attributes
    ----------
    encoder : TrainableEncoder
    ids, mask : torch.Tensor of shape (T, L)
        Token ids, any content token in the places of context vectors, and the attention mask.
    embeddings : torch.Tensor of shape (T, L, E)
        Of the ids.
    context_index : torch.Tensor of shape (T, L)
        Which context vector stands in a place; -1 for a token.
    classes : torch.Tensor of shape (T,)
        Class of every text.
    n_classes : int
    """

    encoder: TrainableEncoder
    ids: torch.Tensor
    mask: torch.Tensor
    embeddings: torch.Tensor
    context_index: torch.Tensor
    classes: torch.Tensor
    n_classes: int

    @classmethod
    def build(
        cls,
        encoder: TrainableEncoder,
        class_texts: Sequence[Sequence[str]],
        n_context: int,
        position: ClassPosition = "end",
    ) -> LearnedPrompts:
        """Lay out ``[start] [context …] class text . [end]`` for every text."""
        import torch

        start, end = _special_tokens(encoder)
        settings = encoder.tokenizer.settings
        texts = [text for row in class_texts for text in row]
        rows, places = [], []
        for text, name, stop in zip(texts, *_names_and_stops(encoder, texts), strict=True):
            row, place = _arrange(name, stop, n_context, position)
            rows.append([*start, *row, *end])
            places.append([*[-1] * len(start), *place, *[-1] * len(end)])
            if len(rows[-1]) > settings.context_length:
                raise InputError(
                    f"Expected class texts of at most {settings.context_length - len(start) - len(end)} tokens with "
                    f"their {n_context} context vectors, got {len(row)} for {text!r}: shorten it, or take a smaller "
                    "n_context"
                )
        length = settings.context_length if settings.pad_to_context else max(len(row) for row in rows)
        pad = _pad_token(encoder)
        ids = torch.tensor([[*row, *[pad] * (length - len(row))] for row in rows])
        index = torch.tensor([[*place, *[-1] * (length - len(place))] for place in places])
        mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows])
        with torch.no_grad():
            embeddings = encoder.prompt_tower.embed_tokens(ids)
        classes = torch.tensor([number for number, row in enumerate(class_texts) for _ in row])
        return cls(encoder, ids, mask, embeddings, index, classes, len(class_texts))

    def class_features(self, context: torch.Tensor) -> torch.Tensor:
        """Encode the prompts, and give every class the normalised mean of its texts' features.

        Shapes: `context` (M, E) → (C, D).
        """
        import torch
        from torch.nn.functional import normalize
        from torch.utils.checkpoint import checkpoint

        chunks = torch.split(torch.arange(len(self.ids)), _TEXTS_PER_CHUNK)
        if len(chunks) == 1:
            features = self._text_features(context, chunks[0])
        else:
            # What a chunk computed inside is dropped and computed again on the way back.
            parts = [checkpoint(self._text_features, context, rows, use_reentrant=False) for rows in chunks]
            features = torch.cat(parts)
        sums = features.new_zeros(self.n_classes, features.shape[1]).index_add(0, self.classes, features)
        return normalize(sums, dim=1)

    def _text_features(self, context: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        import torch
        from torch.nn.functional import normalize

        index = self.context_index[rows]
        vectors = context[index.clamp(min=0)] if context.ndim == 2 else context[self.classes[rows, None], index]
        embeds = torch.where((index >= 0)[..., None], vectors, self.embeddings[rows])
        features = self.encoder.prompt_tower.forward_embeddings(embeds, self.ids[rows], self.mask[rows])
        return normalize(features, dim=1)


def _arrange(name: list[int], stop: list[int], n_context: int, position: ClassPosition) -> tuple[list[int], list[int]]:
    """Give tokens, a content token in the places of context vectors, and the number of the vector in each place."""
    before = {"end": n_context, "middle": n_context // 2, "front": 0}[position]
    left, right = list(range(before)), list(range(before, n_context))
    filler = (name or stop or [0])[0]
    tokens = [*[filler] * len(left), *name, *[filler] * len(right), *stop]
    return tokens, [*left, *[-1] * len(name), *right, *[-1] * len(stop)]


def _names_and_stops(encoder: TrainableEncoder, texts: Sequence[str]) -> tuple[list[list[int]], list[list[int]]]:
    """Tokens of each text, and of the full stop after it."""
    ended = content_tokens(encoder, [f"{text}." for text in texts])
    names = content_tokens(encoder, texts)
    stops = []
    for number, (name, whole) in enumerate(zip(names, ended, strict=True)):
        same = 0
        while same < min(len(name), len(whole)) and name[same] == whole[same]:
            same += 1
        # A tokenizer may merge the stop into the last word; the text then ends before it.
        names[number] = whole[:same]
        stops.append(whole[same:])
    return names, stops


def _unpadded(encoder: TrainableEncoder, text: str) -> list[int]:
    ids, mask = encoder.tokenizer([text])
    return [int(token) for token, kept in zip(ids[0], mask[0], strict=True) if kept]


def _special_tokens(encoder: TrainableEncoder) -> tuple[list[int], list[int]]:
    """Tokens that every text begins and ends with: what two texts without a common letter have in common."""
    one, other = _unpadded(encoder, "a"), _unpadded(encoder, "b")
    start, end = 0, 0
    while one[start] == other[start]:
        start += 1
    while one[-1 - end] == other[-1 - end]:
        end += 1
    return one[:start], one[len(one) - end :]


def _pad_token(encoder: TrainableEncoder) -> int:
    ids, mask = encoder.tokenizer(["a", "a b c d"])
    padding = ids[mask == 0]
    if not len(padding):
        raise InputError(f"Expected the tokenizer of {encoder.name} to mark its padding: choose another encoder")
    return int(padding[0])
