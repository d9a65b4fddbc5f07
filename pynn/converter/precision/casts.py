"""Carry out autocast's choices: types changed, weights rounded on the host, casts where two types meet.

A value is cast at most once to each type, where it is first wanted; what was cast from the other type is taken from
there; a Cast of the model's own that became superfluous goes.
"""

from __future__ import annotations

from ...ops.emitter import Tensor
from ..onnx_graph import OnnxGraph, OnnxNode
from .autocast import WIDE, Choices
from .narrowing import narrowed
from .operators import FIXED_SLOTS

_NUMBERS = frozenset(("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"))
CAST_ORIGIN = "precision"
"""``origin`` of the casts that are put in."""


def apply_choices(graph: OnnxGraph, choices: Choices, *, io: bool = False) -> None:
    """Rewrite ``graph`` in place."""
    _Caster(graph, choices, io).run()


class _Caster:
    def __init__(self, graph: OnnxGraph, choices: Choices, io: bool) -> None:
        self.graph, self.choices, self.low = graph, choices, choices.low_type
        captured, public = graph.captured(), set(graph.outputs.values())
        computed = {name for node in graph.nodes for name in node.outputs} - captured
        self.inputs = {x for x in graph.inputs.values() if io and x not in captured and self._is_wide(x)}
        self.outputs = {x for x in public & computed if io and self._is_wide(x)}
        """Inputs and outputs that become narrow."""
        self.fixed = (captured | public) - self.outputs
        """Values that stay what they are under their name."""
        self.known: dict[tuple[str, str], str] = {}
        """By value and type, the name of the same value in that type."""
        self.same: dict[str, str] = {}
        """By the name of a value that is no more, the one to read instead."""
        self.nodes: list[OnnxNode] = []

    def run(self) -> None:
        graph = self.graph
        for name in self.inputs:
            self._retype(name)
        for i, node in enumerate(graph.nodes):
            if self.same:
                node.inputs = [self.same.get(name, name) for name in node.inputs]
            choice = self.choices.by_node.get(i)
            if choice is not None:
                self._place(node, self.choices.slots[i], self.low if choice.low else WIDE)
            elif node.op_type != "Cast" or node.domain or not self._place_cast(node):
                self.nodes.append(node)
        graph.nodes = self.nodes
        _drop_unused(graph)

    # -- nodes

    def _place(self, node: OnnxNode, places: list[int], data_type: str) -> None:
        """Add a node whose operands at ``places`` have ``data_type`` from now on."""
        for place in places:
            node.inputs[place] = self._in_type(node.inputs[place], data_type)
        for place in FIXED_SLOTS.get(node.op_type, ()):
            if place < len(node.inputs) and self._is_low(node.inputs[place]):
                node.inputs[place] = self._in_type(node.inputs[place], WIDE)
        self.nodes.append(node)
        for k, name in enumerate(node.outputs):
            if not name or not self._is_wide(name):
                continue
            if data_type == WIDE and name in self.outputs:
                self._retype(name)
                node.outputs[k] = self._beside(name, WIDE)
                self._cast(node.outputs[k], name)
            elif data_type != WIDE and name in self.fixed:
                node.outputs[k] = self._beside(name, data_type)
                self._cast(node.outputs[k], name)
            elif data_type != WIDE:
                self._retype(name)

    def _place_cast(self, node: OnnxNode) -> bool:
        """See to a Cast of the model's own. False when it stays."""
        source, made = node.inputs[0], node.outputs[0]
        came, goes = self.graph.values[source].data_type, node.attributes["to"]
        if goes == WIDE and came == self.low:
            self.known[made, self.low] = source
        if made in self.outputs or (
            goes == WIDE
            and came in _NUMBERS
            and made not in self.fixed
            and made in self.choices.wants_low
            and made not in self.choices.wants_wide
        ):
            node.attributes["to"] = self.low
            self._retype(made)
        elif goes == self.low and made not in self.fixed:
            same = source if came == self.low else self.known.get((source, self.low))
            if same is not None:
                self.same[made] = same
                return True
        return False

    # -- values

    def _is_wide(self, name: str) -> bool:
        return self.graph.values[name].data_type == WIDE and name not in self.graph.carriers

    def _is_low(self, name: str) -> bool:
        return bool(name) and self.graph.values[name].data_type == self.low

    def _retype(self, name: str) -> None:
        self.graph.values[name] = Tensor(name, self.low, self.graph.values[name].shape)

    def _in_type(self, name: str, data_type: str) -> str:
        """The name of the value in ``data_type``; cast here if it is wanted for the first time."""
        if self.graph.values[name].data_type == data_type:
            return name
        found = self.known.get((name, data_type))
        if found is not None:
            return found
        array = self.graph.initializers.get(name)
        made = self._beside(name, data_type)
        if array is None:
            self._cast(name, made)
        else:
            self.graph.initializers[made] = narrowed(array, data_type)
        return made

    def _beside(self, name: str, data_type: str) -> str:
        """A new value: ``name`` in another type."""
        graph = self.graph
        made = graph.fresh(f"{name}/{data_type}")
        graph.values[made] = Tensor(made, data_type, graph.values[name].shape)
        if name in graph.unshaped:
            graph.unshaped.add(made)
        self.known[name, data_type] = made
        return made

    def _cast(self, source: str, made: str) -> None:
        goes = self.graph.values[made].data_type
        self.nodes.append(OnnxNode("Cast", [source], [made], {"to": goes}, f"{source}/to_{goes}", CAST_ORIGIN))


def _drop_unused(graph: OnnxGraph) -> None:
    """Casts and constants that nobody reads any more."""
    used = graph.captured() | set(graph.outputs.values())
    kept = []
    for node in reversed(graph.nodes):
        if node.op_type == "Cast" and node.outputs[0] not in used:
            continue
        used.update(node.inputs)
        kept.append(node)
    graph.nodes = kept[::-1]
    for name in [name for name in graph.initializers if name not in used]:
        del graph.initializers[name]
