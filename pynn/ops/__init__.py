"""The WebNN operators, one module per section of the spec, in spec order; importing this defines them all."""

from __future__ import annotations

from .elementwise_binary import ElementwiseBinary
from .registry import Operator, Param, operators

__all__ = ["AllOperators", "Operator", "Param", "operators"]


class AllOperators(
    ElementwiseBinary,
):
    """Every operator method of MLGraphBuilder, in the order of the spec."""
