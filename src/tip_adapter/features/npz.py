"""Read the arrays of a .npz file from anywhere: numbers and text, in no more memory than the file accounts for."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from tip_adapter.errors import DatasetError

__all__ = ["Arrays", "read_arrays"]

Arrays = Mapping[str, np.ndarray[Any, Any]]

MOST_COMPRESSED = 100
"""How many times larger than its file an array may be; features hardly compress, text and labels do."""

DAMAGES = (OSError, ValueError, zipfile.BadZipFile, EOFError, AttributeError, SyntaxError, NotImplementedError)

ALWAYS_FINE = 100_000_000
"""Bytes of an array of which nothing is asked."""


def read_arrays(path: Path) -> Arrays:
    """Read every array; objects (pickle), damaged files and sizes that do not fit raise `DatasetError`."""
    if not path.is_file():
        raise DatasetError(f"There is no feature file {path}: check the path")
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                _check_size(archive, member)
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except (
        OSError,
        ValueError,
        zipfile.BadZipFile,
        EOFError,
        AttributeError,
        SyntaxError,
        NotImplementedError,
    ) as error:
        raise DatasetError(
            f"Expected a .npz file of arrays of numbers and text at {path}, got an error ({error}): write it again "
            "with numpy.savez"
        ) from error


def _check_size(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Raise where an array would take more memory than its member of the archive holds, or that is a bomb."""
    with archive.open(member) as stream:
        version = npy.read_magic(stream)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(stream)
        expected = int(np.prod(shape, dtype=object)) * dtype.itemsize
        if not dtype.hasobject and expected != member.file_size - stream.tell():
            raise ValueError(f"{member.filename} says it has {expected} bytes and has not")
    if member.file_size > max(ALWAYS_FINE, MOST_COMPRESSED * member.compress_size):
        raise ValueError(f"{member.filename} is packed {MOST_COMPRESSED} times and more")
