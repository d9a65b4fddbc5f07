"""Logical operators whose result a constant decides."""

from __future__ import annotations

from ...ops.emitter import Tensor
from ..onnx_graph import OnnxGraph, OnnxNode
from . import Rewriter, graph_pass, rewrite

_DECIDED_BY = {"Or": True, "And": False}


@graph_pass
def settle_decided_logic(graph: OnnxGraph) -> None:
    """TensorRT (RTX 1.4 to 1.7) fails to build Or with a constant of one true element, and And with one false
    ("CHECK(0) failed" in its compiler).

    The result is that constant, expanded.
    """
    if any(node.op_type in _DECIDED_BY for node in graph.nodes):
        rewrite(graph, _rule)


def _rule(e: Rewriter, node: OnnxNode) -> Tensor | None:
    wanted = _DECIDED_BY.get(node.op_type)
    if wanted is None:
        return None
    arrays = [array for array in map(e.array, node.inputs) if array is not None and array.size == 1]
    if not any(bool(array) is wanted for array in arrays):
        return None
    shape = e.value(node.outputs[0]).shape
    return e.op("Expand", e.scalar(wanted, "bool"), e.ints(shape), shape=shape)
