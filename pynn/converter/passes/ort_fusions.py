"""Fusions of ONNX Runtime's optimizer that break a valid graph."""

from __future__ import annotations

from ...ops.emitter import Tensor
from ..onnx_graph import OnnxGraph, OnnxNode
from . import Rewriter, graph_pass, rewrite


@graph_pass
def ort_pad_fusion(graph: OnnxGraph) -> None:
    """From 1.25 to 1.31 the optimizer merges a Pad into the pool behind it even where the pool may not have such
    padding ("Pad should be smaller than kernel"), and the session cannot be made.

    Such a Pad works on a tensor of one dimension more; the two Reshapes around it cost nothing and keep it apart.
    """
    pools = {node.inputs[0]: node for node in graph.nodes if node.op_type in ("AveragePool", "MaxPool", "LpPool")}

    def rule(r: Rewriter, node: OnnxNode) -> Tensor | None:
        pool = pools.get(node.outputs[0])
        if node.op_type != "Pad" or pool is None:
            return None
        pads = r.array(node.inputs[1])
        if pads is None:
            return None
        x, result = r.value(node.inputs[0]), r.value(node.outputs[0])
        before, after = ([int(p) for p in half] for half in (pads[: x.rank], pads[x.rank :]))
        window = [*pool.attributes["kernel_shape"]] * 2
        if all(pad < size for pad, size in zip((*before[2:], *after[2:]), window, strict=True)):
            return None
        rest = [r.value(name) if name else None for name in node.inputs[2:3]]
        apart = r.reshape(x, (1, *x.shape))
        padded = r.op("Pad", apart, r.ints([0, *before, 0, *after]), *rest, shape=(1, *result.shape), **node.attributes)
        return r.reshape(padded, result.shape)

    rewrite(graph, rule)
