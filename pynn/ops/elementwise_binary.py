"""Element-wise binary operators. Spec: https://www.w3.org/TR/webnn/#api-mlgraphbuilder-binary."""

from __future__ import annotations

from ..graph import Node, Operand
from ..types import OperandDescriptor
from .call import Call
from .emitter import Emitter, Tensor
from .methods import OperatorMethods
from .registry import LowerRule, Operator, Param, define

SECTION = "elementwise_binary"


def _infer(c: Call) -> OperandDescriptor:
    a, b = c.operand("a"), c.operand("b")
    return c.descriptor(a.data_type, c.broadcast(a.shape, b.shape))


def _onnx(op_type: str) -> LowerRule:
    def lower(e: Emitter, n: Node) -> Tensor:
        return e.op(op_type, e.input(n, "a"), e.input(n, "b"), shape=n.outputs[0].shape)

    return lower


_POW_TYPES = {"int8": "int32", "uint8": "int32", "uint32": "int64", "uint64": "int64"}
"""ONNX takes only int32 and int64 as integer bases. The low bits, which the cast back keeps, are the same."""


def _lower_pow(e: Emitter, n: Node) -> Tensor:
    a, b = e.input(n, "a"), e.input(n, "b")
    wide = _POW_TYPES.get(a.data_type, a.data_type)
    return e.cast(e.op("Pow", e.cast(a, wide), e.cast(b, wide), shape=n.outputs[0].shape), a.data_type)


def _binary(name: str, lower: LowerRule) -> Operator:
    return define(name, SECTION, Param("a"), Param("b", like="a"), infer=_infer, lower=lower)


ADD = _binary("add", _onnx("Add"))
SUB = _binary("sub", _onnx("Sub"))
MUL = _binary("mul", _onnx("Mul"))
DIV = _binary("div", _onnx("Div"))
MAX = _binary("max", _onnx("Max"))
MIN = _binary("min", _onnx("Min"))
POW = _binary("pow", _lower_pow)


class ElementwiseBinary(OperatorMethods):
    """``a`` and ``b`` have the same data type (any) and broadcast together; the result has the broadcast shape.

    Each raises ValidationError (a TypeError) for operands of another builder, unequal data types, or shapes that do not
    broadcast.
    """

    def add(self, a: Operand, b: Operand, *, label: str = "") -> Operand:
        """``a + b``; integers wrap."""
        return self._add(ADD, label, {"a": a, "b": b})

    def sub(self, a: Operand, b: Operand, *, label: str = "") -> Operand:
        """``a - b``; integers wrap."""
        return self._add(SUB, label, {"a": a, "b": b})

    def mul(self, a: Operand, b: Operand, *, label: str = "") -> Operand:
        """``a * b``; integers wrap."""
        return self._add(MUL, label, {"a": a, "b": b})

    def div(self, a: Operand, b: Operand, *, label: str = "") -> Operand:
        """``a / b``; integers truncate toward zero (by zero: unspecified)."""
        return self._add(DIV, label, {"a": a, "b": b})

    def max(self, a: Operand, b: Operand, *, label: str = "") -> Operand:
        """The greater of ``a`` and ``b``."""
        return self._add(MAX, label, {"a": a, "b": b})

    def min(self, a: Operand, b: Operand, *, label: str = "") -> Operand:
        """The lesser of ``a`` and ``b``."""
        return self._add(MIN, label, {"a": a, "b": b})

    def pow(self, a: Operand, b: Operand, *, label: str = "") -> Operand:
        """``a`` to the power ``b`` (negative integer powers: unspecified)."""
        return self._add(POW, label, {"a": a, "b": b})
