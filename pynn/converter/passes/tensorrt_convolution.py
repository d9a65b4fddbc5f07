"""Transposed convolutions that TensorRT has no kernel for."""

from __future__ import annotations

import numpy as np

from ...ops.emitter import Tensor
from ..onnx_graph import OnnxGraph, OnnxNode
from . import Rewriter, graph_pass, rewrite


@graph_pass
def spread_dilated_filters(graph: OnnxGraph) -> None:
    """TensorRT (RTX 1.4 to 1.7) cannot build ConvTranspose with a stride and a dilation above 1, even on different
    axes.

    Zeros are put between the filter's taps, on the host if it is constant, and the dilation becomes 1.
    """
    if any(_is_refused(node) for node in graph.nodes):
        rewrite(graph, _rule)


def _is_refused(node: OnnxNode) -> bool:
    if node.op_type != "ConvTranspose":
        return False
    strides, dilations = node.attributes.get("strides", (1,)), node.attributes.get("dilations", (1,))
    return bool(max(strides) > 1 and max(dilations) > 1)


def _rule(e: Rewriter, node: OnnxNode) -> Tensor | None:
    if not _is_refused(node):
        return None
    x, weight, *bias = (e.value(name) for name in node.inputs)
    dilations = list(node.attributes["dilations"])
    wide = _spread(e, weight, dilations)
    attributes = {**node.attributes, "dilations": [1] * len(dilations), "kernel_shape": list(wide.shape[2:])}
    return e.op("ConvTranspose", x, wide, *bias, shape=e.value(node.outputs[0]).shape, **attributes)


def _spread(e: Rewriter, weight: Tensor, dilations: list[int]) -> Tensor:
    """``weight`` with ``dilation - 1`` zeros between neighbours on each spatial axis."""
    sizes = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilations, strict=True)]
    array = e.constant_value(weight)
    if array is not None:
        wide = np.zeros((*weight.shape[:2], *sizes), array.dtype)
        taps = (slice(None), slice(None), *(slice(None, None, d) for d in dilations))
        wide[taps] = array
        return e.constant(wide)
    outer = weight.shape[:2]
    split = [n for k in weight.shape[2:] for n in (k, 1)]
    filled = [n for k, d in zip(weight.shape[2:], dilations, strict=True) for n in (k, d)]
    pads = [0, 0, *(n for d in dilations for n in (0, d - 1))]
    x = e.reshape(weight, (*outer, *split))
    x = e.op("Pad", x, e.ints([0] * len(pads) + pads), shape=(*outer, *filled), mode="constant")
    x = e.reshape(x, (*outer, *(k * d for k, d in zip(weight.shape[2:], dilations, strict=True))))
    axes = list(range(2, 2 + len(sizes)))
    return e.op("Slice", x, e.ints([0] * len(sizes)), e.ints(sizes), e.ints(axes), shape=(*outer, *sizes))
