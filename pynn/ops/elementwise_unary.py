"""Element-wise unary operators. Spec: https://www.w3.org/TR/webnn/#api-mlgraphbuilder-unary."""

from __future__ import annotations

from ..graph import Node, Operand
from ..types import ALL_TYPES, FLOAT_TYPES, SIGNED_TYPES, DataType, OperandDescriptor
from .call import Call
from .emitter import Emitter, Tensor
from .methods import OperatorMethods
from .registry import LowerRule, Operator, Param, define

SECTION = "elementwise_unary"


def _infer(c: Call) -> OperandDescriptor:
    return c.operand("input").descriptor


def _onnx(op_type: str) -> LowerRule:
    return lambda e, n: e.op(op_type, e.input(n, "input"))


def _lower_sign(e: Emitter, n: Node) -> Tensor:
    x = e.input(n, "input")
    sign = e.op("Sign", x)
    if not x.is_float:
        return sign
    nan = e.op("IsNaN", x, data_type="bool")
    return e.op("Where", nan, e.scalar(0, x.data_type), sign, data_type=x.data_type)


def _unary(name: str, types: frozenset[DataType], lower: LowerRule) -> Operator:
    return define(name, SECTION, Param("input", types), infer=_infer, lower=lower)


ABS = _unary("abs", SIGNED_TYPES, _onnx("Abs"))
CEIL = _unary("ceil", FLOAT_TYPES, _onnx("Ceil"))
COS = _unary("cos", FLOAT_TYPES, _onnx("Cos"))
ERF = _unary("erf", FLOAT_TYPES, _onnx("Erf"))
EXP = _unary("exp", FLOAT_TYPES, _onnx("Exp"))
FLOOR = _unary("floor", FLOAT_TYPES, _onnx("Floor"))
IDENTITY = _unary("identity", ALL_TYPES, _onnx("Identity"))
LOG = _unary("log", FLOAT_TYPES, _onnx("Log"))
NEG = _unary("neg", SIGNED_TYPES, _onnx("Neg"))
RECIPROCAL = _unary("reciprocal", FLOAT_TYPES, _onnx("Reciprocal"))
ROUND_EVEN = _unary("roundEven", FLOAT_TYPES, _onnx("Round"))
SIN = _unary("sin", FLOAT_TYPES, _onnx("Sin"))
SIGN = _unary("sign", SIGNED_TYPES, _lower_sign)
SQRT = _unary("sqrt", FLOAT_TYPES, _onnx("Sqrt"))
TAN = _unary("tan", FLOAT_TYPES, _onnx("Tan"))


class ElementwiseUnary(OperatorMethods):
    """The result has the data type and shape of ``input``.

    float32 and float16 unless said; ``abs``, ``neg`` and ``sign`` also take int64, int32 and int8, ``identity``
    everything. Each raises ValidationError (a TypeError) for an operand of another builder or another data type.
    """

    def abs(self, input: Operand, *, label: str = "") -> Operand:
        """The absolute value; the least integer stays itself."""
        return self._add(ABS, label, {"input": input})

    def ceil(self, input: Operand, *, label: str = "") -> Operand:
        """The least whole number not below the input."""
        return self._add(CEIL, label, {"input": input})

    def cos(self, input: Operand, *, label: str = "") -> Operand:
        """Cosine of radians."""
        return self._add(COS, label, {"input": input})

    def erf(self, input: Operand, *, label: str = "") -> Operand:
        """The Gauss error function."""
        return self._add(ERF, label, {"input": input})

    def exp(self, input: Operand, *, label: str = "") -> Operand:
        """e to the power of the input."""
        return self._add(EXP, label, {"input": input})

    def floor(self, input: Operand, *, label: str = "") -> Operand:
        """The greatest whole number not above the input."""
        return self._add(FLOOR, label, {"input": input})

    def identity(self, input: Operand, *, label: str = "") -> Operand:
        """The input itself, of any data type: lets an input or a constant be a graph output."""
        return self._add(IDENTITY, label, {"input": input})

    def log(self, input: Operand, *, label: str = "") -> Operand:
        """Natural logarithm."""
        return self._add(LOG, label, {"input": input})

    def neg(self, input: Operand, *, label: str = "") -> Operand:
        """The input with its sign changed; the least integer stays itself."""
        return self._add(NEG, label, {"input": input})

    def reciprocal(self, input: Operand, *, label: str = "") -> Operand:
        """One divided by the input."""
        return self._add(RECIPROCAL, label, {"input": input})

    def round_even(self, input: Operand, *, label: str = "") -> Operand:
        """The nearest whole number; halves go to the even neighbour."""
        return self._add(ROUND_EVEN, label, {"input": input})

    def sin(self, input: Operand, *, label: str = "") -> Operand:
        """Sine of radians."""
        return self._add(SIN, label, {"input": input})

    def sign(self, input: Operand, *, label: str = "") -> Operand:
        """1 where the input is positive, -1 where negative, else 0 (also for NaN)."""
        return self._add(SIGN, label, {"input": input})

    def sqrt(self, input: Operand, *, label: str = "") -> Operand:
        """Square root; NaN of a negative number."""
        return self._add(SQRT, label, {"input": input})

    def tan(self, input: Operand, *, label: str = "") -> Operand:
        """Tangent of radians."""
        return self._add(TAN, label, {"input": input})
