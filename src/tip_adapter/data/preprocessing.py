"""Cut square views from upright RGB images and normalise their pixels for an encoder."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image

from tip_adapter.data.pixels import RESAMPLING, center_view
from tip_adapter.errors import EncoderError, InputError
from tip_adapter.typing import Float32Array, UInt8Array

MAX_SIDE = 4096
"""Of a view, and of the resize before it: four times what any encoder takes, and no memory to speak of."""

MAX_LEVEL = 1e6
"""Of means and standard deviations, for pixels in [0, 1]."""

PREPROCESSING_VERSION = 2  # raise it whenever the same photo and settings would give other pixels

_CROP_SCALE = (0.5, 1.0)  # share of the area
_CROP_RATIO = (3 / 4, 4 / 3)  # width / height


@dataclass(frozen=True)
class Preprocessing:
    """How an encoder wants its pixels: resized, cropped, normalised.

    Raises
    ------
    InputError
        When a value is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from PIL import Image
    >>> from tip_adapter.data.preprocessing import Preprocessing
    >>> clip = Preprocessing(size=224, resize=224, interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3)
    >>> view = clip.center_view(Image.new("RGB", (640, 480), "white"))
    >>> view.shape, clip.normalize(view[None]).shape
    ((224, 224, 3), (1, 3, 224, 224))
    """

    size: int
    """Side of the square view in pixels."""
    resize: int | None
    """Length of the shortest side before the centre crop, at least `size`. None squashes the whole image to ``size ×
    size``, as SigLIP does."""
    interpolation: Literal["bicubic", "bilinear"]
    """Filter of every resize, always antialiased."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    """mean and std: per channel, for pixels in [0, 1]."""
    draft: bool = True
    """Let JPEG files be decoded at a reduced size that is still at least twice what the view needs: several times
    faster on photos of a modern camera, and within a fraction of a grey level. Switch it off for benchmarks."""

    def __post_init__(self) -> None:
        if not _is_side(self.size):
            raise InputError(f"Expected a view size from 1 to {MAX_SIDE} pixels, got {self.size!r:.40}")
        if self.resize is not None and not (_is_side(self.resize) and self.resize >= self.size):
            raise InputError(f"Expected resize from the view size {self.size} to {MAX_SIDE}, got {self.resize!r:.40}")
        if self.interpolation not in RESAMPLING:
            raise InputError(f"Unknown interpolation {self.interpolation!r:.40}: choose one of {', '.join(RESAMPLING)}")
        numbers = (*self.mean, *self.std)
        if len(self.mean) != 3 or not all(map(_is_number, numbers)) or len(numbers) != 6 or min(self.std) <= 0:
            got = f"{self.mean!r:.60} and {self.std!r:.60}"
            raise InputError(f"Expected three means and three positive stds, all finite, got {got}")
        if not isinstance(self.draft, bool):
            raise InputError(f"Expected draft to be true or false, got {self.draft!r:.40}")

    @property
    def key(self) -> str:
        """Text that is the same exactly when the pixels are, to be hashed into encoder identities."""
        return json.dumps({"version": PREPROCESSING_VERSION, **asdict(self)}, sort_keys=True, separators=(",", ":"))

    @property
    def view_shape(self) -> tuple[int, ...]:
        """Shape of a view, (size, size, 3)."""
        return (self.size, self.size, 3)

    def min_side(self, *, random_views: bool = False) -> int | None:
        """Value of `decode_image`'s `min_side` that suits the views to come.

        Parameters
        ----------
        random_views : bool, default=False
            Random views need more: the smallest crop, half of the area at a ratio of 3/4, is only √(½·¾) = .61 of the
            shortest side wide, and should still be sampled down by two rather than up.
        """
        if not self.draft:
            return None
        if random_views:
            return math.ceil(self.size / math.sqrt(_CROP_SCALE[0] * _CROP_RATIO[0]))
        return self.resize or self.size

    def center_view(self, image: Image.Image) -> UInt8Array:
        """Resize and crop the middle, to the pixel as torchvision and OpenAI's CLIP do.

        (transformers rounds an odd margin down instead: its crop can start one pixel earlier.)

        Shapes: → (size, size, 3).
        """
        return center_view(image, size=self.size, resize=self.resize, interpolation=self.interpolation)

    def random_view(self, image: Image.Image, rng: np.random.Generator) -> UInt8Array:
        """Crop a random half to all of the area, resize it to a square, and mirror it half of the time.

        This is torchvision's ``RandomResizedCrop(scale=(.5, 1), ratio=(3/4, 4/3))`` and ``RandomHorizontalFlip``, the
        views that Tip-Adapter averages into a cache key.

        Shapes: → (size, size, 3).

        References
        ----------
        Zhang et al., Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification, ECCV 2022, section 4.1.
        """
        return self.crop(image, *random_crop(image.width, image.height, rng))

    def crop(self, image: Image.Image, box: tuple[int, int, int, int], mirrored: bool) -> UInt8Array:
        """Resize a part of an image to a view, and mirror it where that is asked for."""
        view = np.asarray(image.resize((self.size, self.size), RESAMPLING[self.interpolation], box=box))
        return np.ascontiguousarray(view[:, ::-1]) if mirrored else view

    def normalize(self, pixels: UInt8Array) -> Float32Array:
        """Turn views into the encoder's input: ``(pixels / 255 - mean) / std``, channels first.

        Shapes: `pixels` (B, size, size, 3) → (B, 3, size, size).
        """
        self.check_views(pixels)
        mean, std = (np.array(values, dtype=np.float64).reshape(3, 1, 1) for values in (self.mean, self.std))
        inputs = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), dtype=np.float32)
        inputs *= (1 / (255 * std)).astype(np.float32)
        inputs -= (mean / std).astype(np.float32)
        return inputs

    def check_views(self, pixels: UInt8Array) -> None:
        """Raise unless the pixels are views as `center_view` makes them."""
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != self.view_shape:
            expected = f"uint8 views of shape (B, {self.size}, {self.size}, 3)"
            raise InputError(f"Expected {expected}, got {pixels.dtype} of shape {pixels.shape}: take center_view's")

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON types."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    def to_preprocessor_config(self) -> dict[str, Any]:
        """Return the content of a Hugging Face ``preprocessor_config.json``, of CLIP's or SigLIP's form."""
        square = {"height": self.size, "width": self.size}
        if self.resize is None:
            form: dict[str, Any] = {"image_processor_type": "SiglipImageProcessor", "size": square}
        else:
            form = {
                "image_processor_type": "CLIPImageProcessor",
                "size": {"shortest_edge": self.resize},
                "do_center_crop": True,
                "crop_size": square,
            }
        return {
            **form,
            "do_convert_rgb": True,
            "do_resize": True,
            "resample": int(RESAMPLING[self.interpolation]),
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
            "draft": self.draft,  # ours; other readers ignore it
        }

    @classmethod
    def from_preprocessor_config(cls, config: Mapping[str, Any]) -> Preprocessing:
        """Build from the content of a Hugging Face ``preprocessor_config.json``, of CLIP's or SigLIP's form.

        Examples
        --------
        >>> from tip_adapter.data.preprocessing import Preprocessing
        >>> half = [0.5, 0.5, 0.5]
        >>> config = {"size": {"height": 256, "width": 256}, "resample": 2, "image_mean": half, "image_std": half}
        >>> siglip = Preprocessing.from_preprocessor_config(config)
        >>> siglip.size, siglip.resize, siglip.interpolation
        (256, None, 'bilinear')
        """
        _refuse_other_steps(config)
        size, resize = _sides(config)
        interpolation = _interpolation(config.get("resample", 3))
        draft = config.get("draft", True)
        try:
            if not config.get("do_normalize", True):
                return cls(size, resize, interpolation, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), draft=draft)
            mean, std = tuple(config["image_mean"]), tuple(config["image_std"])
            return cls(size, resize, interpolation, mean, std, draft=draft)
        except KeyError as error:
            raise EncoderError(f"Expected a preprocessor_config.json with {error}, got {sorted(config)}") from error
        except (InputError, TypeError) as error:
            raise EncoderError(f"Expected a preprocessor_config.json like CLIP's or SigLIP's, got: {error}") from error


def random_crop(width: int, height: int, rng: np.random.Generator) -> tuple[tuple[int, int, int, int], bool]:
    """Draw the part that a random view takes of an image, and whether the view is mirrored."""
    return _random_box(width, height, rng), bool(rng.random() < 0.5)


def _random_box(width: int, height: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Draw a crop as torchvision does: ten tries, then the largest middle piece of an allowed ratio."""
    low, high = _CROP_RATIO
    for _ in range(10):
        area = width * height * rng.uniform(*_CROP_SCALE)
        ratio = math.exp(rng.uniform(math.log(low), math.log(high)))
        crop_width, crop_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            left = int(rng.integers(width - crop_width, endpoint=True))
            top = int(rng.integers(height - crop_height, endpoint=True))
            return left, top, left + crop_width, top + crop_height
    crop_width = max(1, min(width, round(height * high)))
    crop_height = max(1, min(height, round(width / low)))
    left, top = (width - crop_width) // 2, (height - crop_height) // 2
    return left, top, left + crop_width, top + crop_height


def _is_side(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_SIDE


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MAX_LEVEL


def _refuse_other_steps(config: Mapping[str, Any]) -> None:
    """Raise for steps that would silently give an encoder other pixels than it was trained with."""
    needed = {"do_resize": True, "do_rescale": True, "do_pad": False}
    for step, value in needed.items():
        if (config.get(step, value) or False) is not value:
            raise EncoderError(f"Expected a preprocessor_config.json with {step} {value}, got {config[step]!r:.40}")
    factor = config.get("rescale_factor", 1 / 255)
    if not (_is_number(factor) and math.isclose(factor, 1 / 255, rel_tol=1e-6)):
        raise EncoderError(f"Expected a preprocessor_config.json with rescale_factor 1/255, got {factor!r:.40}")


def _interpolation(resample: Any) -> Literal["bicubic", "bilinear"]:
    if resample == Image.Resampling.BICUBIC:
        return "bicubic"
    if resample == Image.Resampling.BILINEAR:
        return "bilinear"
    expected = "resample 2 or 3 (bilinear, bicubic)"
    raise EncoderError(f"Expected a preprocessor_config.json with {expected}, got {resample!r:.40}")


def _sides(config: Mapping[str, Any]) -> tuple[int, int | None]:
    """Read the side of the view and of the resize before it, from any of the forms that have been in use."""
    size, crop = config.get("size"), config.get("crop_size")
    cropped = config.get("do_center_crop", crop is not None)
    if isinstance(size, int):
        size = {"shortest_edge": size} if cropped else {"height": size, "width": size}
    if isinstance(crop, int):
        crop = {"height": crop, "width": crop}
    side = _square(crop) if cropped else _square(size)
    if side is not None and not cropped:
        return side, None
    if side is not None and isinstance(size, dict) and set(size) == {"shortest_edge"} and size["shortest_edge"]:
        return side, size["shortest_edge"]
    if side is not None and size == crop:
        return side, None
    expected = "a shortest_edge with a square crop_size, or a square size without crop"
    got = f"size {size!r:.60} and crop_size {crop!r:.60}"
    raise EncoderError(f"Expected a preprocessor_config.json with {expected}, got {got}")


def _square(sides: Any) -> int | None:
    """Return the side of ``{"height": n, "width": n}``, None for anything else."""
    if isinstance(sides, dict) and set(sides) == {"height", "width"} and sides["height"] == sides["width"]:
        height: int = sides["height"]  # checked with the other settings
        return height
    return None
