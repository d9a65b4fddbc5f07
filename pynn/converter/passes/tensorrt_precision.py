"""Operators that TensorRT computes less exactly in float16 than WebNN allows."""

from __future__ import annotations

from collections.abc import Sequence

from ...ops.emitter import Tensor
from ..onnx_graph import OnnxGraph, OnnxNode
from . import Rewriter, graph_pass, rewrite


@graph_pass
def widen_half_layer_normalization(graph: OnnxGraph) -> None:
    """TensorRT for RTX 1.6 rounds float16 LayerNormalization twice, before and after scale and bias: 1 ULP off on an
    H200, where WebNN's tolerance is half of that above 4.

    It runs in float32, between casts that the library fuses with it.
    """
    rewrite(graph, _layer_normalization)


def _layer_normalization(e: Rewriter, node: OnnxNode) -> Sequence[Tensor | None] | None:
    return widened(e, node) if node.op_type == "LayerNormalization" else None


def widened(e: Rewriter, node: OnnxNode) -> Sequence[Tensor | None] | None:
    """The same node in float32, its float16 inputs and outputs cast; None when its first input is not float16."""
    if e.value(node.inputs[0]).data_type != "float16":
        return None
    wide = [e.value(name) if name else None for name in node.inputs]
    for i, x in enumerate(wide):
        if x is not None and x.data_type == "float16":
            array = e.constant_value(x)
            wide[i] = e.constant(array.astype("float32")) if array is not None else e.cast(x, "float32")
    outputs = [("float32", e.value(name).shape) if name else None for name in node.outputs]
    made = e.multi(node.op_type, *wide, outputs=outputs, **node.attributes)
    return [e.cast(x, "float16") if name else None for name, x in zip(node.outputs, made, strict=True)]
