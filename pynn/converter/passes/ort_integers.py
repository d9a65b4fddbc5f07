"""Integer operators that ONNX Runtime's CPU provider computes otherwise than modulo their range, or dies of."""

from __future__ import annotations

import math

import numpy as np

from ...ops.emitter import Tensor
from ..onnx_graph import OnnxGraph, OnnxNode
from . import Pass, Rewriter, graph_pass, rewrite
from .ort_support import INTEGERS, SIGNED, Kernels

_SIGN_BIT = -(2**63)


def ort_integer_division() -> Pass:
    @graph_pass
    def ort_integer_division(graph: OnnxGraph) -> None:
        """Integer Div and Mod end the process (SIGFPE) for the lowest int32 or int64 by -1 in every version (1.20 to 1.32), and
        for a divisor of 0 before 1.25, which later is a run-time error.

        A divisor not known to be harmless is replaced where it is 0 or -1: ``x / -1`` is ``-x`` (which wraps), ``x / 0`` is x (the
        standard leaves it open). Costs four element-wise operators; constant divisors without 0 and -1 cost nothing.
        """

        def rule(r: Rewriter, node: OnnxNode) -> Tensor | None:
            if node.op_type not in ("Div", "Mod"):
                return None
            a, b = (r.value(name) for name in node.inputs)
            if b.data_type not in INTEGERS:
                return None
            bad = [0, -1] if b.data_type in SIGNED else [0]
            known = r.array(b.name)
            if known is not None and not np.isin(known, bad).any():
                return None
            one = r.scalar(1, b.data_type)
            harmful = _equal(r, b, 0)
            if b.data_type in SIGNED:
                harmful = r.op("Or", harmful, _equal(r, b, -1))
            divisor = r.op("Where", harmful, one, b, data_type=b.data_type)
            shape = r.value(node.outputs[0]).shape
            result = r.op(node.op_type, a, divisor, shape=shape, **node.attributes)
            if b.data_type in SIGNED and node.op_type == "Div":
                result = r.op("Where", _equal(r, b, -1), r.op("Neg", a), result, data_type=a.data_type, shape=shape)
            return result

        rewrite(graph, rule)

    return ort_integer_division


def ort_integer_power() -> Pass:
    @graph_pass
    def ort_integer_power(graph: OnnxGraph) -> None:
        """Integer Pow goes through double precision (1.20 to 1.32): inexact above 2^53, saturated instead of wrapped.

        Square and multiply instead: as many steps as the constant exponent has bits, else six (every power that fits, and every
        power of 0, 1 and -1, is exact; negative exponents are left open by the standard). About the speed of the kernel, which calls
        ``std::pow`` for each element; much faster for small constant exponents.
        """

        def rule(r: Rewriter, node: OnnxNode) -> Tensor | None:
            if node.op_type != "Pow":
                return None
            base, exponent = (r.value(name) for name in node.inputs)
            if base.data_type not in INTEGERS or exponent.data_type not in INTEGERS:
                return None
            shape = r.value(node.outputs[0]).shape
            known = r.array(exponent.name)
            if known is not None and known.size and 0 <= int(known.min()) and int(known.max()) < 64:
                bits = int(known.max()).bit_length()
            else:
                bits, exponent = 6, _below_64(r, exponent)
            one = r.scalar(1, base.data_type)
            result = one
            square = base
            for bit in range(bits):
                mask = r.scalar(1 << bit, exponent.data_type)
                unset = r.op(
                    "Equal", r.op("BitwiseAnd", exponent, mask), r.scalar(0, exponent.data_type), data_type="bool"
                )
                factor = r.op("Where", unset, one, square, data_type=base.data_type, shape=shape)
                result = r.op("Mul", result, factor, shape=shape) if bit else factor
                if bit + 1 < bits:
                    square = r.op("Mul", square, square)
            return result if bits else r.op("Expand", one, r.ints(shape), shape=shape)

        rewrite(graph, rule)

    return ort_integer_power


def _below_64(r: Rewriter, exponent: Tensor) -> Tensor:
    """``exponent``, or 62 or 63 of the same parity where it is larger."""
    big = r.op("Greater", exponent, r.scalar(63, exponent.data_type), data_type="bool")
    parity = r.op(
        "BitwiseOr", r.op("BitwiseAnd", exponent, r.scalar(1, exponent.data_type)), r.scalar(62, exponent.data_type)
    )
    return r.op("Where", big, parity, exponent, data_type=exponent.data_type)


def ort_integer_sums(kernels: Kernels) -> Pass:
    @graph_pass
    def ort_integer_sums(graph: OnnxGraph) -> None:
        """Since 1.27 ReduceSum, ReduceSumSquare and ReduceL1 add int32 and int64 in double precision: sums above 2^53 are rounded and
        overflow saturates. uint32 and uint64 have no kernel in any version (to 1.32).

        A product with a column of ones instead: MatMul wraps in all four types. ReduceSumSquare squares first, ReduceL1 takes Abs.
        """

        def rule(r: Rewriter, node: OnnxNode) -> Tensor | None:
            if node.op_type not in ("ReduceSum", "ReduceSumSquare", "ReduceL1"):
                return None
            x = r.value(node.inputs[0])
            if x.data_type not in INTEGERS or kernels.right(node, x.data_type):
                return None
            axes = _axes(r, node, x.rank)
            if axes is None:
                return None
            if node.op_type == "ReduceSumSquare":
                x = r.op("Mul", x, x)
            elif node.op_type == "ReduceL1" and x.data_type in SIGNED:
                x = r.op("Abs", x)
            kept = [axis for axis in range(x.rank) if axis not in axes]
            rows, columns = math.prod(x.shape[a] for a in kept), math.prod(x.shape[a] for a in axes)
            matrix = r.reshape(r.transpose(x, [*kept, *axes]), (rows, columns))
            ones = r.op("Expand", r.scalar(1, x.data_type), r.ints([columns, 1]), shape=(columns, 1))
            return r.reshape(r.op("MatMul", matrix, ones, shape=(rows, 1)), r.value(node.outputs[0]).shape)

        rewrite(graph, rule)

    return ort_integer_sums


def _axes(r: Rewriter, node: OnnxNode, rank: int) -> list[int] | None:
    """The reduced axes in order; None if they are not known or nothing is reduced."""
    if len(node.inputs) > 1 and node.inputs[1]:
        known = r.array(node.inputs[1])
        if known is None:
            return None
        axes = sorted(int(axis) % rank for axis in known)
    else:
        axes = []
    if axes:
        return axes
    return None if node.attributes.get("noop_with_empty_axes") else list(range(rank))


def ort_uint64_order(kernels: Kernels) -> Pass:
    @graph_pass
    def ort_uint64_order(graph: OnnxGraph) -> None:
        """uint64 has no kernel for ReduceMax, ReduceMin, ArgMax, ArgMin and TopK (1.20 to 1.32), for comparisons and Div in 1.20.

        No wider integer exists, so the sign bit is flipped, which keeps the order in int64; Div halves the dividend and corrects
        the quotient. Exact for all values.
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


def _at_least(r: Rewriter, a: Tensor, b: Tensor, shape: tuple[int, ...]) -> Tensor:
    """a >= b of unsigned 64-bit numbers held in int64."""
    bias = r.scalar(_SIGN_BIT, "int64")
    return r.op("GreaterOrEqual", r.op("Add", a, bias), r.op("Add", b, bias), data_type="bool", shape=shape)


def _divide_uint64(r: Rewriter, a: Tensor, b: Tensor, shape: tuple[int, ...]) -> Tensor:
    """floor(a / b): from half of a, which int64 holds; at most one short. A divisor above the sign bit goes in once or not at all."""
    half = r.cast(r.op("BitShift", a, r.scalar(1, "uint64"), direction="RIGHT"), "int64")
    dividend, divisor = r.cast(a, "int64"), r.cast(b, "int64")
    quotient = r.op("Mul", r.op("Div", half, divisor, shape=shape), r.scalar(2, "int64"))
    rest = r.op("Sub", dividend, r.op("Mul", quotient, divisor))
    quotient = r.op("Add", quotient, r.cast(_at_least(r, rest, divisor, shape), "int64"))
    once = r.cast(_at_least(r, dividend, divisor, shape), "int64")
    huge = r.op("Less", divisor, r.scalar(0, "int64"), data_type="bool")
    return r.cast(r.op("Where", huge, once, quotient, data_type="int64", shape=shape), "uint64")
