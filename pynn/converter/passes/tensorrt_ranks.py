"""Operators that TensorRT wants at least one or two dimensions for."""

from __future__ import annotations

from ...ops.emitter import Tensor
from ..onnx_graph import OnnxGraph, OnnxNode
from . import Rewriter, graph_pass, rewrite

_NEEDS_TWO = frozenset(("Softmax", "LogSoftmax", "ArgMax", "ArgMin"))
_LOW_RANK = _NEEDS_TWO | {"BatchNormalization", "Pad", "LayerNormalization"}


@graph_pass
def raise_ranks(graph: OnnxGraph) -> None:
    """TensorRT (RTX 1.4 to 1.7) refuses Softmax, LogSoftmax, ArgMax, ArgMin and BatchNormalization on one dimension,
    and Reduce*, Pad and LayerNormalization on a scalar.

    One dimension becomes [1, n], a scalar [1]; the result is reshaped back. Pad and LayerNormalization of a scalar need
    no operator of that name.
    """
    if any(_too_low(graph, node) for node in graph.nodes):
        rewrite(graph, _rule)


def _too_low(graph: OnnxGraph, node: OnnxNode) -> bool:
    if node.op_type in _NEEDS_TWO or node.op_type == "BatchNormalization":
        return graph.values[node.inputs[0]].rank == 1
    if node.op_type in _LOW_RANK or node.op_type.startswith("Reduce"):
        return graph.values[node.inputs[0]].rank == 0
    return False


def _rule(e: Rewriter, node: OnnxNode) -> Tensor | None:
    if not _too_low(e.graph, node):
        return None
    x, result = e.value(node.inputs[0]), e.value(node.outputs[0])
    if node.op_type == "Pad":
        return e.op("Identity", x)
    if node.op_type == "LayerNormalization":
        return _normalized_scalar(e, node, x)
    if node.op_type.startswith("Reduce"):
        attributes = {**node.attributes, "keepdims": 0}
        attributes.pop("noop_with_empty_axes", None)
        return e.op(node.op_type, e.reshape(x, (1,)), e.ints([0]), shape=(), **attributes)
    wide = e.reshape(x, (1, *x.shape))
    if node.op_type == "BatchNormalization":
        transposed = e.transpose(e.reshape(x, (*x.shape, 1)), (1, 0))
        rest = [e.value(name) for name in node.inputs[1:]]
        return e.reshape(e.op(node.op_type, transposed, *rest, **node.attributes), x.shape)
    attributes = {**node.attributes, "axis": 1}
    shape = wide.shape
    if node.op_type in ("ArgMax", "ArgMin"):
        shape = (1, 1) if node.attributes.get("keepdims", 1) else (1,)
    made = e.op(node.op_type, wide, shape=shape, data_type=result.data_type, **attributes)
    return e.reshape(made, result.shape)


def _normalized_scalar(e: Rewriter, node: OnnxNode, x: Tensor) -> Tensor:
    """A scalar less its mean is zero, whatever its size; NaN and infinities stay NaN."""
    centred = e.op("Sub", x, x)
    for op_type, name in zip(("Mul", "Add"), node.inputs[1:], strict=False):
        if name:
            centred = e.op(op_type, centred, e.value(name))
    return centred
