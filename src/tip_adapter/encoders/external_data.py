"""An ONNX graph goes in; the files in which it keeps weights outside itself, and their size, come out, checked."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from tip_adapter.encoders.file_hashes import remembered
from tip_adapter.errors import EncoderError

__all__ = ["check_external_data", "weight_bytes"]

# How protobuf writes the entry {"location": …} of a tensor: field 1 with eight letters, field 2 with the file's name.
_LOCATION = b"\n\x08location\x12"


def check_external_data(graph: Path) -> None:
    """Refuse weights in files that are not beside the graph under its own name, as ``vision_model.onnx_data``.

    The identity of an encoder is a hash of its files: weights elsewhere could change without it, and a downloaded graph
    has no business with other files of this machine.

    Parameters
    ----------
    graph : pathlib.Path

    Raises
    ------
    EncoderError
        When it names such a file.
    """
    for name in remembered(graph, "external data", _locations).splitlines():
        if os.path.basename(name) != name or not name.startswith(graph.name):
            raise EncoderError(
                f"Expected {graph} to keep its weights in itself or beside it in {graph.name}_data, "
                f"got {name[:200]!r}: export the encoder again"
            )


def weight_bytes(graph: Path) -> int:
    """Add up the sizes of a graph and its external data.

    Parameters
    ----------
    graph : pathlib.Path

    Returns
    -------
    int

    Raises
    ------
    EncoderError
        When they are larger than this machine's memory, where loading them would end the process.
    """
    size = sum(path.stat().st_size for path in graph.parent.glob(f"{graph.name}*"))
    memory = _memory_bytes()
    if memory is not None and size > memory:
        raise EncoderError(
            f"Expected {graph} to fit into the memory of {memory / 2**30:.1f} GiB, got {size / 2**30:.1f} GiB of "
            "weights: choose a smaller encoder"
        )
    return size


def _locations(graph: Path) -> str:
    """Names of the files, one a line."""
    if graph.stat().st_size == 0:
        return ""  # nothing to map; ONNX Runtime says that it is no graph
    names = set()
    with graph.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = data.find(_LOCATION)
        while at >= 0:
            at += len(_LOCATION)
            # One byte of length is enough for all that is accepted; of longer names the beginning is shown.
            names.add(data[at + 1 : at + 1 + data[at]].decode(errors="replace"))
            at = data.find(_LOCATION, at)
    return "\n".join(sorted(names))


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on Windows
        return None
