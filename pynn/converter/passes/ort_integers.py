"""Integer operators that ONNX Runtime's CPU provider computes otherwise than modulo their range, or dies of."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...ops.emitter import Tensor
from ...types import Shape
from ..onnx_graph import OnnxGraph, OnnxNode
from . import Pass, Rewriter, graph_pass, rewrite
from .ort_support import INTEGERS, SIGNED, Kernels

Array = np.ndarray[Any, Any]
_SIGN_BIT = -(2**63)


def ort_integer_division() -> Pass:
    @graph_pass
    def ort_integer_division(graph: OnnxGraph) -> None:
        """Integer Div and Mod end the process (SIGFPE) for the lowest int32 or int64 by -1 in every version (1.20 to
        1.32; Mod to 1.31), and for a divisor of 0 before 1.25; since then that is a run-time error.

        The divisor becomes 1 in these places: the lowest number stays what it is, as wrapping wants it, and ``x / 0``
        is x (the standard leaves it open). Takes twice the time, four times for a million elements; a constant
        divisor without 0 and -1 costs nothing.
        """

        def rule(r: Rewriter, node: OnnxNode) -> Tensor | None:
            if node.op_type not in ("Div", "Mod"):
                return None
            a, b = (r.value(name) for name in node.inputs)
            if b.data_type not in INTEGERS or _harmless(r.array(b.name), b.data_type):
                return None
            shape = r.value(node.outputs[0]).shape
            divisor = r.op("Add", b, r.cast(_equal(r, b, 0), b.data_type))
            if b.data_type in ("int32", "int64"):
                lowest = _equal(r, a, int(np.iinfo(b.data_type).min))
                overflow = r.op("And", lowest, _equal(r, b, -1), data_type="bool", shape=shape)
                two = r.op("Mul", r.cast(overflow, b.data_type), r.scalar(2, b.data_type))
                divisor = r.op("Add", divisor, two, shape=shape)
            return r.op(node.op_type, a, divisor, shape=shape, **node.attributes)

        rewrite(graph, rule)

    return ort_integer_division


def _harmless(divisor: Array | None, data_type: str) -> bool:
    return divisor is not None and not np.isin(divisor, [0, -1] if data_type in SIGNED else [0]).any()


def ort_integer_power() -> Pass:
    @graph_pass
    def ort_integer_power(graph: OnnxGraph) -> None:
        """Integer Pow goes through double precision (1.20 to 1.32): inexact above 2^53, saturated instead of wrapped.

        Square and multiply instead: one exponent for all elements takes only multiplications; different ones take six
        steps, 1.3 to 2.4 times the time of the kernel, and are exact for all powers that fit the type, and wrap for
        exponents below 64 (the standard leaves negative ones open).
        """

        def rule(r: Rewriter, node: OnnxNode) -> Tensor | None:
            if node.op_type != "Pow":
                return None
            base, exponent = (r.value(name) for name in node.inputs)
            if base.data_type not in INTEGERS or exponent.data_type not in INTEGERS:
                return None
            shape = r.value(node.outputs[0]).shape
            known = r.array(exponent.name)
            if known is not None and (known == known.flat[0]).all() and 0 <= int(known.flat[0]) < 64:
                result = _power(r, base, int(known.flat[0]))
                if result is not None and result.shape == shape:
                    return result
                return r.op("Expand", result or r.scalar(1, base.data_type), r.ints(shape), shape=shape)
            return _powers(r, base, _below_64(r, exponent), shape)

        rewrite(graph, rule)

    return ort_integer_power


def _power(r: Rewriter, base: Tensor, exponent: int) -> Tensor | None:
    """``base`` to one exponent; None stands for 1."""
    result = None
    while exponent:
        if exponent & 1:
            result = base if result is None else r.op("Mul", result, base)
        exponent >>= 1
        if exponent:
            base = r.op("Mul", base, base)
    return result


def _powers(r: Rewriter, base: Tensor, exponent: Tensor, shape: Shape) -> Tensor:
    """``base`` to exponents in 0..63, element by element: times the square of each bit that is set."""
    one = r.scalar(1, base.data_type)
    result: Tensor | None = None
    for bit in range(6):
        masked = r.op("BitwiseAnd", exponent, r.scalar(1 << bit, exponent.data_type))
        unset = _equal(r, masked, 0)
        factor = _select(r, unset, one, base, shape)
        result = factor if result is None else r.op("Mul", result, factor)
        if bit < 5:
            base = r.op("Mul", base, base)
    assert result is not None
    return result


def _below_64(r: Rewriter, exponent: Tensor) -> Tensor:
    """``exponent``, or 62 or 63 of the same parity where it is larger."""
    big = r.op("Greater", exponent, r.scalar(63, exponent.data_type), data_type="bool")
    odd = r.op("BitwiseAnd", exponent, r.scalar(1, exponent.data_type))
    return _select(r, big, r.op("BitwiseOr", odd, r.scalar(62, exponent.data_type)), exponent, exponent.shape)


def ort_integer_reductions(kernels: Kernels) -> Pass:
    @graph_pass
    def ort_integer_reductions(graph: OnnxGraph) -> None:
        """Since 1.27 ReduceSum, ReduceSumSquare, ReduceL1 and ReduceProd compute int32 and int64 in double precision:
        above 2^53 they round, and overflow saturates. uint32 and uint64 have no kernel in any version (to 1.32).

        Sums become a product with a column of ones, since MatMul wraps in all four types (squares first, or Abs);
        products are halved by Mul until one is left. Sums of rows are 1.5 to 7 times as fast as the kernel, products
        take 1 to 2.4 times its time.
        """

        def rule(r: Rewriter, node: OnnxNode) -> Tensor | None:
            if node.op_type not in ("ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceProd"):
                return None
            x = r.value(node.inputs[0])
            if x.data_type not in INTEGERS or kernels.right(node, x.data_type):
                return None
            axes = reduced_axes(r, node, x.rank)
            if axes is None:
                return None
            if node.op_type == "ReduceSumSquare":
                x = r.op("Mul", x, x)
            elif node.op_type == "ReduceL1" and x.data_type in SIGNED:
                x = r.op("Abs", x)
            matrix = _rows(r, x, axes)
            column = _product(r, matrix) if node.op_type == "ReduceProd" else _sum(r, matrix)
            return r.reshape(column, r.value(node.outputs[0]).shape)

        rewrite(graph, rule)

    return ort_integer_reductions


def reduced_axes(r: Rewriter, node: OnnxNode, rank: int) -> list[int] | None:
    """The axes a Reduce* node reduces, in order; None if they are not known or there are none."""
    axes: list[int] = []
    if len(node.inputs) > 1 and node.inputs[1]:
        known = r.array(node.inputs[1])
        if known is None:
            return None
        axes = sorted(int(axis) % rank for axis in known)
    if axes:
        return axes
    return None if node.attributes.get("noop_with_empty_axes") else list(range(rank))


def _rows(r: Rewriter, x: Tensor, axes: list[int]) -> Tensor:
    """``x`` as a matrix with the reduced axes in its rows."""
    kept = [axis for axis in range(x.rank) if axis not in axes]
    shape = math.prod(x.shape[a] for a in kept), math.prod(x.shape[a] for a in axes)
    return r.reshape(r.transpose(x, [*kept, *axes]), shape)


def _sum(r: Rewriter, matrix: Tensor) -> Tensor:
    rows, columns = matrix.shape
    ones = r.op("Expand", r.scalar(1, matrix.data_type), r.ints([columns, 1]), shape=(columns, 1))
    return r.op("MatMul", matrix, ones, shape=(rows, 1))


def _product(r: Rewriter, matrix: Tensor) -> Tensor:
    rows, columns = matrix.shape
    while columns > 1:
        half = columns // 2
        parts = [half, half] + [1] * (columns % 2)
        types = [(matrix.data_type, (rows, part)) for part in parts]
        first, second, *odd = r.multi("Split", matrix, r.ints(parts), outputs=types, axis=1)
        matrix = r.op("Mul", first, second)
        columns = half + len(odd)
        if odd:
            matrix = r.op("Concat", matrix, *odd, axis=1, shape=(rows, columns))
    return matrix


def ort_int64_order(kernels: Kernels) -> Pass:
    @graph_pass
    def ort_int64_order(graph: OnnxGraph) -> None:
        """Max, Min, Clip, Sign, ReduceMax and ReduceMin of int64 give wrong results from 1.21 to 1.31 where the high
        words are equal or differ in sign (a comparison in the SSE2 path of the Eigen they contain); 1.20 and 1.32 are
        right.

        Greater and TopK are right, and replace them. Runs after the types are widened, so that it sees those carried
        in int64.
        """

        def rule(r: Rewriter, node: OnnxNode) -> Tensor | None:
            if node.op_type not in ("Max", "Min", "Clip", "Sign", "ReduceMax", "ReduceMin"):
                return None
            x, *rest = r.inputs(node)
            if x is None or x.data_type != "int64" or kernels.right(node, "int64"):
                return None
            shape = r.value(node.outputs[0]).shape
            if node.op_type in ("Max", "Min"):
                for other in rest:
                    assert other is not None
                    x = _greater(r, x, other, shape) if node.op_type == "Max" else _lesser(r, x, other, shape)
                return x
            if node.op_type == "Clip":
                low, high = [*rest, None, None][:2]
                x = x if low is None else _greater(r, x, low, shape)
                return x if high is None else _lesser(r, x, high, shape)
            if node.op_type == "Sign":
                zero = r.scalar(0, "int64")
                above = r.cast(r.op("Greater", x, zero, data_type="bool"), "int64")
                return r.op("Sub", above, r.cast(r.op("Less", x, zero, data_type="bool"), "int64"))
            axes = reduced_axes(r, node, x.rank)
            if axes is None:
                return None
            matrix = _rows(r, x, axes)
            column = (matrix.shape[0], 1)
            largest = int(node.op_type == "ReduceMax")
            types = [("int64", column), ("int64", column)]
            best, _ = r.multi("TopK", matrix, r.ints([1]), outputs=types, axis=1, largest=largest, sorted=0)
            return r.reshape(best, shape)

        rewrite(graph, rule)

    return ort_int64_order


def _greater(r: Rewriter, a: Tensor, b: Tensor, shape: Shape) -> Tensor:
    return _select(r, r.op("Greater", a, b, data_type="bool", shape=shape), a, b, shape)


def _lesser(r: Rewriter, a: Tensor, b: Tensor, shape: Shape) -> Tensor:
    return _select(r, r.op("Less", a, b, data_type="bool", shape=shape), a, b, shape)


def _select(r: Rewriter, condition: Tensor, a: Tensor, b: Tensor, shape: Shape) -> Tensor:
    """``a`` where the condition holds, else ``b``, as b + condition * (a - b), which wraps back exactly: Where
    branches for each element and takes eight times as long (14 ms for a million int64 of no order, on 1.32)."""
    difference = r.op("Sub", a, b, shape=np.broadcast_shapes(a.shape, b.shape))
    chosen = r.op("Mul", r.cast(condition, b.data_type), difference, shape=shape)
    return r.op("Add", b, chosen, shape=shape)


def ort_uint64_order(kernels: Kernels) -> Pass:
    @graph_pass
    def ort_uint64_order(graph: OnnxGraph) -> None:
        """uint64 has no kernel for ReduceMax, ReduceMin, ArgMax and ArgMin (1.20 to 1.32), nor for comparisons and
        Div in 1.20.

        No wider integer exists, so the sign bit is flipped, which keeps the order in int64; Div halves the dividend and
        corrects the quotient. Exact for all values.
        """

        def rule(r: Rewriter, node: OnnxNode) -> Tensor | list[Tensor | None] | None:
            x = r.graph.values.get(node.inputs[0]) if node.inputs else None
            if x is None or x.data_type != "uint64" or kernels.there(node, "uint64"):
                return None
            shape = r.value(node.outputs[0]).shape
            if node.op_type == "Div":
                return _divide_uint64(r, x, r.value(node.inputs[1]), shape)
            rest = [r.value(name) if name else None for name in node.inputs[1:]]
            if node.op_type in ("Greater", "GreaterOrEqual", "Less", "LessOrEqual"):
                assert rest[0] is not None
                return r.op(node.op_type, _flip(r, x), _flip(r, rest[0]), data_type="bool", shape=shape)
            if node.op_type in ("ArgMax", "ArgMin"):
                return r.op(node.op_type, _flip(r, x), data_type="int64", shape=shape, **node.attributes)
            if node.op_type in ("ReduceMax", "ReduceMin"):
                return _unflip(r, r.op(node.op_type, _flip(r, x), *rest, shape=shape, **node.attributes))
            return None

        rewrite(graph, rule)

    return ort_uint64_order


def _equal(r: Rewriter, x: Tensor, value: int) -> Tensor:
    return r.op("Equal", x, r.scalar(value, x.data_type), data_type="bool")


def _flip(r: Rewriter, x: Tensor) -> Tensor:
    return r.op("Add", r.cast(x, "int64"), r.scalar(_SIGN_BIT, "int64"))


def _unflip(r: Rewriter, x: Tensor) -> Tensor:
    return r.cast(r.op("Add", x, r.scalar(_SIGN_BIT, "int64")), "uint64")


def _at_least(r: Rewriter, a: Tensor, b: Tensor, shape: Shape) -> Tensor:
    """a >= b of unsigned 64-bit numbers held in int64."""
    bias = r.scalar(_SIGN_BIT, "int64")
    return r.op("GreaterOrEqual", r.op("Add", a, bias), r.op("Add", b, bias), data_type="bool", shape=shape)


def _divide_uint64(r: Rewriter, a: Tensor, b: Tensor, shape: Shape) -> Tensor:
    """floor(a / b) from half of a, which int64 holds: at most one short. A divisor with the sign bit goes in once or
    never."""
    half = r.cast(r.op("BitShift", a, r.scalar(1, "uint64"), direction="RIGHT"), "int64")
    dividend, divisor = r.cast(a, "int64"), r.cast(b, "int64")
    quotient = r.op("Mul", r.op("Div", half, divisor, shape=shape), r.scalar(2, "int64"))
    rest = r.op("Sub", dividend, r.op("Mul", quotient, divisor), shape=shape)
    quotient = r.op("Add", quotient, r.cast(_at_least(r, rest, divisor, shape), "int64"))
    once = r.cast(_at_least(r, dividend, divisor, shape), "int64")
    huge = r.op("Less", divisor, r.scalar(0, "int64"), data_type="bool")
    return r.cast(_select(r, huge, once, quotient, shape), "uint64")
