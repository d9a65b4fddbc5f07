"""The frozen intermediate representation that the builder makes and the converter reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from .sizes import sizes_in
from .types import DataType, OperandDescriptor, Shape


class Operand:
    """MLOperand: one value of a graph under construction. Immutable; read ``data_type`` and ``shape``.

    Spec: https://www.w3.org/TR/webnn/#mloperand.
    """

    __slots__ = ("_data", "_name", "_node", "_owner", "data_type", "shape")

    data_type: DataType
    shape: Shape
    _owner: object
    _name: str | None
    _data: np.ndarray[Any, Any] | None
    _node: Node | None

    def __init__(
        self,
        owner: object,
        data_type: DataType,
        shape: Shape,
        *,
        name: str | None = None,
        data: np.ndarray[Any, Any] | None = None,
        node: Node | None = None,
    ) -> None:
        init = object.__setattr__
        init(self, "_owner", owner)
        init(self, "data_type", data_type)
        init(self, "shape", shape)
        init(self, "_name", name)
        init(self, "_data", data)
        init(self, "_node", node)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"operands are immutable: cannot set {name!r}")

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def descriptor(self) -> OperandDescriptor:
        return OperandDescriptor(self.data_type, self.shape)

    @property
    def is_input(self) -> bool:
        return self._name is not None

    @property
    def is_constant(self) -> bool:
        return self._data is not None

    def __repr__(self) -> str:
        kind = f"input {self._name!r}" if self.is_input else "constant" if self.is_constant else "result"
        origin = f" of {self._node.op}" if self._node is not None else ""
        return f"<Operand {kind}{origin} {self.data_type}{list(self.shape)}>"


InputValue = Operand | tuple[Operand, ...]


class Node:
    """One WebNN operator in a graph: its name, operands by parameter name, normalised attributes, results."""

    __slots__ = ("attributes", "inputs", "label", "op", "outputs")

    def __init__(self, op: str, inputs: Mapping[str, InputValue], attributes: Mapping[str, Any], label: str) -> None:
        self.op = op
        self.inputs = inputs
        self.attributes = attributes
        self.label = label
        self.outputs: tuple[Operand, ...] = ()

    def operands(self) -> Iterator[Operand]:
        """The operands in parameter order; absent optional ones are left out."""
        for value in self.inputs.values():
            if isinstance(value, tuple):
                yield from value
            else:
                yield value

    def __repr__(self) -> str:
        label = f" {self.label!r}" if self.label else ""
        return f"<Node {self.op}{label} -> {', '.join(f'{o.data_type}{list(o.shape)}' for o in self.outputs)}>"


class Graph:
    """A finished graph: named inputs and outputs, and the nodes between them in the order they were added.

    Only what some output depends on is here, so ``inputs`` may be fewer than the builder was given.
    """

    __slots__ = ("inputs", "nodes", "outputs")

    def __init__(self, inputs: Mapping[str, Operand], outputs: Mapping[str, Operand], nodes: tuple[Node, ...]) -> None:
        self.inputs: Mapping[str, Operand] = MappingProxyType(dict(inputs))
        self.outputs: Mapping[str, Operand] = MappingProxyType(dict(outputs))
        self.nodes = nodes

    @property
    def constants(self) -> tuple[Operand, ...]:
        """The constants that nodes read, each once, in order of first use."""
        found = {id(o): o for node in self.nodes for o in node.operands() if o.is_constant}
        return tuple(found.values())

    @property
    def dimensions(self) -> tuple[str, ...]:
        """The names of dimensions without a number, in order of first use by an input; () for a static graph."""
        sizes = sizes_in(operand.shape for operand in self.inputs.values())
        return tuple(dict.fromkeys(size.name for size in sizes if size.name is not None))

    def __repr__(self) -> str:
        def side(values: Mapping[str, Operand]) -> str:
            return ", ".join(f"{name}: {o.data_type}{list(o.shape)}" for name, o in values.items())

        return f"<Graph ({side(self.inputs)}) -> ({side(self.outputs)}), {len(self.nodes)} operators>"

    @classmethod
    def reached_from(cls, outputs: Mapping[str, Operand], nodes: list[Node], inputs: Mapping[str, Operand]) -> Graph:
        """Keep the nodes and inputs that ``outputs`` depend on; ``nodes`` is in the order of creation."""
        needed = {id(operand) for operand in outputs.values()}
        kept: list[Node] = []
        for node in reversed(nodes):
            if any(id(result) in needed for result in node.outputs):
                kept.append(node)
                needed.update(id(operand) for operand in node.operands())
        kept.reverse()
        return cls({name: o for name, o in inputs.items() if id(o) in needed}, outputs, tuple(kept))
