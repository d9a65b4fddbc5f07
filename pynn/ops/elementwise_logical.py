"""Element-wise comparisons and logical operators; truth values are uint8 0 and 1.

Spec: https://www.w3.org/TR/webnn/#api-mlgraphbuilder-logical.
"""

from __future__ import annotations

from ..graph import Node, Operand
from ..types import FLOAT_TYPES, DataType, OperandDescriptor
from .call import Call
from .emitter import Emitter, Tensor
from .methods import OperatorMethods
from .registry import LowerRule, Operator, Param, define

SECTION = "elementwise_logical"

_UINT8 = frozenset({DataType.UINT8})


def _infer_binary(c: Call) -> OperandDescriptor:
    return c.descriptor(DataType.UINT8, c.broadcast(c.operand("a").shape, c.operand("b").shape))


def _infer_unary(c: Call) -> OperandDescriptor:
    return OperandDescriptor(DataType.UINT8, c.operand("a").shape)


def _comparison(name: str, op_type: str, *, negate: bool = False) -> Operator:
    def lower(e: Emitter, n: Node) -> Tensor:
        truth = e.op(op_type, e.input(n, "a"), e.input(n, "b"), data_type="bool", shape=n.outputs[0].shape)
        return e.cast(e.op("Not", truth) if negate else truth, "uint8")

    params = Param("a"), Param("b", like="a")
    return define(name, SECTION, *params, infer=_infer_binary, lower=lower, output_types=_UINT8)


def _logical(name: str, op_type: str) -> Operator:
    def lower(e: Emitter, n: Node) -> Tensor:
        a, b = (e.cast(e.input(n, x), "bool") for x in ("a", "b"))
        return e.cast(e.op(op_type, a, b, shape=n.outputs[0].shape), "uint8")

    return define(name, SECTION, Param("a", _UINT8), Param("b", _UINT8, like="a"), infer=_infer_binary, lower=lower)


def _unary(name: str, types: frozenset[DataType], lower: LowerRule, method: str = "") -> Operator:
    param = Param("a", types)
    return define(name, SECTION, param, infer=_infer_unary, lower=lower, method=method, output_types=_UINT8)


def _classify(op_type: str) -> LowerRule:
    return lambda e, n: e.cast(e.op(op_type, e.input(n, "a"), data_type="bool"), "uint8")


EQUAL = _comparison("equal", "Equal")
NOT_EQUAL = _comparison("notEqual", "Equal", negate=True)
GREATER = _comparison("greater", "Greater")
GREATER_OR_EQUAL = _comparison("greaterOrEqual", "GreaterOrEqual")
LESSER = _comparison("lesser", "Less")
LESSER_OR_EQUAL = _comparison("lesserOrEqual", "LessOrEqual")
LOGICAL_AND = _logical("logicalAnd", "And")
LOGICAL_OR = _logical("logicalOr", "Or")
LOGICAL_XOR = _logical("logicalXor", "Xor")
LOGICAL_NOT = _unary("logicalNot", _UINT8, lambda e, n: e.cast(e.op("Not", e.cast(e.input(n, "a"), "bool")), "uint8"))
IS_NAN = _unary("isNaN", FLOAT_TYPES, _classify("IsNaN"), "is_nan")
IS_INFINITE = _unary("isInfinite", FLOAT_TYPES, _classify("IsInf"))


class ElementwiseLogical(OperatorMethods):
    """The result is uint8, 1 where the statement holds and 0 elsewhere, of the operands' broadcast shape.

    Comparisons take two operands of the same data type (any), logical operators uint8 (zero is false, anything else
    true), ``is_nan`` and ``is_infinite`` float32 or float16. Each raises ValidationError (a TypeError) for operands of
    another builder, data types outside these, or shapes that do not broadcast.
    """

    def equal(self, a: Operand, b: Operand, *, label: str = "") -> Operand:
        """``a == b``; NaN equals nothing."""
        return self._add(EQUAL, label, {"a": a, "b": b})

    def not_equal(self, a: Operand, b: Operand, *, label: str = "") -> Operand:
        """``a != b``; true of NaN and anything."""
        return self._add(NOT_EQUAL, label, {"a": a, "b": b})

    def greater(self, a: Operand, b: Operand, *, label: str = "") -> Operand:
        """``a > b``; false where either is NaN."""
        return self._add(GREATER, label, {"a": a, "b": b})

    def greater_or_equal(self, a: Operand, b: Operand, *, label: str = "") -> Operand:
        """``a >= b``; false where either is NaN."""
        return self._add(GREATER_OR_EQUAL, label, {"a": a, "b": b})

    def lesser(self, a: Operand, b: Operand, *, label: str = "") -> Operand:
        """``a < b``; false where either is NaN."""
        return self._add(LESSER, label, {"a": a, "b": b})

    def lesser_or_equal(self, a: Operand, b: Operand, *, label: str = "") -> Operand:
        """``a <= b``; false where either is NaN."""
        return self._add(LESSER_OR_EQUAL, label, {"a": a, "b": b})

    def logical_and(self, a: Operand, b: Operand, *, label: str = "") -> Operand:
        """Whether both uint8 operands are non-zero."""
        return self._add(LOGICAL_AND, label, {"a": a, "b": b})

    def logical_or(self, a: Operand, b: Operand, *, label: str = "") -> Operand:
        """Whether at least one uint8 operand is non-zero."""
        return self._add(LOGICAL_OR, label, {"a": a, "b": b})

    def logical_xor(self, a: Operand, b: Operand, *, label: str = "") -> Operand:
        """Whether exactly one uint8 operand is non-zero."""
        return self._add(LOGICAL_XOR, label, {"a": a, "b": b})

    def logical_not(self, a: Operand, *, label: str = "") -> Operand:
        """Whether the uint8 operand is zero."""
        return self._add(LOGICAL_NOT, label, {"a": a})

    def is_nan(self, a: Operand, *, label: str = "") -> Operand:
        """Whether the float operand is NaN."""
        return self._add(IS_NAN, label, {"a": a})

    def is_infinite(self, a: Operand, *, label: str = "") -> Operand:
        """Whether the float operand is plus or minus infinity."""
        return self._add(IS_INFINITE, label, {"a": a})
