"""A typed ONNX graph in plain Python: what lowerings emit, passes rewrite and the serializer writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph import Graph, Node, Operand
from ..ops.call import sanitize
from ..ops.emitter import Tensor
from ..types import DataType, Shape
from .model import numpy_dtype

OPSET = 21
"""The oldest opset with 4-bit types and blockwise Q/DQ (ONNX 1.16, IR 10), so that every ONNX Runtime since 1.18 and
every TensorRT's parser takes it; nothing WebNN needs came later."""

IR_VERSION = 10


class OnnxNode:
    """One ONNX node over value names. ``origin`` is the WebNN operator (and label) it came from.

    An attribute that holds a graph (If, Loop, Scan of imported models) is an opaque ``onnx.AttributeProto``;
    ``captures`` names the values outside that such graphs read. No pass may rename or retype these.
    """

    __slots__ = ("attributes", "captures", "domain", "inputs", "name", "op_type", "origin", "outputs")

    def __init__(
        self,
        op_type: str,
        inputs: list[str],
        outputs: list[str],
        attributes: dict[str, Any],
        name: str,
        origin: str = "",
        domain: str = "",
        captures: tuple[str, ...] = (),
    ) -> None:
        self.op_type = op_type
        self.inputs = inputs
        self.outputs = outputs
        self.attributes = attributes
        self.name = name
        self.origin = origin
        self.domain = domain
        self.captures = captures

    def copy(self) -> OnnxNode:
        """A node that may be changed by itself."""
        inputs, outputs, attributes = self.inputs.copy(), self.outputs.copy(), self.attributes.copy()
        return OnnxNode(self.op_type, inputs, outputs, attributes, self.name, self.origin, self.domain, self.captures)

    def __repr__(self) -> str:
        return f"<{self.op_type} {self.name}: {self.inputs} -> {self.outputs}>"


class OnnxGraph:
    """Nodes in topological order; ``values`` has the type and shape of every value by name, initializers included.

    ``inputs`` and ``outputs`` map the public (WebNN) name to the ONNX value name: WebNN allows the same name on both
    sides, ONNX does not. ``carriers`` maps the ONNX name of such a value to the public data type when a pass gave it
    another type than the user's: the back end converts at the boundary.

    Imported models may have dynamic values. A dimension without a number is then -1 in ``Tensor.shape``, a value of
    unknown rank is in ``unshaped`` (its ``shape`` says nothing), one of unknown type has the data type "". ``dims``
    has the shapes of inputs and outputs with their symbols, by value name, where they are not all numbers.
    """

    def __init__(self) -> None:
        self.nodes: list[OnnxNode] = []
        self.values: dict[str, Tensor] = {}
        self.initializers: dict[str, np.ndarray[Any, Any]] = {}
        self.inputs: dict[str, str] = {}
        self.outputs: dict[str, str] = {}
        self.carriers: dict[str, str] = {}
        self.dims: dict[str, tuple[int | str | None, ...]] = {}
        self.unshaped: set[str] = set()
        self.opsets: dict[str, int] = {"": OPSET}
        self.ir_version = IR_VERSION
        self.metadata: dict[str, str] = {}
        self._serial = 0

    def copy(self) -> OnnxGraph:
        """A graph that passes may change by itself; the arrays of initializers are shared."""
        made = OnnxGraph()
        made.__dict__.update({k: v.copy() if isinstance(v, (dict, set)) else v for k, v in vars(self).items()})
        made.nodes = [node.copy() for node in self.nodes]
        return made

    def captured(self) -> set[str]:
        """Names of values that graphs inside attributes read."""
        return {name for node in self.nodes for name in node.captures}

    def fresh(self, stem: str) -> str:
        """A value or node name that is not taken yet."""
        if stem not in self.values:
            return stem
        while True:
            self._serial += 1
            name = f"{stem}_{self._serial}"
            if name not in self.values:
                return name


def _base_name(node: Node, index: int) -> str:
    label = sanitize(node.label)
    return f"{label}/{node.op}_{index}" if label else f"{node.op}_{index}"


def base_names(graph: Graph) -> tuple[str, ...]:
    """By node, how the names of all ONNX nodes begin that a GraphEmitter makes of it; "/" follows."""
    counts: Counter[str] = Counter()
    names = []
    for node in graph.nodes:
        names.append(_base_name(node, counts[node.op]))
        counts[node.op] += 1
    return tuple(names)


class GraphEmitter:
    """The Emitter that lowerings see, writing into an :class:`OnnxGraph`."""

    def __init__(self, graph: OnnxGraph) -> None:
        self.graph = graph
        self._tensors: dict[int, Tensor] = {}
        self._shared: dict[tuple[np.dtype[Any], Shape, bytes], Tensor] = {}
        self._folded: dict[tuple[str, str, Shape], Tensor] = {}
        self._base = ""
        self._origin = ""
        self._counts: dict[str, int] = {}
        self._first = 0

    # -- between WebNN nodes (used by convert)

    def begin(self, node: Node) -> None:
        index = self._counts.get(node.op, 0)
        self._counts[node.op] = index + 1
        label = sanitize(node.label)
        self._base = _base_name(node, index)
        self._origin = f"{node.op} {label!r}" if label else f"{node.op}_{index}"
        self._first = len(self.graph.nodes)

    def end(self, node: Node, results: Sequence[Tensor]) -> None:
        """Tie each result to its operand; a result that this node did not compute gets an Identity."""
        made = {name for n in self.graph.nodes[self._first :] for name in n.outputs}
        seen: set[str] = set()
        for operand, result in zip(node.outputs, results, strict=True):
            if result.data_type != operand.data_type or result.shape != operand.shape:
                raise AssertionError(f"lowering of {node!r} returned {result!r} for {operand!r}")
            if result.name not in made or result.name in seen:
                result = self.op("Identity", result)
            seen.add(result.name)
            self._tensors[id(operand)] = result

    def bind_input(self, operand: Operand, value_name: str) -> None:
        tensor = Tensor(value_name, operand.data_type.value, operand.shape)
        self.graph.values[value_name] = tensor
        self._tensors[id(operand)] = tensor

    # -- the Emitter protocol

    def input(self, node: Node, name: str) -> Tensor:
        operand = node.inputs[name]
        assert isinstance(operand, Operand)
        return self.tensor(operand)

    def optional(self, node: Node, name: str) -> Tensor | None:
        return self.input(node, name) if name in node.inputs else None

    def tensor(self, operand: Operand) -> Tensor:
        found = self._tensors.get(id(operand))
        if found is None:
            if operand._data is None:
                raise AssertionError(f"{operand!r} is used before it is computed")
            found = self._tensors[id(operand)] = self.constant(operand._data)
        return found

    def op(
        self,
        op_type: str,
        *inputs: Tensor | None,
        data_type: str | None = None,
        shape: Shape | None = None,
        **attributes: Any,
    ) -> Tensor:
        first = inputs[0] if inputs else None
        if data_type is None:
            assert first is not None
            data_type = first.data_type
        if shape is None:
            assert first is not None
            shape = first.shape
        return self._emit(op_type, inputs, [(data_type, shape)], attributes)[0]

    def multi(
        self, op_type: str, *inputs: Tensor | None, outputs: Sequence[tuple[str, Shape] | None], **attributes: Any
    ) -> list[Tensor]:
        return self._emit(op_type, inputs, outputs, attributes)

    def _emit(
        self,
        op_type: str,
        inputs: Sequence[Tensor | None],
        outputs: Sequence[tuple[str, Shape] | None],
        attributes: dict[str, Any],
    ) -> list[Tensor]:
        graph = self.graph
        name = graph.fresh(f"{self._base}/{op_type}")
        tensors = []
        for i, output in enumerate(outputs):
            if output is None:
                tensors.append(Tensor("", "", ()))
                continue
            value = name if i == 0 else graph.fresh(f"{name}:{i}")
            tensor = graph.values[value] = Tensor(value, str(output[0]), tuple(output[1]))
            tensors.append(tensor)
        names = [x.name if x is not None else "" for x in inputs]
        while names and not names[-1]:
            names.pop()
        kept = {k: v for k, v in attributes.items() if v is not None}
        graph.nodes.append(OnnxNode(op_type, names, [t.name for t in tensors], kept, name, self._origin))
        return tensors

    def constant(self, value: np.ndarray[Any, Any]) -> Tensor:
        array = np.asarray(value)
        key = (array.dtype, array.shape, array.tobytes()) if array.nbytes <= 64 else None
        if key in self._shared:
            return self._shared[key]
        name = self.graph.fresh(f"constant_{len(self.graph.initializers)}")
        tensor = Tensor(name, array.dtype.name, array.shape)
        self.graph.values[name] = tensor
        self.graph.initializers[name] = array
        if key is not None:
            self._shared[key] = tensor
        return tensor

    def scalar(self, value: float | np.generic, data_type: str | DataType) -> Tensor:
        return self.constant(np.array(value, dtype=numpy_dtype(str(data_type))))

    def ints(self, values: Sequence[int]) -> Tensor:
        return self.constant(np.array(values, dtype=np.int64))

    def cast(self, x: Tensor, data_type: str | DataType) -> Tensor:
        target = str(data_type)
        if x.data_type == target:
            return x
        return self.op("Cast", x, data_type=target, to=target)

    def reshape(self, x: Tensor, shape: Shape) -> Tensor:
        if x.shape == tuple(shape):
            return x
        if x.name in self.graph.initializers:
            return self._derived(x, "reshape", shape)
        return self.op("Reshape", x, self.ints(shape), shape=tuple(shape))

    def transpose(self, x: Tensor, permutation: Sequence[int]) -> Tensor:
        if list(permutation) == list(range(x.rank)):
            return x
        if x.name in self.graph.initializers:
            return self._derived(x, "transpose", permutation)
        return self.op("Transpose", x, shape=tuple(x.shape[p] for p in permutation), perm=list(permutation))

    def _derived(self, x: Tensor, how: str, argument: Sequence[int]) -> Tensor:
        """A constant reshaped or transposed here and now, once for all its users."""
        key = (x.name, how, tuple(argument))
        found = self._folded.get(key)
        if found is None:
            value = self.graph.initializers[x.name]
            made = value.reshape(argument) if how == "reshape" else np.ascontiguousarray(value.transpose(argument))
            found = self._folded[key] = self.constant(made)
        return found

    def constant_value(self, x: Tensor) -> np.ndarray[Any, Any] | None:
        return self.graph.initializers.get(x.name)
