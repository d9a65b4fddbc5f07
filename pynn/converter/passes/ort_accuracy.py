"""Float operators that ONNX Runtime's CPU provider computes outside WebNN's tolerances, or refuses."""

from __future__ import annotations

import math

from ...ops.emitter import Tensor
from ..onnx_graph import OnnxGraph, OnnxNode
from . import Rewriter, graph_pass, rewrite


@graph_pass
def ort_sigmoid(graph: OnnxGraph) -> None:
    """Sigmoid of float32 is an approximation that is good in absolute terms only (1.20 to 1.32): 41 ULP off at -4,
    3000 at -8, and never below 1e-9. WebNN allows 34 ULP.

    Reciprocal(1 + Exp(-x)) instead: at most 3 ULP off down to -88 and 0 below, in 1.4 to 2.1 times the time (10
    thousand to a million elements).
    """

    def rule(r: Rewriter, node: OnnxNode) -> Tensor | None:
        if node.op_type != "Sigmoid":
            return None
        x = r.value(node.inputs[0])
        if x.data_type != "float32":
            return None
        return r.op("Reciprocal", r.op("Add", r.op("Exp", r.op("Neg", x)), r.scalar(1, "float32")))

    rewrite(graph, rule)


@graph_pass
def ort_batch_normalization(graph: OnnxGraph) -> None:
    """BatchNormalization computes x * s + (bias - mean * s) (1.20 to 1.32), which cancels where x is near the mean:
    12 ULP off where WebNN allows 6.

    (x - mean) * s + bias instead, in 1.6 to 2.7 times the time, unless the operator stands behind a Conv, MatMul or
    Gemm, into which ONNX Runtime merges it.
    """
    producers = {name: node.op_type for node in graph.nodes for name in node.outputs}

    def rule(r: Rewriter, node: OnnxNode) -> Tensor | None:
        if node.op_type != "BatchNormalization":
            return None
        x, scale, bias, mean, variance = (r.value(name) for name in node.inputs)
        fused = producers.get(x.name) in ("Conv", "ConvTranspose", "MatMul", "Gemm")
        if fused and all(r.array(p.name) is not None for p in (scale, bias, mean, variance)):
            return None
        epsilon = r.scalar(node.attributes.get("epsilon", 1e-5), variance.data_type)
        factor = r.op("Div", scale, r.op("Sqrt", r.op("Add", variance, epsilon)))
        per_channel = (-1,) + (1,) * (x.rank - 2)

        def spread(t: Tensor) -> Tensor:
            if x.rank <= 2:
                return t
            return r.op("Reshape", t, r.ints(per_channel), shape=(*t.shape, *per_channel[1:]))

        return r.op("Add", r.op("Mul", r.op("Sub", x, spread(mean)), spread(factor)), spread(bias))

    rewrite(graph, rule)


@graph_pass
def ort_sqrt(graph: OnnxGraph) -> None:
    """Sqrt of 1.20 is a fast approximation: up to 3 ULP off where WebNN allows 1, and NaN for infinity. 1.21 is exact.

    In double precision and back.
    """

    def rule(r: Rewriter, node: OnnxNode) -> Tensor | None:
        if node.op_type != "Sqrt":
            return None
        x = r.value(node.inputs[0])
        return r.cast(r.op("Sqrt", r.cast(x, "float64")), x.data_type) if x.is_float else None

    rewrite(graph, rule)


@graph_pass
def ort_float16_quantization(graph: OnnxGraph) -> None:
    """QuantizeLinear of float16 rounds some quotients to the wrong neighbour (1.20 to 1.29); in float32 it is right."""

    def rule(r: Rewriter, node: OnnxNode) -> Tensor | None:
        if node.op_type != "QuantizeLinear":
            return None
        x, scale, *rest = r.inputs(node)
        if x is None or scale is None or x.data_type != "float16":
            return None
        wide = r.cast(x, "float32"), r.cast(scale, "float32")
        return r.op("QuantizeLinear", *wide, *rest, data_type=r.value(node.outputs[0]).data_type, **node.attributes)

    rewrite(graph, rule)


@graph_pass
def ort_dilated_max_pool(graph: OnnxGraph) -> None:
    """MaxPool of float32 with dilations gives the lowest finite number for a window of -infinity only (1.20 to 1.28).

    The maximum of shifted slices instead, one axis after the other.
    """

    def rule(r: Rewriter, node: OnnxNode) -> Tensor | None:
        dilations = node.attributes.get("dilations") or [1]
        if node.op_type != "MaxPool" or max(dilations) == 1 or len(node.outputs) > 1:
            return None
        x, result = r.value(node.inputs[0]), r.value(node.outputs[0])
        pads = node.attributes.get("pads") or [0] * (2 * len(dilations))
        if x.data_type != "float32":
            return None
        window = node.attributes["kernel_shape"]
        strides = node.attributes.get("strides") or [1] * len(window)
        for i, (size, dilation, stride) in enumerate(zip(window, dilations, strides, strict=True)):
            axis, out = i + 2, result.shape[i + 2]
            reach = (out - 1) * stride + 1
            before, after = pads[i], (size - 1) * dilation + reach - x.shape[axis] - pads[i]
            if before or after > 0:
                padding = [0] * (2 * x.rank)
                padding[axis], padding[x.rank + axis] = before, max(after, 0)
                shape = (*x.shape[:axis], x.shape[axis] + before + max(after, 0), *x.shape[axis + 1 :])
                x = r.op("Pad", x, r.ints(padding), r.scalar(-math.inf, "float32"), shape=shape)
            shape = (*x.shape[:axis], out, *x.shape[axis + 1 :])
            shifted = [
                r.op("Slice", x, *(r.ints([v]) for v in (start, start + reach, axis, stride)), shape=shape)
                for start in range(0, size * dilation, dilation)
            ]
            x = r.op("Max", *shifted) if len(shifted) > 1 else shifted[0]
        return x

    rewrite(graph, rule)


@graph_pass
def ort_layer_normalization(graph: OnnxGraph) -> None:
    """LayerNormalization refuses, at run, to normalize over a single element ("Size of X.shape[axis:] must be larger
    than 1", 1.21 to 1.23).

    Such an element is its own mean: (x - x) / sqrt(epsilon) * scale + bias.
    """

    def rule(r: Rewriter, node: OnnxNode) -> Tensor | None:
        if node.op_type != "LayerNormalization" or len(node.outputs) > 1:
            return None
        x, scale, *bias = r.inputs(node)
        assert x is not None and scale is not None
        axis = node.attributes.get("axis", -1) % x.rank
        if math.prod(x.shape[axis:]) != 1:
            return None
        deviation = r.scalar(math.sqrt(node.attributes.get("epsilon", 1e-5)), "float32")
        none = r.op("Div", r.cast(r.op("Sub", x, x), "float32"), deviation)
        scaled = r.op("Mul", r.cast(none, x.data_type), scale)
        return r.op("Add", scaled, bias[0]) if bias and bias[0] is not None else scaled

    rewrite(graph, rule)
