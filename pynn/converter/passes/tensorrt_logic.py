"""Logical operators whose result a constant decides."""

from __future__ import annotations

import numpy as np

from ...ops.emitter import Tensor
from ..onnx_graph import OnnxGraph, OnnxNode
from . import Rewriter, graph_pass, rewrite

_DECIDED_BY = {"Or": True, "And": False}


@graph_pass
def settle_decided_logic(graph: OnnxGraph) -> None:
    """TensorRT (RTX 1.4 to 1.7) fails to build Or with a constant of one true element, and And with one false
    ("CHECK(0) failed" in its compiler), and Where between a constant and itself ("is_data() || is_value()").

    The result is that constant, expanded.
    """
    if any(node.op_type in _DECIDED_BY or _is_settled(graph, node) for node in graph.nodes):
        rewrite(graph, _rule)


def _rule(e: Rewriter, node: OnnxNode) -> Tensor | None:
    if _is_settled(e.graph, node):
        x, result = e.value(node.inputs[1]), e.value(node.outputs[0]).shape
        return e.op("Identity", x) if x.shape == result else e.op("Expand", x, e.ints(result), shape=result)
    wanted = _DECIDED_BY.get(node.op_type)
    if wanted is None:
        return None
    arrays = [array for array in map(e.array, node.inputs) if array is not None and array.size == 1]
    if not any(bool(array) is wanted for array in arrays):
        return None
    shape = e.value(node.outputs[0]).shape
    return e.op("Expand", e.scalar(wanted, "bool"), e.ints(shape), shape=shape)


def _is_settled(graph: OnnxGraph, node: OnnxNode) -> bool:
    if node.op_type != "Where":
        return False
    a, b = (graph.initializers.get(name) for name in node.inputs[1:])
    return node.inputs[1] == node.inputs[2] or (a is not None and b is not None and np.array_equal(a, b))
