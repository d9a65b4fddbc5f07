"""The digest of a model's content: what ties a calibration table to it."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from ...graph import Graph
from ..convert import to_onnx
from ..model import OnnxModel
from ..onnx_graph import OnnxGraph
from ..passes import Pass

_MAX_SIZES = 16


def graph_digest(graph: OnnxGraph) -> str:
    """SHA-256 over inputs, outputs, nodes (types, names of values, attributes) and weights, in hexadecimal.

    The same network under another file name has the same digest; another weight or attribute gives another one. Sizes
    do not count, in shapes of inputs and outputs and in short vectors of integers (targets of Reshape, ends of Slice):
    a table may serve another batch, and a graph with named dimensions is rewritten at several sizes.
    """
    state = hashlib.sha256()
    used = {name for node in graph.nodes for name in (*node.inputs, *node.captures)} | set(graph.outputs.values())
    for side in (graph.inputs, graph.outputs):
        for name, value in side.items():
            _text(state, name, value, graph.values[value].data_type)
    for node in graph.nodes:
        _text(state, node.domain, node.op_type, repr(node.inputs), repr(node.outputs))
        for key in sorted(node.attributes):
            _text(state, key)
            _attribute(state, node.attributes[key])
    for name in sorted(used & graph.initializers.keys()):
        array = graph.initializers[name]
        if array.dtype.kind not in "iu" or array.ndim > 1 or array.size > _MAX_SIZES:
            _array(state, array, name)
    return state.hexdigest()


def model_digest(model: Graph | OnnxModel) -> str:
    """The digest of the graph that the first precision pass gets of ``model``; where dimensions are named, one of the
    equal ones."""
    if isinstance(model, OnnxModel):
        from ..import_model import import_model

        return graph_digest(import_model(model))
    found: list[str] = []
    to_onnx(model, (Pass("digest", lambda graph: found.append(graph_digest(graph))),))
    return found[0]


def _text(state: Any, *parts: str) -> None:
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        state.update(len(data).to_bytes(8, "little"))
        state.update(data)


def _array(state: Any, array: np.ndarray[Any, Any], name: str = "") -> None:
    _text(state, name, array.dtype.name, repr(array.shape))
    if array.dtype == object:
        _text(state, repr(array.tolist()))
    elif array.size:
        state.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def _attribute(state: Any, value: Any) -> None:
    if isinstance(value, np.ndarray):
        _array(state, value)
    elif hasattr(value, "SerializeToString"):
        state.update(value.SerializeToString(deterministic=True))
    else:
        _text(state, repr(value))
