"""The digest of a graph's content: what ties a calibration table to one model."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from ..onnx_graph import OnnxGraph


def graph_digest(graph: OnnxGraph) -> str:
    """SHA-256 over inputs, outputs, nodes (types, names of values, attributes) and weights, in hexadecimal.

    The same network under another file name has the same digest; another weight or attribute gives another one.
    """
    state = hashlib.sha256()
    used = {name for node in graph.nodes for name in (*node.inputs, *node.captures)} | set(graph.outputs.values())
    for side in (graph.inputs, graph.outputs):
        for name, value in side.items():
            tensor = graph.values[value]
            _text(state, name, value, tensor.data_type, repr(tuple(graph.dims.get(value, tensor.shape))))
    for node in graph.nodes:
        _text(state, node.domain, node.op_type, repr(node.inputs), repr(node.outputs))
        for key in sorted(node.attributes):
            _text(state, key)
            _attribute(state, node.attributes[key])
    for name in sorted(used & graph.initializers.keys()):
        _array(state, graph.initializers[name], name)
    return state.hexdigest()


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
