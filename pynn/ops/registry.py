"""The registry: every WebNN operator is one ``define`` call beside its builder method.

An operator has a table of operands (data types and ranks, as the spec's tables give them), an ``infer`` function
(further validation, normalisation of attributes, output descriptors) and a ``lower`` function (ONNX). Generic checks
from the table run before ``infer``, so ``infer`` only holds what is special about the operator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from ..graph import Node
from ..types import ALL_TYPES, DataType, OperandDescriptor

if TYPE_CHECKING:
    from .call import Call
    from .emitter import Emitter, Tensor

Inferred = OperandDescriptor | Sequence[OperandDescriptor]
InferRule = Callable[["Call"], Inferred]
LowerRule = Callable[["Emitter", Node], "Tensor | Sequence[Tensor]"]

ANY_RANK = (0, 2**31)


@dataclass(frozen=True, slots=True)
class Param:
    """One operand parameter: the spec's row of data types and rank.

    ``like`` names an earlier operand whose data type it must equal; ``rank`` is a number or an inclusive (min, max);
    ``variadic`` takes a sequence of operands.
    """

    name: str
    types: frozenset[DataType] = ALL_TYPES
    rank: int | tuple[int, int] = ANY_RANK
    like: str = ""
    optional: bool = False
    variadic: bool = False

    @property
    def rank_range(self) -> tuple[int, int]:
        return (self.rank, self.rank) if isinstance(self.rank, int) else self.rank


@dataclass(frozen=True, slots=True)
class Operator:
    """A WebNN operator. ``name`` is the spec's camelCase method name, ``method`` the builder's."""

    name: str
    method: str
    section: str
    params: tuple[Param, ...]
    output_types: frozenset[DataType]
    infer: InferRule
    lower: LowerRule
    returns_list: bool


_operators: dict[str, Operator] = {}

operators: Mapping[str, Operator] = MappingProxyType(_operators)
"""All operators by spec name, in the order of definition."""


def define(
    name: str,
    section: str,
    *params: Param,
    infer: InferRule,
    lower: LowerRule,
    method: str = "",
    output_types: frozenset[DataType] | None = None,
    returns_list: bool = False,
) -> Operator:
    """Register an operator; a name twice is an error. ``output_types`` defaults to the first operand's types."""
    if name in _operators:
        raise ValueError(f"operator {name!r} is defined twice")
    types = output_types if output_types is not None else params[0].types
    operator = Operator(name, method or snake_case(name), section, params, types, infer, lower, returns_list)
    _operators[name] = operator
    return operator


def snake_case(name: str) -> str:
    """``layerNormalization`` -> ``layer_normalization``; ``gatherND`` -> ``gather_nd``; ``conv2d`` stays."""
    out = ""
    for i, char in enumerate(name):
        if char.isupper() and i and not name[i - 1].isupper():
            out += "_"
        out += char.lower()
    return out
