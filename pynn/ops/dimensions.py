"""Rules about shapes where dimensions have names: tried at other samples, and at given sizes for a whole graph."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

from ..errors import ValidationError
from ..graph import Graph, InputValue, Node, Operand
from ..sizes import Size, sampled_at, sizes_in, value_at
from ..types import OperandDescriptor
from .call import Call
from .registry import Inferred, operators

OTHER_SAMPLES = (
    2, 3, 5, 7, 11, 17, 29, 47, 79, 127, 211, 347, 563, 907, 1459, 2351, 3767, 6029, 9649, 15443, 24709, 39541, 63277,
)  # fmt: skip
"""Primes, each about 1.6 times the one before."""


def infer_at_other_samples(call: Call, samples: Mapping[str, int]) -> Inferred | None:
    """What the operator's rule says where named dimensions are smaller than their samples; None if it still fails.

    A rule that compares a named dimension with a number may hold for some sizes only. The builder lets it pass where it
    holds for two samples of each dimension: for one alone it would be an equality. What is compiled is checked at the
    sizes it is compiled for.
    """
    names = sorted(_names(call))
    passed: dict[str, set[int]] = {name: set() for name in names}
    for sizes in _other_samples(names):
        again = Call(call.operator, {k: sampled_at(v, sizes) for k, v in call.attributes.items()}, call.label)
        again.operands = {name: _operands_at(value, sizes) for name, value in call.operands.items()}
        try:
            inferred = again.operator.infer(again)
        except ValidationError:
            continue
        for name, size in sizes.items():
            passed[name].add(size)
        if any(len(seen) < 2 for seen in passed.values()):
            continue
        call.attributes.update({k: sampled_at(v, samples) for k, v in again.attributes.items()})
        found = (inferred,) if isinstance(inferred, OperandDescriptor) else inferred
        return [OperandDescriptor(d.data_type, sampled_at(d.shape, samples)) for d in found]
    return None


def _names(call: Call) -> frozenset[str]:
    operands = (x for value in call.operands.values() for x in (value if isinstance(value, tuple) else (value,)))
    sizes = itertools.chain(sizes_in(x.shape for x in operands), sizes_in(call.attributes.values()))
    return frozenset().union(*(size.names for size in sizes))


def _other_samples(names: list[str]) -> Iterator[dict[str, int]]:
    if not names:
        return
    for start in range(len(OTHER_SAMPLES) - len(names) + 1):
        yield dict(zip(names, OTHER_SAMPLES[start:], strict=False))
    if len(names) == 2:
        for pair in itertools.permutations(OTHER_SAMPLES, 2):
            yield dict(zip(names, pair, strict=True))


def _operands_at(value: InputValue, sizes: Mapping[str, int]) -> InputValue:
    if isinstance(value, tuple):
        return tuple(_operand_at(x, sizes) for x in value)
    return _operand_at(value, sizes)


def _operand_at(x: Operand, sizes: Mapping[str, int]) -> Operand:
    if not any(sizes_in(x.shape)):
        return x
    return Operand(x._owner, x.data_type, sampled_at(x.shape, sizes), name=x._name, data=x._data, node=x._node)


def bind_dimensions(graph: Graph, sizes: Mapping[str, int]) -> Graph:
    """``graph`` with a number for every named dimension, or the Size that it keeps; every operator is checked again.

    Constants, and operators that no named dimension reaches, are shared with ``graph``. Raises ValidationError naming
    the operator and ``sizes`` where a rule does not hold for them.
    """
    samples = {name: int(size) for name, size in sizes.items() if isinstance(size, Size)}
    bound: dict[int, Operand] = {}
    for name, operand in graph.inputs.items():
        shape = value_at(operand.shape, sizes)
        bound[id(operand)] = Operand(operand._owner, operand.data_type, shape, name=name)
    nodes = []
    for node in graph.nodes:
        inputs = {name: _replaced(value, bound) for name, value in node.inputs.items()}
        attributes = {name: value_at(value, sizes) for name, value in node.attributes.items()}
        call = Call(operators[node.op], attributes, node.label)
        call.operands = inputs
        try:
            inferred = call.operator.infer(call)
        except ValidationError as error:
            elsewhere = infer_at_other_samples(call, samples) if samples else None
            if elsewhere is None:
                named = ", ".join(f"{name}={size}" for name, size in sizes.items() if not isinstance(size, Size))
                raise ValidationError(f"{error} (with {named})", operator=error.operator, label=error.label) from None
            inferred = elsewhere
        found = (inferred,) if isinstance(inferred, OperandDescriptor) else inferred
        made = Node(node.op, inputs, attributes, node.label)
        made.outputs = tuple(
            Operand(old._owner, d.data_type, d.shape, node=made) for old, d in zip(node.outputs, found, strict=True)
        )
        bound.update((id(old), new) for old, new in zip(node.outputs, made.outputs, strict=True))
        nodes.append(made)
    return Graph(
        {name: bound[id(x)] for name, x in graph.inputs.items()},
        {name: bound[id(x)] for name, x in graph.outputs.items()},
        tuple(nodes),
    )


def _replaced(value: InputValue, bound: Mapping[int, Operand]) -> InputValue:
    if isinstance(value, tuple):
        return tuple(bound.get(id(x), x) for x in value)
    return bound.get(id(value), value)
