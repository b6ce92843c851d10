"""The command info: a saved classifier, or this installation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tip_adapter.cli import completion, options
from tip_adapter.cli.output import echo, echo_json, echo_next
from tip_adapter.cli.tables import echo_table, number, text, whole

if TYPE_CHECKING:
    from tip_adapter.model.few_shot_model import FewShotModel


def info(
    about: Annotated[
        str | None,
        typer.Argument(
            autocompletion=completion.saved_classifiers,
            help="A saved classifier, or a method such as tip-adapter. Default: this installation.",
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Describe a saved classifier, a method with its parameters, or this installation."""
    if about is None:
        _about_installation(as_json=as_json)
    elif _is_method(about):
        _about_method(about, as_json=as_json)
    else:
        _about_classifier(about, as_json=as_json)


def _is_method(about: str) -> bool:
    from tip_adapter.methods import METHODS
    from tip_adapter.storage.bundle_files import is_bundle

    return about in METHODS and not is_bundle(Path(about))


def _about_classifier(path: str, *, as_json: bool) -> None:
    from tip_adapter.classifier import ImageClassifier
    from tip_adapter.model.description import described

    classifier = ImageClassifier.load(path)
    if as_json:
        echo_json(described(classifier.model_))
    else:
        _show_model(classifier.model_)
        echo_next("explain", path, "PHOTO", so_that="see why a photo gets its class")


def _about_method(name: str, *, as_json: bool) -> None:
    from tip_adapter.methods import describe
    from tip_adapter.methods.documentation import document

    found = document(name)
    if as_json:
        parameters = {key: {"default": default, "description": words} for key, default, words in found.parameters}
        facts = {"name": name, "description": describe(name), "formula": found.summary}
        echo_json(facts | {"parameters": parameters, "sources": found.sources})
        return
    echo(f"{name}: {describe(name)}")
    echo(found.summary)
    if found.parameters:
        echo()
        echo_table([whole("parameter"), whole("default"), text("what it does")], found.parameters)
    echo()
    echo(f"source: {found.sources}")
    given = "".join(f":{key}={default}" for key, default, _ in found.parameters[:2])
    echo_next("fit", "DATA", "--method", name + given, so_that="learn with it")


def _about_installation(*, as_json: bool) -> None:
    from importlib.metadata import version

    from tip_adapter.classifier import default_encoder
    from tip_adapter.encoders import ENCODERS
    from tip_adapter.storage.cache_folder import cache_dir

    facts: dict[str, Any] = {
        "version": version("tip-adapter"),
        "methods": _methods(),
        "encoders": ENCODERS,
        "default_encoder": default_encoder(),
        "cache_folder": str(cache_dir()),
    }
    if as_json:
        echo_json(facts)
        return
    echo(f"tip-adapter {facts['version']}, cache folder {facts['cache_folder']}")
    _show_methods(facts["methods"])
    echo()
    echo(f"encoders (default {default_encoder()})")
    _show_rows([(f"  {name}", meaning) for name, meaning in ENCODERS.items()])
    echo_next("info", "tip-adapter", so_that="see the parameters of a method")


def _show_model(model: FewShotModel) -> None:
    facts = [
        ("method", model.method.name),
        ("encoder", model.encoder.summary),
        ("views per shot", f"{model.views}, seed {model.random_state}"),
        ("templates", "; ".join(model.templates)),
        *model.choices,
        ("probabilities", "not calibrated" if model.calibration is None else model.calibration.summary),
        *(("note", note) for note in model.stale_notes),
    ]
    echo(f"{model.counted}")
    echo_table([whole(""), text("")], facts, header=False)
    echo()
    counts = zip(model.class_names, model.counts, model.class_texts, strict=True)
    rows = [(name, str(count), "; ".join(texts) or "none") for name, count, texts in counts]
    echo_table([text("class"), number("shots"), text("texts")], rows)


def _methods() -> dict[str, dict[str, Any]]:
    """What every method goes by and needs, as JSON values."""
    from tip_adapter.methods import METHODS, describe

    return {
        name: {
            "description": describe(name),
            "trained": "through the encoder" if each.needs_encoder else "on features" if each.trains else "no",
            "text": "needs text"
            if each.needs_text or each.needs_encoder
            else "uses text"
            if each.uses_text
            else "no text",
            "needs_torch": each.needs_torch,
        }
        for name, each in METHODS.items()
    }


def _show_methods(methods: dict[str, dict[str, Any]]) -> None:
    titles = {
        "no": "methods without training, in seconds",
        "on features": "methods trained on features, in seconds to a minute",
        "through the encoder": "methods trained through the encoder, in minutes to hours",
    }
    for trained, title in titles.items():
        echo()
        echo(title)
        rows = [(name, facts) for name, facts in methods.items() if facts["trained"] == trained]
        needs = [facts["text"] + (", extra torch" if facts["needs_torch"] else "") for _, facts in rows]
        _show_rows([(f"  {name}", need, facts["description"]) for (name, facts), need in zip(rows, needs, strict=True)])


def _show_rows(rows: list[tuple[str, ...]]) -> None:
    echo_table([whole(""), *(text("") for _ in rows[0][1:])], rows, header=False)
