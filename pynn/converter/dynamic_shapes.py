"""ONNX nodes that calculate with the sizes of named dimensions while the model runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..ops.emitter import Tensor
from ..sizes import Part, Size, Terms
from .onnx_graph import OnnxGraph, OnnxNode

Array = np.ndarray[Any, Any]

ORIGIN = "named dimensions"
_OPERATIONS = {"//": "Div", "%": "Mod", "min": "Min", "max": "Max"}


class ShapeNodes:
    """Makes them for one graph, each once. ``sources`` has by name of a dimension an input and its axis.

    All are int64 tensors of one dimension; ``put_first`` puts the nodes before those that use them.
    """

    def __init__(self, graph: OnnxGraph, sources: Mapping[str, tuple[str, int]]) -> None:
        self._graph = graph
        self._sources = sources
        self._nodes: list[OnnxNode] = []
        self._made: dict[object, str] = {}

    def put_first(self) -> None:
        self._graph.nodes[:0] = self._nodes

    def target(self, entries: Sequence[int], old: Sequence[int | None]) -> str:
        """The second input of a Reshape to ``entries`` from a tensor of shape ``old`` (None: unknown).

        -1 and 0 (a dimension that stays) stand for Sizes where they can: nothing is calculated then.
        """
        short: list[int] = list(entries)
        if sum(isinstance(entry, Size) for entry in entries) > 1:
            for i, entry in enumerate(entries):
                if isinstance(entry, Size) and i < len(old) and _same(entry, old[i]):
                    short[i] = 0
        unknown = [i for i, entry in enumerate(short) if isinstance(entry, Size)]
        if len(unknown) > 1 or min(int(entry) for entry in entries) < 1:
            return self.vector(entries)
        for i in unknown:
            short[i] = -1
        return self._constant(np.array(short, np.int64))

    def array(self, entries: Sequence[int], like: Array) -> str:
        """The elements ``entries`` with the shape and data type of ``like``."""
        key = (tuple(map(_key, entries)), like.shape, like.dtype)
        if key not in self._made:
            made = self.vector(entries)
            if like.ndim == 0:
                made = self._node("Squeeze", [made, self._constant(np.zeros(1, np.int64))], ())
            elif like.ndim > 1:
                made = self._node("Reshape", [made, self._constant(np.array(like.shape, np.int64))], like.shape)
            if like.dtype != np.int64:
                made = self._node("Cast", [made], like.shape, like.dtype.name, to=like.dtype.name)
            self._made[key] = made
        return self._made[key]

    def filled(self, shape: Sequence[int], like: Array) -> str:
        """A tensor of ``shape`` that has the first element of ``like`` everywhere."""
        key = (tuple(map(_key, shape)), "filled", like.dtype, like.flat[0].tobytes())
        if key not in self._made:
            value = self._constant(like.reshape(-1)[:1].copy().reshape((1,) * like.ndim))
            dims = tuple(-1 if isinstance(dim, Size) else dim for dim in shape)
            self._made[key] = self._node("Expand", [value, self.vector(shape)], dims, like.dtype.name)
        return self._made[key]

    def vector(self, entries: Sequence[int]) -> str:
        """The numbers and Sizes side by side."""
        key = tuple(map(_key, entries))
        if key not in self._made:
            pieces: list[str] = []
            numbers: list[int] = []
            for entry in entries:
                if not isinstance(entry, Size):
                    numbers.append(entry)
                    continue
                if numbers:
                    pieces.append(self._constant(np.array(numbers, np.int64)))
                    numbers = []
                pieces.append(self._sum(entry.terms))
            if numbers:
                pieces.append(self._constant(np.array(numbers, np.int64)))
            shape = (len(entries),)
            self._made[key] = pieces[0] if len(pieces) == 1 else self._node("Concat", pieces, shape, axis=0)
        return self._made[key]

    def _sum(self, terms: Terms) -> str:
        if terms not in self._made:
            made = ""
            for atoms, factor in terms:
                product = "" if factor != 1 and atoms else self._number(factor) if not atoms else ""
                for atom in atoms:
                    one = self._dimension(atom) if isinstance(atom, str) else self._part(atom)
                    product = self._node("Mul", [product, one]) if product else one
                if atoms and factor != 1:
                    product = self._node("Mul", [product, self._number(factor)])
                made = self._node("Add", [made, product]) if made else product
            self._made[terms] = made
        return self._made[terms]

    def _part(self, part: Part) -> str:
        if part not in self._made:
            sides = [self._sum(part.left), self._sum(part.right)]
            self._made[part] = self._node(_OPERATIONS[part.operation], sides)
        return self._made[part]

    def _dimension(self, name: str) -> str:
        if name not in self._made:
            value, axis = self._sources[name]
            self._made[name] = self._node("Shape", [value], start=axis, end=axis + 1)
        return self._made[name]

    def _number(self, value: int) -> str:
        return self._constant(np.array([value], np.int64))

    def _constant(self, array: Array) -> str:
        key = ("constant", array.dtype, array.shape, array.tobytes())
        if key not in self._made:
            name = self._made[key] = self._graph.fresh("dimensions/constant")
            self._graph.values[name] = Tensor(name, array.dtype.name, array.shape)
            self._graph.initializers[name] = array
        return self._made[key]

    def _node(
        self,
        op_type: str,
        inputs: list[str],
        shape: tuple[int, ...] = (1,),
        data_type: str = "int64",
        **attributes: Any,
    ) -> str:
        name = self._graph.fresh(f"dimensions/{op_type}")
        self._graph.values[name] = Tensor(name, data_type, shape)
        self._nodes.append(OnnxNode(op_type, inputs, [name], attributes, name, ORIGIN))
        return name


def _key(entry: int) -> object:
    return entry.terms if isinstance(entry, Size) else entry


def _same(a: Size, b: int | None) -> bool:
    return isinstance(b, Size) and a.terms == b.terms
