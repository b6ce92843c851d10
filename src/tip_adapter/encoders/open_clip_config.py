"""Read open_clip's settings of a model: how it prepares photos and tokenizes texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tip_adapter.data.preprocessing import Preprocessing
from tip_adapter.errors import EncoderError, InputError

_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_SETTINGS = {"size", "mode", "mean", "std", "interpolation", "resize_mode", "fill_color"}
_USUAL_CONTEXT = 77
_CLEANING = {"": "", "whitespace": "", "lower": "lower", "canonicalize": "canonicalize"}
CLIP_LOGIT_SCALE = 100.0  # where every released CLIP stopped, as it is clipped there
SIGLIP_LOGIT_SCALE = 115.0  # released SigLIPs ended between 112 and 118: to 3 %, the temperature of zero-shot alone


def preprocessing_of(settings: Mapping[str, Any], name: str) -> Preprocessing:
    """Translate the ``preprocess_cfg`` of open_clip."""
    if unknown := sorted(set(settings) - _SETTINGS):
        raise EncoderError(
            f"Expected {name} to prepare photos by {', '.join(sorted(_SETTINGS))}, got {unknown[0]!r:.40}"
        )
    size: Any = settings.get("size")
    height: Any
    width: Any
    height, width = size if isinstance(size, list | tuple) and len(size) == 2 else (size, size)
    mode = settings.get("resize_mode", "shortest")
    if height != width or mode not in ("shortest", "squash") or settings.get("mode", "RGB") != "RGB":
        raise EncoderError(
            f"Expected {name} to take square RGB views by shortest side or squashing, got {size!r:.40} by {mode!r:.40}"
        )
    mean, std = (tuple(settings.get(key) or usual) for key, usual in (("mean", _CLIP_MEAN), ("std", _CLIP_STD)))
    interpolation = settings.get("interpolation", "bicubic")
    try:
        return Preprocessing(height, None if mode == "squash" else height, interpolation, mean, std)
    except (InputError, TypeError) as error:
        raise EncoderError(f"The encoder {name} prepares photos in another way: {error}") from error


def context_length_of(config: Mapping[str, Any]) -> Any:
    """Return how many tokens a text has at most."""
    return _text_config(config).get("context_length", _USUAL_CONTEXT)


def cleaning_of(config: Mapping[str, Any], name: str) -> str:
    """Return what is done to texts before they are cut into tokens."""
    options = _text_config(config).get("tokenizer_kwargs") or {}
    if not isinstance(options, dict) or set(options) - {"clean"} or options.get("clean", "") not in _CLEANING:
        raise EncoderError(
            f"Expected {name} to clean texts by one of {', '.join(filter(None, _CLEANING))}, got {options!r:.80}"
        )
    return _CLEANING[options.get("clean", "")]


def logit_scale_of(config: Mapping[str, Any]) -> float:
    """Return the scale that models of this kind end up with: those with a bias are SigLIPs."""
    return SIGLIP_LOGIT_SCALE if config.get("init_logit_bias") is not None else CLIP_LOGIT_SCALE


def _text_config(config: Mapping[str, Any]) -> dict[str, Any]:
    found = config.get("text_cfg")
    return found if isinstance(found, dict) else {}
