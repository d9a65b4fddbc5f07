"""Limits of early releases that later ones lifted."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from ...ops.emitter import Tensor
from ..onnx_graph import OnnxGraph, OnnxNode
from . import Rewriter, graph_pass, rewrite
from .tensorrt_integers import broadcast
from .tensorrt_precision import widened


@graph_pass
def split_half_gemm(graph: OnnxGraph) -> None:
    """TensorRT for RTX 1.4 refuses Gemm on float16 with alpha or beta other than 1 ("PROD must have same input types").

    The product, the factors and the sum become operators of their own.
    """
    rewrite(graph, _gemm)


def _gemm(e: Rewriter, node: OnnxNode) -> Tensor | None:
    if node.op_type != "Gemm" or e.value(node.inputs[0]).data_type != "float16":
        return None
    a, b, *c = (e.value(name) for name in node.inputs)
    alpha, beta = node.attributes.get("alpha", 1.0), node.attributes.get("beta", 1.0)
    if alpha == 1.0 and (not c or beta == 1.0):
        return None
    shape = e.value(node.outputs[0]).shape
    kept = {key: value for key, value in node.attributes.items() if key not in ("alpha", "beta")}
    result = _scaled(e, e.op("Gemm", a, b, shape=shape, **kept), alpha)
    return e.op("Add", result, _scaled(e, c[0], beta), shape=shape) if c else result


def _scaled(e: Rewriter, x: Tensor, factor: float) -> Tensor:
    if factor == 1.0:
        return x
    constant = e.scalar(factor, x.data_type)
    return e.op("Mul", x, constant, shape=broadcast(x.shape, constant.shape))


@graph_pass
def widen_half_gru(graph: OnnxGraph) -> None:
    """TensorRT for RTX 1.4 refuses GRU on float16 ("IMatrixMultiplyLayer must have same input types").

    It runs in float32; ``shield_recurrent_casts`` comes after.
    """
    rewrite(graph, _gru)


def _gru(e: Rewriter, node: OnnxNode) -> Sequence[Tensor | None] | None:
    return widened(e, node) if node.op_type == "GRU" else None


@graph_pass
def fold_arg_axes(graph: OnnxGraph) -> None:
    """TensorRT for RTX 1.4 and 1.5 refuse ArgMax and ArgMin over the first of five or more axes ("Error while computing
    output extent").

    The other axes are merged into one.
    """
    rewrite(graph, _arg)


def _arg(e: Rewriter, node: OnnxNode) -> Tensor | None:
    if node.op_type not in ("ArgMax", "ArgMin"):
        return None
    x, result = e.value(node.inputs[0]), e.value(node.outputs[0])
    if x.rank < 5 or node.attributes.get("axis", 0) % x.rank:
        return None
    rest = prod(x.shape[1:])
    attributes = {**node.attributes, "axis": 0, "keepdims": 0}
    flat = e.reshape(x, (x.shape[0], rest))
    return e.reshape(e.op(node.op_type, flat, data_type="int64", shape=(rest,), **attributes), result.shape)
