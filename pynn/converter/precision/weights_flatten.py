"""Products of stacked rows with quantised weights as plain matrix products."""

from __future__ import annotations

import math

import numpy as np

from ...ops.emitter import Tensor
from ..onnx_graph import OnnxGraph, OnnxNode


def flatten_products(graph: OnnxGraph) -> None:
    """TensorRT for RTX 1.6 has kernels for [M, K] x [K, N] with dequantised weights; for [B, M, K] x [K, N] it adds
    kernels, 6 % of MiniLM's plan. The stacked rows become one matrix, where all sizes are known.
    """
    dequantised = {node.outputs[0] for node in graph.nodes if node.op_type == "DequantizeLinear"}
    nodes: list[OnnxNode] = []
    for node in graph.nodes:
        if not (node.op_type == "MatMul" and not node.domain and node.inputs[1] in dequantised):
            nodes.append(node)
            continue
        x, weight, y = (graph.values[name] for name in (*node.inputs, node.outputs[0]))
        names = {x.name, weight.name, y.name}
        if weight.rank != 2 or x.rank < 3 or min(*x.shape, *y.shape) < 1 or names & graph.unshaped:
            nodes.append(node)
            continue
        rows = math.prod(x.shape[:-1])
        flat = _value(graph, f"{node.name}/rows", x.data_type, (rows, x.shape[-1]))
        product = _value(graph, f"{node.name}/product", y.data_type, (rows, y.shape[-1]))
        nodes += (
            _reshape(graph, x, flat, node),
            OnnxNode("MatMul", [flat.name, weight.name], [product.name], {}, node.name, node.origin),
            _reshape(graph, product, y, node),
        )
    graph.nodes = nodes


def _value(graph: OnnxGraph, stem: str, data_type: str, shape: tuple[int, ...]) -> Tensor:
    name = graph.fresh(stem)
    tensor = graph.values[name] = Tensor(name, data_type, shape)
    return tensor


def _reshape(graph: OnnxGraph, before: Tensor, after: Tensor, node: OnnxNode) -> OnnxNode:
    shape = _value(graph, f"{after.name}/shape", "int64", (len(after.shape),))
    graph.initializers[shape.name] = np.array(after.shape, np.int64)
    name = f"{after.name}/Reshape"
    return OnnxNode("Reshape", [before.name, shape.name], [after.name], {}, name, node.origin)
