"""The command serve: saved classifiers over HTTP."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

import typer

from tip_adapter.cli import options
from tip_adapter.cli.output import echo
from tip_adapter.cli.photos import unlabelled_photos
from tip_adapter.errors import InputError
from tip_adapter.storage.locking import WAIT_S

TOKEN_VARIABLE = "TIP_ADAPTER_TOKEN"  # noqa: S105 - its name, not its value
LABEL_STUDIO_TOKEN = "LABEL_STUDIO_API_KEY"  # noqa: S105 - as its own clients call it

ModelsArgument = Annotated[
    list[str],
    typer.Argument(help="Saved classifiers: clothes.tip, or NAME=clothes.tip to call it by another name."),
]
HostOption = Annotated[
    str, typer.Option("--host", help="Address to listen on; others than this machine's need a token.")
]
PortOption = Annotated[int, typer.Option("--port", "-p", min=0, max=65535, help="Port to listen on; 0: any free one.")]
TokenOption = Annotated[
    str | None,
    typer.Option("--token", envvar=TOKEN_VARIABLE, show_envvar=True, help="What requests have to bring."),
]
AllowHostOption = Annotated[
    list[str] | None,
    typer.Option("--allow-host", help="A name the service is called by, as behind a proxy; may be repeated."),
]
QueueOption = Annotated[
    int, typer.Option("--queue", min=1, help="Photos that may wait; when there are more, requests get 503.")
]
ProtocolOption = Annotated[
    list[str] | None,
    typer.Option(
        "--protocol",
        help="Also answer clients of: huggingface, openai, open-inference, label-studio; may be repeated.",
    ),
]
LabelStudioOption = Annotated[
    str | None,
    typer.Option(
        "--label-studio-url",
        help=f"The Label Studio whose photos are fetched, with the token in ${LABEL_STUDIO_TOKEN}.",
    ),
]
KeepOption = Annotated[
    Path | None,
    typer.Option(
        "--keep-requests",
        help="Keep photos of /v1/predict in this folder that are worth a label: uncertain ones, those of rare classes, "
        "one in a hundred of the others. Without it none is kept.",
    ),
]
KeepPhotosOption = Annotated[
    int, typer.Option("--keep-photos", min=1, help="Photos to keep of each classifier, at most; the oldest go.")
]
KeepMegabytesOption = Annotated[
    int, typer.Option("--keep-mb", min=1, help="Megabytes to keep of each classifier, at most.")
]


def serve(
    models: ModelsArgument,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8000,
    token: TokenOption = None,
    allow_host: AllowHostOption = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Answer only; refuse edits.")] = False,
    queue: QueueOption = 512,
    unlabelled: options.Unlabelled = None,
    keep_requests: KeepOption = None,
    keep_photos: KeepPhotosOption = 1000,
    keep_mb: KeepMegabytesOption = 1000,
    protocol: ProtocolOption = None,
    label_studio_url: LabelStudioOption = None,
    encoder: options.Where = None,
    wait: options.Wait = WAIT_S,
) -> None:
    """Serve saved classifiers over HTTP: predictions, evidence, edits."""
    from tip_adapter.libraries import require_extra

    for module in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
        require_extra(module, "serve")
    from tip_adapter.serve import Settings, create_app
    from tip_adapter.serve.running import run
    from tip_adapter.serve.settings import LOOPBACK

    if host not in LOOPBACK and not token:
        raise InputError(
            f"Whoever reaches {host} could use and change the classifiers: give --token, or ${TOKEN_VARIABLE}, such as "
            f"{TOKEN_VARIABLE}=$(openssl rand -hex 16)"
        )
    protocols = tuple(dict.fromkeys(protocol or ()))
    _check_label_studio(label_studio_url, protocols)
    hosts = (*LOOPBACK, host, *(allow_host or ()))
    settings = Settings(
        token=token,
        hosts=hosts,
        editing=not read_only,
        store="default",
        edit_wait_s=wait,
        queue=queue,
        unlabelled=unlabelled_photos(unlabelled),
        keep_requests=keep_requests,
        keep_photos=keep_photos,
        keep_bytes=keep_mb * 10**6,
        protocols=protocols,
        label_studio_url=label_studio_url,
        label_studio_token=os.environ.get(LABEL_STUDIO_TOKEN),
    )
    folders = named(models)
    app = create_app(folders, settings, encoder=encoder)
    if keep_requests is not None:
        echo(
            f"keeping photos of requests that are worth a label in {keep_requests}: "
            f"of each classifier at most {keep_photos} and {keep_mb} MB",
            err=True,
        )
    words = f"serving {', '.join(folders)} at"
    run(app, host, port, lambda address: echo(f"{words} {address}; {address}/docs says how, Ctrl-C ends it"))


def _check_label_studio(url: str | None, protocols: tuple[str, ...]) -> None:
    """Refuse an address that photos could not be fetched from, before anybody waits for one."""
    if url is None:
        return
    if "label-studio" not in protocols:
        raise InputError("Expected --protocol label-studio with --label-studio-url")
    if not re.fullmatch(r"https?://[^/\s@]+/?", url):
        raise InputError(f"Expected --label-studio-url such as http://127.0.0.1:8080, got {url!r}")


def named(models: list[str]) -> dict[str, str]:
    """Name every classifier, by its folder where nothing else was said."""
    found: dict[str, str] = {}
    for given in models:
        name, equals, folder = given.partition("=")
        if not equals or os.path.exists(given):
            name, folder = Path(given).resolve().stem, given
        if name in found:
            raise InputError(f"Two classifiers are called {name!r}: give one of them as NAME={folder}")
        found[name] = folder
    return found
