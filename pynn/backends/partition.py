"""Cutting a graph: which operators go together to which back end, in which order, and the graph of each part.

A part is convex: no way leads out of it and back in, so that parts run one after another. Pure functions over Graph.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from ..converter.onnx_graph import base_names
from ..graph import Graph, Node, Operand

MIN_WORK = 2**16
"""A part for the preferred back end with less work than this is not worth a hand-over; ``work`` counts it. A hand-over
to a GPU costs some 20 to 50 microseconds, in which a CPU does about this much."""

_PRODUCTS = frozenset(("matmul", "gemm", "conv2d", "convTranspose2d", "gru", "gruCell", "lstm", "lstmCell"))


@dataclass(frozen=True, slots=True)
class Part:
    """``nodes`` are indices into the graph's nodes, ascending; ``preferred`` says which back end runs them."""

    preferred: bool
    nodes: tuple[int, ...]


@dataclass(frozen=True)
class Net:
    """What planning asks of a graph, found once."""

    graph: Graph
    bases: tuple[str, ...] = field(init=False)
    """How each node's ONNX nodes are called: the beginning of their names."""
    before: tuple[tuple[int, ...], ...] = field(init=False)
    after: tuple[tuple[int, ...], ...] = field(init=False)
    maker: Mapping[int, int] = field(init=False)
    """The node of a result, by the operand's id."""
    readers: Mapping[int, tuple[int, ...]] = field(init=False)
    """The nodes that read an operand, by its id; constants are left out."""
    public: Mapping[int, tuple[str, ...]] = field(init=False)
    """The names under which an operand is an output of the graph, by its id."""
    names: Mapping[int, str] = field(init=False)
    """By the operand's id, what a value is called where it enters a part: inputs as they are, results uniquely."""

    def __post_init__(self) -> None:
        nodes = self.graph.nodes
        maker = {id(result): i for i, node in enumerate(nodes) for result in node.outputs}
        readers: dict[int, dict[int, None]] = {}
        before: list[tuple[int, ...]] = []
        after: list[dict[int, None]] = [{} for _ in nodes]
        for i, node in enumerate(nodes):
            for operand in _read(node):
                readers.setdefault(id(operand), {})[i] = None
            found = tuple(dict.fromkeys(maker[id(x)] for x in _read(node) if id(x) in maker))
            before.append(found)
            for p in found:
                after[p][i] = None
        public: dict[int, tuple[str, ...]] = {}
        for name, operand in self.graph.outputs.items():
            public[id(operand)] = (*public.get(id(operand), ()), name)
        init = object.__setattr__
        init(self, "bases", base_names(self.graph))
        init(self, "before", tuple(before))
        init(self, "after", tuple(tuple(one) for one in after))
        init(self, "maker", maker)
        init(self, "readers", {key: tuple(one) for key, one in readers.items()})
        init(self, "public", public)
        init(self, "names", self._name_all())

    def _name_all(self) -> dict[int, str]:
        names = {id(operand): name for name, operand in self.graph.inputs.items()}
        taken = {*self.graph.inputs, *self.graph.outputs}
        for node, base in zip(self.graph.nodes, self.bases, strict=True):
            for i, result in enumerate(node.outputs):
                name = f"{base}:{i}"
                while name in taken:
                    name += "'"
                taken.add(name)
                names[id(result)] = name
        return names


def _read(node: Node) -> list[Operand]:
    return [operand for operand in node.operands() if not operand.is_constant]


def size_of(operand: Operand) -> int:
    """Bytes that a hand-over of this value moves."""
    return operand.descriptor.element_count * operand.data_type.numpy.itemsize


def work(node: Node) -> int:
    """How much an operator does: the values it reads and writes, for products the multiplications too.

    Those are taken as the square root of the sizes of data, weights and result multiplied: right for a matrix product,
    a fair guess for convolutions and recurrent operators.
    """
    operands = list(node.operands())
    touched = sum(x.descriptor.element_count for x in (*operands, *node.outputs))
    if node.op not in _PRODUCTS:
        return touched
    return touched + math.isqrt(math.prod(x.descriptor.element_count for x in (*operands[:2], node.outputs[0])))


def plan(net: Net, refused: Collection[int], min_work: int = MIN_WORK) -> tuple[Part, ...]:
    """The fewest parts that alternate between the back ends, in the order in which they run.

    ``refused`` are the nodes that the preferred back end cannot run. Its parts with less work than ``min_work`` go to
    the other back end, the smaller half of them first: what is left may grow together.
    """
    other = set(refused)
    while True:
        parts = _cut(net, other)
        weights = {part: sum(work(net.graph.nodes[i]) for i in part.nodes) for part in parts if part.preferred}
        small = sorted((part for part in weights if weights[part] < min_work), key=lambda part: weights[part])
        if not small:
            return parts
        for part in small[: (len(small) + 1) // 2]:
            other.update(part.nodes)


def _cut(net: Net, other: Collection[int]) -> tuple[Part, ...]:
    sides = [i in other for i in range(len(net.before))]
    plans = []
    for first in (False, True):
        stages = _stages(net, sides, first)
        _sink(net, stages)
        plans.append((len(set(stages)), _handed(net, stages), first, stages))
    _, _, first, stages = min(plans)
    members: dict[int, list[int]] = {}
    for i, stage in enumerate(stages):
        members.setdefault(stage, []).append(i)
    return tuple(Part((stage % 2 == 1) == first, tuple(members[stage])) for stage in sorted(members))


def _stages(net: Net, sides: Sequence[bool], first: bool) -> list[int]:
    """Each node's place in the alternating sequence, as early as can be. Stage 0 belongs to the side ``first``.

    The number of stages is that of the changes of side on the worst way through the graph: there are no fewer.
    """
    stages: list[int] = []
    for before, side in zip(net.before, sides, strict=True):
        low = max((stages[p] for p in before), default=0)
        stages.append(low if (low % 2 == 1) == (side != first) else low + 1)
    return stages


def _sink(net: Net, stages: list[int]) -> None:
    """Move nodes to a later part of their side, where it saves handing over: the last first."""
    for i in reversed(range(len(stages))):
        latest = min((stages[c] for c in net.after[i]), default=stages[i])
        latest -= (latest - stages[i]) % 2
        if latest <= stages[i]:
            continue
        node, now = net.graph.nodes[i], stages[i]
        touched = {id(x): x for x in (*_read(node), *node.outputs)}.values()
        cost = sum(_crossing(net, stages, x) for x in touched)
        stages[i] = latest
        if sum(_crossing(net, stages, x) for x in touched) >= cost:
            stages[i] = now


def _crossing(net: Net, stages: Sequence[int], operand: Operand) -> int:
    """Bytes handed to other parts than the one that makes the value; a graph's input is handed to all that read it."""
    maker = net.maker.get(id(operand))
    at = {stages[r] for r in net.readers.get(id(operand), ())} - ({stages[maker]} if maker is not None else set())
    return len(at) * size_of(operand)


def _handed(net: Net, stages: Sequence[int]) -> int:
    results = (result for node in net.graph.nodes for result in node.outputs)
    return sum(_crossing(net, stages, x) for x in (*net.graph.inputs.values(), *results))


@dataclass(frozen=True)
class Cut:
    """A part's own graph. ``handed`` are those of its outputs that other parts read: output name -> value's name."""

    graph: Graph
    handed: Mapping[str, str]


def cut_out(net: Net, nodes: Collection[int]) -> Cut:
    """The graph of some nodes. Operands, nodes and constants are shared with the whole, nothing is copied.

    Values from outside become inputs; what others read or what is public become outputs.
    """
    members = set(nodes)
    inputs: dict[str, Operand] = {}
    outputs: dict[str, Operand] = {}
    handed: dict[str, str] = {}
    ordered = sorted(members)
    for i in ordered:
        for operand in _read(net.graph.nodes[i]):
            if net.maker.get(id(operand)) not in members:
                inputs[net.names[id(operand)]] = operand
        for result in net.graph.nodes[i].outputs:
            public = net.public.get(id(result), ())
            outside = any(reader not in members for reader in net.readers.get(id(result), ()))
            names = public or ((net.names[id(result)],) if outside else ())
            outputs.update((name, result) for name in names)
            if outside:
                handed[names[0]] = net.names[id(result)]
    return Cut(Graph(inputs, outputs, tuple(net.graph.nodes[i] for i in ordered)), handed)
