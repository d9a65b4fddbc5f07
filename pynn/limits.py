"""``op_support_limits``: the operator registry narrowed to what a back end takes.

Spec: https://www.w3.org/TR/webnn/#dictdef-mlopsupportlimits; keys are pynn's snake_case names.
"""

from __future__ import annotations

from typing import Any

from .backends.base import OperatorLimits
from .ops.registry import ANY_RANK, Operator, operators
from .types import DataType

_OUTPUT_RANKS: dict[str, dict[str, tuple[int, int]]] = {
    "argMin": {"output": ANY_RANK},
    "argMax": {"output": ANY_RANK},
    "gatherND": {"output": ANY_RANK},
    "gru": {"output0": (3, 3), "output1": (4, 4)},
    "lstm": {"output0": (3, 3), "output1": (3, 3), "output2": (4, 4)},
    "lstmCell": {"output0": (2, 2), "output1": (2, 2)},
}
"""Results whose rank is not their first operand's."""


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
    for name, ranks in _output_ranks(operator).items():
        refused = whole | limits.unsupported.get((operator.name, name), frozenset())
        record[name] = _tensor_limits(operator.output_types - refused, ranks, limits)
    return record


def _output_ranks(operator: Operator) -> dict[str, tuple[int, int]]:
    """The rank of each result: the first operand's, unless the table above says otherwise."""
    if operator.name in _OUTPUT_RANKS:
        return _OUTPUT_RANKS[operator.name]
    return {"outputs" if operator.returns_list else "output": operator.params[0].rank_range}


def _tensor_limits(types: frozenset[DataType], ranks: tuple[int, int], limits: OperatorLimits) -> dict[str, Any]:
    return {
        "data_types": [data_type.value for data_type in DataType if data_type in types & limits.data_types],
        "rank_range": {"min": ranks[0], "max": min(ranks[1], limits.max_rank)},
    }
