"""Read class names and templates from our own files or CLIP_benchmark's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tip_adapter.bench.splits import ImageSplits
from tip_adapter.bench.standard import STANDARD_DATASETS
from tip_adapter.errors import InputError
from tip_adapter.features.prompts import load_class_texts, resolve_templates, texts_for
from tip_adapter.storage.json_files import read_json
from tip_adapter.typing import StrPath


def class_texts_of(splits: ImageSplits, class_texts: StrPath | None) -> tuple[tuple[str, ...], ...]:
    """Choose the words for every class of a data set.

    Parameters
    ----------
    class_texts : path, optional
        A JSON file: class to text or texts, or, as CLIP_benchmark has it, name of a data set to the list of its
        classes' texts in the order of labels (of a folder: alphabetical).
    """
    if class_texts is None:
        return texts_for(splits.class_names, splits.class_texts)
    content = load_class_texts(class_texts)
    listed = _of_dataset(content, splits.name)
    if listed is None or set(content) <= set(splits.class_names):
        return texts_for(splits.class_names, content)
    if len(listed) != len(splits.class_names):
        raise InputError(
            f"Expected {len(splits.class_names)} texts, one per class of {splits.name}, got {len(listed)} in "
            f"{class_texts}: map class names to texts instead"
        )
    return tuple((text,) for text in listed)


def templates_of(splits: ImageSplits, templates: str | Sequence[str] | None) -> tuple[str, ...]:
    """Choose the templates for a data set: those given, else its own, else the set "ensemble".

    Parameters
    ----------
    templates : str or sequence of str, optional
        What `tip_adapter.features.prompts.resolve_templates` takes; or the path of a JSON file, a list of templates or,
        as CLIP_benchmark has it, name of a data set to the list of its templates, with ``{c}`` where the class goes.
    """
    if templates is None:
        return splits.templates or resolve_templates("ensemble")
    if isinstance(templates, str) and templates.endswith(".json"):
        return resolve_templates([str(text).replace("{c}", "{}") for text in _read_templates(splits, Path(templates))])
    return resolve_templates(templates)


def _read_templates(splits: ImageSplits, path: Path) -> Sequence[str]:
    try:
        content: Any = read_json(path)
    except ValueError as error:
        raise InputError(
            f"Expected a JSON file of templates at {path}, got something else ({error}): correct it"
        ) from error
    listed = _of_dataset(content, splits.name) if isinstance(content, dict) else content
    if not isinstance(listed, list | tuple) or not listed:
        known = f", it has {', '.join(list(content)[:20])}" if isinstance(content, dict) else ""
        raise InputError(f"Expected a list of templates for {splits.name} in {path}{known}: add it")
    return listed


def _of_dataset(content: dict[str, Any], name: str) -> Any:
    """Find a data set under its name here or its name in CLIP_benchmark."""
    standard = STANDARD_DATASETS.get(name)
    return next((content[key] for key in (name, standard.other_name if standard else "") if key in content), None)
