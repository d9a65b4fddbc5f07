"""Operators that work element by element, and the reductions, with pywebnn's signatures."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .operand import MLOperand, OperatorMethods


class ElementwiseMethods(OperatorMethods):
    # -- of two operands, broadcast

    def add(self, a: MLOperand, b: MLOperand) -> MLOperand:
        """``a + b``, broadcast."""
        return self._one("add", a, b)

    def sub(self, a: MLOperand, b: MLOperand) -> MLOperand:
        """``a - b``, broadcast."""
        return self._one("sub", a, b)

    def mul(self, a: MLOperand, b: MLOperand) -> MLOperand:
        """``a * b``, broadcast."""
        return self._one("mul", a, b)

    def div(self, a: MLOperand, b: MLOperand) -> MLOperand:
        """``a / b``, broadcast."""
        return self._one("div", a, b)

    def pow(self, a: MLOperand, b: MLOperand) -> MLOperand:
        """``a ** b``, broadcast."""
        return self._one("pow", a, b)

    def max(self, a: MLOperand, b: MLOperand) -> MLOperand:
        """The larger of each pair, broadcast."""
        return self._one("max", a, b)

    def min(self, a: MLOperand, b: MLOperand) -> MLOperand:
        """The smaller of each pair, broadcast."""
        return self._one("min", a, b)

    # -- comparisons and logic: uint8, 1 for true; logic takes any data type, zero is false

    def equal(self, a: MLOperand, b: MLOperand) -> MLOperand:
        """``a == b``, broadcast, as uint8."""
        return self._one("equal", a, b)

    def not_equal(self, a: MLOperand, b: MLOperand) -> MLOperand:
        """``a != b``, broadcast, as uint8."""
        return self._one("not_equal", a, b)

    def greater(self, a: MLOperand, b: MLOperand) -> MLOperand:
        """``a > b``, broadcast, as uint8."""
        return self._one("greater", a, b)

    def greater_or_equal(self, a: MLOperand, b: MLOperand) -> MLOperand:
        """``a >= b``, broadcast, as uint8."""
        return self._one("greater_or_equal", a, b)

    def lesser(self, a: MLOperand, b: MLOperand) -> MLOperand:
        """``a < b``, broadcast, as uint8."""
        return self._one("lesser", a, b)

    def lesser_or_equal(self, a: MLOperand, b: MLOperand) -> MLOperand:
        """``a <= b``, broadcast, as uint8."""
        return self._one("lesser_or_equal", a, b)

    def logical_and(self, a: MLOperand, b: MLOperand) -> MLOperand:
        """``a and b``, broadcast, as uint8."""
        return self._one("logical_and", a, b)

    def logical_or(self, a: MLOperand, b: MLOperand) -> MLOperand:
        """``a or b``, broadcast, as uint8."""
        return self._one("logical_or", a, b)

    def logical_xor(self, a: MLOperand, b: MLOperand) -> MLOperand:
        """Whether exactly one is true, broadcast, as uint8."""
        return self._one("logical_xor", a, b)

    def logical_not(self, x: MLOperand) -> MLOperand:
        """1 where ``x`` is zero, as uint8."""
        return self._one("logical_not", x)

    def is_nan(self, input: MLOperand) -> MLOperand:
        """1 where ``input`` is NaN, as uint8."""
        return self._one("is_nan", input)

    def is_infinite(self, input: MLOperand) -> MLOperand:
        """1 where ``input`` is infinite, as uint8."""
        return self._one("is_infinite", input)

    # -- of one operand

    def abs(self, x: MLOperand) -> MLOperand:
        """The absolute value."""
        return self._one("abs", x)

    def ceil(self, x: MLOperand) -> MLOperand:
        """Rounded up."""
        return self._one("ceil", x)

    def floor(self, x: MLOperand) -> MLOperand:
        """Rounded down."""
        return self._one("floor", x)

    def round_even(self, x: MLOperand) -> MLOperand:
        """Rounded to the nearest, half to even."""
        return self._one("round_even", x)

    def neg(self, x: MLOperand) -> MLOperand:
        """``-x``."""
        return self._one("neg", x)

    def sign(self, x: MLOperand) -> MLOperand:
        """-1, 0 or 1."""
        return self._one("sign", x)

    def exp(self, x: MLOperand) -> MLOperand:
        """e to the power of ``x``."""
        return self._one("exp", x)

    def log(self, x: MLOperand) -> MLOperand:
        """The natural logarithm."""
        return self._one("log", x)

    def sqrt(self, x: MLOperand) -> MLOperand:
        """The square root."""
        return self._one("sqrt", x)

    def reciprocal(self, x: MLOperand) -> MLOperand:
        """``1 / x``."""
        return self._one("reciprocal", x)

    def sin(self, x: MLOperand) -> MLOperand:
        """The sine."""
        return self._one("sin", x)

    def cos(self, x: MLOperand) -> MLOperand:
        """The cosine."""
        return self._one("cos", x)

    def tan(self, x: MLOperand) -> MLOperand:
        """The tangent."""
        return self._one("tan", x)

    def erf(self, x: MLOperand) -> MLOperand:
        """The error function."""
        return self._one("erf", x)

    def identity(self, x: MLOperand) -> MLOperand:
        """``x`` itself."""
        return self._one("identity", x)

    def relu(self, x: MLOperand) -> MLOperand:
        """``max(x, 0)``."""
        return self._one("relu", x)

    def sigmoid(self, x: MLOperand) -> MLOperand:
        """``1 / (1 + exp(-x))``."""
        return self._one("sigmoid", x)

    def tanh(self, x: MLOperand) -> MLOperand:
        """The hyperbolic tangent."""
        return self._one("tanh", x)

    def gelu(self, input: MLOperand) -> MLOperand:
        """``x * (1 + erf(x / sqrt(2))) / 2``."""
        return self._one("gelu", input)

    def softplus(self, input: MLOperand) -> MLOperand:
        """``log(1 + exp(x))``."""
        return self._one("softplus", input)

    def softsign(self, input: MLOperand) -> MLOperand:
        """``x / (1 + abs(x))``."""
        return self._one("softsign", input)

    def elu(self, input: MLOperand, alpha: float = 1.0) -> MLOperand:
        """``x``, below zero ``alpha * (exp(x) - 1)``."""
        return self._one("elu", input, alpha=alpha)

    def leaky_relu(self, input: MLOperand, alpha: float = 0.01) -> MLOperand:
        """``x``, below zero ``alpha * x``."""
        return self._one("leaky_relu", input, alpha=alpha)

    def prelu(self, input: MLOperand, slope: MLOperand) -> MLOperand:
        """``x``, below zero ``slope * x``."""
        return self._one("prelu", input, slope)

    def linear(self, input: MLOperand, alpha: float = 1.0, beta: float = 0.0) -> MLOperand:
        """``alpha * x + beta``."""
        return self._one("linear", input, alpha=alpha, beta=beta)

    def hard_sigmoid(self, input: MLOperand, alpha: float = 0.2, beta: float = 0.5) -> MLOperand:
        """``alpha * x + beta``, clamped to 0 and 1."""
        return self._one("hard_sigmoid", input, alpha=alpha, beta=beta)

    def hard_swish(self, input: MLOperand, alpha: float = 1 / 6, beta: float = 0.5) -> MLOperand:
        """``x`` times its hard sigmoid of ``alpha`` and ``beta``."""
        if math.isclose(alpha, 1 / 6, rel_tol=1e-6) and beta == 0.5:
            return self._one("hard_swish", input)
        return self.mul(input, self.hard_sigmoid(input, alpha, beta))

    def clamp(self, input: MLOperand, min_value: float = -math.inf, max_value: float = math.inf) -> MLOperand:
        """``x`` held between two numbers."""
        low = None if min_value == -math.inf else min_value
        high = None if max_value == math.inf else max_value
        return self._one("clamp", input, min_value=low, max_value=high)

    def softmax(self, x: MLOperand, axis: int | None = None) -> MLOperand:
        """``exp(x)`` over its sum along ``axis``; without one, as in older pywebnn, the last."""
        return self._one("softmax", x, len(x.shape) - 1 if axis is None else axis)

    def cast(self, input: MLOperand, data_type: str) -> MLOperand:
        """The values in another data type."""
        return self._one("cast", input, data_type)

    # -- reductions: over all axes by default

    def reduce_sum(
        self, input: MLOperand, axes: Sequence[int] | None = None, keep_dimensions: bool = False
    ) -> MLOperand:
        """The sum over ``axes``."""
        return self._one("reduce_sum", input, axes=axes, keep_dimensions=keep_dimensions)

    def reduce_mean(
        self, input: MLOperand, axes: Sequence[int] | None = None, keep_dimensions: bool = False
    ) -> MLOperand:
        """The mean over ``axes``."""
        return self._one("reduce_mean", input, axes=axes, keep_dimensions=keep_dimensions)

    def reduce_max(
        self, input: MLOperand, axes: Sequence[int] | None = None, keep_dimensions: bool = False
    ) -> MLOperand:
        """The maximum over ``axes``."""
        return self._one("reduce_max", input, axes=axes, keep_dimensions=keep_dimensions)

    def reduce_min(
        self, input: MLOperand, axes: Sequence[int] | None = None, keep_dimensions: bool = False
    ) -> MLOperand:
        """The minimum over ``axes``."""
        return self._one("reduce_min", input, axes=axes, keep_dimensions=keep_dimensions)

    def reduce_product(
        self, input: MLOperand, axes: Sequence[int] | None = None, keep_dimensions: bool = False
    ) -> MLOperand:
        """The product over ``axes``."""
        return self._one("reduce_product", input, axes=axes, keep_dimensions=keep_dimensions)

    def reduce_l1(
        self, input: MLOperand, axes: Sequence[int] | None = None, keep_dimensions: bool = False
    ) -> MLOperand:
        """The sum of absolute values over ``axes``."""
        return self._one("reduce_l1", input, axes=axes, keep_dimensions=keep_dimensions)

    def reduce_l2(
        self, input: MLOperand, axes: Sequence[int] | None = None, keep_dimensions: bool = False
    ) -> MLOperand:
        """The root of the sum of squares over ``axes``."""
        return self._one("reduce_l2", input, axes=axes, keep_dimensions=keep_dimensions)

    def reduce_log_sum(
        self, input: MLOperand, axes: Sequence[int] | None = None, keep_dimensions: bool = False
    ) -> MLOperand:
        """The logarithm of the sum over ``axes``."""
        return self._one("reduce_log_sum", input, axes=axes, keep_dimensions=keep_dimensions)

    def reduce_log_sum_exp(
        self, input: MLOperand, axes: Sequence[int] | None = None, keep_dimensions: bool = False
    ) -> MLOperand:
        """The logarithm of the sum of exponentials over ``axes``."""
        return self._one("reduce_log_sum_exp", input, axes=axes, keep_dimensions=keep_dimensions)

    def reduce_sum_square(
        self, input: MLOperand, axes: Sequence[int] | None = None, keep_dimensions: bool = False
    ) -> MLOperand:
        """The sum of squares over ``axes``."""
        return self._one("reduce_sum_square", input, axes=axes, keep_dimensions=keep_dimensions)
