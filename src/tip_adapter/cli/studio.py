"""The command studio: teach a classifier in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tip_adapter.cli import options
from tip_adapter.cli.models import MethodOption
from tip_adapter.cli.output import echo, echo_skipped
from tip_adapter.cli.photos import unlabelled_photos
from tip_adapter.errors import InputError
from tip_adapter.storage.locking import WAIT_S


def studio(
    place: Annotated[
        Path,
        typer.Argument(
            help="A saved classifier to go on with, or its ZIP file; labelled photos (folder, archive, table); "
            "or a new name."
        ),
    ] = Path("studio.tip"),
    encoder: options.Encoder = None,
    method: MethodOption = None,
    unlabelled: options.Unlabelled = None,
    port: Annotated[int, typer.Option("--port", "-p", min=0, max=65535, help="Port; 0: any free one.")] = 8001,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page.")] = True,
    wait: options.Wait = WAIT_S,
) -> None:
    """Teach, try and correct a classifier in the browser; the saved classifier is the project."""
    from tip_adapter.classifier import DEFAULT_METHOD
    from tip_adapter.libraries import require_extra

    for module in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
        require_extra(module, "serve")
    from tip_adapter.serve import Settings, create_app
    from tip_adapter.serve.running import run

    photos, wanted = unlabelled_photos(unlabelled), method or DEFAULT_METHOD
    model = _begun(place, encoder, wanted)
    if method is not None:
        _check_method(model, method)
    settings = Settings(teaching=True, store="default", edit_wait_s=wait, unlabelled=photos, method=wanted)
    app = create_app({model.stem: model}, settings, encoder=encoder)

    def tell(address: str) -> None:
        import webbrowser

        echo(f"studio for {model} at {address}; Ctrl-C ends it, everything is saved")
        if browser:
            webbrowser.open(address)

    run(app, "127.0.0.1", port, tell)


def _check_method(place: Path, method: str) -> None:
    """Refuse to go on with a classifier of another method than was named."""
    from tip_adapter.methods.spec import read_method
    from tip_adapter.model.few_shot_model import FewShotModel
    from tip_adapter.storage.bundle_files import is_bundle

    wanted = read_method(method).name
    if is_bundle(place) and (found := FewShotModel.load(place).method.name) != wanted:
        raise InputError(
            f"Expected a classifier by {wanted} at {place}, got one by {found}, which it keeps: leave --method out, or "
            "begin another with a new name"
        )


def _begun(place: Path, encoder: str | None, method: str) -> Path:
    """Where the classifier is; from photos one is learned first, unless that was done before."""
    from tip_adapter.classifier import ImageClassifier
    from tip_adapter.progress import progress_bar
    from tip_adapter.storage.bundle_archives import holds_bundle, unpack_bundle
    from tip_adapter.storage.bundle_files import is_bundle

    if not place.exists() and place.suffix not in ("", ".tip"):
        raise InputError(f"Expected photos or a saved classifier at {place}, found nothing: check the path")
    if is_bundle(place) or not place.exists() or (place.is_dir() and not any(place.iterdir())):
        return place
    model = Path(f"{place.resolve().stem.removesuffix('.tip')}.tip")
    if is_bundle(model):
        echo(f"continuing with {model}; {place} is not read again", err=True)
        return model
    if holds_bundle(place):
        unpack_bundle(place, model, lambda folder: ImageClassifier.load(folder, encoder=encoder, store=None))
        return model
    classifier = ImageClassifier(encoder, method)
    with progress_bar("Encoding photos") as progress:
        classifier.fit(place, skip_bad=True, progress=progress)
    classifier.save(model)
    echo_skipped(classifier.skipped_)
    return model
