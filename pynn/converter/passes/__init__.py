"""Passes: named rewrites of an OnnxGraph, each answering a limit of one back end's library.

Lowerings emit standard ONNX. What a library cannot take, or computes outside the tolerance, is changed here and
nowhere else. A pass is a function ``OnnxGraph -> None`` whose docstring's first paragraph says which limit of which
library and versions it answers. ``rewrite`` is the usual way to write one; ``run_passes`` runs a list and keeps a
record of what each one changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...ops.emitter import Tensor
from ..onnx_graph import GraphEmitter, OnnxGraph, OnnxNode

__all__ = [
    "Pass",
    "PassRecord",
    "Rewriter",
    "Rule",
    "backend_passes",
    "graph_pass",
    "model_pass",
    "rewrite",
    "run_passes",
]


@dataclass(frozen=True, slots=True)
class Pass:
    """A named rewrite; ``limit`` is its function's docstring.

    One with ``left`` also runs on imported models, whose shapes may be unknown and whose opset may be older: it leaves
    alone what it cannot judge, and ``left`` says of a graph that it ran on which nodes these are, in sentences.
    """

    name: str
    run: Callable[[OnnxGraph], None]
    left: Callable[[OnnxGraph], Sequence[str]] | None = None

    @property
    def limit(self) -> str:
        return self.run.__doc__ or ""


def graph_pass(function: Callable[[OnnxGraph], None]) -> Pass:
    """Decorator: the function as a Pass of the same name. A docstring is required."""
    if not function.__doc__:
        raise ValueError(f"pass {function.__name__} has no docstring: say which library limit it answers")
    return Pass(function.__name__, function)


def model_pass(left: Callable[[OnnxGraph], Sequence[str]]) -> Callable[[Callable[[OnnxGraph], None]], Pass]:
    """Decorator: ``graph_pass`` for a pass that also runs on imported models."""
    return lambda function: replace(graph_pass(function), left=left)


@dataclass(frozen=True, slots=True)
class PassRecord:
    """What one pass did: by origin (WebNN operator and label), the ONNX nodes that went and those that came."""

    name: str
    changed: Mapping[str, tuple[Mapping[str, int], Mapping[str, int]]]

    def __str__(self) -> str:
        def side(counts: Mapping[str, int]) -> str:
            return " ".join(op if n == 1 else f"{n}x{op}" for op, n in counts.items()) or "nothing"

        lines = [f"{origin}: {side(gone)} -> {side(new)}" for origin, (gone, new) in self.changed.items()]
        return f"{self.name}: " + ("; ".join(lines) if lines else "nothing to do")


def run_passes(graph: OnnxGraph, passes: Iterable[Pass]) -> tuple[PassRecord, ...]:
    """Run the passes in order on ``graph``, in place; one record for each that changed a node."""
    records = []
    before = {id(node): _Snapshot(node) for node in graph.nodes}
    for one in passes:
        one.run(graph)
        after: dict[int, _Snapshot] = {}
        new: list[OnnxNode] = []
        for node in graph.nodes:
            known = before.get(id(node))
            if known is None or not known.holds():
                known = _Snapshot(node)
                new.append(node)
            after[id(node)] = known
        changed: dict[str, tuple[Counter[str], Counter[str]]] = {}
        for key, gone in before.items():
            if after.get(key) is not gone:
                changed.setdefault(gone.origin, (Counter(), Counter()))[0][gone.op_type] += 1
        for node in new:
            changed.setdefault(node.origin, (Counter(), Counter()))[1][node.op_type] += 1
        if changed:
            records.append(PassRecord(one.name, changed))
        before = after
    return tuple(records)


class _Snapshot:
    """A node as it was between two passes. Keeps the node, so that no other one gets its ``id``."""

    __slots__ = ("attributes", "inputs", "node", "op_type", "origin", "outputs")

    def __init__(self, node: OnnxNode) -> None:
        self.node = node
        self.op_type, self.origin = node.op_type, node.origin
        self.inputs, self.outputs = node.inputs.copy(), node.outputs.copy()
        self.attributes = node.attributes.copy()

    def holds(self) -> bool:
        """Whether the node is still as it was."""
        node = self.node
        return (
            node.inputs == self.inputs
            and node.outputs == self.outputs
            and node.op_type == self.op_type
            and node.attributes == self.attributes
        )


class Rewriter(GraphEmitter):
    """The Emitter of lowerings, for passes: ``value`` finds a node's inputs, ``op`` and friends emit in the node's
    place."""

    def at(self, node: OnnxNode) -> None:
        self._base, self._origin = node.name, node.origin

    def value(self, name: str) -> Tensor:
        return self.graph.values[name]

    def inputs(self, node: OnnxNode) -> list[Tensor | None]:
        """The node's inputs; None for an absent optional one."""
        return [self.graph.values[name] if name else None for name in node.inputs]

    def array(self, name: str) -> np.ndarray[Any, Any] | None:
        """The value of an initializer, else None."""
        return self.graph.initializers.get(name)


Rule = Callable[[Rewriter, OnnxNode], "Tensor | Sequence[Tensor | None] | None"]
"""Emit a node's replacement and return the new outputs in the old order (None for an unused one); return None, with
nothing emitted, to keep the node."""


def rewrite(graph: OnnxGraph, rule: Rule, *, retype: bool = False) -> None:
    """Offer every node to ``rule``, in order. Replaced outputs keep their names, so that readers and public names stay.

    A replacement has the old output's type and shape, unless ``retype``: then the new type is recorded in ``values``
    (and the pass sees to the readers and to ``carriers``).
    """
    rewriter = Rewriter(graph)
    old, graph.nodes = graph.nodes, []
    for node in old:
        first = len(graph.nodes)
        rewriter.at(node)
        results = rule(rewriter, node)
        if results is None:
            assert len(graph.nodes) == first, f"{node!r}: a rule emitted nodes but returned None"
            graph.nodes.append(node)
            continue
        listed = [results] if isinstance(results, Tensor) else list(results)
        made = {name for n in graph.nodes[first:] for name in n.outputs}
        rename: dict[str, str] = {}
        for name, result in zip(node.outputs, listed, strict=True):
            if not name or result is None:
                continue
            was = graph.values[name]
            same = result.shape == was.shape and (retype or result.data_type == was.data_type)
            assert same, f"{node!r}: replaced {was!r} by {result!r}"
            if result.name not in made or result.name in rename:
                result = rewriter.op("Identity", result)
            rename[result.name] = name
            del graph.values[result.name]
            graph.values[name] = Tensor(name, result.data_type, result.shape)
        for new in graph.nodes[first:]:
            new.inputs = [rename.get(x, x) for x in new.inputs]
            new.outputs = [rename.get(x, x) for x in new.outputs]


def backend_passes(backend: str, version: str) -> tuple[Pass, ...]:
    """The passes for a back end ("onnxruntime", "tensorrt") and the version of its library ("1.32.0", "1.6.1.120")."""
    if backend == "onnxruntime":
        from . import ort_passes

        return ort_passes.passes_for(version)
    if backend == "tensorrt":
        from . import tensorrt_passes

        return tensorrt_passes.passes_for(version)
    raise ValueError(f"no passes are known for back end {backend!r}")
