"""The WebNN operators, one module per section of the spec, in spec order; importing this defines them all."""

from __future__ import annotations

from .activation import Activation
from .convolution import Convolution
from .elementwise_binary import ElementwiseBinary
from .elementwise_logical import ElementwiseLogical
from .elementwise_unary import ElementwiseUnary
from .gather_scatter import GatherScatter
from .manipulation import Manipulation
from .matrix import Matrix
from .normalization import Normalization
from .pooling import Pooling
from .quantization_cast import QuantizationCast
from .reduction import Reduction
from .registry import Operator, Param, operators
from .resample2d import Resample2d
from .rnn import Rnn

__all__ = ["AllOperators", "Operator", "Param", "operators"]


class AllOperators(
    ElementwiseBinary,
    ElementwiseLogical,
    ElementwiseUnary,
    Activation,
    Convolution,
    Pooling,
    Normalization,
    Reduction,
    Matrix,
    Rnn,
    QuantizationCast,
    Manipulation,
    Resample2d,
    GatherScatter,
):
    """Every operator method of MLGraphBuilder, in the order of the spec."""
