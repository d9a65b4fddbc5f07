"""A cast in front of a recurrent network that TensorRT's compiler stumbles over."""

from __future__ import annotations

from ...ops.emitter import Tensor
from ..onnx_graph import OnnxGraph, OnnxNode
from . import Rewriter, graph_pass, rewrite

_RECURRENT = frozenset(("GRU", "LSTM", "RNN"))
_HALVES = frozenset(("float16", "bfloat16"))


@graph_pass
def shield_recurrent_casts(graph: OnnxGraph) -> None:
    """TensorRT (RTX 1.4 to 1.7) fails to build ("Error during shape inference of __resh...") when a Cast from float16
    or bfloat16 to float32 leads to GRU or LSTM.

    Two negations behind the Cast keep the compiler from moving it into the recurrent loop.
    """
    if not any(node.op_type in _RECURRENT for node in graph.nodes):
        return
    producers = {name: node for node in graph.nodes for name in node.outputs}
    risky: set[str] = set()
    for node in graph.nodes:
        if node.op_type in _RECURRENT:
            _collect(graph, producers, [name for name in node.inputs if name], risky)
    if risky:
        rewrite(graph, lambda e, node: _shield(e, node, risky))


def _collect(graph: OnnxGraph, producers: dict[str, OnnxNode], names: list[str], risky: set[str]) -> None:
    """The casts that reach ``names`` through anything that computes nothing or element by element."""
    seen = set(names)
    while names:
        node = producers.get(names.pop())
        if node is None:
            continue
        if node.op_type == "Cast" and graph.values[node.inputs[0]].data_type in _HALVES:
            if graph.values[node.outputs[0]].data_type == "float32":
                risky.add(node.outputs[0])
        elif node.op_type not in _RECURRENT:
            fresh = [name for name in node.inputs if name and name not in seen]
            seen.update(fresh)
            names += fresh


def _shield(e: Rewriter, node: OnnxNode, risky: set[str]) -> Tensor | None:
    if node.op_type != "Cast" or node.outputs[0] not in risky:
        return None
    return e.op("Neg", e.op("Neg", e.cast(e.value(node.inputs[0]), "float32")))
