"""Reductions, argMin/argMax and cumulativeSum. Spec: https://www.w3.org/TR/webnn/#api-mlgraphbuilder-reduce."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from ..graph import Node, Operand
from ..types import ALL_TYPES, FLOAT_TYPES, DataType, OperandDescriptor, Shape
from .call import Call
from .emitter import Emitter, Tensor
from .methods import OperatorMethods
from .registry import ANY_RANK, Operator, Param, define

SECTION = "reduction"

_INDEX_TYPES = frozenset({DataType.INT32, DataType.INT64})
_WIDE_TYPES = FLOAT_TYPES | {DataType.INT32, DataType.UINT32, DataType.INT64, DataType.UINT64}
_AT_LEAST_1 = (1, ANY_RANK[1])


def _reduced(shape: Shape, axes: Sequence[int], keep: bool) -> Shape:
    if keep:
        return tuple(1 if i in axes else dim for i, dim in enumerate(shape))
    return tuple(dim for i, dim in enumerate(shape) if i not in axes)


# -- argMin, argMax -------------------------------------------------------------------------


def _infer_arg(c: Call) -> OperandDescriptor:
    x = c.operand("input")
    axis = c.axis(x.rank)
    keep = c.flag("keep_dimensions")
    data_type = c.attributes["output_data_type"]
    if data_type not in ("int32", "int64"):
        c.fail(f"output_data_type must be 'int32' or 'int64', got {data_type!r}")
    c.attributes["output_data_type"] = data_type = DataType.parse(data_type)
    return OperandDescriptor(data_type, _reduced(x.shape, (axis,), keep))


def _lower_arg(op_type: str, e: Emitter, n: Node) -> Tensor:
    axis, keep = n.attributes["axis"], n.attributes["keep_dimensions"]
    x, shape = e.input(n, "input"), n.outputs[0].shape
    found = e.op(op_type, x, data_type="int64", shape=shape, axis=axis, keepdims=int(keep))
    return e.cast(found, n.attributes["output_data_type"])


def _arg(name: str, op_type: str) -> Operator:
    lower = functools.partial(_lower_arg, op_type)
    param = Param("input", rank=_AT_LEAST_1)
    return define(name, SECTION, param, infer=_infer_arg, lower=lower, output_types=_INDEX_TYPES)


ARG_MIN = _arg("argMin", "ArgMin")
ARG_MAX = _arg("argMax", "ArgMax")


# -- reduce* --------------------------------------------------------------------------------


def _infer_reduce(c: Call) -> OperandDescriptor:
    x = c.operand("input")
    if c.attributes["axes"] is None:
        axes = c.attributes["axes"] = tuple(range(x.rank))
    else:
        axes = c.axes(x.rank)
    return OperandDescriptor(x.data_type, _reduced(x.shape, axes, c.flag("keep_dimensions")))


ElementRule = Callable[[Emitter, Tensor], Tensor]


def _identity(e: Emitter, x: Tensor) -> Tensor:
    return x


def _abs(e: Emitter, x: Tensor) -> Tensor:
    return x if x.data_type in ("uint32", "uint64") else e.op("Abs", x)


def _log(e: Emitter, x: Tensor) -> Tensor:
    return e.op("Log", x)


def _square(e: Emitter, x: Tensor) -> Tensor:
    return e.op("Mul", x, x)


def _lower_reduce(op_type: str, element: ElementRule, e: Emitter, n: Node) -> Tensor:
    """No axes: the function is still applied to each element, which ONNX's noop_with_empty_axes would not do. float16
    is summed in float32, as the spec's tolerances expect."""
    x, axes = e.input(n, "input"), n.attributes["axes"]
    if not axes:
        return element(e, x)
    wide = e.cast(x, DataType.FLOAT32) if x.data_type == "float16" and op_type not in ("ReduceMax", "ReduceMin") else x
    keep = n.attributes["keep_dimensions"]
    y = e.op(op_type, wide, e.ints(sorted(axes)), shape=n.outputs[0].shape, keepdims=int(keep))
    return e.cast(y, x.data_type)


def _reduce(name: str, op_type: str, types: frozenset[DataType], element: ElementRule = _identity) -> Operator:
    lower = functools.partial(_lower_reduce, op_type, element)
    return define(name, SECTION, Param("input", types), infer=_infer_reduce, lower=lower)


REDUCE_L1 = _reduce("reduceL1", "ReduceL1", _WIDE_TYPES, _abs)
REDUCE_L2 = _reduce("reduceL2", "ReduceL2", FLOAT_TYPES, _abs)
REDUCE_LOG_SUM = _reduce("reduceLogSum", "ReduceLogSum", FLOAT_TYPES, _log)
REDUCE_LOG_SUM_EXP = _reduce("reduceLogSumExp", "ReduceLogSumExp", FLOAT_TYPES)
REDUCE_MAX = _reduce("reduceMax", "ReduceMax", ALL_TYPES)
REDUCE_MEAN = _reduce("reduceMean", "ReduceMean", FLOAT_TYPES)
REDUCE_MIN = _reduce("reduceMin", "ReduceMin", ALL_TYPES)
REDUCE_PRODUCT = _reduce("reduceProduct", "ReduceProd", _WIDE_TYPES)
REDUCE_SUM = _reduce("reduceSum", "ReduceSum", _WIDE_TYPES)
REDUCE_SUM_SQUARE = _reduce("reduceSumSquare", "ReduceSumSquare", _WIDE_TYPES, _square)


# -- cumulativeSum --------------------------------------------------------------------------


def _infer_cumulative_sum(c: Call) -> OperandDescriptor:
    x = c.operand("input")
    c.axis(x.rank)
    c.flag("exclusive")
    c.flag("reversed")
    return x.descriptor


def _lower_cumulative_sum(e: Emitter, n: Node) -> Tensor:
    x, a = e.input(n, "input"), n.attributes
    wide = e.cast(x, DataType.FLOAT32) if x.data_type == "float16" else x
    axis = e.scalar(a["axis"], DataType.INT64)
    y = e.op("CumSum", wide, axis, exclusive=int(a["exclusive"]), reverse=int(a["reversed"]))
    return e.cast(y, x.data_type)


CUMULATIVE_SUM = define(
    "cumulativeSum",
    SECTION,
    Param("input", _WIDE_TYPES, rank=_AT_LEAST_1),
    infer=_infer_cumulative_sum,
    lower=_lower_cumulative_sum,
)

Axes = Sequence[int] | None


class Reduction(OperatorMethods):
    """``reduce_*``: ``axes`` None is all dimensions; ``[]`` is none, and the function is still applied to each element.

    Reduced dimensions are dropped, or stay with size 1 if ``keep_dimensions``. The result keeps the input's data type.
    Each raises ValidationError (a TypeError) for an operand of another builder, a data type the operator does not take,
    repeated axes, or an axis that is not below the rank.
    """

    def arg_min(
        self,
        input: Operand,
        axis: int,
        *,
        keep_dimensions: bool = False,
        output_data_type: str | DataType = "int32",
        label: str = "",
    ) -> Operand:
        """Where along ``axis`` the smallest value is, as int32 or int64; any data type of rank >= 1.

        Raises ValidationError for an axis that is not below the rank or another ``output_data_type``.
        Spec: https://www.w3.org/TR/webnn/#api-mlgraphbuilder-argminmax.
        """
        options = {"keep_dimensions": keep_dimensions, "output_data_type": output_data_type}
        return self._add(ARG_MIN, label, {"input": input}, axis=axis, **options)

    def arg_max(
        self,
        input: Operand,
        axis: int,
        *,
        keep_dimensions: bool = False,
        output_data_type: str | DataType = "int32",
        label: str = "",
    ) -> Operand:
        """Where along ``axis`` the largest value is, as int32 or int64; any data type of rank >= 1.

        Raises ValidationError for an axis that is not below the rank or another ``output_data_type``.
        Spec: https://www.w3.org/TR/webnn/#api-mlgraphbuilder-argminmax.
        """
        options = {"keep_dimensions": keep_dimensions, "output_data_type": output_data_type}
        return self._add(ARG_MAX, label, {"input": input}, axis=axis, **options)

    def reduce_l1(
        self, input: Operand, *, axes: Axes = None, keep_dimensions: bool = False, label: str = ""
    ) -> Operand:
        """The sum of ``abs(x)``; floats and 32- and 64-bit integers."""
        return self._add(REDUCE_L1, label, {"input": input}, axes=axes, keep_dimensions=keep_dimensions)

    def reduce_l2(
        self, input: Operand, *, axes: Axes = None, keep_dimensions: bool = False, label: str = ""
    ) -> Operand:
        """The square root of the sum of ``x * x``; floats."""
        return self._add(REDUCE_L2, label, {"input": input}, axes=axes, keep_dimensions=keep_dimensions)

    def reduce_log_sum(
        self, input: Operand, *, axes: Axes = None, keep_dimensions: bool = False, label: str = ""
    ) -> Operand:
        """The natural logarithm of the sum; floats."""
        return self._add(REDUCE_LOG_SUM, label, {"input": input}, axes=axes, keep_dimensions=keep_dimensions)

    def reduce_log_sum_exp(
        self, input: Operand, *, axes: Axes = None, keep_dimensions: bool = False, label: str = ""
    ) -> Operand:
        """The natural logarithm of the sum of ``exp(x)``; floats."""
        return self._add(REDUCE_LOG_SUM_EXP, label, {"input": input}, axes=axes, keep_dimensions=keep_dimensions)

    def reduce_max(
        self, input: Operand, *, axes: Axes = None, keep_dimensions: bool = False, label: str = ""
    ) -> Operand:
        """The largest value; any data type."""
        return self._add(REDUCE_MAX, label, {"input": input}, axes=axes, keep_dimensions=keep_dimensions)

    def reduce_mean(
        self, input: Operand, *, axes: Axes = None, keep_dimensions: bool = False, label: str = ""
    ) -> Operand:
        """The arithmetic mean; floats."""
        return self._add(REDUCE_MEAN, label, {"input": input}, axes=axes, keep_dimensions=keep_dimensions)

    def reduce_min(
        self, input: Operand, *, axes: Axes = None, keep_dimensions: bool = False, label: str = ""
    ) -> Operand:
        """The smallest value; any data type."""
        return self._add(REDUCE_MIN, label, {"input": input}, axes=axes, keep_dimensions=keep_dimensions)

    def reduce_product(
        self, input: Operand, *, axes: Axes = None, keep_dimensions: bool = False, label: str = ""
    ) -> Operand:
        """The product (integer overflow: unspecified); floats and 32- and 64-bit integers."""
        return self._add(REDUCE_PRODUCT, label, {"input": input}, axes=axes, keep_dimensions=keep_dimensions)

    def reduce_sum(
        self, input: Operand, *, axes: Axes = None, keep_dimensions: bool = False, label: str = ""
    ) -> Operand:
        """The sum (integer overflow: unspecified); floats and 32- and 64-bit integers."""
        return self._add(REDUCE_SUM, label, {"input": input}, axes=axes, keep_dimensions=keep_dimensions)

    def reduce_sum_square(
        self, input: Operand, *, axes: Axes = None, keep_dimensions: bool = False, label: str = ""
    ) -> Operand:
        """The sum of ``x * x`` (integer overflow: unspecified); floats and 32- and 64-bit integers."""
        return self._add(REDUCE_SUM_SQUARE, label, {"input": input}, axes=axes, keep_dimensions=keep_dimensions)

    def cumulative_sum(
        self, input: Operand, axis: int, *, exclusive: bool = False, reversed: bool = False, label: str = ""
    ) -> Operand:
        """The running sum along ``axis``; floats and 32- and 64-bit integers of rank >= 1; the shape stays.

        ``exclusive`` leaves the element itself out of its sum, ``reversed`` sums from the high index down.
        Raises ValidationError for an axis that is not below the rank.
        Spec: https://www.w3.org/TR/webnn/#api-mlgraphbuilder-cumulativesum.
        """
        return self._add(CUMULATIVE_SUM, label, {"input": input}, axis=axis, exclusive=exclusive, reversed=reversed)
