"""Samples of any depth become 8 bits: scaled by what a file declares, else by the smallest depth that holds its values.

Cameras, microscopes and X-ray detectors store 10, 12 or 14 bits in samples of 16, which taken at their word are black.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from tip_adapter.data.pixels.containers import UnreadableImageError

Samples = np.ndarray[Any, Any]

_DEPTHS = (8, 10, 12, 14, 16)
_OVERSHOOT = 0.1  # of resampled floating-point values beyond black and white
_BAND_PIXELS = 2**20


@dataclass(frozen=True)
class Depth:
    """What a file declares about its samples."""

    significant: int | None = None
    """Bits, where values of more than these mean that the samples were scaled up to 16 bits, as PNG has it."""
    at_least: int = 8
    at_most: int = 16
    """at_least and at_most: bits, where the values decide between them."""
    extremes: tuple[float, float] | None = None
    """Black and white of floating-point samples."""
    inverted: bool = False
    """Zero is white."""
    key: tuple[int, ...] | None = None
    """The colour that stands for transparent."""


def smallest_depth(highest: float) -> int:
    """Return the fewest bits, of 8, 10, 12, 14 and 16, that hold a value."""
    return next((bits for bits in _DEPTHS if highest < 2**bits), 16)


def rgb_of_array(values: Samples) -> Image.Image:
    """Turn samples in memory into an RGB image.

    Shapes: `values` (H, W).

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.data.pixels import rgb_of_array
    >>> rgb_of_array(np.array([[0, 4095]], dtype=np.uint16)).getpixel((1, 0))
    (255, 255, 255)
    """
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    if (
        values.dtype.kind not in "buif"
        or not values.size
        or (values.ndim != 2 and values.shape[2:] not in ((3,), (4,)))
    ):
        raise UnreadableImageError(
            "be numbers of shape (H, W), (H, W, 3) or (H, W, 4), got "
            f"{values.dtype} of shape {values.shape}: convert it"
        )
    if values.dtype.kind == "b":
        values = values * np.uint8(255)
    height, width = values.shape[:2]
    return _rgb_of_bands(
        lambda: (values[top:bottom] for top, bottom in _bands(width, height)),
        (width, height),
        Depth(at_most=15 if values.dtype == np.int16 else 16),
    )


def rgb_of_image(image: Image.Image, depth: Depth = Depth()) -> Image.Image:
    """Turn a decoded image of any mode into one of mode RGB, with transparent pixels white."""
    if image.mode.startswith(("I", "F")):
        return rgb_of_deep_image(image, None, depth)
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")  # which would copy
    result = Image.new("RGB", image.size)
    for top, bottom in _bands(image.width, image.height):  # a copy of a band, not of the picture
        result.paste(_on_white(image.crop((0, top, image.width, bottom)).convert("RGBA")), (0, top))
    return result


def rgb_of_deep_image(high: Image.Image, low: Image.Image | None, depth: Depth) -> Image.Image:
    """Turn an image of more than 8 bits into one of mode RGB.

    Parameters
    ----------
    high : PIL.Image.Image
        With whole samples, or where there is `low`, their high bytes. Of mode RGBA without `low`: grey and opacity,
        big-endian.
    """

    def bands() -> Iterator[Samples]:
        for top, bottom in _bands(high.width, high.height):
            box = (0, top, high.width, bottom)
            band = np.asarray(high.crop(box))
            if low is not None:
                band = band.astype(np.uint16) << 8 | np.asarray(low.crop(box))
            elif high.mode == "RGBA":
                band = np.ascontiguousarray(band).view(">u2")
            yield band

    return _rgb_of_bands(bands, high.size, depth)


def _bands(width: int, height: int) -> Iterator[tuple[int, int]]:
    rows = max(1, _BAND_PIXELS // width)
    return ((top, min(top + rows, height)) for top in range(0, height, rows))


def _rgb_of_bands(bands: Callable[[], Iterator[Samples]], size: tuple[int, int], depth: Depth) -> Image.Image:
    """Look at all bands for the range of their values, then scale each: a copy of a band, not of the picture."""
    colours, opacities = _Range(), _Range()
    for band in bands():
        colour, opacity = _split(band)
        colours.see(colour)
        if opacity is not None:
            opacities.see(opacity)
    scale, opaque = colours.black_and_white(depth), opacities.black_and_white(Depth())
    result, top = Image.new("RGB", size), 0
    for band in bands():
        colour, opacity = _split(band)
        result.paste(_rgb_of_band(colour, opacity, scale, opaque, depth), (0, top))
        top += len(band)
    return result


def _split(band: Samples) -> tuple[Samples, Samples | None]:
    """Colours or grey, and opacity if there is any."""
    if band.ndim == 2 or band.shape[2] == 3:
        return band, None
    return (band[..., 0] if band.shape[2] == 2 else band[..., :3]), band[..., -1]


class _Range:
    """The extremes of samples, and which of their values are black and white."""

    def __init__(self) -> None:
        self.lowest, self.highest, self.floating = 0.0, 0.0, False

    def see(self, samples: Samples) -> None:
        self.floating = samples.dtype.kind == "f"
        self.lowest = float(np.minimum(self.lowest, samples.min()))  # NaN stays
        self.highest = float(np.maximum(self.highest, samples.max()))

    def black_and_white(self, depth: Depth) -> tuple[float, float]:
        if self.floating:
            return self._of_floats(depth.extremes)
        if self.lowest < 0 or self.highest >= 2**16:
            raise self._unexplained("from 0 to 65,535")
        if depth.significant is None:
            return 0, 2 ** min(max(depth.at_least, smallest_depth(self.highest)), depth.at_most) - 1
        return 0, 2 ** (depth.significant if self.highest < 2**depth.significant else 16) - 1

    def _of_floats(self, extremes: tuple[float, float] | None) -> tuple[float, float]:
        if not np.isfinite([self.lowest, self.highest]).all():
            raise UnreadableImageError("have finite samples, got NaN or infinity: save it as 8 or 16 bits")
        if extremes is not None:
            return extremes
        whites = (1, *(2**bits - 1 for bits in _DEPTHS))
        white = next((white for white in whites if self.highest <= (1 + _OVERSHOOT) * white), None)
        # More below zero than that is no overshoot: values that a network's preprocessing has centred would be black.
        if white is not None and self.lowest >= -_OVERSHOOT * self.highest:
            return 0, white
        raise self._unexplained("from 0 to 1, 255 or 65,535")

    def _unexplained(self, expected: str) -> UnreadableImageError:
        got = f"{self.lowest:,.6g} to {self.highest:,.6g}"
        return UnreadableImageError(f"have samples {expected}, got {got}: shift and scale them, or save 8 or 16 bits")


def _rgb_of_band(
    colour: Samples, opacity: Samples | None, scale: tuple[float, float], opaque: tuple[float, float], depth: Depth
) -> Image.Image:
    pixels = _eight_bits(colour, *scale)
    if depth.inverted:
        pixels = 255 - pixels
    if depth.key is not None:
        matches = colour == np.array(depth.key)
        pixels[matches.all(axis=-1) if colour.ndim == 3 else matches] = 255
    image = Image.fromarray(pixels).convert("RGB")
    if opacity is not None:
        image.putalpha(Image.fromarray(_eight_bits(opacity, *opaque)))
        image = _on_white(image)
    return image


def _eight_bits(samples: Samples, black: float, white: float) -> Samples:
    if samples.dtype.kind == "f":
        return np.asarray(np.clip((samples - black) / (white - black), 0, 1) * 255 + 0.5, dtype=np.uint8)
    levels = np.arange(white + 1, dtype=np.uint32)
    table = ((levels * 255 + int(white) // 2) // int(white)).astype(np.uint8)
    return table[samples]


def _on_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image)
    return white.convert("RGB")
