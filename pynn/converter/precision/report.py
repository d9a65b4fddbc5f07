"""What each operator computes in, and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from ..onnx_graph import OnnxGraph, OnnxNode
from .casts import CAST_ORIGIN

_FLOATS = ("float32", "float16", "bfloat16", "float64")
_SHOWN = 40


@dataclass(frozen=True)
class Decision:
    """One operator: its ONNX ``name`` and ``op_type``, the WebNN ``origin`` (operator and label) if there is one, the
    ``data_type`` it computes in ("int64" and the like for what has no float), and why."""

    name: str
    op_type: str
    origin: str
    data_type: str
    reason: str


@dataclass(frozen=True)
class PrecisionReport:
    """What a model computes in. ``asked`` is the precision asked for, ``used`` what came of it (None: the model's own
    types), ``casts`` how many casts were put in,
    ``weights`` what became of each quantised weight. Print it."""

    asked: str | None = None
    used: str | None = None
    target: str = ""
    decisions: tuple[Decision, ...] = ()
    casts: int = 0
    weights: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def counts(self) -> dict[str, int]:
        """Operators by type."""
        return dict(Counter(one.data_type for one in self.decisions).most_common())

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON takes them."""
        return {
            "asked": self.asked,
            "used": self.used,
            "target": self.target,
            "counts": self.counts(),
            "casts": self.casts,
            "weights": list(self.weights),
            "notes": list(self.notes),
            "operators": [
                {
                    "name": one.name,
                    "op_type": one.op_type,
                    "origin": one.origin,
                    "data_type": one.data_type,
                    "reason": one.reason,
                }
                for one in self.decisions
            ],
        }

    def __str__(self) -> str:
        what = self.used or "the model's own types"
        asked = "" if self.asked in (None, self.used) else f" (asked for: {self.asked})"
        where = f" for {self.target}" if self.target else ""
        counts = ", ".join(f"{n} {data_type}" for data_type, n in self.counts().items()) or "not listed"
        lines = [f"precision: {what}{asked}{where}", f"operators: {counts}; {self.casts} casts put in"]
        lines += [f"note: {note}" for note in self.notes]
        lines += [f"weight: {text}" for text in self.weights[:_SHOWN]]
        width = max((len(one.name) for one in self.decisions[:_SHOWN]), default=0)
        for one in self.decisions[:_SHOWN]:
            why = f"  {one.reason}" if one.reason else ""
            lines.append(f"  {one.name:{width}}  {one.op_type:<20} {one.data_type:<9}{why}".rstrip())
        if len(self.decisions) > _SHOWN:
            lines.append(f"  ... {len(self.decisions) - _SHOWN} more in .decisions")
        return "\n".join(lines)


def decisions_of(graph: OnnxGraph, reasons: dict[str, str]) -> tuple[Decision, ...]:
    """One for each node of the graph as it is now, but for the casts that were put in."""
    return tuple(
        Decision(
            node.name, node.op_type, _origin(node), type_of(graph, node), reasons.get(node.name, _plain(graph, node))
        )
        for node in graph.nodes
        if node.origin != CAST_ORIGIN
    )


def type_of(graph: OnnxGraph, node: OnnxNode) -> str:
    """The type a node computes in: that of its float operands, else of its result."""
    types = [graph.values[name].data_type for name in (*node.outputs, *node.inputs) if name]
    if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        types.reverse()
    if node.op_type == "Cast":
        return types[0]
    return next((one for one in types if one in _FLOATS), types[0] if types else "") or "unknown"


def _origin(node: OnnxNode) -> str:
    return "" if node.origin == node.name else node.origin


def _plain(graph: OnnxGraph, node: OnnxNode) -> str:
    if node.op_type == "Cast":
        return "a conversion of the model's own"
    found = type_of(graph, node)
    if found == "unknown":
        return "its types are not known: left alone"
    return "as the model says" if found == "float32" else "no float32 in it"
