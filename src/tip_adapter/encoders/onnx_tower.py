"""Run one ONNX graph on all processors, once it has been checked."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, cached_property
from pathlib import Path
from typing import Any
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from tip_adapter.encoders.graph_files import graph_digest, weight_bytes
from tip_adapter.encoders.pooling import pooled
from tip_adapter.errors import EncoderError
from tip_adapter.libraries import import_library
from tip_adapter.processors import usable_processors
from tip_adapter.storage.escaping import reason_of
from tip_adapter.typing import Float32Array

_SILENT = 4  # severity "fatal": what matters is raised as well
_CACHED_WEIGHTS = 64 * 2**20  # bytes
_ACTIVATIONS = 256 * 2**20  # bytes, of a view
_LARGEST_DIM = 2**20
_OPENING = threading.Lock()
_DOUBLE_WEIGHTS = 128 * 2**20  # bytes
_TYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
}


class OnnxTower:
    """One ONNX graph on the CPU, with the inputs and the output that an encoder needs.

    Parameters
    ----------
    path : pathlib.Path
    inputs : sequence of str
        Names that the input may have which the graph needs.
    outputs : sequence of str
        Names of outputs that will do, best first.
    optional : set of str
        Names of inputs that the graph may have besides.

    Attributes
    ----------
    digest : str
        SHA-256 over the files that were opened.
    input, output : str
        Names of the needed input, and of the output that is taken.
    input_shape, output_shape : list of int, str or None
        As the graph declares them.
    pooling : str
        How features of parts become one; nothing at first.
    one_by_one : bool
        Whether the graph takes one row a run.

    Raises
    ------
    EncoderError
        When the file is no such graph, or does not fit into the memory.
    """

    def __init__(
        self, path: Path, inputs: Sequence[str], outputs: Sequence[str], optional: set[str] | None = None
    ) -> None:
        self.path = path
        self.weight_bytes = weight_bytes(path)
        self.digest = graph_digest(path)
        # Threads that spin between two operations make one run faster, and many runs at once slower: they take the time
        # of the others, and of those that decode photos. Small graphs are therefore opened twice.
        self._twice = self.weight_bytes <= _DOUBLE_WEIGHTS
        _open_again_after_forks(self)
        self._inputs = {node.name: node for node in self._session.get_inputs()}
        needed = set(self._inputs) - (optional or set())
        if len(needed) != 1 or not needed <= set(inputs):
            raise EncoderError(f"Expected {path} to have one input {' or '.join(inputs)}, got {sorted(self._inputs)}")
        found = {node.name: node for node in self._session.get_outputs()}
        output = next((found[name] for name in outputs if name in found), None)
        if output is None:
            raise EncoderError(f"Expected {path} to have an output {' or '.join(outputs)}, got {sorted(found)}")
        self.input, self.output, self.pooling = needed.pop(), output.name, ""
        self.input_shape, self.output_shape = self._inputs[self.input].shape, output.shape
        self._types = {name: self._type_of(node) for name, node in self._inputs.items()}
        batches = {node.shape[0] for node in self._inputs.values() if node.shape and isinstance(node.shape[0], int)}
        if batches - {1}:
            raise EncoderError(f"Expected {path} to take batches of any size, got {max(batches)}: export it again")
        self.one_by_one = bool(batches)

    @property
    def is_half(self) -> bool:
        """Whether the graph calculates in half precision."""
        return self._types[self.input] is np.float16

    def _type_of(self, node: Any) -> type[np.generic]:
        if node.type not in _TYPES:
            raise EncoderError(f"Expected {self.path} to take {', '.join(_TYPES)}, got {node.name} of {node.type}")
        return _TYPES[node.type]

    def _opened(self, threads: int, *, spin: bool) -> Any:
        session = _open_session(self.path, threads, spin=spin, weights=self.weight_bytes)
        if graph_digest(self.path) != self.digest:
            raise EncoderError(f"Expected {self.path} to stay as it is while it is used, but it was changed: try again")
        return session

    @cached_property
    def _session(self) -> Any:
        return self._opened(usable_processors(), spin=self._twice)

    def expect_sizes(self, sizes: dict[int, int]) -> None:
        """Compare the axes of the needed input that have a fixed size."""
        shape = self.input_shape
        for axis, size in sizes.items():
            if len(shape) != 1 + len(sizes) or (isinstance(shape[axis], int) and shape[axis] != size):
                expected = f"(batch, {', '.join(str(size) for size in sizes.values())})"
                raise EncoderError(
                    f"Expected {self.path} to take {self.input} of shape {expected} as the files beside it say, "
                    f"got {tuple(shape)}: the files are of different models"
                )

    @property
    def rows_per_run(self) -> int:
        """How many rows a run had best take.

        Weights that stay in the processor's cache are read for nothing, and one row at a time keeps the activations
        there, too; large weights are worth sharing among a few rows.
        """
        return 1 if self.one_by_one or self.weight_bytes <= _CACHED_WEIGHTS else 4

    def run(self, inputs: dict[str, NDArray[Any]]) -> Float32Array:
        """Run the graph on those of the inputs that it has, with all processors."""
        rows = len(next(iter(inputs.values())))
        if not self.one_by_one or rows == 1:
            return self._run(self._session, inputs)
        each = ({name: values[row : row + 1] for name, values in inputs.items()} for row in range(rows))
        return np.concatenate([self._run(self._session, one) for one in each])

    def shape_of(self, inputs: dict[str, NDArray[Any]]) -> tuple[int, ...]:
        """Return the shape of the output for some inputs, before anything is pooled."""
        return tuple(np.shape(self._outcome(self._session, inputs)))

    def _outcome(self, session: Any, inputs: dict[str, NDArray[Any]]) -> Any:
        feeds = {
            name: values.astype(self._types[name], copy=False)
            for name, values in inputs.items()
            if name in self._inputs
        }
        try:
            (features,) = session.run([self.output], feeds)
        except Exception as error:  # ONNX Runtime's exceptions have no common base but Exception
            raise EncoderError(f"The graph {self.path} failed: {reason_of(error, longest=300)}") from error
        return features

    def _run(self, session: Any, inputs: dict[str, NDArray[Any]]) -> Float32Array:
        features, rows = self._outcome(session, inputs), len(next(iter(inputs.values())))
        if self.pooling and np.ndim(features) > 2:
            features = pooled(features.astype(np.float32), self.pooling)
        shape: tuple[int, ...] = getattr(features, "shape", ())
        kind = getattr(getattr(features, "dtype", None), "kind", "")
        if len(shape) != 2 or shape[0] != rows or not 0 < shape[1] <= _LARGEST_DIM or kind != "f":
            raise EncoderError(f"Expected {self.path} to give features ({rows}, D), got {self.output} of {shape}")
        return np.ascontiguousarray(features, dtype=np.float32)

    def run_in_parallel(
        self, rows: NDArray[Any], rows_per_run: int, inputs_of: Callable[[NDArray[Any]], dict[str, NDArray[Any]]]
    ) -> Float32Array:
        """Run the graph on a few rows at a time, on as many such pieces at once as there are processors.

        Shapes: `rows` (B, ...) → (B, D).
        """
        pieces = [rows[start : start + rows_per_run] for start in range(0, len(rows), rows_per_run)]
        if len(pieces) == 1:
            return self.run(inputs_of(rows))
        session = self._parallel_session
        return np.concatenate(list(self._threads.map(lambda piece: self._run(session, inputs_of(piece)), pieces)))

    @cached_property
    def _parallel_session(self) -> Any:
        return self._opened(1, spin=False) if self._twice else self._session

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(usable_processors(), thread_name_prefix="encode")

    def leave_behind(self) -> None:
        """Forget what a forked child cannot use, since threads stay with the parent: it is opened again when needed."""
        for name in ("_session", "_parallel_session", "_threads"):
            left = self.__dict__.pop(name, None)
            if name != "_threads" and left is not None:
                # Never freed: a session ends by waiting for its threads, here for ever.
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(left))


_towers: WeakSet[OnnxTower] = WeakSet()


def _open_again_after_forks(tower: OnnxTower) -> None:
    _watch_forks()
    _towers.add(tower)


@cache
def _watch_forks() -> None:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_leave_all_behind)


def _leave_all_behind() -> None:
    global _OPENING
    _OPENING = threading.Lock()  # another thread of the parent may hold the former one for ever
    for tower in list(_towers):
        tower.leave_behind()


def _open_session(path: Path, threads: int, *, spin: bool, weights: int) -> Any:
    onnxruntime = import_library("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _SILENT
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.intra_op_num_threads = threads
    # Where they may spin at all, then only while the graph runs, and no longer than a pause between two operations.
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin)))
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.intra_op.spin_duration_us", "200" if spin else "0")
    try:
        with _OPENING:  # a session keeps the allocator that is registered when it is made
            _bound_memory(weights)
            return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no common base but Exception
        raise EncoderError(
            f"Expected {path} to be a whole ONNX graph, got {reason_of(error, longest=300)}: fetch or export it again"
        ) from error


def _bound_memory(weights: int) -> None:
    """Give the next session memory for weights and a few views: a graph of a few bytes can ask for any amount."""
    onnxruntime = import_library("onnxruntime")
    unchanged = ("arena_extend_strategy", "initial_chunk_size_bytes", "max_dead_bytes_per_chunk")
    most = 4 * weights + _ACTIVATIONS * (4 + usable_processors())
    arena = onnxruntime.OrtArenaCfg({"max_mem": most, **dict.fromkeys(unchanged, -1)})
    kind = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    place = onnxruntime.OrtMemoryInfo("Cpu", kind, 0, onnxruntime.OrtMemType.DEFAULT)
    onnxruntime.create_and_register_allocator(place, arena)
