"""Quantised numbers: int8 and int4 weights stay small, all other DequantizeLinear and QuantizeLinear is arithmetic."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from ...ops.emitter import Tensor
from ..model import numpy_dtype
from ..onnx_graph import OnnxGraph, OnnxNode
from . import Rewriter, model_pass, rewrite
from .tensorrt_integers import integer_range
from .tensorrt_quantization_limits import FOUR_BITS, left_alone, left_alone_on_rtx, why_left

Array = np.ndarray[Any, Any]

_SMALL = frozenset(("uint8", "int8", "uint16", "int16"))
_MOVES = frozenset(
    ("Cast", "Concat", "Expand", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze")
)


@model_pass(left_alone_on_rtx)
def decompose_quantization(graph: OnnxGraph) -> None:
    """TensorRT (RTX 1.4 to 1.7) dequantises int8 and int4 constants without zero point only; uint8, uint4, int32, zero
    points, scalars and blocks of one dimension are refused, QuantizeLinear to uint8 silently gives int8, and sums of
    int8 products overflow in float16.

    Constant weights become int8 or int4 without zero point where the difference fits exactly; everything else is
    written out: (x - zero point) * scale, and round(x / scale) + zero point, clipped, both in float32. Versions 1.6 and
    1.7 crash while they build a product whose first operand is dequantised int4: that is stored as int8.
    """
    if any(node.op_type in ("DequantizeLinear", "QuantizeLinear") for node in graph.nodes):
        first = _first_operands(graph)
        rewrite(graph, lambda e, node: _rule(e, node, first))
        _join_pairs(graph)


def _first_operands(graph: OnnxGraph) -> set[str]:
    """Values that are the first operand of a product, as they are or moved around."""
    found: set[str] = set()
    for node in reversed(graph.nodes):
        if node.op_type in ("MatMul", "Gemm"):
            found.add(node.inputs[0])
        elif node.op_type in _MOVES and not found.isdisjoint(node.outputs):
            found.update(node.inputs)
    return found


@model_pass(left_alone)
def decompose_asymmetric_quantization(graph: OnnxGraph) -> None:
    """TensorRT 10 and 11 compute in int8 behind QuantizeLinear and DequantizeLinear without zero points; the rest they
    refuse as TensorRT for RTX does.

    Such pairs stay (calibration makes them), all else is written out as ``decompose_quantization`` does.
    """
    pairs, first = _symmetric_pairs(graph), _first_operands(graph)
    rewrite(graph, lambda e, node: None if id(node) in pairs else _rule(e, node, first))
    _join_pairs(graph)


def _symmetric_pairs(graph: OnnxGraph) -> set[int]:
    """The ids of QuantizeLinear nodes to int8 without zero point, and of the DequantizeLinear nodes that alone read
    them."""
    readers: dict[str, list[OnnxNode]] = {}
    for node in graph.nodes:
        for name in (*node.inputs, *node.captures):
            readers.setdefault(name, []).append(node)
    outside = set(graph.outputs.values())
    pairs: set[int] = set()
    for node in graph.nodes:
        if node.op_type == "QuantizeLinear" and not node.domain and len(node.inputs) == 2:
            name = node.outputs[0]
            behind = readers.get(name, [])
            plain = all(one.op_type == "DequantizeLinear" and len(one.inputs) == 2 for one in behind)
            if behind and plain and name not in outside and graph.values[name].data_type == "int8":
                pairs.update(map(id, (node, *behind)))
    return pairs


def _rule(e: Rewriter, node: OnnxNode, first_operands: Collection[str]) -> Tensor | None:
    if why_left(e.graph, node) is not None:
        return None
    if node.op_type == "QuantizeLinear":
        return _quantize(e, node)
    stored = _stored(e, node, node.outputs[0] in first_operands)
    return _dequantize(e, node) if stored is None else _weights(e, node, stored)


# -- constant weights


def _stored(e: Rewriter, node: OnnxNode, is_first_operand: bool) -> Array | None:
    """The differences of a constant and its zero point as int8 or int4, the constant itself where that is the same;
    None if they do not fit, or are not all there is to it."""
    x, result = e.value(node.inputs[0]), e.value(node.outputs[0])
    array = e.constant_value(x)
    if array is None or x.rank == 0 or result.data_type != e.value(node.inputs[1]).data_type:
        return None
    if x.data_type in ("int32", "uint32", "int16", "uint16"):
        return None
    block, axis = node.attributes.get("block_size", 0), node.attributes.get("axis", 1) % x.rank
    if block and (x.rank == 1 or x.shape[axis] % block):
        return None
    zero_point = _zero_point(e, node)
    if zero_point is None:
        return None
    difference = array.astype(np.int32)
    if zero_point.any():
        difference = difference - _repeated(zero_point, x.shape, axis, block)
    low, high = int(difference.min(initial=0)), int(difference.max(initial=0))
    even = array.size % 2 == 0
    if x.data_type in FOUR_BITS and even and not is_first_operand and low >= -8 and high <= 7:
        import ml_dtypes

        stored = difference.astype(ml_dtypes.int4)
    elif low >= -128 and high <= 127:
        stored = difference.astype(np.int8)
    else:
        return None
    return array if stored.dtype == array.dtype and len(node.inputs) == 2 else stored


def _weights(e: Rewriter, node: OnnxNode, stored: Array) -> Tensor | None:
    """DequantizeLinear of ``stored`` without zero point, as TensorRT takes it; None where it is so already."""
    x, scale = e.value(node.inputs[0]), e.value(node.inputs[1])
    same = stored is e.constant_value(x)
    if same and (scale.rank == 0 or scale.shape != (1,)):
        return None
    block, axis = node.attributes.get("block_size", 0), node.attributes.get("axis", 1) % x.rank
    attributes: dict[str, Any] = {"axis": axis, "block_size": block} if block else {"axis": axis}
    if scale.shape in ((), (1,)):
        scale, attributes = e.reshape(scale, ()), {}
    value = x if same else e.constant(stored)
    return e.op("DequantizeLinear", value, scale, data_type=scale.data_type, shape=x.shape, **attributes)


def _zero_point(e: Rewriter, node: OnnxNode) -> Array | None:
    """The zero point as int32 (0 if absent), or None if it is not constant."""
    if len(node.inputs) < 3 or not node.inputs[2]:
        return np.zeros((), np.int32)
    array = e.array(node.inputs[2])
    return None if array is None else array.astype(np.int32)


def _repeated(parameter: Array, shape: tuple[int, ...], axis: int, block: int) -> Array:
    """A scale or zero point in a shape that broadcasts with ``shape``."""
    if parameter.size == 1:
        return parameter.reshape((1,) * len(shape))
    if not block:
        return parameter.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    repeated = np.repeat(parameter, block, axis)
    return repeated[tuple(slice(shape[axis]) if i == axis else slice(None) for i in range(len(shape)))]


# -- arithmetic


def _spread(e: Rewriter, node: OnnxNode, parameter: Tensor) -> Tensor:
    """A scale or zero point that broadcasts with the node's input: per tensor, per axis or per block."""
    shape = e.value(node.inputs[0]).shape
    block = node.attributes.get("block_size", 0)
    size = int(np.prod(parameter.shape))
    if size == 1:
        return e.reshape(parameter, (1,) * len(shape) if shape else ())
    axis = node.attributes.get("axis", 1) % len(shape)
    array = e.constant_value(parameter)
    if array is not None:
        return e.constant(_repeated(array, shape, axis, block))
    if not block:
        return e.reshape(parameter, tuple(size if i == axis else 1 for i in range(len(shape))))
    places = e.constant(np.arange(shape[axis], dtype=np.int64) // block)
    return e.op("Gather", parameter, places, shape=shape, axis=axis)


def _wide(e: Rewriter, x: Tensor) -> Tensor:
    """``x`` in a type in which differences of its kind do not overflow."""
    return _cast(e, x, "int32" if integer_range(x.data_type)[1] < 2**16 else "int64")


def _cast(e: Rewriter, x: Tensor, data_type: str) -> Tensor:
    """A cast; of a constant a constant, since TensorRT wants nothing but DequantizeLinear behind 8-bit constants."""
    array = e.constant_value(x)
    return e.cast(x, data_type) if array is None else e.constant(array.astype(numpy_dtype(data_type)))


def _dequantize(e: Rewriter, node: OnnxNode) -> Tensor:
    x, result = e.value(node.inputs[0]), e.value(node.outputs[0])
    array = e.constant_value(x)
    if x.data_type in FOUR_BITS and array is not None:
        x = e.constant(array.astype(np.int8))
    zero_point = _zero_point(e, node)
    if zero_point is None or zero_point.any():
        point = e.value(node.inputs[2])
        if point.data_type in FOUR_BITS and zero_point is not None:
            point = e.constant(zero_point.astype(np.int8))
        point = _wide(e, _spread(e, node, point))
        number = e.op("Sub", _wide(e, x), point, shape=x.shape)
    else:
        number = x
    scale = e.cast(_spread(e, node, e.value(node.inputs[1])), "float32")
    return e.cast(e.op("Mul", _cast(e, number, "float32"), scale, shape=result.shape), result.data_type)


def _quantize(e: Rewriter, node: OnnxNode) -> Tensor:
    x, result = e.value(node.inputs[0]), e.value(node.outputs[0])
    scale = e.cast(_spread(e, node, e.value(node.inputs[1])), "float32")
    steps = e.op("Round", e.op("Div", e.cast(x, "float32"), scale, shape=result.shape))
    low, high = integer_range(result.data_type)
    inside = "int32" if high < 2**16 else "int64"
    zero_point = _zero_point(e, node)
    if inside == "int32" and zero_point is not None and not zero_point.any():
        return _clipped(e, e.cast(_clip(e, steps, low, high), inside), low, high, result)
    slack = 2.0**17 if inside == "int32" else 2.0**40
    number = e.cast(_clip(e, steps, -slack, slack), inside)
    if zero_point is None or zero_point.any():
        point = _cast(e, _spread(e, node, e.value(node.inputs[2])), inside)
        number = e.op("Add", number, point, shape=result.shape)
    return _clipped(e, number, low, high, result)


def _join_pairs(graph: OnnxGraph) -> None:
    """What was clipped to a small type and cast to it is read before that cast by those that cast it back: no value of
    the small type is left between, which TensorRT might not hold."""
    producers = {name: node for node in graph.nodes for name in node.outputs}
    bypassed: set[str] = set()
    for node in graph.nodes:
        narrow = producers.get(node.inputs[0]) if node.op_type == "Cast" and not node.domain else None
        if narrow is None or narrow.op_type != "Cast" or not _is_clipped(graph, producers, narrow):
            continue
        bypassed.add(node.inputs[0])
        node.inputs = [narrow.inputs[0]]
    if bypassed:
        read = {name for node in graph.nodes for name in (*node.inputs, *node.captures)} | set(graph.outputs.values())
        graph.nodes = [node for node in graph.nodes if bypassed.isdisjoint(node.outputs) or node.outputs[0] in read]


def _is_clipped(graph: OnnxGraph, producers: dict[str, OnnxNode], cast: OnnxNode) -> bool:
    """Whether ``cast`` keeps every value: Clip to the bounds of its integer type stands before it."""
    clip = producers.get(cast.inputs[0])
    data_type = graph.values[cast.outputs[0]].data_type
    if clip is None or clip.op_type != "Clip" or clip.domain or data_type not in _SMALL:
        return False
    bounds = [graph.initializers.get(name) for name in clip.inputs[1:]]
    known = [int(one) for one in bounds if one is not None and one.dtype.kind == "i"]
    return len(known) == 2 and tuple(known) == tuple(map(int, integer_range(data_type)))


def _clip(e: Rewriter, x: Tensor, low: float, high: float) -> Tensor:
    return e.op("Clip", x, e.scalar(low, x.data_type), e.scalar(high, x.data_type))


def _clipped(e: Rewriter, number: Tensor, low: int, high: int, result: Tensor) -> Tensor:
    return e.cast(_clip(e, number, low, high), result.data_type)
