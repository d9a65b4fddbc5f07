"""Raise the opset of a graph so that quantised types are legal in it; the other operators mean what they meant."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ...errors import UnsupportedModelError
from ...ops.emitter import Tensor
from ..onnx_graph import OnnxGraph, OnnxNode

_IR = ((23, 11), (21, 10), (19, 9), (0, 8))
"""By opset from which on, the IR version that came with it."""

_AXES_BECAME_INPUTS = frozenset(
    ("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
     "ReduceSumSquare")
)  # fmt: skip
_CHANGED = {
    13: ("Hardmax", "LogSoftmax", "ReduceSum", "Softmax", "Split", "Squeeze", "Unsqueeze"),
    14: ("BatchNormalization",),
    16: ("RoiAlign",),
    20: ("DFT", "GridSample"),
    21: ("GroupNormalization",),
}
"""By opset, the operators whose nodes may mean something else from then on. Before 13 every opset changed some."""


def raise_opset(graph: OnnxGraph, least: int) -> None:
    """Make the opset at least ``least``, in place. Axes of reductions become inputs, as they are since opset 18.

    Source: https://github.com/onnx/onnx/blob/main/docs/Changelog.md. Raises UnsupportedModelError naming the operator
    whose meaning would change.
    """
    now = graph.opsets.get("", least)
    if now >= least:
        return
    if now < 13:
        _refuse(now, least, "operators before 13", "")
    for op_type, name in (*_types(graph.nodes), *_inner_types(graph)):
        for since, changed in _CHANGED.items():
            if now < since <= least and op_type in changed:
                _refuse(now, least, op_type, name)
    if now < 18 <= least:
        for op_type, name in _inner_types(graph):
            if op_type in _AXES_BECAME_INPUTS or op_type == "Split":
                _refuse(now, least, f"{op_type} inside of another operator", name)
        for node in graph.nodes:
            _to_18(graph, node)
    graph.opsets[""] = least
    graph.ir_version = max(graph.ir_version, next(ir for since, ir in _IR if least >= since))


def _refuse(now: int, least: int, op_type: str, name: str) -> None:
    where = f" (node {name!r})" if name else ""
    raise UnsupportedModelError(
        f"the model's opset is {now}, this precision needs {least}, and {op_type}{where} changed in between; export "
        f"the model with opset {least} or newer, or convert it with onnx.version_converter",
        node=name,
        op_type=op_type,
    )


def _types(nodes: Iterable[Any]) -> list[tuple[str, str]]:
    return [(node.op_type, node.name) for node in nodes if node.domain in ("", "ai.onnx")]


def _inner_types(graph: OnnxGraph) -> list[tuple[str, str]]:
    """Types and names of the nodes of graphs in attributes (If, Loop, Scan), at any depth."""
    found: list[tuple[str, str]] = []
    waiting = [value for node in graph.nodes for value in node.attributes.values() if hasattr(value, "g")]
    while waiting:
        attribute = waiting.pop()
        for inner in (attribute.g, *attribute.graphs):
            found += _types(inner.node)
            waiting += [one for node in inner.node for one in node.attribute]
    return found


def _to_18(graph: OnnxGraph, node: OnnxNode) -> None:
    if node.domain:
        return
    if node.op_type in _AXES_BECAME_INPUTS and "axes" in node.attributes:
        axes = np.array(node.attributes.pop("axes"), np.int64)
        name = graph.fresh(f"{node.name}/axes")
        graph.initializers[name] = axes
        graph.values[name] = Tensor(name, "int64", axes.shape)
        node.inputs.append(name)
    elif node.op_type == "Split" and (len(node.inputs) < 2 or not node.inputs[1]):
        node.attributes["num_outputs"] = len(node.outputs)
