"""The WebNN operators, one module per section of the spec, in spec order; importing this defines them all."""

from __future__ import annotations

from .activation import Activation
from .convolution import Convolution
from .elementwise_binary import ElementwiseBinary
from .elementwise_logical import ElementwiseLogical
from .elementwise_unary import ElementwiseUnary
from .matrix import Matrix
from .normalization import Normalization
from .pooling import Pooling
from .registry import Operator, Param, operators

__all__ = ["AllOperators", "Operator", "Param", "operators"]


class AllOperators(
    ElementwiseBinary,
    ElementwiseLogical,
    ElementwiseUnary,
    Activation,
    Convolution,
    Pooling,
    Normalization,
    Matrix,
):
    """Every operator method of MLGraphBuilder, in the order of the spec."""
