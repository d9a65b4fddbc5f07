"""``op_support_limits``: the operator registry narrowed to what a back end takes.

Spec: https://www.w3.org/TR/webnn/#dictdef-mlopsupportlimits; keys are pynn's snake_case names.
"""

from __future__ import annotations

from typing import Any

from .backends.base import OperatorLimits
from .ops.registry import Operator, operators
from .types import DataType


def op_support_limits(limits: OperatorLimits) -> dict[str, Any]:
    """A plain dictionary: the general members, then one per builder method with the limits of each operand."""
    everything = _tensor_limits(limits.data_types, (0, limits.max_rank), limits)
    record: dict[str, Any] = {
        "preferred_input_layout": limits.preferred_input_layout,
        "max_tensor_byte_length": limits.max_tensor_byte_length,
        "input": everything,
        "constant": _tensor_limits(limits.data_types, (0, limits.max_rank), limits),
        "output": _tensor_limits(limits.data_types, (0, limits.max_rank), limits),
    }
    for operator in operators.values():
        record[operator.method] = _operator_limits(operator, limits)
    return record


def _operator_limits(operator: Operator, limits: OperatorLimits) -> dict[str, Any]:
    whole = limits.unsupported.get((operator.name, ""), frozenset())
    record: dict[str, Any] = {}
    for param in operator.params:
        refused = whole | limits.unsupported.get((operator.name, param.name), frozenset())
        record[param.name] = _tensor_limits(param.types - refused, param.rank_range, limits)
    output = "outputs" if operator.returns_list else "output"
    refused = whole | limits.unsupported.get((operator.name, output), frozenset())
    record[output] = _tensor_limits(operator.output_types - refused, operator.params[0].rank_range, limits)
    return record


def _tensor_limits(types: frozenset[DataType], ranks: tuple[int, int], limits: OperatorLimits) -> dict[str, Any]:
    return {
        "data_types": [data_type.value for data_type in DataType if data_type in types & limits.data_types],
        "rank_range": {"min": ranks[0], "max": min(ranks[1], limits.max_rank)},
    }
