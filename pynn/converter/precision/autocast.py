"""Which operators run in a narrow type: one decision for each, with its reason. ``casts.py`` carries them out.

Three walks over the nodes: forwards (each operator by its kind, its constants, and what comes before it), backwards
(what comes after it), and forwards again for the operators that only move data. Each takes time linear in the nodes.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from ..onnx_graph import OnnxGraph, OnnxNode
from .keep import is_kept
from .narrowing import Narrowing
from .operators import AMPLIFIES, ENDS, FIXED_SLOTS, PHASES, Kind, kind_of, reason_of

WIDE = "float32"
_SCALES_OF_ANY_TYPE = 19
"""Opset since which QuantizeLinear and DequantizeLinear take scales that are not float32."""


@dataclass(slots=True)
class Choice:
    """What was decided for a node: ``low`` is None until it is."""

    low: bool | None
    reason: str


@dataclass
class Choices:
    """Decisions by the number of the node; nodes without float32 operands have none."""

    low_type: str
    slots: list[list[int]]
    """Of each node, the numbers of the inputs whose type is the operator's own, float32 before."""
    by_node: dict[int, Choice] = field(default_factory=dict)
    wants_low: set[str] = field(default_factory=set)
    wants_wide: set[str] = field(default_factory=set)
    """Values that some reader wants in the narrow type, or in float32, directly or through what moves data."""


def _slots(graph: OnnxGraph, node: OnnxNode) -> list[int]:
    values, fixed = graph.values, FIXED_SLOTS.get(node.op_type, ())
    return [i for i, name in enumerate(node.inputs) if name and values[name].data_type == WIDE and i not in fixed]


def choose(
    graph: OnnxGraph, low_type: str, *, keep: Collection[str] = (), gaps: Collection[str] = (), io: bool = False
) -> Choices:
    """Decide for every node. ``gaps`` are operators that the library lacks in ``low_type``; ``io``: inputs and outputs
    become narrow too."""
    return _Chooser(graph, low_type, keep, gaps, io).choices


class _Chooser:
    def __init__(self, graph: OnnxGraph, low_type: str, keep: Collection[str], gaps: Collection[str], io: bool) -> None:
        self.graph, self.keep, self.gaps = graph, frozenset(keep), gaps
        self.slots = [_slots(graph, node) for node in graph.nodes]
        self.choices = Choices(low_type, self.slots)
        self.narrowing = Narrowing(graph, low_type)
        self.open: set[str] = set()
        """Values that come out of an open chain."""
        self.quantized: set[str] = set()
        """Activations behind a DequantizeLinear to which the operator after it belongs."""
        self.kinds = [kind_of(node.op_type, node.domain) for node in graph.nodes]
        for i, node in enumerate(graph.nodes):
            self._forwards(i, node)
        outside = graph.captured() | (set() if io else set(graph.outputs.values()))
        self.choices.wants_wide |= outside
        if io:
            self.choices.wants_low |= set(graph.outputs.values())
        self.amplified: dict[str, bool] = dict.fromkeys(graph.outputs.values(), False)
        """By value, whether all readers are amplifying ones."""
        self.phases: dict[str, bool] = dict.fromkeys(graph.outputs.values(), False)
        for i in range(len(graph.nodes) - 1, -1, -1):
            self._backwards(i, graph.nodes[i])
        self.states: dict[str, bool | None] = {}
        """By value, whether it is narrow; None or absent for what is neither: inputs and constants."""
        if io:
            self.states.update(dict.fromkeys(graph.inputs.values(), True))
        for i, node in enumerate(graph.nodes):
            self._settle(i, node)

    # -- forwards: by kind, constants and what comes before

    def _forwards(self, i: int, node: OnnxNode) -> None:
        graph, kind = self.graph, self.kinds[i]
        if kind is Kind.ANY:
            return
        if not self.slots[i] and not any(graph.values[x].data_type == WIDE for x in node.outputs if x):
            return
        low, reason, is_open = self._judge(node, kind, self.slots[i])
        self.choices.by_node[i] = Choice(low, reason)
        if is_open:
            self.open.update(node.outputs)

    def _judge(self, node: OnnxNode, kind: Kind, places: list[int]) -> tuple[bool | None, str, bool]:
        """(narrow or not or later, why, whether the chain behind it is open)."""
        reason = reason_of(node.op_type, kind)
        if is_kept(node, self.keep):
            return False, "kept as asked", False
        if kind in (Kind.UNKNOWN, Kind.CLOSED, Kind.CHOOSES):
            return False, reason, False
        if kind is Kind.OPEN:
            behind = any(node.inputs[p] in self.open for p in places)
            return False, reason, not (node.op_type == "Reciprocal" and behind)
        if any(not self.graph.values[x].data_type for x in (*node.inputs, *node.outputs) if x):
            return False, "it has an operand of unknown type: left alone", False
        if node.op_type in self.gaps:
            return False, f"the library does not build it in {self.choices.low_type}", False
        if kind is Kind.QUANTIZED:
            return self._judge_quantized(node)
        lost = self.narrowing.loss(node, places)
        if lost:
            return False, lost, True
        if kind is Kind.PRODUCT and any(node.inputs[p] in self.quantized for p in places):
            return False, "its activations are int8, whose products overflow in float16", False
        behind = any(node.inputs[p] in self.open for p in places)
        if kind is Kind.MOVE:
            return None, reason, behind
        if behind and kind in (Kind.ARITHMETIC, Kind.ACTIVATION):
            why = "belongs to the float32 chain before it"
            return False, why, kind is Kind.ARITHMETIC and node.op_type not in ENDS
        return True, reason, False

    def _judge_quantized(self, node: OnnxNode) -> tuple[bool | None, str, bool]:
        graph = self.graph
        if graph.opsets.get("", 0) < _SCALES_OF_ANY_TYPE:
            why = f"scales are float32 before opset {_SCALES_OF_ANY_TYPE}"
        elif node.op_type == "DequantizeLinear":
            constant = node.inputs[0] in graph.initializers
            if constant or graph.values[node.inputs[0]].data_type.startswith("float8"):
                why = self.narrowing.scale_loss(node.inputs[1])
            else:
                why = "its activations are int8, whose products overflow in float16"
                self.quantized.update(node.outputs)
        elif graph.values[node.outputs[0]].data_type.startswith("float8"):
            why = self.narrowing.scale_loss(node.inputs[1])
        else:
            why = "quantises to int8: stays beside its DequantizeLinear"
        return (False, why, False) if why else (None, "follows its neighbours; its scale is narrowed with it", False)

    # -- backwards: what comes after

    def _backwards(self, i: int, node: OnnxNode) -> None:
        choices, choice = self.choices, self.choices.by_node.get(i)
        kind, outputs = self.kinds[i], [x for x in node.outputs if x]
        amplified = all(self.amplified.get(x, False) for x in outputs)
        phase = all(self.phases.get(x, False) for x in outputs)
        if choice is not None and choice.low:
            if amplified and kind is Kind.ARITHMETIC:
                choice.low, choice.reason = False, "leads only to an operator that amplifies its error"
            elif phase:
                choice.low, choice.reason = False, "computes a phase: float16 has no fraction left above 2048"
        moves = choice is not None and choice.low is None
        amplified = node.op_type in AMPLIFIES or (amplified and (moves or _is_absorbed(choice, kind)))
        phase = node.op_type in PHASES or (phase and kind not in (Kind.UNKNOWN, Kind.CHOOSES))
        for name in node.inputs:
            if name:
                self.amplified[name] = amplified and self.amplified.get(name, True)
                self.phases[name] = phase and self.phases.get(name, True)
        if choice is None:
            return
        names = [node.inputs[p] for p in self.slots[i]]
        if moves:
            names = [name for name in node.inputs if name]
        if choice.low or (moves and not choices.wants_low.isdisjoint(outputs)):
            choices.wants_low.update(names)
        if choice.low is False or (moves and not choices.wants_wide.isdisjoint(outputs)):
            choices.wants_wide.update(names)

    # -- forwards again: what moves data

    def _settle(self, i: int, node: OnnxNode) -> None:
        graph, states, choice = self.graph, self.states, self.choices.by_node.get(i)
        if choice is None:
            if node.op_type == "Cast":
                came_low = graph.values[node.inputs[0]].data_type == self.choices.low_type
                states[node.outputs[0]] = True if came_low else states.get(node.inputs[0])
            return
        if choice.low is None:
            before = {states.get(name) for name in node.inputs if name and name not in graph.initializers}
            low = not self.choices.wants_low.isdisjoint(node.outputs)
            wide = not self.choices.wants_wide.isdisjoint(node.outputs)
            choice.low = True in before or (low and not wide)
        states.update(dict.fromkeys(node.outputs, choice.low))


def _is_absorbed(choice: Choice | None, kind: Kind) -> bool:
    return choice is not None and choice.low is False and kind is Kind.ARITHMETIC
