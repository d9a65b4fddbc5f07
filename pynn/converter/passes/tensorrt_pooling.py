"""Pools that TensorRT has no kernel for, or computes another way than ONNX says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from ...ops.emitter import Tensor
from ..onnx_graph import OnnxGraph, OnnxNode
from . import Rewriter, graph_pass, rewrite
from .tensorrt_integers import integer_range

_POOLS = frozenset(("MaxPool", "AveragePool", "LpPool"))


@dataclass(frozen=True)
class _Window:
    """The spatial axes of a pool: one entry per axis. ``ends`` pads so that rounding down gives the declared shape."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]
    sizes: tuple[int, ...]
    results: tuple[int, ...]

    @classmethod
    def of(cls, e: Rewriter, node: OnnxNode) -> _Window:
        sizes, results = e.value(node.inputs[0]).shape[2:], e.value(node.outputs[0]).shape[2:]
        ones = (1,) * len(sizes)
        kernel = tuple(node.attributes["kernel_shape"])
        strides = tuple(node.attributes.get("strides", ones))
        dilations = tuple(node.attributes.get("dilations", ones))
        needed = [
            (out - 1) * s + (k - 1) * d + 1 - size
            for out, s, k, d, size in zip(results, strides, kernel, dilations, sizes, strict=True)
        ]
        auto = node.attributes.get("auto_pad", "NOTSET")
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            begins = tuple((max(n, 0) + (auto == "SAME_LOWER")) // 2 for n in needed)
        else:
            begins = tuple(node.attributes.get("pads", (0,) * 2 * len(sizes))[: len(sizes)])
        ends = tuple(max(n - b, 0) for n, b in zip(needed, begins, strict=True))
        return cls(kernel, strides, dilations, begins, ends, sizes, results)


@graph_pass
def fix_pool_padding(graph: OnnxGraph) -> None:
    """TensorRT (RTX 1.4 to 1.7) keeps, with ceil_mode, a last window that starts in the padding, where ONNX drops it: a
    wrong shape without an error.

    ceil_mode becomes explicit end padding that gives the declared shape when rounding down.
    """
    if any(node.op_type in _POOLS and node.attributes.get("ceil_mode") for node in graph.nodes):
        rewrite(graph, _floor)


def _floor(e: Rewriter, node: OnnxNode) -> Tensor | None:
    if node.op_type not in _POOLS or not node.attributes.get("ceil_mode") or len(node.outputs) > 1:
        return None
    window = _Window.of(e, node)
    attributes = {k: v for k, v in node.attributes.items() if k not in ("ceil_mode", "auto_pad")}
    attributes["pads"] = [*window.begins, *window.ends]
    return e.op(node.op_type, e.value(node.inputs[0]), shape=e.value(node.outputs[0]).shape, **attributes)


@graph_pass
def unroll_pools(graph: OnnxGraph) -> None:
    """TensorRT (RTX 1.4 to 1.7) refuses dilated MaxPool, AveragePool and LpPool, MaxPool on int32, int64 and unsigned
    types, and LpPool over one axis.

    Such a pool becomes strided slices of the padded input, combined axis after axis: exact, and no TF32 as in a
    convolution with ones. A window as large as its input is a reduction. LpPool is the root of a sum of squares.
    """
    if any(_is_refused(graph, node) for node in graph.nodes):
        rewrite(graph, lambda e, node: _unroll(e, node) if _is_refused(e.graph, node) else None)


def _is_refused(graph: OnnxGraph, node: OnnxNode) -> bool:
    if node.op_type not in _POOLS or len(node.outputs) > 1:
        return False
    x = graph.values[node.inputs[0]]
    dilated = max(node.attributes.get("dilations", (1,))) > 1
    return dilated or (node.op_type == "MaxPool" and not x.is_float) or (node.op_type == "LpPool" and x.rank == 3)


def _unroll(e: Rewriter, node: OnnxNode) -> Tensor:
    x, result = e.value(node.inputs[0]), e.value(node.outputs[0])
    window = _Window.of(e, node)
    if node.op_type == "MaxPool":
        return _combine(e, x, window, "Max")
    wide = e.cast(x, "float32")
    if node.op_type == "AveragePool":
        include = bool(node.attributes.get("count_include_pad", 0))
        total = _combine(e, wide, window, "Add")
        return e.cast(e.op("Div", total, e.constant(_counts(window, include))), result.data_type)
    p = node.attributes.get("p", 2)
    if p == 1:
        return e.cast(_combine(e, e.op("Abs", wide), window, "Add"), result.data_type)
    if p == 2:
        return e.cast(e.op("Sqrt", _combine(e, e.op("Mul", wide, wide), window, "Add")), result.data_type)
    power, root = e.scalar(float(p), "float32"), e.scalar(1.0 / p, "float32")
    total = _combine(e, e.op("Pow", e.op("Abs", wide), power), window, "Add")
    return e.cast(e.op("Pow", total, root), result.data_type)


_FULL = {"Max": "ReduceMax", "Add": "ReduceSum"}


def _combine(e: Rewriter, x: Tensor, window: _Window, op_type: str) -> Tensor:
    """Fold ``op_type`` over the windows, one spatial axis at a time."""
    rank = len(window.kernel)
    whole = [
        window.results[i] == 1 and window.kernel[i] == window.sizes[i] and window.dilations[i] == 1 for i in range(rank)
    ]
    pads = [*window.begins, *window.ends]
    if any(pads):
        x = e.op(
            "Pad",
            x,
            e.ints([0, 0, *window.begins, 0, 0, *window.ends]),
            e.scalar(_neutral(op_type, x.data_type), x.data_type),
            shape=(
                *x.shape[:2],
                *(b + n + f for b, n, f in zip(window.begins, window.sizes, window.ends, strict=True)),
            ),
            mode="constant",
        )
    if all(whole) and not any(pads):
        return e.op(_FULL[op_type], x, e.ints(range(2, 2 + rank)), shape=(*x.shape[:2], *(1,) * rank), keepdims=1)
    for i in range(rank):
        x = _combine_axis(e, x, 2 + i, window, i, op_type)
    return x


def _combine_axis(e: Rewriter, x: Tensor, axis: int, window: _Window, i: int, op_type: str) -> Tensor:
    stride, count = window.strides[i], window.results[i]
    shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
    pieces = []
    for tap in range(window.kernel[i]):
        start = tap * window.dilations[i]
        end = start + (count - 1) * stride + 1
        step = (e.ints([start]), e.ints([end]), e.ints([axis]), e.ints([stride]))
        pieces.append(x if shape == x.shape and start == 0 else e.op("Slice", x, *step, shape=shape))
    if op_type == "Max":
        return pieces[0] if len(pieces) == 1 else e.op("Max", *pieces)
    while len(pieces) > 1:
        pairs = [e.op(op_type, a, b) for a, b in zip(pieces[::2], pieces[1::2], strict=False)]
        pieces = [*pairs, *pieces[2 * len(pairs) :]]
    return pieces[0]


def _neutral(op_type: str, data_type: str) -> float | int:
    if op_type == "Add":
        return 0.0
    return -np.inf if "float" in data_type else integer_range(data_type)[0]


def _counts(window: _Window, include_padding: bool) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """How many elements each window of an average has; 1 where it has none."""
    if include_padding:
        return np.array(prod(window.kernel), np.float32)
    counts = np.ones((), np.float32)
    for i, results in enumerate(window.results):
        inside = [_inside(window, i, out) for out in range(results)]
        counts = np.multiply.outer(counts, np.maximum(inside, 1).astype(np.float32))
    return counts


def _inside(window: _Window, i: int, out: int) -> int:
    places: Sequence[int] = [
        out * window.strides[i] + tap * window.dilations[i] - window.begins[i] for tap in range(window.kernel[i])
    ]
    return sum(0 <= place < window.sizes[i] for place in places)
