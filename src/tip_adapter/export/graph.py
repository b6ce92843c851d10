"""Build an ONNX graph, operator by operator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx

DEFAULT_OPSET = 17
MIN_OPSET = 13  # softmax along one axis, axes of sums as an input
PREFIX = "tip_adapter."
_REDUCTION_AXES_INPUT = 18


class GraphBuilder:
    """Nodes and constants of a graph of operators from version 13 on; its values have names that no encoder uses.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.export.graph import GraphBuilder
    >>> graph = GraphBuilder(17)
    >>> graph.add("Mul", "x", graph.constant(np.float32(2)))
    'tip_adapter.2'
    >>> [node.op_type for node in graph.nodes]
    ['Mul']
    """

    def __init__(self, opset: int = DEFAULT_OPSET) -> None:
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._names = 0

    def constant(self, value: NDArray[Any] | np.generic) -> str:
        """Put an array into the graph; return the name of its value."""
        from onnx import numpy_helper

        name = self._new_name()
        self.initializers.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def add(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Append a node with one output; return the name of its value."""
        from onnx import helper

        name = output or self._new_name()
        self.nodes.append(
            helper.make_node(operator, list(inputs), [name], name=f"{PREFIX}{operator}_{name}", **attributes)
        )
        return name

    def cast(self, value: str, dtype: type[np.generic]) -> str:
        """Turn numbers into those of another type."""
        from onnx import helper

        return self.add("Cast", value, to=int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype))))

    def reduce(self, operator: str, value: str) -> str:
        """Reduce along the last axis and keep it; the reductions' axes moved from attribute to input with opset 18."""
        if operator == "ReduceSum" or self.opset >= _REDUCTION_AXES_INPUT:
            return self.add(operator, value, self.constant(np.array([-1], dtype=np.int64)), keepdims=1)
        return self.add(operator, value, axes=[-1], keepdims=1)

    def unit_rows(self, value: str) -> str:
        """Divide rows by their length; rows of zeros stay."""
        length = self.reduce("ReduceL2", value)
        tiny = self.constant(np.float32(np.finfo(np.float32).tiny))
        return self.add("Div", value, self.add("Max", length, tiny))

    def mean(self, value: str, axis: int) -> str:
        """Take the mean along one axis, which goes."""
        if self.opset >= _REDUCTION_AXES_INPUT:
            return self.add("ReduceMean", value, self.constant(np.array([axis], dtype=np.int64)), keepdims=0)
        return self.add("ReduceMean", value, axes=[axis], keepdims=0)

    def top(self, value: str, count: int) -> tuple[str, str]:
        """Take the largest along the last axis: their values, and where they were, both (B, count)."""
        from onnx import helper

        largest, rows = self._new_name(), f"{self._new_name()}.rows"
        k = self.constant(np.array([count], dtype=np.int64))
        self.nodes.append(
            helper.make_node("TopK", [value, k], [largest, rows], name=f"{PREFIX}TopK_{largest}", axis=-1)
        )
        return largest, rows

    def _new_name(self) -> str:
        self._names += 1
        return f"{PREFIX}{self._names}"
