"""Save named arrays and text in one safetensors file with a checksum."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tip_adapter.errors import InputError, ModelFileError
from tip_adapter.storage.atomic import read_file, write_file
from tip_adapter.storage.strict_json import parse_json
from tip_adapter.typing import StrPath

DTYPES = ("float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")
# A header takes about a hundred bytes an array.
MAX_HEADER_BYTES = 16 * 2**20

Arrays = Mapping[str, NDArray[Any]]


def save_arrays(path: StrPath, arrays: Arrays, metadata: Mapping[str, str]) -> None:
    """Save arrays and text as one safetensors file with a checksum, whole or not at all.

    Examples
    --------
    >>> import numpy as np, pathlib, tempfile
    >>> from tip_adapter.storage.arrays import load_arrays, save_arrays
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "features.safetensors"
    ...     save_arrays(path, {"raw": np.ones((2, 3))}, {"encoder": "fake"})
    ...     arrays, metadata = load_arrays(path)
    >>> arrays["raw"].shape, metadata
    ((2, 3), {'encoder': 'fake'})
    """
    if "sha256" in metadata:
        raise InputError("Expected metadata without the key sha256, which holds the checksum")
    write_file(Path(path), arrays_to_bytes(arrays, {**metadata, "sha256": _digest_of(arrays, metadata)}))


def load_arrays(path: StrPath) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Load what `save_arrays` saved, and check that it is unchanged."""
    path = Path(path)
    arrays, metadata = arrays_from_bytes(read_file(path), path)
    checksum = metadata.pop("sha256", None)
    if checksum is None:
        raise ModelFileError(f"Expected an array file of tip-adapter, got another safetensors file: {path}")
    if checksum != _digest_of(arrays, metadata):
        raise ModelFileError(f"{path} is not as it was saved, its checksum differs: make it again")
    return arrays, metadata


def arrays_to_bytes(arrays: Arrays, metadata: Mapping[str, str] | None = None) -> bytes:
    """Return arrays and text in the safetensors format."""
    import safetensors.numpy

    plain = {name: _plain(array, name) for name, array in arrays.items()}
    return safetensors.numpy.save(plain, dict(metadata) if metadata else None)


def arrays_from_bytes(data: bytes, path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Read arrays and text in the safetensors format."""
    import safetensors
    import safetensors.numpy

    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > min(MAX_HEADER_BYTES, len(data) - 8):
        raise ModelFileError(f"Expected a safetensors file, got one that is truncated or something else: {path}")
    try:
        metadata = parse_json(data[8 : 8 + size]).get("__metadata__", {})
        # They can be written to; only some versions of safetensors return what needs a copy for that.
        arrays = {name: np.require(array, requirements="W") for name, array in safetensors.numpy.load(data).items()}
    except (safetensors.SafetensorError, ValueError, KeyError, AttributeError) as error:
        raise ModelFileError(f"Expected a safetensors file, got one that is damaged: {path} ({error})") from error
    return arrays, dict(metadata)


def _plain(array: NDArray[Any], name: str) -> NDArray[Any]:
    """Return an array as safetensors needs it, which writes memory as it lies and would scramble a transposed view."""
    array = np.asarray(array, order="C")
    if array.dtype.name not in DTYPES:
        raise InputError(f"Expected arrays of numbers ({', '.join(DTYPES)}) to save, got {array.dtype} for {name!r}")
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


def _digest_of(arrays: Arrays, metadata: Mapping[str, str]) -> str:
    """Return one checksum over metadata, and over names, dtypes, shapes and bytes of arrays."""
    digest = hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode())
    for name in sorted(arrays):
        array = _plain(arrays[name], name)
        digest.update(json.dumps([name, array.dtype.name, array.shape]).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
