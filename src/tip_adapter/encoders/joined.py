"""Join several encoders into one by concatenating their features."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence

import numpy as np

from tip_adapter.data.joined_preprocessing import JoinedPreprocessing
from tip_adapter.data.preprocessing import Preprocessing
from tip_adapter.encoders.base import BaseEncoder
from tip_adapter.errors import EncoderError
from tip_adapter.typing import Float32Array, UInt8Array


class JoinedEncoder(BaseEncoder):
    r"""Encoders whose unit features stand side by side, each divided by √M, so that the whole is of unit length.

    An affinity is then the mean of the members' cosines: every member has the same say. A member without a text tower
    adds features of photos alone; in features of texts its part is zero.

    Parameters
    ----------
    name : str
    members : sequence of M ≥ 2 BaseEncoder
        Where one is itself joined, its members share what one member has.

    Attributes
    ----------
    towers : tuple of BaseEncoder
        The members, those of joined members in their place.
    image_shares : tuple of float
        What the unit features of each tower are multiplied by; their squares sum to 1.

    Raises
    ------
    EncoderError
        When two members are the same.

    Notes
    -----
    Of the T members with a text tower, :math:`s_i` is the logit scale. The text feature is
    :math:`[s_i t_i]_i / \sqrt{\sum_i s_i^2}` and the joined scale :math:`\sqrt{M \sum_i s_i^2} / T`, so that the
    zero-shot logits of a text are the mean of those that these members give by themselves.

    References
    ----------
    Zhang et al., Prompt, Generate, then Cache: Cascade of Foundation Models makes Strong Few-shot Learners, CVPR 2023.

    Examples
    --------
    >>> from tip_adapter.encoders import load_encoder
    >>> from tip_adapter.encoders.joined import JoinedEncoder
    >>> JoinedEncoder("twice", [load_encoder("fake"), load_encoder("fake")])
    Traceback (most recent call last):
    tip_adapter.errors.EncoderError: Expected twice to join different encoders, got fake twice: name another one
    """

    preprocessing: JoinedPreprocessing

    def __init__(self, name: str, members: Sequence[BaseEncoder]) -> None:
        self.members = tuple(members)
        ids = [member.image_id for member in members]
        for index, member in enumerate(members):
            if member.image_id in ids[:index]:
                raise EncoderError(
                    f"Expected {name} to join different encoders, got {member.name} twice: name another one"
                )
        scales = [member.logit_scale if member.has_text_tower else 0.0 for member in members]
        with_text, length = sum(scale > 0 for scale in scales), math.hypot(*scales)
        self.towers = tuple(tower for member in members for tower in _towers_of(member))
        self.image_shares = tuple(
            share / math.sqrt(len(members)) for member in members for share in _image_shares_of(member)
        )
        self._text_shares = tuple(scale / (length or 1) for scale in scales)
        precisions = [member.precision for member in members]
        texts = [(member.text_id, share) for member, share in zip(members, self._text_shares, strict=True)]
        super().__init__(
            name,
            image_weights=json.dumps(ids),
            text_weights=json.dumps(texts),
            dim=sum(member.dim for member in members),
            logit_scale=math.sqrt(len(members)) * length / with_text if with_text else members[0].logit_scale,
            preprocessing=JoinedPreprocessing(tuple(map(_preprocessing_of, self.towers))),
            precision=precisions[0] if len(set(precisions)) == 1 else "+".join(precisions),
            has_text_tower=with_text > 0,
        )

    def in_full_precision(self) -> JoinedEncoder:
        """The same encoders, all with weights of 32 bits."""
        return type(self)(self.name, [member.in_full_precision() for member in self.members])

    def _encode_views(self, pixels: UInt8Array) -> Float32Array:
        views = self.preprocessing.split(pixels)
        parts = [
            np.float32(share) * _unit_rows(tower.encode_pixels(np.ascontiguousarray(views[view])))
            for tower, share, view in zip(self.towers, self.image_shares, self.preprocessing.view_of, strict=True)
        ]
        return np.concatenate(parts, axis=1)

    def _encode_texts(self, texts: list[str]) -> Float32Array:
        parts = [
            np.float32(share) * _unit_rows(member.encode_texts(texts))
            if member.has_text_tower
            else np.zeros((len(texts), member.dim), dtype=np.float32)
            for member, share in zip(self.members, self._text_shares, strict=True)
        ]
        return np.concatenate(parts, axis=1)


def member_names(name: str, is_one: Callable[[str], bool]) -> list[str]:
    """Take a name apart at its plus signs, but for those that belong to the path of a folder.

    Examples
    --------
    >>> from tip_adapter.encoders.joined import member_names
    >>> member_names("lite-fast+c++/towers", lambda part: part == "c++/towers")
    ['lite-fast', 'c++/towers']
    """
    pieces = name.split("+")
    found: list[str] = []
    start = 0
    while start < len(pieces):
        ends = range(len(pieces), start + 1, -1)
        end = next((end for end in ends if is_one("+".join(pieces[start:end]))), start + 1)
        found.append("+".join(pieces[start:end]))
        start = end
    return found


def load_joined(
    name: str,
    members: Sequence[str],
    precision: str,
    load: Callable[[str, str], BaseEncoder],
) -> JoinedEncoder:
    """Load the members of a joined encoder."""
    precisions = precision.split("+") if "+" in precision else [precision] * len(members)
    if not all(members):
        raise EncoderError(f"Expected names with + between them, got {name!r:.200}: name an encoder on both sides")
    if len(precisions) != len(members):
        raise EncoderError(
            f"Expected one precision for {name}, or one for each of its {len(members)} members such as "
            f"{'+'.join(['int8', *['fp32'] * (len(members) - 1)])}, got {precision!r:.80}"
        )
    found = []
    for member, own in zip(members, precisions, strict=True):
        try:
            found.append(load(member, own))
        except EncoderError as error:
            raise type(error)(f"The encoder {name} needs {member}, which cannot be used. {error}") from error
    return JoinedEncoder(name, found)


def _towers_of(member: BaseEncoder) -> tuple[BaseEncoder, ...]:
    return member.towers if isinstance(member, JoinedEncoder) else (member,)


def _image_shares_of(member: BaseEncoder) -> tuple[float, ...]:
    return member.image_shares if isinstance(member, JoinedEncoder) else (1.0,)


def _preprocessing_of(tower: BaseEncoder) -> Preprocessing:
    if not isinstance(tower.preprocessing, Preprocessing):
        raise EncoderError(f"Expected an encoder with views of one size to join, got {tower.name}: choose another one")
    return tower.preprocessing


def _unit_rows(features: Float32Array) -> Float32Array:
    """Divide rows by their lengths, in float64; a row of zeros stays one."""
    rows = features.astype(np.float64)
    lengths = np.sqrt((rows**2).sum(axis=1, keepdims=True))
    return np.asarray(rows / np.where(lengths > 0, lengths, 1), dtype=np.float32)
