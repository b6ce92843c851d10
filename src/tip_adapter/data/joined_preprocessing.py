"""Cut views for several encoders from one decoded image."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image

from tip_adapter.data.preprocessing import Preprocessing, random_crop
from tip_adapter.errors import InputError
from tip_adapter.typing import UInt8Array


@dataclass(frozen=True)
class JoinedPreprocessing:
    """The views of several encoders behind one another, in one row of pixels.

    Encoders that differ in nothing but the normalisation share a view.

    Examples
    --------
    >>> from PIL import Image
    >>> from tip_adapter.data.joined_preprocessing import JoinedPreprocessing
    >>> from tip_adapter.data.preprocessing import Preprocessing
    >>> small = Preprocessing(2, 2, "bicubic", (0.5,) * 3, (0.5,) * 3)
    >>> large = Preprocessing(3, 4, "bicubic", (0.5,) * 3, (0.5,) * 3)
    >>> both = JoinedPreprocessing((small, large))
    >>> pixels = both.center_view(Image.new("RGB", (8, 6)))
    >>> pixels.shape, [views.shape for views in both.split(pixels[None])]
    ((39,), [(1, 2, 2, 3), (1, 3, 3, 3)])
    """

    members: tuple[Preprocessing, ...]
    """Of every encoder."""

    @cached_property
    def views(self) -> tuple[Preprocessing, ...]:
        """One of the members for every view that differs from the others."""
        found: dict[tuple[object, ...], Preprocessing] = {}
        for member in self.members:
            found.setdefault(_geometry(member), member)
        return tuple(found.values())

    @cached_property
    def view_of(self) -> tuple[int, ...]:
        """Which view each member takes."""
        kinds = [_geometry(view) for view in self.views]
        return tuple(kinds.index(_geometry(member)) for member in self.members)

    @property
    def key(self) -> str:
        """Text that is the same exactly when the pixels are, to be hashed into encoder identities."""
        return json.dumps([json.loads(member.key) for member in self.members], sort_keys=True, separators=(",", ":"))

    @property
    def view_shape(self) -> tuple[int, ...]:
        """Shape of a row of pixels."""
        return (sum(math.prod(view.view_shape) for view in self.views),)

    def min_side(self, *, random_views: bool = False) -> int | None:
        """Value of `decode_image`'s `min_side` that suits the largest of the views; None when one wants all pixels."""
        sides = [view.min_side(random_views=random_views) for view in self.views]
        return None if None in sides else max(side for side in sides if side is not None)

    def center_view(self, image: Image.Image) -> UInt8Array:
        """Cut every view from the middle: one row of pixels."""
        return np.concatenate([view.center_view(image).ravel() for view in self.views])

    def random_view(self, image: Image.Image, rng: np.random.Generator) -> UInt8Array:
        """Cut every view from the same random part of the image: one row of pixels."""
        box, mirrored = random_crop(image.width, image.height, rng)
        return np.concatenate([view.crop(image, box, mirrored).ravel() for view in self.views])

    def check_views(self, pixels: UInt8Array) -> None:
        """Raise unless the pixels are rows as `center_view` makes them."""
        if pixels.dtype != np.uint8 or pixels.shape[1:] != self.view_shape:
            expected = f"uint8 views of shape (B, {self.view_shape[0]})"
            raise InputError(f"Expected {expected}, got {pixels.dtype} of shape {pixels.shape}: take center_view's")

    def split(self, pixels: UInt8Array) -> list[UInt8Array]:
        """Return the views in rows of pixels, without copies.

        Shapes: `pixels` (B, L) → a (B, S, S, 3) for each of `views`.
        """
        parts, start = [], 0
        for view in self.views:
            end = start + math.prod(view.view_shape)
            parts.append(pixels[:, start:end].reshape(len(pixels), *view.view_shape))
            start = end
        return parts


def _geometry(member: Preprocessing) -> tuple[object, ...]:
    """All that decides about the pixels of a view."""
    return member.size, member.resize, member.interpolation, member.draft
