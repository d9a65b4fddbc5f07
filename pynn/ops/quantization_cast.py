"""cast, quantizeLinear, dequantizeLinear. Spec: https://www.w3.org/TR/webnn/#api-mlgraphbuilder-cast and its
neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ValidationError
from ..graph import Node, Operand
from ..types import ALL_TYPES, FLOAT_TYPES, DataType, OperandDescriptor, Shape
from .call import Call
from .emitter import Emitter, Tensor
from .methods import OperatorMethods
from .registry import Param, define

SECTION = "quantization_cast"

_QUANTIZED_TYPES = frozenset({DataType.UINT8, DataType.INT8, DataType.UINT32, DataType.INT32})
_SUB_BYTE_TYPES = frozenset({DataType.UINT4, DataType.INT4})

# -- cast -----------------------------------------------------------------------------------


def _infer_cast(c: Call) -> OperandDescriptor:
    try:
        data_type = DataType.parse(c.attributes["data_type"])
    except ValidationError as error:
        c.fail(str(error))
    if data_type not in ALL_TYPES:
        c.fail(f"data_type {data_type} exists for constants only")
    c.attributes["data_type"] = data_type
    return OperandDescriptor(data_type, c.operand("input").shape)


def _lower_cast(e: Emitter, n: Node) -> Tensor:
    return e.cast(e.input(n, "input"), n.attributes["data_type"])


CAST = define("cast", SECTION, Param("input"), infer=_infer_cast, lower=_lower_cast, output_types=ALL_TYPES)


# -- quantization parameters ----------------------------------------------------------------


def _check_parameters(c: Call) -> Operand:
    x, scale, zero_point = c.operand("input"), c.operand("scale"), c.operand("zero_point")
    for name, operand in (("scale", scale), ("zero_point", zero_point)):
        if operand.rank != x.rank:
            c.fail(
                f"{name} has rank {operand.rank} (shape {list(operand.shape)}) but input has rank {x.rank} "
                f"(shape {list(x.shape)}); reshape it, with 1 where it does not vary"
            )
    if scale.shape != zero_point.shape:
        c.fail(f"scale has shape {list(scale.shape)} but zero_point has {list(zero_point.shape)}")
    if any(dim % blocks for dim, blocks in zip(x.shape, scale.shape, strict=True)):
        c.fail(f"shape {list(scale.shape)} of scale does not divide shape {list(x.shape)} of input in every dimension")
    return x


def _repeat(e: Emitter, x: Tensor, axis: int, times: int) -> Tensor:
    """Each element ``times`` times in a row along ``axis``."""
    if times == 1:
        return x
    value = e.constant_value(x)
    if value is not None:
        return e.constant(np.repeat(value, times, axis))
    before, size, after = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
    wide = (*before, size, times, *after)
    expanded = e.op("Expand", e.reshape(x, (*before, size, 1, *after)), e.ints(wide), shape=wide)
    return e.reshape(expanded, (*before, size * times, *after))


def _repeat_to(e: Emitter, x: Tensor, shape: Shape) -> Tensor:
    for axis, (blocks, size) in enumerate(zip(x.shape, shape, strict=True)):
        x = _repeat(e, x, axis, size // blocks)
    return x


def _broadcastable(e: Emitter, x: Tensor, shape: Shape) -> Tensor:
    """Repeated where there are several blocks; a dimension of 1 is left to broadcasting."""
    return _repeat_to(e, x, tuple(1 if blocks == 1 else size for blocks, size in zip(x.shape, shape, strict=True)))


def _onnx_parameters(
    e: Emitter, shape: Shape, scale: Tensor, zero_point: Tensor
) -> tuple[Tensor, Tensor, dict[str, Any]] | None:
    """Scale, zero point and attributes as ONNX's quantization operators take them: a scalar, one vector along an
    axis, or blocks along one axis. None if the scale differs from element to element along several axes."""
    varying = [a for a, blocks in enumerate(scale.shape) if blocks > 1]
    if not varying:
        return e.reshape(scale, ()), e.reshape(zero_point, ()), {}
    if len(varying) == 1 and scale.shape[varying[0]] == shape[varying[0]]:
        vector = (shape[varying[0]],)
        return e.reshape(scale, vector), e.reshape(zero_point, vector), {"axis": varying[0]}
    block_sizes = [size // blocks for size, blocks in zip(shape, scale.shape, strict=True)]
    axis = block_sizes.index(max(block_sizes))
    if block_sizes[axis] == 1:
        return None
    wanted = (*shape[:axis], scale.shape[axis], *shape[axis + 1 :])
    attributes = {"axis": axis, "block_size": block_sizes[axis]}
    return _repeat_to(e, scale, wanted), _repeat_to(e, zero_point, wanted), attributes


def _is_zero(e: Emitter, x: Tensor) -> bool:
    value = e.constant_value(x)
    return value is not None and not value.any()


# -- dequantizeLinear -----------------------------------------------------------------------


def _infer_dequantize_linear(c: Call) -> OperandDescriptor:
    x = _check_parameters(c)
    return OperandDescriptor(c.operand("scale").data_type, x.shape)


def _lower_dequantize_linear(e: Emitter, n: Node) -> Tensor:
    x, scale, zero_point = e.input(n, "input"), e.input(n, "scale"), e.input(n, "zero_point")
    narrow = DataType(x.data_type).bits <= 8
    found = _onnx_parameters(e, x.shape, scale, zero_point) if narrow else None
    if found is not None:
        scale, zero_point, attributes = found
        return e.op("DequantizeLinear", x, scale, zero_point, data_type=scale.data_type, **attributes)
    scale, zero_point = _broadcastable(e, scale, x.shape), _broadcastable(e, zero_point, x.shape)
    centered = x
    if not _is_zero(e, zero_point):
        exact = DataType.FLOAT32 if narrow else DataType.INT64
        centered = e.op("Sub", e.cast(x, exact), e.cast(zero_point, exact))
    wide = e.op("Mul", e.cast(centered, DataType.FLOAT32), e.cast(scale, DataType.FLOAT32))
    return e.cast(wide, scale.data_type)


DEQUANTIZE_LINEAR = define(
    "dequantizeLinear",
    SECTION,
    Param("input", _QUANTIZED_TYPES | _SUB_BYTE_TYPES),
    Param("scale", FLOAT_TYPES),
    Param("zero_point", _QUANTIZED_TYPES | _SUB_BYTE_TYPES, like="input"),
    infer=_infer_dequantize_linear,
    lower=_lower_dequantize_linear,
    output_types=FLOAT_TYPES,
)


# -- quantizeLinear -------------------------------------------------------------------------


def _infer_quantize_linear(c: Call) -> OperandDescriptor:
    x = _check_parameters(c)
    return OperandDescriptor(c.operand("zero_point").data_type, x.shape)


def _lower_quantize_linear(e: Emitter, n: Node) -> Tensor:
    x, scale, zero_point = e.input(n, "input"), e.input(n, "scale"), e.input(n, "zero_point")
    target = n.outputs[0].data_type
    found = _onnx_parameters(e, x.shape, scale, zero_point) if target.bits == 8 else None
    if found is not None:
        scale, zero_point, attributes = found
        return e.op("QuantizeLinear", x, scale, zero_point, data_type=target, **attributes)
    scale, zero_point = _broadcastable(e, scale, x.shape), _broadcastable(e, zero_point, x.shape)
    quotient = e.op("Div", e.cast(x, DataType.FLOAT32), e.cast(scale, DataType.FLOAT32))
    return _add_and_saturate(e, e.op("Round", quotient), zero_point, target)


_BEYOND_32_BITS = 2.0**34
"""Larger than any 32-bit value plus any 32-bit zero point, exact in float32, and safe to convert to int64."""


def _add_and_saturate(e: Emitter, rounded: Tensor, zero_point: Tensor, target: DataType) -> Tensor:
    low, high = (e.scalar(sign * _BEYOND_32_BITS, DataType.FLOAT32) for sign in (-1, 1))
    y = e.cast(e.op("Clip", rounded, low, high), DataType.INT64)
    if not _is_zero(e, zero_point):
        y = e.op("Add", y, e.cast(zero_point, DataType.INT64))
    info = np.iinfo(target.numpy)
    y = e.op("Clip", y, e.scalar(int(info.min), DataType.INT64), e.scalar(int(info.max), DataType.INT64))
    return e.cast(y, target)


QUANTIZE_LINEAR = define(
    "quantizeLinear",
    SECTION,
    Param("input", FLOAT_TYPES),
    Param("scale", FLOAT_TYPES, like="input"),
    Param("zero_point", _QUANTIZED_TYPES),
    infer=_infer_quantize_linear,
    lower=_lower_quantize_linear,
    output_types=_QUANTIZED_TYPES,
)


class QuantizationCast(OperatorMethods):
    """Each raises ValidationError (a TypeError) for operands of another builder, and where its docstring says so.

    ``scale`` and ``zero_point`` have the input's rank and one shape, whose dimensions divide the input's: each of their
    elements covers a block of consecutive input elements. All ones is per tensor; one full dimension is per channel.
    """

    def cast(self, input: Operand, data_type: str | DataType, *, label: str = "") -> Operand:
        """Convert every element to ``data_type``, from and to any of the eight data types; the shape stays.

        Floats truncate toward zero when they become integers (out of range: unspecified), integers keep their low bits.
        Raises ValidationError for an unknown data type. Spec: https://www.w3.org/TR/webnn/#api-mlgraphbuilder-cast.
        """
        return self._add(CAST, label, {"input": input}, data_type=data_type)

    def dequantize_linear(self, input: Operand, scale: Operand, zero_point: Operand, *, label: str = "") -> Operand:
        """``(input - zero_point) * scale``: uint8, int8, uint32 or int32 to the data type of ``scale``, a float.

        An extension of the spec: ``input`` and ``zero_point`` may also be constants of int4 or uint4. Raises
        ValidationError for other data types, a zero point of another type than the input, or shapes that break the
        block rule. Spec: https://www.w3.org/TR/webnn/#api-mlgraphbuilder-dequantizelinear.
        """
        operands = {"input": input, "scale": scale, "zero_point": zero_point}
        return self._add(DEQUANTIZE_LINEAR, label, operands)

    def quantize_linear(self, input: Operand, scale: Operand, zero_point: Operand, *, label: str = "") -> Operand:
        """``input / scale`` rounded half to even, plus ``zero_point``, saturated to the data type of ``zero_point``.

        Floats to uint8, int8, uint32 or int32. Raises ValidationError for other data types, a scale of another type
        than the input, or shapes that break the block rule. Spec:
        https://www.w3.org/TR/webnn/#api-mlgraphbuilder-quantizelinear.
        """
        return self._add(QUANTIZE_LINEAR, label, {"input": input, "scale": scale, "zero_point": zero_point})
