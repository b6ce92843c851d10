"""Turn prompt templates and class names into zero-shot weights, one unit row per class, or one per prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter.data.class_names import class_name, name_of_label
from tip_adapter.errors import FeatureError, InputError, probably
from tip_adapter.storage.json_files import read_object
from tip_adapter.typing import Float32Array, FloatArray, StrPath

if TYPE_CHECKING:
    from tip_adapter.encoders.base import Encoder
    from tip_adapter.features.store import FeatureStore

TEMPLATES: dict[str, tuple[str, ...]] = {
    "ensemble": (
        "itap of a {}.",
        "a bad photo of the {}.",
        "a origami {}.",
        "a photo of the large {}.",
        "a {} in a video game.",
        "art of the {}.",
        "a photo of the small {}.",
    ),
    "photo": ("a photo of a {}.",),
}
"""Named sets. "ensemble": the seven that Radford et al. (2021) found to do best together on ImageNet."""

DEFAULT_TEMPLATES = TEMPLATES["ensemble"]
PROMPTS_PER_BATCH = 256


def resolve_templates(templates: str | Sequence[str]) -> tuple[str, ...]:
    """Turn the name of a set, one template, or several templates into checked templates.

    Examples
    --------
    >>> from tip_adapter.features.prompts import resolve_templates
    >>> resolve_templates("photo")
    ('a photo of a {}.',)
    >>> resolve_templates("a sketch of a {}.")
    ('a sketch of a {}.',)
    """
    if isinstance(templates, str):
        if templates in TEMPLATES:
            return TEMPLATES[templates]
        if "{}" not in templates:
            raise InputError(
                f"Expected a template with {{}} where the class goes, or one of {', '.join(TEMPLATES)}, "
                f"got {templates!r}"
            )
        return (templates,)
    if not templates:
        raise InputError("Expected at least one template with {} where the class goes, got none")
    for template in templates:
        if not isinstance(template, str) or "{}" not in template:
            raise InputError(f"Expected templates with {{}} where the class goes, got {template!r}")
    return tuple(templates)


def load_class_texts(path: StrPath) -> dict[str, tuple[str, ...]]:
    """Read a JSON file that maps names of classes to words for them.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from tip_adapter.features.prompts import load_class_texts
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "class_names.json"
    ...     _ = path.write_text('{"outwear": ["jacket", "coat"], "tee": "t-shirt"}')
    ...     load_class_texts(path)
    {'outwear': ('jacket', 'coat'), 'tee': ('t-shirt',)}
    """
    path = Path(path)
    found: dict[str, tuple[str, ...]] = {}
    for written, texts in read_object(path, "class names to texts").items():
        name = class_name(written)
        if name in found:
            raise InputError(f"Expected every class once in {path}, got {name!r} twice")
        found[name] = _checked_texts(texts, name, path)
    return found


def text_of(name: str) -> str:
    """Return the text that a class name stands for: underscores are read as spaces, as in ``tabby_cat``.

    Examples
    --------
    >>> from tip_adapter.features.prompts import text_of
    >>> text_of("tabby__cat"), text_of("t-shirt")
    ('tabby cat', 't-shirt')
    """
    words = " ".join(name.replace("_", " ").split())
    if not words:
        raise InputError(f"The class name {name!r} holds no word: rename the class, or give it a text")
    return words


def texts_for(class_names: Sequence[str], mapping: Mapping[Any, Sequence[str]] | None) -> tuple[tuple[str, ...], ...]:
    """Choose the words for every class.

    A class without words of its own keeps its name, with underscores read as spaces: folders write ``tabby_cat``.
    Hyphens stay, since they belong to words such as *t-shirt*.

    Examples
    --------
    >>> from tip_adapter.features.prompts import texts_for
    >>> texts_for(["tabby_cat", "outwear"], {"outwear": ["jacket", "coat"]})
    (('tabby cat',), ('jacket', 'coat'))
    """
    mapping = {name_of_label(name): texts for name, texts in (mapping or {}).items()}
    unknown = sorted(set(mapping) - set(class_names))
    if unknown:
        raise InputError(f"Expected texts for classes of the data set, got {_with_suggestions(unknown, class_names)}")
    return tuple(_checked_texts(mapping[name], name) if name in mapping else (text_of(name),) for name in class_names)


def zero_shot_weights(
    encoder: Encoder,
    class_texts: Sequence[Sequence[str]],
    templates: Sequence[str] = DEFAULT_TEMPLATES,
    *,
    class_names: Sequence[str] | None = None,
    store: FeatureStore | None = None,
) -> Float32Array:
    r"""Turn the words for every class into zero-shot weights.

    With g the text encoder, texts t of class c and templates p:
    :math:`W_c = \mathrm{norm}\big(\sum_{t, p} \mathrm{norm}(g(p(t)))\big)`.

    Shapes: → (C, D), unit rows; NaN where the encoder has no text tower. `class_names` are for messages; prompts that
    are in the store are not encoded again.

    References
    ----------
    Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021, section 3.1.4.

    Examples
    --------
    >>> from tip_adapter.encoders import load_encoder
    >>> from tip_adapter.features.prompts import TEMPLATES, zero_shot_weights
    >>> zero_shot_weights(load_encoder("fake"), [["dog"], ["cat", "kitten"]], TEMPLATES["ensemble"]).shape
    (2, 64)
    """
    prompts = prompt_features(encoder, class_texts, templates, class_names=class_names, store=store)
    return mean_prompts(prompts, class_names)


def prompt_features(
    encoder: Encoder,
    class_texts: Sequence[Sequence[str]],
    templates: Sequence[str] = DEFAULT_TEMPLATES,
    *,
    class_names: Sequence[str] | None = None,
    store: FeatureStore | None = None,
) -> Float32Array:
    """Encode the prompts of every class one by one, for methods that weigh them.

    Shapes: → (C, P, D), unit rows; rows of NaN fill up classes with fewer than P prompts, and everything without a text
    tower.

    Examples
    --------
    >>> from tip_adapter.encoders import load_encoder
    >>> from tip_adapter.features.prompts import TEMPLATES, prompt_features
    >>> prompts = prompt_features(load_encoder("fake"), [["dog"], ["cat", "kitten"]], TEMPLATES["ensemble"])
    >>> prompts.shape, int((prompts[0, :, 0] == prompts[0, :, 0]).sum())
    ((2, 14, 64), 7)
    """
    names = _names_or_numbers(class_names, len(class_texts))
    features = _features_of_prompts(encoder, class_texts, templates, names, store)
    if features is None:
        return np.full((len(class_texts), 1, encoder.dim), np.nan, dtype=np.float32)
    padded = np.full((len(features), max(map(len, features)), encoder.dim), np.nan, dtype=np.float32)
    for row, rows in zip(padded, features, strict=True):
        row[: len(rows)] = rows
    return padded


def mean_prompts(prompts: Float32Array, class_names: Sequence[str] | None = None) -> Float32Array:
    """Give the zero-shot weights that the features of prompts make: unit means over the prompts of every class.

    Shapes: `prompts` (C, P, D) → (C, D); a row of NaN for a class without prompts.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.features.prompts import mean_prompts
    >>> mean_prompts(np.array([[[1, 0], [0, 1]], [[0, 1], [np.nan, np.nan]]], dtype=np.float32)).round(2)
    array([[0.71, 0.71],
           [0.  , 1.  ]], dtype=float32)
    """
    weights = np.full((len(prompts), prompts.shape[2]), np.nan, dtype=np.float32)
    known = ~np.isnan(prompts[:, :, 0])
    for row, name in enumerate(_names_or_numbers(class_names, len(prompts))):
        if known[row].any():
            mean = prompts[row, known[row]].mean(axis=0, dtype=np.float64)
            weights[row] = _unit_rows(mean[None], [f"the mean of the texts of {name!r}"])[0]
    return weights


def _names_or_numbers(class_names: Sequence[str] | None, n_classes: int) -> Sequence[str]:
    return [f"class {index}" for index in range(n_classes)] if class_names is None else class_names


def _features_of_prompts(
    encoder: Encoder,
    class_texts: Sequence[Sequence[str]],
    templates: Sequence[str],
    names: Sequence[str],
    store: FeatureStore | None,
) -> list[FloatArray] | None:
    """Unit rows of every class's prompts; None where the encoder reads no text."""
    templates = resolve_templates(templates)
    texts = [_checked_texts(texts, name) for name, texts in zip(names, class_texts, strict=True)]
    if not texts:
        raise InputError("Expected at least one class, got none")
    if not any(texts):
        raise InputError(f"Expected a text or a list of texts for {names[0]!r}, got none for any class")
    if not encoder.has_text_tower:
        return None
    # Not str.format: a class name may itself hold braces.
    prompts = [[template.replace("{}", text) for text in row for template in templates] for row in texts]
    distinct = list(dict.fromkeys(prompt for row in prompts for prompt in row))
    named = [f"the prompt {prompt!r}" for prompt in distinct]
    encoded = _encode_all(encoder, distinct) if store is None else _stored_or_encoded(encoder, distinct, store)
    features = _unit_rows(encoded, named)
    position = {prompt: index for index, prompt in enumerate(distinct)}
    return [features[[position[prompt] for prompt in row]] for row in prompts]


def _stored_or_encoded(encoder: Encoder, prompts: list[str], store: FeatureStore) -> FloatArray:
    """Encode the prompts that are not in the store, and keep them there."""
    keys = [(hashlib.sha256(prompt.encode()).hexdigest(), "text") for prompt in prompts]
    found: dict[tuple[str, str], Any] = dict(store.get(encoder.text_id, keys))
    missing = [index for index, key in enumerate(keys) if key not in found]
    if missing:
        rows = _encode_all(encoder, [prompts[index] for index in missing])
        found |= {keys[index]: row for index, row in zip(missing, rows, strict=True)}
        _unit_rows(rows, [f"the prompt {prompts[index]!r}" for index in missing])
        store.put(encoder.text_id, {keys[index]: found[keys[index]] for index in missing})
    return np.stack([np.asarray(found[key], dtype=np.float64) for key in keys])


def _encode_all(encoder: Encoder, prompts: list[str]) -> FloatArray:
    """Encode prompts batch by batch, in float64 for the means that follow."""
    batches = [prompts[start : start + PROMPTS_PER_BATCH] for start in range(0, len(prompts), PROMPTS_PER_BATCH)]
    features = np.concatenate([np.asarray(encoder.encode_texts(batch), dtype=np.float64) for batch in batches])
    if features.shape != (len(prompts), encoder.dim):
        raise FeatureError(
            f"Expected text features of shape ({len(prompts)}, {encoder.dim}) from encoder {encoder.name}, "
            f"got {features.shape}"
        )
    return features


def _unit_rows(rows: FloatArray, names: list[str]) -> FloatArray:
    norms = np.linalg.norm(rows, axis=1)
    bad = np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))
    if bad.size:
        raise FeatureError(
            f"Expected a finite feature other than zero for {names[bad[0]]}, got one of norm {norms[bad[0]]}"
        )
    unit: FloatArray = rows / norms[:, None]
    return unit


def _checked_texts(texts: object, name: str, path: Path | None = None) -> tuple[str, ...]:
    """Return one text or several as a tuple; an empty one is a class without text."""
    row = [texts] if isinstance(texts, str) else texts
    empty = path is not None and not row
    if not isinstance(row, list | tuple) or empty or not all(isinstance(text, str) and text.strip() for text in row):
        place = f" in {path}" if path else ""
        raise InputError(f"Expected a text or a list of texts for {name!r}{place}, got {texts!r:.60}")
    return tuple(row)


def _with_suggestions(unknown: Sequence[str], class_names: Sequence[str]) -> str:
    """Name the unknown classes, each with the class that was probably meant."""
    parts = [f"{name!r}{probably(name, class_names)}" for name in unknown]
    shown = ", ".join(class_names[:20]) + (", …" if len(class_names) > 20 else "")
    return f"{', '.join(parts)}; the classes are {shown}"
