"""The exceptions and warnings of this package.

Every error a user can cause is a `TipAdapterError`, with one line that says what was expected, what came, and what to
do::

    TipAdapterError
    ├── InputError (ValueError)        an argument or an array that does not fit
    │   ├── ImageError                 a picture that cannot be read, or should not be
    │   │   └── TruncatedImageError    one whose beginning can be read
    │   ├── DatasetError               a folder or manifest that is no data set
    │   │   ├── SkippableError         something in it that cannot be read, which skip_bad goes on without
    │   │   └── SplitError             one with several splits, none of which was chosen
    │   └── FeatureError               features of the wrong shape, encoder, or value
    ├── ModelFileError                 a saved file that is truncated, tampered with, or too new
    ├── EncoderError                   an encoder that is unknown, out of reach, or not the right one
    │   └── OutOfReachError            one that is not on this machine and cannot be downloaded
    ├── TrainingError                  training that diverged, or a checkpoint of another training
    └── MissingExtraError (ImportError)  an optional dependency that is not installed

Warnings, below the errors, say what was not as expected where the work goes on.
"""

from __future__ import annotations

import difflib
import sys
import warnings
from collections.abc import Iterable
from types import FrameType


class TipAdapterError(Exception):
    """Base of every error that this package raises on purpose."""

    exit_code = 1


class InputError(TipAdapterError, ValueError):
    """An argument or an array does not fit."""

    exit_code = 3


class ImageError(InputError):
    """A picture cannot be read, or should not be."""


class TruncatedImageError(ImageError):
    """A picture is cut short or damaged further down; with ``allow_truncated`` what comes before is used."""


class DatasetError(InputError):
    """A folder or a manifest is no data set."""


class SkippableError(DatasetError):
    """Something in a data set cannot be read, such as a folder or a row; with ``skip_bad`` the rest is used."""


class SplitError(DatasetError):
    """A data set has splits, or what looks like them, and it has to be said which one is meant."""


class FeatureError(InputError):
    """Features have the wrong shape, come from another encoder, or hold values that are no numbers."""


class ModelFileError(TipAdapterError):
    """A saved file is truncated, tampered with, or of a newer format."""

    exit_code = 4


class EncoderError(TipAdapterError):
    """An encoder is unknown, out of reach, or not the one a classifier was fitted with."""

    exit_code = 5


class OutOfReachError(EncoderError):
    """An encoder is not on this machine and cannot be downloaded."""


class MissingExtraError(TipAdapterError, ImportError):
    """An optional dependency is not installed."""

    exit_code = 6


class TrainingError(TipAdapterError):
    """Training diverged, or cannot go on from a checkpoint of another training."""

    exit_code = 7


class DuplicateWarning(UserWarning):
    """A photo is twice among the shots, or in two classes."""


class FeatureWarning(UserWarning):
    """Features were not as expected, and were mended."""


class TrainingWarning(UserWarning):
    """Training was interrupted, and what it had reached is kept."""


class ShotsWarning(UserWarning):
    """A class has fewer shots than were asked for."""


class EncoderWarning(UserWarning):
    """An encoder runs in another way than was asked for."""


class PluginWarning(UserWarning):
    """Something that another package adds does not work, and is left out."""


class StorageWarning(UserWarning):
    """Something cannot be kept, locked or found on the disk, and the work goes on without it."""


def install_command(extra: str) -> str:
    """Say how to install an extra; from the source, because no registry has this package, and anyone may take its name.

    Examples
    --------
    >>> from tip_adapter.errors import install_command
    >>> install_command("export")
    "run pip install '.[export]' in the folder of tip-adapter's source"
    """
    return f"run pip install '.[{extra}]' in the folder of tip-adapter's source"


def probably(name: str, known: Iterable[str]) -> str:
    """Return a clause that asks for the name that was probably meant; nothing where none is near.

    Examples
    --------
    >>> from tip_adapter.errors import probably
    >>> probably("tipadapter", ["tip-adapter", "gda"]), probably("x", ["gda"])
    (" (did you mean 'tip-adapter'?)", '')
    """
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def warn(message: str, category: type[Warning]) -> None:
    """Warn about the line that called into this package, however deep inside it the reason was found.

    Examples
    --------
    >>> import warnings
    >>> from tip_adapter.errors import ShotsWarning, warn
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     warn("Fewer than 4 photos in every class", ShotsWarning)
    >>> caught[0].category.__name__
    'ShotsWarning'
    """
    frame: FrameType | None = sys._getframe()
    caller = frame
    while frame is not None:
        if _is_inside(frame):
            caller = frame.f_back or frame
        frame = frame.f_back
    if caller is not None:
        registry = caller.f_globals.setdefault("__warningregistry__", {})
        module = caller.f_globals.get("__name__")
        warnings.warn_explicit(message, category, caller.f_code.co_filename, caller.f_lineno, module, registry)


def _is_inside(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).partition(".")[0] == __name__.partition(".")[0]
