"""A graph with named dimensions to one OnnxGraph: lowered at several sizes, and what differs is computed from them.

Lowerings and passes see static graphs only. The graph is bound to some sets of sizes, lowered and rewritten for each,
and the results are laid over each other: nodes and attributes must be the same, constants may differ where they are
integers that follow from the sizes (targets of Reshape and Expand, ends of Slice, ...) or one value throughout.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import ValidationError
from ..graph import Graph, Node
from ..ops.dimensions import bind_dimensions
from ..ops.emitter import Tensor
from ..sizes import Size, next_prime, sizes_in, value_at
from .dynamic_shapes import ShapeNodes
from .onnx_graph import OnnxGraph, OnnxNode
from .passes import PassRecord

Lower = Callable[[Graph], tuple[OnnxGraph, tuple[PassRecord, ...]]]
Sizes = Mapping[str, int]
Array = np.ndarray[Any, Any]

_LEVELS = (37, 131, 523, 11, 2053, 8209, 5, 32771, 131101)
_WIDE_LEVELS = (37, 523, 2053)
_WIDE = 121
"""Sizes are taken from a level on, this far apart: it leaves 1 modulo all numbers up to 6, so that several in a row
leave every remainder, and quotients differ. Where no such sizes are allowed, they are next to each other."""
_SAMPLES, _MAX_SAMPLES = 5, 37
_ATTEMPTS = 2
_MAX_DOUBTS = 8
_PROBES = (*range(1, 48), *(2**i for i in range(6, 14)), *(-(2**i) for i in range(12)))
_BEFORE_ALL = -(2**63) + 1


class _DifferenceError(Exception):
    """The graphs at two sets of sizes do not fit: the node where, and what would differ."""

    def __init__(self, node: OnnxNode | None, what: str) -> None:
        super().__init__(what)
        self.node = node
        self.what = what


def lower_dynamic(graph: Graph, lower: Lower) -> tuple[OnnxGraph, tuple[PassRecord, ...]]:
    """``graph`` by ``lower``, for any sizes of its named dimensions.

    As in imported models, ``OnnxGraph.dims`` has the shapes of inputs and outputs, and -1 in a value's shape is a
    dimension without a number. Raises ValidationError naming the operator and the dimension where something depends on
    a size that ONNX fixes, and the operator's own where no sizes were found for which its rules hold.
    """
    refused: ValidationError | None = None
    differs: _DifferenceError | None = None
    attempts = 0
    for samples in _samples(graph):
        try:
            bound = [bind_dimensions(graph, sizes) for sizes in samples]
        except ValidationError as error:
            refused = refused or error
            continue
        try:
            return _unified(graph, samples, bound, lower)
        except _DifferenceError as error:
            differs = differs or error
            attempts += 1
        if attempts == _ATTEMPTS:
            break
    if differs is not None:
        raise _refusal(graph, differs, lower)
    assert refused is not None
    raise refused


def _samples(graph: Graph) -> Iterator[list[Sizes]]:
    """Sets of samples, of a prime number each. In one, a dimension has that many sizes in a row, each in another order:
    no dimension is a multiple of another plus a constant."""
    names = graph.dimensions
    strides = [s for n in graph.nodes if n.op.endswith("Pool2d") and _is_spatial(n) for s in n.attributes["strides"]]
    count = next_prime(min(_MAX_SAMPLES, max(_SAMPLES, *strides, 0)))
    for level in _WIDE_LEVELS:
        yield _around([level + 7 * i for i in range(len(names))], names, count, _WIDE)
    for level in _LEVELS:
        yield _around([level + i * max(count, min(29, level // 2)) for i in range(len(names))], names, count)
    if 1 < len(names) <= 3:
        for levels in itertools.permutations(_LEVELS, len(names)):
            yield _around(levels, names, count)


def _is_spatial(node: Node) -> bool:
    return any(sizes_in(x.shape[1:] for x in node.operands()))


def _around(levels: Sequence[int], names: Sequence[str], count: int, apart: int = 1) -> list[Sizes]:
    named = list(enumerate(zip(names, levels, strict=True)))
    return [{name: level + (j * (1 + i % (count - 1)) + i) % count for i, (name, level) in named} for j in range(count)]


def _refusal(graph: Graph, differs: _DifferenceError, lower: Lower) -> ValidationError:
    names = _culprits(graph, lower)
    quoted, node = " and ".join(map(repr, names)), differs.node
    where = node.origin if node is not None else "the graph"
    sizes = ", ".join(f"{name!r}: N" for name in names)
    return ValidationError(
        f"{where}: dimension {quoted} may not decide {differs.what}; fix it when compiling, shapes={{{sizes}}}",
        operator=where.split()[0],
    )


def _culprits(graph: Graph, lower: Lower) -> Sequence[str]:
    """The first dimension whose size alone makes a difference, else all."""
    names = graph.dimensions
    for samples in _samples(graph) if len(names) > 1 else ():
        for name in names:
            alone = [{**samples[0], name: sizes[name]} for sizes in samples]
            try:
                _unified(graph, alone, [bind_dimensions(graph, sizes) for sizes in alone], lower, 0)
            except ValidationError:
                break
            except _DifferenceError:
                return (name,)
        else:
            break
    return names


def _unified(
    graph: Graph, samples: Sequence[Sizes], bound: Sequence[Graph], lower: Lower, doubts: int = _MAX_DOUBTS
) -> tuple[OnnxGraph, tuple[PassRecord, ...]]:
    first, rewrites = lower(bound[0])
    merged = _Merged(first)
    for one in bound[1:]:
        merged.lay_over(lower(one)[0])
    known = list(samples)
    for attempt in itertools.count():
        fitter = _Fitter(graph, known)
        solved = {name: _solution(merged, fitter, name) for name in merged.constants}
        more = fitter.doubt(samples[0]) if attempt < doubts else None
        if more is None:
            break
        merged.lay_over(lower(bind_dimensions(graph, more))[0])
        known.append(more)
    _name_shapes(graph, first, bound, samples)
    shapes = ShapeNodes(first, {name: _source(graph, first, name) for name in graph.dimensions})
    for node in first.nodes:
        for i, name in enumerate(node.inputs):
            if name not in solved:
                continue
            if node.op_type == "Reshape" and i == 1 and not solved[name].is_filled:
                kept = merged.dims_of(node.inputs[0])
                node.inputs[1] = shapes.target(solved[name].entries, [fitter.fit(dims) for dims in kept])
            elif node.op_type == "Slice" and i == 2:
                node.inputs[2] = shapes.vector(_slice_ends(merged, node, solved[name].entries))
            else:
                solution = solved[name]
                make = shapes.filled if solution.is_filled else shapes.array
                node.inputs[i] = make(solution.entries, solution.like)
    for name in solved:
        del first.initializers[name]
    shapes.put_first()
    merged.open_shapes()
    return first, rewrites


def _slice_ends(merged: _Merged, node: OnnxNode, ends: Sequence[int]) -> list[int]:
    """``ends`` of a Slice with a constant in place of what is before the first element at any size: TensorRT's parser
    (1.4 to 1.7) takes a calculated -(size + 1) for the last element, and the slice for empty."""
    axes = merged.graph.initializers[node.inputs[3]].tolist()
    dims = merged.dims_of(node.inputs[0])
    columns = zip(*(array.tolist() for array in merged.constants[node.inputs[2]]), strict=True)
    before = [
        all(end < -dim for end, dim in zip(column, dims[a], strict=True))
        for column, a in zip(columns, axes, strict=True)
    ]
    return [_BEFORE_ALL if is_before else end for end, is_before in zip(ends, before, strict=True)]


def _source(graph: Graph, onnx_graph: OnnxGraph, name: str) -> tuple[str, int]:
    """The ONNX input and its axis that have the dimension ``name``."""
    return next(
        (onnx_graph.inputs[key], axis)
        for key, operand in graph.inputs.items()
        for axis, dim in enumerate(operand.shape)
        if isinstance(dim, Size) and dim.name == name
    )


def _name_shapes(graph: Graph, onnx_graph: OnnxGraph, bound: Sequence[Graph], samples: Sequence[Sizes]) -> None:
    names = {tuple(sizes[name] for sizes in samples): name for name in graph.dimensions}
    for side, values in (("inputs", onnx_graph.inputs), ("outputs", onnx_graph.outputs)):
        for key, value in values.items():
            dims = list(zip(*(getattr(one, side)[key].shape for one in bound), strict=True))
            onnx_graph.dims[value] = tuple(dim[0] if len(set(dim)) == 1 else names.get(dim) for dim in dims)


@dataclass(frozen=True)
class _Solution:
    """What a constant is for any sizes: its elements in order; or, filled with one value, its shape."""

    entries: list[int]
    like: Array
    is_filled: bool = False


def _solution(merged: _Merged, fitter: _Fitter, name: str) -> _Solution:
    arrays = merged.constants[name]
    first = arrays[0]
    if all(a.shape == first.shape for a in arrays):
        if all(np.array_equal(a, np.rint(a)) for a in arrays):
            columns = zip(*(a.reshape(-1).tolist() for a in arrays), strict=True)
            entries = [fitter.fit([int(value) for value in column]) for column in columns]
            if None not in entries:
                return _Solution([entry for entry in entries if entry is not None], first)
    elif all(a.size and a.ndim == first.ndim and bool((a == first.flat[0]).all()) for a in arrays):
        dims = [fitter.fit(column) for column in zip(*(a.shape for a in arrays), strict=True)]
        if None not in dims:
            return _Solution([dim for dim in dims if dim is not None], first, is_filled=True)
    node = merged.reader[name]
    raise _DifferenceError(node, f"the values of a constant of {node.op_type}")


@dataclass
class _Merged:
    """The first graph, and what differs in those laid over it."""

    graph: OnnxGraph
    constants: dict[str, list[Array]] = field(default_factory=dict)
    """Initializers that are not the same everywhere, in each graph."""
    reader: dict[str, OnnxNode] = field(default_factory=dict)
    """The first node that reads an initializer."""
    shapes: list[Mapping[str, tuple[int, ...]]] = field(default_factory=list)
    """By the first graph's names, the shapes of all values in each graph."""

    def __post_init__(self) -> None:
        self.shapes.append({name: value.shape for name, value in self.graph.values.items()})

    def lay_over(self, other: OnnxGraph) -> None:
        """Raises _DifferenceError."""
        names = {mine: other.inputs[key] for key, mine in self.graph.inputs.items()}
        same: dict[str, Array] = {}
        for mine, its in itertools.zip_longest(self.graph.nodes, other.nodes):
            self._check_nodes(mine, its)
            for a, b in zip(mine.inputs, its.inputs, strict=True):
                known = names.get(a)
                if known is None and a in self.graph.initializers and b in other.initializers:
                    names[a], same[a] = b, other.initializers[b]
                    self._note(mine, a, same[a])
                elif (known or "") != b:
                    raise _DifferenceError(mine, f"what {mine.op_type} reads")
            names.update(zip(mine.outputs, its.outputs, strict=True))
            if any(self.graph.values[a].data_type != other.values[b].data_type for a, b in _named(mine, its)):
                raise _DifferenceError(mine, f"the data type of {mine.op_type}")
        for name, arrays in self.constants.items():
            arrays.append(same.get(name, self.graph.initializers[name]))
        self.shapes.append({mine: other.values[its].shape for mine, its in names.items() if its})

    def _check_nodes(self, mine: OnnxNode | None, its: OnnxNode | None) -> None:
        if mine is None or its is None:
            raise _DifferenceError(mine or its, "how many ONNX operators it becomes")
        if (mine.op_type, mine.domain, len(mine.inputs), len(mine.outputs), mine.origin) != (
            its.op_type, its.domain, len(its.inputs), len(its.outputs), its.origin,
        ):  # fmt: skip
            if mine.op_type == its.op_type:
                raise _DifferenceError(mine, f"how many values {mine.op_type} has")
            raise _DifferenceError(mine, f"whether it becomes {mine.op_type} or {its.op_type}")
        if mine.attributes != its.attributes:
            key = next(
                k for k in {**mine.attributes, **its.attributes} if mine.attributes.get(k) != its.attributes.get(k)
            )
            raise _DifferenceError(mine, f"the attribute {key} of {mine.op_type}")

    def _note(self, node: OnnxNode, name: str, its: Array) -> None:
        mine = self.graph.initializers[name]
        if mine.dtype != its.dtype:
            raise _DifferenceError(node, f"the data type of a constant of {node.op_type}")
        self.reader.setdefault(name, node)
        if name not in self.constants and not _equal(mine, its):
            self.constants[name] = [mine] * len(self.shapes)

    def dims_of(self, name: str) -> list[tuple[int, ...]]:
        """The dimensions of a value, each in every graph."""
        return list(zip(*(shapes[name] for shapes in self.shapes), strict=True))

    def open_shapes(self) -> None:
        """-1 for the dimensions that differ, as in imported models."""
        for name in self.shapes[-1]:
            if any(shapes[name] != self.shapes[0][name] for shapes in self.shapes):
                dims = tuple(dim[0] if len(set(dim)) == 1 else -1 for dim in self.dims_of(name))
                self.graph.values[name] = Tensor(name, self.graph.values[name].data_type, dims)


def _named(mine: OnnxNode, its: OnnxNode) -> Iterator[tuple[str, str]]:
    return ((a, b) for a, b in zip(mine.outputs, its.outputs, strict=True) if a and b)


def _equal(a: Array, b: Array) -> bool:
    if a is b:
        return True
    if a.shape != b.shape:
        return False
    mine, its = np.ascontiguousarray(a), np.ascontiguousarray(b)
    return bool(np.array_equal(mine.reshape(-1).view(np.uint8), its.reshape(-1).view(np.uint8)))


class _Fitter:
    """Finds the expression behind a number that differs from sample to sample, among those that the graph has."""

    def __init__(self, graph: Graph, samples: Sequence[Sizes]) -> None:
        shapes = (x.shape for node in graph.nodes for x in (*node.operands(), *node.outputs))
        found = {size.terms: size for size in sizes_in(shapes)}
        for node in graph.nodes:
            found.update((size.terms, size) for size in sizes_in(node.attributes.values()))
        named = [size for size in sizes_in(x.shape for x in graph.inputs.values()) if size.name]
        found.update((size.terms, size) for size in named)
        products = (a * b for a, b in itertools.combinations_with_replacement(dict.fromkeys(named), 2))
        found.update((size.terms, size) for size in products)
        self._pool: list[tuple[Size, tuple[int, ...]]] = [
            (size, tuple(size.at(sizes) for sizes in samples))
            for size in sorted(found.values(), key=lambda size: len(str(size)))
        ]
        self._graph = graph
        self._known: dict[tuple[int, ...], int | None] = {}
        self._rivals: list[list[Size]] = []
        """Expressions that have the same values at all samples."""

    def fit(self, values: Sequence[int]) -> int | None:
        """A number that does not differ, the Size that has these values, or None."""
        key = tuple(values)
        if key not in self._known:
            self._known[key] = key[0] if len(set(key)) == 1 else self._search(key)
        return self._known[key]

    def _search(self, values: tuple[int, ...]) -> int | None:
        found = [size for size, points in self._pool if points == values]
        for size, points in self._pool:
            ends = max(range(len(points)), key=points.__getitem__), min(range(len(points)), key=points.__getitem__)
            run = points[ends[0]] - points[ends[1]]
            factor, rest = divmod(values[ends[0]] - values[ends[1]], run) if run else (0, 1)
            offset = values[0] - factor * points[0]
            if not rest and all(factor * p + offset == v for p, v in zip(points, values, strict=True)):
                found.append(size * factor + offset)
        rivals = list({size.terms: size for size in found}.values())
        if len(rivals) > 1:
            self._rivals.append(rivals)
        return rivals[0] if rivals else None

    def doubt(self, base: Sizes) -> Sizes | None:
        """Other sizes, for which the graph holds: there an expression differs that has been the same so far, or two
        expressions found for one number do."""
        for size, points in self._pool:
            found = self._where(base, [size, points[0]]) if len(set(points)) == 1 else None
            if found is not None:
                return found
        for rivals in self._rivals:
            found = self._where(base, rivals)
            if found is not None:
                return found
        return None

    def _where(self, base: Sizes, rivals: Sequence[int]) -> Sizes | None:
        """Sizes near ``base`` at which ``rivals`` have different values."""
        for name, size in base.items():
            for step in _PROBES:
                sizes = {**base, name: size + step}
                if size + step > 0 and len(set(value_at(tuple(rivals), sizes))) > 1 and self._holds(sizes):
                    return sizes
        return None

    def _holds(self, sizes: Sizes) -> bool:
        try:
            bind_dimensions(self._graph, sizes)
        except ValidationError:
            return False
        return True
