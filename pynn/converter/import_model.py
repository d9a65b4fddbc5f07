"""An ONNX model as an OnnxGraph, for passes; ``serialize.to_model`` writes it back.

What is kept: opsets, names, types and symbols of inputs and outputs, the order of nodes, weights without a copy (views
of the model's bytes, maps of its data files). What changes: functions of the model are inlined, Constant nodes become
initializers, nodes without a name get one, doc strings go. Types and shapes inside come from ``onnx.shape_inference``;
what it does not know (operators of other domains) stays unknown and is left alone by passes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto
from onnx.inliner import inline_local_functions

from ..errors import ModelError
from ..ops.emitter import Tensor
from .import_weights import DataFiles, detach, from_memory
from .model import WEIGHTS_LOCATION, OnnxModel
from .onnx_graph import OnnxGraph, OnnxNode
from .serialize import INLINE_BYTES, element_type_name

INITIALIZERS_ARE_NO_INPUTS = 4
"""IR version since which an initializer need not be a graph input as well."""

Array = np.ndarray[Any, Any]


def import_model(model: OnnxModel) -> OnnxGraph:
    """The model's graph. Raises ModelError for what is not valid ONNX, for sparse initializers, and for a data file
    that is missing, short or not beside the model."""
    skeleton, spans = detach(model.proto, INLINE_BYTES)
    try:
        proto = onnx.load_model_from_string(skeleton)
    except Exception as error:
        raise ModelError(f"{_where(model)} is not an ONNX model: {error}") from None
    if proto.graph.sparse_initializer:
        name = proto.graph.sparse_initializer[0].values.name
        raise ModelError(f"{_where(model)}: initializer {name!r} is sparse; store it dense to change the precision")
    files = DataFiles(None if model.path is None else model.path.parent)
    weights: dict[str, Array] = {}
    for number, tensor in enumerate(proto.graph.initializer):
        weights[tensor.name] = _weight(model, tensor, spans.get(number), files)
        if number in spans:
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value=WEIGHTS_LOCATION)
    if proto.functions:
        proto = inline_local_functions(proto)
    return _graph(model, proto, weights)


def _where(model: OnnxModel) -> str:
    return "the model" if model.path is None else str(model.path)


def _weight(model: OnnxModel, tensor: TensorProto, span: tuple[int, int] | None, files: DataFiles) -> Array:
    data_type, shape = element_type_name(tensor.data_type), tuple(tensor.dims)
    try:
        if span is not None:
            offset, length = span
            return from_memory(memoryview(model.proto)[offset : offset + length], data_type, shape)
        if tensor.data_location != TensorProto.EXTERNAL:
            return onnx.numpy_helper.to_array(tensor)
    except (ValueError, TypeError) as error:
        raise ModelError(f"{_where(model)}: initializer {tensor.name!r} is damaged: {error}") from None
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if entries.get("location") == WEIGHTS_LOCATION and tensor.name in model.weights:
        return model.weights[tensor.name]
    return files.array(tensor.name, data_type, shape, entries)  # type: ignore[no-any-return]


def _graph(model: OnnxModel, proto: onnx.ModelProto, weights: dict[str, Array]) -> OnnxGraph:
    graph = OnnxGraph()
    graph.opsets = {(one.domain if one.domain != "ai.onnx" else ""): one.version for one in proto.opset_import}
    graph.ir_version = max(proto.ir_version, INITIALIZERS_ARE_NO_INPUTS)
    graph.metadata = {one.key: one.value for one in proto.metadata_props}
    for name, array in weights.items():
        graph.values[name] = Tensor(name, _type_of(array), array.shape)
    graph.initializers = weights
    for side, specs in ((graph.inputs, model.inputs), (graph.outputs, model.outputs)):
        for spec in specs:
            side[spec.name] = spec.onnx_name
            if spec.carrier:
                graph.carriers[spec.onnx_name] = spec.data_type
            if spec.shape and not spec.is_static:
                graph.dims[spec.onnx_name] = spec.shape
    for info in _inferred(model, proto):
        _declare(graph, info)
    names = {node.name for node in proto.graph.node}
    defined = {*weights, *graph.inputs.values(), ""}
    for number, node in enumerate(proto.graph.node):
        if not node.name:
            node.name = _unused(f"{node.op_type}_{number}", names)
        _take(model, graph, node, defined)
    for name, value in graph.outputs.items():
        if value not in defined:
            raise ModelError(f"{_where(model)}: nothing computes the output {name!r}")
    return graph


def _type_of(array: Array) -> str:
    return "string" if array.dtype == object else element_type_name(onnx.helper.np_dtype_to_tensor_dtype(array.dtype))


def _unused(name: str, names: set[str]) -> str:
    while name in names:
        name += "_"
    names.add(name)
    return name


def _inferred(model: OnnxModel, proto: onnx.ModelProto) -> Iterator[onnx.ValueInfoProto]:
    try:
        known = onnx.shape_inference.infer_shapes(proto, strict_mode=False).graph
    except Exception as error:
        raise ModelError(f"{_where(model)} is not valid ONNX: {error}") from None
    yield from known.value_info
    yield from known.input
    yield from known.output


def _declare(graph: OnnxGraph, info: onnx.ValueInfoProto) -> None:
    name = info.name
    if name in graph.initializers:
        return
    if not info.type.HasField("tensor_type"):
        graph.values[name] = Tensor(name, "", ())
        graph.unshaped.add(name)
        return
    tensor = info.type.tensor_type
    data_type = element_type_name(tensor.elem_type) if tensor.elem_type else ""
    if not tensor.HasField("shape"):
        graph.unshaped.add(name)
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim)
    graph.values[name] = Tensor(name, data_type, shape)


def _take(model: OnnxModel, graph: OnnxGraph, node: onnx.NodeProto, defined: set[str]) -> None:
    """Add one node. Constants become initializers, unless they are an output of the graph."""
    outputs = list(node.output)
    if node.op_type == "Constant" and not node.domain and outputs[0] not in graph.outputs.values():
        value = _constant(node)
        if value is not None:
            name = outputs[0]
            graph.initializers[name] = value
            graph.values[name] = Tensor(name, _type_of(value), value.shape)
            graph.unshaped.discard(name)
            defined.add(name)
            return
    captures = _captures(node)
    for name in (*node.input, *captures):
        if name not in defined:
            raise ModelError(f"{_where(model)}: node {node.name!r} reads {name!r}, which nothing before it computes")
    for name in outputs:
        if name and name not in graph.values:
            graph.values[name] = Tensor(name, "", ())
            graph.unshaped.add(name)
    defined.update(outputs)
    domain = "" if node.domain == "ai.onnx" else node.domain
    attributes = {one.name: _attribute(node, one) for one in node.attribute}
    graph.nodes.append(
        OnnxNode(node.op_type, list(node.input), outputs, attributes, node.name, node.name, domain, captures)
    )


def _attribute(node: onnx.NodeProto, attribute: AttributeProto) -> Any:
    """The value as lowerings would write it; anything but numbers, strings and filled lists stays the proto."""
    if attribute.type == AttributeProto.INT:
        named = attribute.name == "to" and node.op_type == "Cast"
        return element_type_name(attribute.i) if named else attribute.i
    if attribute.type == AttributeProto.FLOAT:
        return attribute.f
    if attribute.type == AttributeProto.INTS and attribute.ints:
        return list(attribute.ints)
    if attribute.type == AttributeProto.FLOATS and attribute.floats:
        return list(attribute.floats)
    if attribute.type == AttributeProto.STRING:
        try:
            return attribute.s.decode()
        except UnicodeDecodeError:
            return attribute
    return attribute


def _constant(node: onnx.NodeProto) -> Array | None:
    """The value of a Constant node; None where it is sparse or strings."""
    for attribute in node.attribute:
        if attribute.name == "value":
            return None if attribute.t.data_type == TensorProto.STRING else onnx.numpy_helper.to_array(attribute.t)
        if attribute.name in ("value_float", "value_floats"):
            many = attribute.name == "value_floats"
            return np.array(list(attribute.floats) if many else attribute.f, np.float32)
        if attribute.name in ("value_int", "value_ints"):
            many = attribute.name == "value_ints"
            return np.array(list(attribute.ints) if many else attribute.i, np.int64)
    return None


def _captures(node: onnx.NodeProto) -> tuple[str, ...]:
    """Names that graphs in the node's attributes read from outside, in order of use."""
    found: dict[str, None] = {}
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            found.update(dict.fromkeys(_free(attribute.g)))
        elif attribute.type == AttributeProto.GRAPHS:
            found.update(dict.fromkeys(name for inner in attribute.graphs for name in _free(inner)))
    return tuple(found)


def _free(graph: onnx.GraphProto) -> Iterator[str]:
    own = {one.name for one in graph.input} | {one.name for one in graph.initializer} | {""}
    for node in graph.node:
        yield from (name for name in (*node.input, *_captures(node)) if name not in own)
        own.update(node.output)
    yield from (one.name for one in graph.output if one.name not in own)
