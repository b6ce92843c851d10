"""The program `tip-adapter`: its commands, and how errors become one line and an exit code (docs/commands.md)."""

from __future__ import annotations

import io
import os
import re
import shlex
import sys
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated, NoReturn, TextIO

import typer

from tip_adapter.cli import (
    bench,
    edits,
    embed,
    encoders,
    explain,
    export,
    info,
    mcp,
    models,
    predict,
    push,
    serve,
    studio,
    trust,
    tuning,
    unlabelled,
    watch,
)
from tip_adapter.cli.demo.command import demo
from tip_adapter.cli.help import ReadableCommand, ReadableGroup
from tip_adapter.cli.output import ReaderLeft, drop, echo, echo_error, flush, print_only_errors
from tip_adapter.cli.streams import STANDARD_INPUT
from tip_adapter.errors import (
    ImageError,
    OutOfReachError,
    SkippableError,
    SplitError,
    TipAdapterError,
    TruncatedImageError,
)
from tip_adapter.processors import let_waiting_threads_sleep

INTERRUPTED = 130
CHOOSE_ENCODER = ("fit", "embed", "bench", "fine-tune")
"""Commands that use an encoder of their own choice."""

STANDARD_INPUTS = (STANDARD_INPUT, "/dev/stdin", "/dev/fd/0")
QUIET = "--quiet"

app = typer.Typer(
    cls=ReadableGroup,
    help="An accurate image classifier from a few labelled photos per class.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        echo(version("tip-adapter"))
        raise typer.Exit


@app.callback()
def _options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option(QUIET, help="Print nothing but errors on stderr. Every command takes it.")
    ] = False,
) -> None:
    """An accurate image classifier from a few labelled photos per class."""


COMMANDS: dict[str, dict[str, Callable[..., None]]] = {
    "Learn and use": {
        "demo": demo,
        "fit": models.fit,
        "predict": predict.predict,
        "watch": watch.watch,
        "explain": explain.explain,
        "evaluate": models.evaluate,
        "info": info.info,
        "studio": studio.studio,
    },
    "Trust and correct": {
        "calibrate": trust.calibrate,
        "doctor": trust.doctor,
        "next": unlabelled.next_photos,
        "add": edits.add,
        "remove": edits.remove,
        "relabel": edits.relabel,
        "refit": edits.refit,
        "undo": edits.undo,
        "purge": edits.purge,
        "shots": edits.shots,
        "journal": edits.journal,
    },
    "Compare": {"bench": bench.bench},
    "Encoders and deployment": {
        "embed": embed.embed,
        "fine-tune": tuning.fine_tune,
        "export-encoder": encoders.export_encoder,
        "export": export.export,
        "serve": serve.serve,
        "mcp": mcp.mcp,
        "push": push.push,
    },
}
for _panel, _commands in COMMANDS.items():
    for _name, _command in _commands.items():
        app.command(_name, rich_help_panel=_panel, cls=ReadableCommand)(_command)
app.add_typer(edits.classes, name="class", rich_help_panel="Trust and correct")


def main() -> None:
    """Run the program, with every expected error as one line on stderr and an exit code of its own."""
    _speak_utf8()
    let_waiting_threads_sleep()
    warnings.showwarning = _show_warning
    # Pillow warns of large pictures and broken EXIF data; our own limits and errors say what matters.
    warnings.filterwarnings("ignore", module="PIL")
    _print_anything()
    _take_quiet()
    _check_arguments(sys.argv[1:])
    try:
        code = app(standalone_mode=False) or 0
        flush()
    except TipAdapterError as error:
        _fail(f"{error}{_other_way_out(error)}", error.exit_code)
    except typer.TyperException as error:
        _fail_usage(error)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except (ReaderLeft, SystemExit):  # rich, which prints the help, exits when it meets a broken pipe
        drop(sys.stdout)
        code = 0
    except MemoryError as error:
        _fail(f"Not enough memory ({error}): ask for fewer views, smaller batches or fewer photos at a time.", 1)
    except OSError as error:
        if error.filename is None:
            drop(sys.stdout)  # a full disk, for instance: what is in its buffer would fail once more
        _fail(f"{error.filename or 'input or output'}: {error.strerror or error}", 1)
    if code == INTERRUPTED:
        echo("interrupted: run it again to go on, what is finished is kept", err=True)
    sys.exit(code)


def _take_quiet() -> None:
    """Take --quiet from wherever it stands, before the command or behind it; what follows -- is no option."""
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    options = [argument for argument in sys.argv[:end] if argument != QUIET]
    print_only_errors(len(options) < end)
    sys.argv = options + sys.argv[end:]


def _speak_utf8() -> None:
    """Start again in UTF-8 mode where the locale has another encoding, so that names are the same everywhere."""
    if sys.getfilesystemencoding() != "utf-8":
        os.execv(sys.executable, [sys.executable, "-X", "utf8", "-m", "tip_adapter", *sys.argv[1:]])  # noqa: S606


def _check_arguments(given: list[str]) -> None:
    """Refuse empty arguments, which as paths would be the current folder, and standard input where it is not read."""
    for number, (before, argument) in enumerate(zip(["", *given], given, strict=False), start=1):
        if not argument.strip() or re.fullmatch(r"--[\w-]+=\s*", argument):
            _fail(f"argument {number} is empty, as when a variable of the shell is not set: see tip-adapter --help", 2)
        may_be_a_class = given[0] == "class" or before in ("--class", "-c")
        is_read = argument == STANDARD_INPUT and _has("--null")
        if argument in STANDARD_INPUTS and not may_be_a_class and not is_read:
            _fail(f"expected the name of a file or folder, got {argument}: standard input is not read here", 2)


def _print_anything() -> None:
    """Print what the stream's encoding lacks, and bytes of file names that are no text, as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _fail(message: str, exit_code: int) -> NoReturn:
    echo_error(f"error: {_one_line(message)}")
    sys.exit(exit_code)


def _one_line(message: str) -> str:
    """Join the lines of a message, some of which come from libraries."""
    return " ".join(line.strip() for line in message.splitlines() if line.strip())


def _other_way_out(error: TipAdapterError) -> str:
    """Say what else this command can do about an error."""
    ways = []
    if isinstance(error, ImageError | SkippableError) and _is_offered("--skip-bad"):
        ways.append("--skip-bad to go on without it")
    if isinstance(error, TruncatedImageError) and _is_offered("--allow-truncated"):
        ways.append("--allow-truncated to use the part that is there")
    if isinstance(error, SplitError) and _is_offered("--split"):
        return " (--split NAME; --split none takes folders for classes)"
    if ways:
        return f", or give {' or '.join(ways)}"
    return _command_with_lite() if isinstance(error, OutOfReachError) else ""


def _is_offered(option: str) -> bool:
    """Tell whether this command has an option that was not given."""
    return _has(option) and option not in sys.argv


def _has(option: str) -> bool:
    """Tell whether this command has an option."""
    command = getattr(typer.main.get_command(app), "commands", {}).get(sys.argv[1] if len(sys.argv) > 1 else "")
    return command is not None and any(option in parameter.opts for parameter in command.params)


def _command_with_lite() -> str:
    """Say the command that works here, where the encoder was not chosen and another one is on this machine."""
    from tip_adapter.encoders.lite import lite_is_here

    given = sys.argv[1:]
    chosen = any(argument.startswith(("-e", "--encoder")) for argument in given)
    if chosen or given[0] not in CHOOSE_ENCODER or not lite_is_here():
        return ""
    return f": {shlex.join(['tip-adapter', *given, '-e', 'lite'])}"


def _fail_usage(error: typer.TyperException) -> NoReturn:
    """Say in one line what is wrong with the arguments; without any, the help has been shown instead."""
    message = error.format_message().strip().rstrip(".")
    if not message:
        sys.exit(error.exit_code)
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "tip-adapter"
    _fail(f"{message}: see {command} --help", error.exit_code)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    echo(f"warning: {_one_line(str(message))}", err=True)
