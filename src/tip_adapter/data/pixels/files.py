"""Read an image file whole, after checking that it can be one."""

from __future__ import annotations

import os
import stat

from tip_adapter.data.pixels.containers import UnreadableImageError

MAX_FILE_BYTES = 2**27


def read_file(path: str | os.PathLike[str]) -> bytes:
    """Read a regular file of at most `MAX_FILE_BYTES`."""
    try:
        status = os.stat(path)
        _check(status)
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise UnreadableImageError("be an image file, found none: check the path") from None
    except IsADirectoryError:
        raise UnreadableImageError("be an image file, got a folder: name the photos in it") from None
    except PermissionError:
        raise UnreadableImageError("be readable, permission was denied: change its permissions") from None
    except UnreadableImageError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or error
        raise UnreadableImageError(f"be a readable image file, got an error ({reason}): check it") from error


def _check(status: os.stat_result) -> None:
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):  # reading a pipe could wait for ever
        raise UnreadableImageError("be an image file, got a device or pipe: copy its content to a file")
    if status.st_size > MAX_FILE_BYTES:
        limit, size = (f"{value / 1e6:,.0f} MB" for value in (MAX_FILE_BYTES, status.st_size))
        raise UnreadableImageError(f"be a file of at most {limit}, got {size}: scale it down or leave it out")
