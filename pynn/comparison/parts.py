"""A shadow graph run in parts, one after the other, so that memory is bounded and each operator is computed once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..backends.base import Backend, CompileOptions, Executable
from ..converter.model import numpy_dtype
from ..converter.onnx_graph import OnnxGraph, OnnxNode
from ..converter.passes import Pass, run_passes
from ..converter.serialize import to_model
from .shadow import Pair, Shadow

Array = np.ndarray[Any, Any]

_MOST_NODES = 512
_MOST_DYNAMIC_NODES = 64
"""Operators of the model in one part; fewer where sizes are not known beforehand."""
_COPIES = 3
"""Exact, reduced, and the operator alone."""


@dataclass(slots=True)
class _Part:
    nodes: list[OnnxNode] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    last: set[str] = field(default_factory=set)
    """Values that no later part reads."""
    session: Executable | None = None


class Parts:
    """``run`` gives each pair of ``shadow`` as arrays. A context manager. Sessions are made in the first run."""

    def __init__(self, shadow: Shadow, backend: Backend, passes: Sequence[Pass], memory_bytes: int) -> None:
        self._shadow, self._backend, self._passes = shadow, backend, passes
        self._inputs = shadow.exact.inputs
        self._parts = _split(shadow, memory_bytes)

    def run(self, sample: Mapping[str, Array]) -> Iterator[tuple[Pair, Array, Array | None, Array | None]]:
        """A pair and its arrays: exact, in the reduced model, of the operator alone."""
        held = {value: sample[name] for name, value in self._inputs.items()}
        for part in self._parts:
            if not part.outputs:
                continue
            if part.session is None:
                part.session = self._backend.compile(to_model(self._graph(part, held)), CompileOptions())
            held.update(part.session.run({name: held[name] for name in part.inputs}))
            for pair in part.pairs:
                reduced = None if pair.reduced is None else held[pair.reduced]
                yield pair, held[pair.exact], reduced, None if pair.own is None else held[pair.own]
            for name in part.last:
                held.pop(name, None)

    def _graph(self, part: _Part, held: Mapping[str, Array]) -> OnnxGraph:
        whole, graph = self._shadow.graph, OnnxGraph()
        graph.opsets, graph.ir_version = whole.opsets.copy(), whole.ir_version
        graph.nodes = [node.copy() for node in part.nodes]
        names = {x for node in part.nodes for x in (*node.inputs, *node.outputs, *node.captures) if x}
        names.update(part.inputs, part.outputs)
        graph.values = {name: whole.values[name] for name in names}
        graph.initializers = {name: whole.initializers[name] for name in names if name in whole.initializers}
        graph.unshaped = whole.unshaped & names
        graph.inputs = {name: name for name in part.inputs}
        graph.outputs = {name: name for name in part.outputs}
        for name in part.inputs:
            if name in graph.unshaped or graph.values[name].shape != held[name].shape:
                graph.unshaped.discard(name)
                graph.dims[name] = (None,) * held[name].ndim
        run_passes(graph, self._passes)
        graph.unshaped.update(part.outputs)
        return graph

    def close(self) -> None:
        for part in self._parts:
            if part.session is not None:
                part.session.close()

    def __enter__(self) -> Parts:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _split(shadow: Shadow, memory_bytes: int) -> list[_Part]:
    """Each node in the first part that has all that it reads, exact nodes in order. What follows from constants alone
    is computed in every part that reads it: weights do not pass from part to part."""
    graph = shadow.graph
    where = dict.fromkeys((*graph.inputs.values(), *graph.initializers), 0)
    exact_places = _exact_places(shadow, memory_bytes)
    parts = [_Part() for _ in range(max(exact_places, default=0) + 1)]
    for number, node in enumerate(graph.nodes):
        place = max([where[x] for x in _reads(node)], default=0)
        if number < len(exact_places):
            place = max(place, exact_places[number])
        where.update((x, place) for x in node.outputs if x)
        if not shadow.constants.issuperset(node.outputs):
            parts[place].nodes.append(node)
    for pair in shadow.pairs:
        names = _compared(pair)
        if all(graph.values[x].data_type for x in names):
            parts[max(where[x] for x in names)].pairs.append(pair)
    _add_constants(parts, shadow)
    _connect(parts, graph)
    return parts


def _reads(node: OnnxNode) -> list[str]:
    return [x for x in (*node.inputs, *node.captures) if x]


def _compared(pair: Pair) -> list[str]:
    return [x for x in (pair.exact, pair.reduced, pair.own) if x is not None]


def _add_constants(parts: list[_Part], shadow: Shadow) -> None:
    """The nodes that compute what a part needs from constants alone, before its others."""
    nodes = shadow.graph.nodes
    makers = {x: i for i, node in enumerate(nodes) for x in node.outputs if x in shadow.constants}
    for part in parts:
        waiting = [x for node in part.nodes for x in _reads(node)] + [x for pair in part.pairs for x in _compared(pair)]
        found: set[int] = set()
        while waiting:
            maker = makers.get(waiting.pop())
            if maker is not None and maker not in found:
                found.add(maker)
                waiting += _reads(nodes[maker])
        part.nodes[:0] = [nodes[i] for i in sorted(found)]


def _exact_places(shadow: Shadow, memory_bytes: int) -> list[int]:
    """By node of the exact model, the number of its part. One part for all where a type is not known: its value could
    not pass from part to part."""
    exact = shadow.exact
    outputs = [name for node in exact.nodes for name in node.outputs if name]
    if any(not exact.values[name].data_type for name in outputs):
        return [0] * len(exact.nodes)
    dynamic = any(name in exact.unshaped or min(exact.values[name].shape, default=0) < 0 for name in outputs)
    most = _MOST_DYNAMIC_NODES if dynamic else _MOST_NODES
    places, place, count, held = [], 0, 0, 0
    for node in exact.nodes:
        size = _COPIES * sum(_bytes(exact, name) for name in node.outputs if name)
        if count and (count == most or held + size > memory_bytes):
            place, count, held = place + 1, 0, 0
        places.append(place)
        count, held = count + 1, held + size
    return places


def _bytes(graph: OnnxGraph, name: str) -> int:
    tensor = graph.values[name]
    return math.prod(max(1, dim) for dim in tensor.shape) * numpy_dtype(tensor.data_type).itemsize


def _connect(parts: list[_Part], graph: OnnxGraph) -> None:
    """What passes from part to part."""
    used: dict[str, int] = {}
    passed: dict[str, int] = {}
    for number, part in enumerate(parts):
        made = {x for node in part.nodes for x in node.outputs}
        reads = dict.fromkeys(x for node in part.nodes for x in _reads(node))
        part.inputs = [x for x in reads if x not in made and x not in graph.initializers]
        compared = [x for pair in part.pairs for x in _compared(pair)]
        passed.update((x, number) for x in (*part.inputs, *(x for x in compared if x not in made)))
        used.update((x, number) for x in (*part.inputs, *compared))
    for number, part in enumerate(parts):
        compared = [x for pair in part.pairs for x in _compared(pair)]
        made = {x for node in part.nodes for x in node.outputs if x}
        later = [x for x in made if passed.get(x, -1) > number]
        part.outputs = list(dict.fromkeys((*(x for x in compared if x in made), *sorted(later))))
    for name, number in used.items():
        parts[number].last.add(name)
