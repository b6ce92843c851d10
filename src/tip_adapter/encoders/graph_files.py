"""Find the files that make up an ONNX graph, check where they are, and identify them by their content."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

from tip_adapter.encoders.file_hashes import file_sha256, remembered
from tip_adapter.errors import EncoderError

# The messages of onnx.proto that lead to tensors: of each, the numbers of the fields to follow, and what they hold.
_MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {4: "operator", 5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_MAX_DEPTH = 100  # as protobuf itself
_MAX_FIELDS = 5_000_000
_ENDLESS = ("Loop", "Scan")  # no tower needs them, and they may never end
_FIXED_BYTES = {1: 8, 5: 4}


def graph_files(graph: Path) -> list[Path]:
    """Return a graph's file and those with its external weights, which have to lie beside it under its own name.

    A downloaded graph has no business with other files of this machine.
    """
    names = json.loads(remembered(graph, "files with weights", _external_names))
    for name in names:
        if os.path.basename(name) != name or not name.startswith(graph.name):
            raise EncoderError(
                f"Expected {graph} to keep its weights in itself or beside it in {graph.name}_data, "
                f"got {name[:200]!r}: export the encoder again"
            )
        if not (graph.parent / name).is_file():
            raise EncoderError(
                f"Expected the weights of {graph.name} in {graph.parent / name}, found none: copy it too"
            )
    return [graph, *(graph.parent / name for name in names if name != graph.name)]


def graph_digest(graph: Path) -> str:
    """Identify a graph with its weights: a SHA-256 over the names and contents of its files."""
    hashes = {path.name: file_sha256(path) for path in graph_files(graph)}
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()


def weight_bytes(graph: Path) -> int:
    """Add up the sizes of a graph and its external weights."""
    size = sum(path.stat().st_size for path in graph_files(graph))
    memory = _memory_bytes()
    if memory is not None and size > memory:
        raise EncoderError(
            f"Expected {graph} to fit into the memory of {memory / 2**30:.1f} GiB, got {size / 2**30:.1f} GiB of "
            "weights: choose a smaller encoder"
        )
    return size


def _memory_bytes() -> int | None:
    """Return the size of this machine's memory, None where it does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on Windows
        return None


def _external_names(graph: Path) -> str:
    """Read the names of the files with weights, as JSON, without reading the weights."""
    try:
        with graph.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return json.dumps(sorted(_Reader(data).names()))
    except OSError as error:
        raise EncoderError(f"{graph} cannot be read ({error.strerror}): check it, or fetch it again") from error
    except (ValueError, IndexError) as error:  # of an empty file, of a truncated one, of something else
        raise EncoderError(
            f"Expected {graph} to be a whole ONNX graph, got {error}: fetch or export it again"
        ) from error


class _Reader:
    """Walks through a serialised ONNX model, past everything that does not lead to the name of a file."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._fields = 0

    def names(self) -> set[str]:
        """Names of the files with weights."""
        return set(self._names("model", 0, len(self._data), 0))

    def _names(self, message: str, start: int, end: int, depth: int) -> Iterator[str]:
        if depth > _MAX_DEPTH:
            raise ValueError("graphs inside graphs without end")
        for number, begin, stop in self._fields_of(start, end):
            kind = _MESSAGES[message].get(number)
            if kind == "operator":
                self._check_operator(begin, stop)
            elif kind == "entry":
                yield from self._location(begin, stop)
            elif kind is not None:
                yield from self._names(kind, begin, stop, depth + 1)

    def _check_operator(self, begin: int, stop: int) -> None:
        operator = self._data[begin : min(stop, begin + 100)].decode(errors="replace")
        if operator in _ENDLESS:
            raise ValueError(f"the operator {operator}, which may never end")

    def _location(self, begin: int, stop: int) -> Iterator[str]:
        """Give the value of an entry whose key is "location"; where a field is repeated, whichever is taken."""
        parts = [(number, self._data[first:last]) for number, first, last in self._fields_of(begin, stop)]
        if (1, b"location") in parts:
            yield from (value.decode(errors="replace") for number, value in parts if number == 2)

    def _fields_of(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Give number, beginning and end of every field that has a length."""
        at = start
        while at < end:
            self._fields += 1
            if self._fields > _MAX_FIELDS:
                raise ValueError("more parts than any encoder has")
            tag, at = self._integer(at)
            number, wire_type = tag >> 3, tag & 7
            if wire_type == 0:
                _, at = self._integer(at)
            elif wire_type == 2:
                length, at = self._integer(at)
                if at + length <= end:
                    yield number, at, at + length
                at += length
            elif wire_type in _FIXED_BYTES:
                at += _FIXED_BYTES[wire_type]
            else:
                raise ValueError("a part of an unknown kind")
        if at != end:
            raise ValueError("a truncated file")

    def _integer(self, at: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._data[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value, at
        raise ValueError("a number without end")
