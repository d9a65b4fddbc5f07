"""Graph to OnnxGraph through each operator's ``lower`` rule, and on to OnnxModel."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import replace

from ..graph import Graph
from ..ops.registry import operators
from .model import OnnxModel
from .onnx_graph import GraphEmitter, OnnxGraph, OnnxNode
from .passes import Pass, PassRecord, run_passes

_MAX_NAME = 512
"""TensorRT refuses names of 4096 bytes; this leaves room for suffixes in four-byte characters."""


def to_onnx(graph: Graph, passes: Iterable[Pass] = ()) -> OnnxModel:
    """The graph as an ONNX model: standard ONNX that any runtime takes.

    ``passes`` rewrite it for one back end (``backend_passes("onnxruntime", "1.32.0")``); ``OnnxModel.rewrites`` keeps
    what each of them changed.
    """
    from .serialize import to_model

    onnx_graph, rewrites = _lowered(graph, tuple(passes))
    return replace(to_model(onnx_graph), rewrites=rewrites)


def _lowered(graph: Graph, passes: tuple[Pass, ...]) -> tuple[OnnxGraph, tuple[PassRecord, ...]]:
    if graph.dimensions:
        from .dynamic import lower_dynamic

        return lower_dynamic(graph, functools.partial(_lowered, passes=passes))
    onnx_graph = _lower_static(graph)
    return onnx_graph, run_passes(onnx_graph, passes)


def lower_graph(graph: Graph) -> OnnxGraph:
    """Run every node's lowering. Inputs and outputs keep their WebNN names where ONNX allows it."""
    return _lowered(graph, ())[0]


def _lower_static(graph: Graph) -> OnnxGraph:
    onnx_graph = OnnxGraph()
    emitter = GraphEmitter(onnx_graph)
    for name, operand in graph.inputs.items():
        value = onnx_graph.fresh(name[:_MAX_NAME])
        onnx_graph.inputs[name] = value
        emitter.bind_input(operand, value)
    for node in graph.nodes:
        emitter.begin(node)
        result = operators[node.op].lower(emitter, node)
        emitter.end(node, result if isinstance(result, (list, tuple)) else [result])  # type: ignore[list-item]
    _name_outputs(graph, onnx_graph, emitter)
    return onnx_graph


def _name_outputs(graph: Graph, onnx_graph: OnnxGraph, emitter: GraphEmitter) -> None:
    """Give each output its public name; an operand under a second name gets an Identity."""
    renamed: dict[str, str] = {}
    for name, operand in graph.outputs.items():
        tensor = emitter.tensor(operand)
        wanted = onnx_graph.fresh(name[:_MAX_NAME])
        onnx_graph.outputs[name] = wanted
        onnx_graph.values[wanted] = type(tensor)(wanted, tensor.data_type, tensor.shape)
        if tensor.name in renamed:
            onnx_graph.nodes.append(OnnxNode("Identity", [tensor.name], [wanted], {}, f"output/{wanted}", "output"))
        else:
            renamed[tensor.name] = wanted
            del onnx_graph.values[tensor.name]
    if renamed:
        for node in onnx_graph.nodes:
            node.inputs = [renamed.get(x, x) for x in node.inputs]
            node.outputs = [renamed.get(x, x) for x in node.outputs]
