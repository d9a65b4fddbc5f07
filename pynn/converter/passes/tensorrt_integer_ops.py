"""Operators that TensorRT has for floats only, on int32 and int64."""

from __future__ import annotations

from ...ops.emitter import Tensor
from ..onnx_graph import OnnxGraph, OnnxNode
from . import Rewriter, graph_pass, rewrite
from .tensorrt_integers import broadcast, compare, integer_power, select

_WHOLE = frozenset(("Round", "Ceil", "Floor"))
_REFUSED = _WHOLE | {"Relu", "PRelu", "IsNaN", "IsInf", "Pow", "Resize"}


@graph_pass
def replace_float_only_operators(graph: OnnxGraph) -> None:
    """TensorRT (RTX 1.4 to 1.7) refuses Relu on int32, PRelu, IsNaN, IsInf, Round, Ceil, Floor and Resize on any
    integer; its integer Pow is not promised to be exact.

    Relu is Max(x, 0), PRelu a Where, IsNaN and IsInf false everywhere, rounding nothing, Pow repeated multiplication;
    Resize (of 8-bit numbers carried by int32) runs in float32.
    """
    if any(node.op_type in _REFUSED for node in graph.nodes):
        rewrite(graph, _rule)


def _rule(e: Rewriter, node: OnnxNode) -> Tensor | None:
    if node.op_type not in _REFUSED:
        return None
    x = e.value(node.inputs[0])
    if x.data_type not in ("int32", "int64"):
        return None
    if node.op_type in _WHOLE:
        return e.op("Identity", x)
    zero = e.scalar(0, x.data_type)
    if node.op_type == "Relu":
        return e.op("Max", x, zero)
    if node.op_type in ("IsNaN", "IsInf"):
        return compare(e, "Less", x, x)
    if node.op_type == "Resize":
        fixed = [e.value(name) if name else None for name in node.inputs[1:]]
        wide = e.cast(x, "float32")
        shape = e.value(node.outputs[0]).shape
        return e.cast(e.op("Resize", wide, *fixed, shape=shape, **node.attributes), x.data_type)
    other = e.value(node.inputs[1])
    if node.op_type == "PRelu":
        scaled = e.op("Mul", x, other, shape=broadcast(x.shape, other.shape))
        return select(e, compare(e, "Less", x, zero), scaled, x)
    return integer_power(e, x, other)
