"""Which QuantizeLinear and DequantizeLinear of a model the passes for TensorRT can judge, and why not the others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..onnx_graph import OnnxGraph, OnnxNode

DECOMPOSED = frozenset(("uint8", "int8", "uint16", "int16", "int32", "uint32", "int4", "uint4"))
FOUR_BITS = frozenset(("int4", "uint4"))
_OPERATORS = ("DequantizeLinear", "QuantizeLinear")
_OPSET = 12
"""The first opset whose Round and Clip take what the arithmetic needs."""
_NAMED = 8


def why_left(graph: OnnxGraph, node: OnnxNode) -> str | None:
    """Why the node stays: "" where it is none of these operators or types, None where it can be rewritten."""
    if node.op_type not in _OPERATORS or node.domain:
        return ""
    quantizes = node.op_type == "QuantizeLinear"
    number = node.outputs[0] if quantizes else node.inputs[0]
    data_type = graph.values[number].data_type
    if data_type and data_type not in DECOMPOSED:
        return ""
    names = [name for name in (*node.inputs, *node.outputs) if name]
    unknown = next((name for name in names if name in graph.unshaped or not graph.values[name].data_type), None)
    if unknown is not None:
        return f"the type or the shape of {unknown!r} is not known"
    if graph.opsets.get("", _OPSET) < _OPSET:
        return f"the model's opset is {graph.opsets['']}, older than {_OPSET}"
    if data_type in FOUR_BITS and (quantizes or any(name not in graph.initializers for name in (number, *names[2:-1]))):
        return "its 4-bit numbers are computed at run time"
    return _misfit(graph, node)


def _misfit(graph: OnnxGraph, node: OnnxNode) -> str | None:
    """Why scale and zero point cannot be laid over the input."""
    shape = graph.values[node.inputs[0]].shape
    block = node.attributes.get("block_size", 0)
    axis = node.attributes.get("axis", 1) % max(1, len(shape))
    for name in filter(None, node.inputs[1:3]):
        given = graph.values[name].shape
        if -1 in given:
            return f"the shape of {name!r} is not known"
        if given in ((), (1,)) or (block and given == (1,) * len(shape)):
            continue
        if block and (len(given) != len(shape) or shape[axis] < 0):
            return f"the shape of {node.inputs[0]!r} along its blocks is not known"
        if not block and (len(given) != 1 or not shape or shape[axis] not in (-1, given[0])):
            return f"{name!r} of shape {list(given)} does not fit an input of shape {list(shape)}"
    return None


def left_alone(graph: OnnxGraph) -> tuple[str, ...]:
    """The quantising operators that stayed because they could not be judged."""
    found = [f"{node.op_type} {node.name!r}: {why}" for node in graph.nodes if (why := why_left(graph, node))]
    inside = sorted({node.op_type for node in graph.nodes if any(_quantizes(one) for one in _inner(node))})
    found += [f"{op_type}: quantising operators inside of it" for op_type in inside]
    if not found:
        return ()
    more = [f"and {len(found) - _NAMED} more"] if len(found) > _NAMED else []
    return (f"not rewritten for TensorRT, which may refuse it: {'; '.join(found[:_NAMED] + more)}",)


def left_alone_on_rtx(graph: OnnxGraph) -> tuple[str, ...]:
    """``left_alone``, and the fp8 products that TensorRT for RTX 1.6.1 gave infinity for on a GPU."""
    found = left_alone(graph)
    values = graph.values
    if not any(
        n.op_type == "QuantizeLinear" and values[n.outputs[0]].data_type.startswith("float8") for n in graph.nodes
    ):
        return found
    infinite = [
        repr(node.name)
        for node in graph.nodes
        if node.op_type == "DequantizeLinear"
        and values[node.inputs[0]].data_type.startswith("float8")
        and values[node.outputs[0]].data_type in ("float16", "bfloat16")
        and any(size != 1 for size in values[node.inputs[1]].shape)
    ]
    if not infinite:
        return found
    named = ", ".join(infinite[:_NAMED]) + (f" and {len(infinite) - _NAMED} more" if len(infinite) > _NAMED else "")
    why = "fp8 with a scale per channel in float16 gave infinity on a GPU with TensorRT for RTX 1.6.1"
    return (*found, f"{why}: {named}; give each weight one scale, or make the scales float32")


def _quantizes(node: Any) -> bool:
    return node.domain in ("", "ai.onnx") and node.op_type in _OPERATORS


def _inner(node: OnnxNode) -> Iterator[Any]:
    """The nodes of graphs in attributes, at any depth."""
    waiting = [value for value in node.attributes.values() if hasattr(value, "g")]
    while waiting:
        attribute = waiting.pop()
        for graph in (attribute.g, *attribute.graphs):
            yield from graph.node
            waiting += [one for inner in graph.node for one in inner.attribute]
