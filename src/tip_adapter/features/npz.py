"""Read .npz files from untrusted sources: numbers and text only, in no more memory than the file accounts for."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from tip_adapter.errors import DatasetError
from tip_adapter.storage.escaping import reason_of

Arrays = Mapping[str, np.ndarray[Any, Any]]

MOST_COMPRESSED = 100
"""How many times larger than its file an array may be; features hardly compress, text and labels do."""

ALWAYS_FINE = 100_000_000
"""Bytes of all arrays of which nothing is asked."""

_KINDS = "biufU"
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_arrays(path: Path) -> Arrays:
    """Read every array; objects (pickle), damaged files and sizes that do not fit raise `DatasetError`."""
    if not path.is_file():
        raise DatasetError(f"There is no feature file {path}: check the path")
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
            size = sum(member.file_size for member in members)
            if size > max(ALWAYS_FINE, MOST_COMPRESSED * path.stat().st_size):
                raise ValueError(f"it is packed more than {MOST_COMPRESSED} times")
            return {member.filename.removesuffix(".npy"): _read(archive, member) for member in members}
    except Exception as error:  # zipfile, zlib and NumPy have many of their own
        raise DatasetError(
            f"Expected a .npz file of arrays of numbers and text at {path}, got an error ({reason_of(error)}): write "
            "it again with numpy.savez"
        ) from error


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray[Any, Any]:
    """Read one array, once its header has shown to say as many bytes as there are."""
    with archive.open(member) as file:
        data = file.read(member.file_size)
    stream: IO[bytes] = io.BytesIO(data)
    version = npy.read_magic(stream)
    if version not in _HEADERS:
        raise ValueError(f"{member.filename} is of the unknown version {version}")
    try:
        shape, by_columns, kind = _HEADERS[version](stream)
    except SyntaxError as error:  # of the header, which NumPy evaluates as a literal
        raise ValueError(f"the header of {member.filename} is damaged") from error
    if kind.hasobject or kind.kind not in _KINDS:
        raise ValueError(f"{member.filename} holds {kind}, neither numbers nor text")
    count = 1
    for length in shape:
        count *= int(length)
    start = stream.tell()
    if min(shape, default=0) < 0 or count * kind.itemsize != len(data) - start:
        raise ValueError(f"{member.filename} says it is of shape {shape!s:.60}, and has not so many bytes")
    values = np.frombuffer(data, dtype=kind, count=count, offset=start) if count else np.empty(0, dtype=kind)
    return values.reshape(shape, order="F" if by_columns else "C")
