"""Activation functions. Spec: https://www.w3.org/TR/webnn/#api-mlgraphbuilder-clamp and its neighbours."""

from __future__ import annotations

import numpy as np

from ..graph import Node, Operand
from ..types import ALL_TYPES, FLOAT_TYPES, SIGNED_TYPES, DataType, OperandDescriptor
from .call import Call
from .emitter import Emitter, Tensor
from .methods import OperatorMethods
from .registry import ANY_RANK, InferRule, LowerRule, Operator, Param, define

SECTION = "activation"


def _same(c: Call) -> OperandDescriptor:
    return c.operand("input").descriptor


def _with_floats(*names: str) -> InferRule:
    """Options that are finite numbers, rounded to the data type of the input before use."""

    def infer(c: Call) -> OperandDescriptor:
        x = c.operand("input")
        for name in names:
            c.finite(name, x.data_type)
        return x.descriptor

    return infer


def _onnx(op_type: str, *names: str) -> LowerRule:
    """One ONNX operator that has the options ``names`` as its attributes."""
    return lambda e, n: e.op(op_type, e.input(n, "input"), **{name: n.attributes[name] for name in names})


def _activation(
    name: str, lower: LowerRule, types: frozenset[DataType] = FLOAT_TYPES, infer: InferRule = _same
) -> Operator:
    return define(name, SECTION, Param("input", types), infer=infer, lower=lower)


# -- clamp ----------------------------------------------------------------------------------


def _infer_clamp(c: Call) -> OperandDescriptor:
    x = c.operand("input")
    low, high = c.attributes["min_value"], c.attributes["max_value"]
    least, most = c.number("min_value", x.data_type), c.number("max_value", x.data_type)
    if least is not None and most is not None and bool(np.greater(least, most)):
        c.fail(f"min_value {low!r} is greater than max_value {high!r} (as {x.data_type}: {least} and {most})")
    return x.descriptor


def _bounds(data_type: DataType) -> tuple[float, float]:
    if data_type.is_float:
        return -np.inf, np.inf
    info = np.iinfo(data_type.numpy)
    return int(info.min), int(info.max)


def _lower_clamp(e: Emitter, n: Node) -> Tensor:
    x = e.input(n, "input")
    least, most = n.attributes["min_value"], n.attributes["max_value"]
    lowest, highest = _bounds(n.outputs[0].data_type)
    low = None if least is None or np.isnan(least) or least == lowest else e.scalar(least, x.data_type)
    high = None if most is None or np.isnan(most) or most == highest else e.scalar(most, x.data_type)
    if low is not None and high is not None:
        return e.op("Clip", x, low, high)
    # A bound that Clip lacks is the greatest finite number, not infinity.
    return e.op("Max", x, low) if low is not None else e.op("Min", x, high) if high is not None else x


# -- the others that are not one ONNX operator ----------------------------------------------


def _lower_hard_swish(e: Emitter, n: Node) -> Tensor:
    """ONNX HardSwish multiplies by x/6 + 0.5, which loses what x + 3 keeps near -3."""
    x = e.input(n, "input")
    three, zero, six = (e.scalar(value, x.data_type) for value in (3, 0, 6))
    return e.op("Div", e.op("Mul", x, e.op("Clip", e.op("Add", x, three), zero, six)), six)


def _lower_linear(e: Emitter, n: Node) -> Tensor:
    x = e.input(n, "input")
    alpha, beta = n.attributes["alpha"], n.attributes["beta"]
    if alpha != 1:
        x = e.op("Mul", x, e.scalar(alpha, x.data_type))
    if beta != 0:
        x = e.op("Add", x, e.scalar(beta, x.data_type))
    return x


def _infer_prelu(c: Call) -> OperandDescriptor:
    x, slope = c.operand("input"), c.operand("slope")
    return c.descriptor(x.data_type, c.broadcast(x.shape, slope.shape, "input and slope"))


def _lower_prelu(e: Emitter, n: Node) -> Tensor:
    x, slope = e.input(n, "input"), e.input(n, "slope")
    shape = n.outputs[0].shape
    if x.is_float and x.shape == shape:
        return e.op("PRelu", x, slope)
    negative = e.op("Less", x, e.scalar(0, x.data_type), data_type="bool")
    return e.op("Where", negative, e.op("Mul", x, slope, shape=shape), x, data_type=x.data_type, shape=shape)


def _lower_relu(e: Emitter, n: Node) -> Tensor:
    x = e.input(n, "input")
    return e.op("Relu", x) if x.is_float else e.op("Max", x, e.scalar(0, x.data_type))


def _infer_softmax(c: Call) -> OperandDescriptor:
    x = c.operand("input")
    c.axis(x.rank)
    return x.descriptor


CLAMP = _activation("clamp", _lower_clamp, ALL_TYPES, _infer_clamp)
ELU = _activation("elu", _onnx("Elu", "alpha"), infer=_with_floats("alpha"))
GELU = _activation("gelu", _onnx("Gelu"))
HARD_SIGMOID = _activation("hardSigmoid", _onnx("HardSigmoid", "alpha", "beta"), infer=_with_floats("alpha", "beta"))
HARD_SWISH = _activation("hardSwish", _lower_hard_swish)
LEAKY_RELU = _activation("leakyRelu", _onnx("LeakyRelu", "alpha"), infer=_with_floats("alpha"))
LINEAR = _activation("linear", _lower_linear, infer=_with_floats("alpha", "beta"))
PRELU = define(
    "prelu",
    SECTION,
    Param("input", SIGNED_TYPES),
    Param("slope", SIGNED_TYPES, like="input"),
    infer=_infer_prelu,
    lower=_lower_prelu,
)
RELU = _activation("relu", _lower_relu, SIGNED_TYPES)
SIGMOID = _activation("sigmoid", _onnx("Sigmoid"))
SOFTMAX = define(
    "softmax",
    SECTION,
    Param("input", FLOAT_TYPES, rank=(1, ANY_RANK[1])),
    infer=_infer_softmax,
    lower=_onnx("Softmax", "axis"),
)
SOFTPLUS = _activation("softplus", _onnx("Softplus"))
SOFTSIGN = _activation("softsign", _onnx("Softsign"))
TANH = _activation("tanh", _onnx("Tanh"))


class Activation(OperatorMethods):
    """The result has the data type and shape of ``input`` (``prelu``: the broadcast shape).

    float32 and float16 unless said. Each raises ValidationError (a TypeError) for an operand of another builder or
    another data type, and for an option that is not a finite number where one is asked for.
    """

    def clamp(
        self, input: Operand, *, min_value: float | None = None, max_value: float | None = None, label: str = ""
    ) -> Operand:
        """``input`` of any data type, limited to [min_value, max_value]; None is no limit.

        The limits are converted to the data type of ``input``: for integers saturating, exact for 64 bits if given as
        int, NaN as 0; for floats NaN is no limit. Raises ValidationError if the converted ``min_value`` exceeds
        ``max_value``.
        """
        return self._add(CLAMP, label, {"input": input}, min_value=min_value, max_value=max_value)

    def elu(self, input: Operand, *, alpha: float = 1.0, label: str = "") -> Operand:
        """``x`` where positive, else ``alpha * (exp(x) - 1)``."""
        return self._add(ELU, label, {"input": input}, alpha=alpha)

    def gelu(self, input: Operand, *, label: str = "") -> Operand:
        """``x * (1 + erf(x / sqrt(2))) / 2``, not its tanh approximation."""
        return self._add(GELU, label, {"input": input})

    def hard_sigmoid(self, input: Operand, *, alpha: float = 0.2, beta: float = 0.5, label: str = "") -> Operand:
        """``alpha * x + beta`` limited to [0, 1]."""
        return self._add(HARD_SIGMOID, label, {"input": input}, alpha=alpha, beta=beta)

    def hard_swish(self, input: Operand, *, label: str = "") -> Operand:
        """``x * clamp(x + 3, 0, 6) / 6``."""
        return self._add(HARD_SWISH, label, {"input": input})

    def leaky_relu(self, input: Operand, *, alpha: float = 0.01, label: str = "") -> Operand:
        """``x`` where positive, else ``alpha * x``."""
        return self._add(LEAKY_RELU, label, {"input": input}, alpha=alpha)

    def linear(self, input: Operand, *, alpha: float = 1.0, beta: float = 0.0, label: str = "") -> Operand:
        """``alpha * x + beta`` with numbers, not a dense layer (that is ``gemm``)."""
        return self._add(LINEAR, label, {"input": input}, alpha=alpha, beta=beta)

    def prelu(self, input: Operand, slope: Operand, *, label: str = "") -> Operand:
        """``x`` where positive, else ``slope * x``; floats, int64, int32 or int8.

        ``slope`` has the data type of ``input`` and broadcasts with it both ways, trailing dimensions aligned: one
        slope per channel of nchw has shape ``[C, 1, 1]``.
        """
        return self._add(PRELU, label, {"input": input, "slope": slope})

    def relu(self, input: Operand, *, label: str = "") -> Operand:
        """``max(x, 0)``; floats, int64, int32 or int8."""
        return self._add(RELU, label, {"input": input})

    def sigmoid(self, input: Operand, *, label: str = "") -> Operand:
        """``1 / (1 + exp(-x))``."""
        return self._add(SIGMOID, label, {"input": input})

    def softmax(self, input: Operand, axis: int, *, label: str = "") -> Operand:
        """``exp(x)`` divided by its sum along ``axis`` (0 to rank - 1); ``input`` has rank 1 at least."""
        return self._add(SOFTMAX, label, {"input": input}, axis=axis)

    def softplus(self, input: Operand, *, label: str = "") -> Operand:
        """``log(1 + exp(x))``."""
        return self._add(SOFTPLUS, label, {"input": input})

    def softsign(self, input: Operand, *, label: str = "") -> Operand:
        """``x / (1 + abs(x))``."""
        return self._add(SOFTSIGN, label, {"input": input})

    def tanh(self, input: Operand, *, label: str = "") -> Operand:
        """The hyperbolic tangent."""
        return self._add(TANH, label, {"input": input})
