"""OnnxGraph <-> onnx.ModelProto <-> files: the only module of the converter that needs the ``onnx`` package."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from ..errors import ModelError
from .import_weights import detach
from .model import WEIGHTS_LOCATION, OnnxModel, TensorSpec, element_name, is_engine, onnx_memory
from .onnx_graph import OnnxGraph

PROTOBUF_LIMIT = 2**31 - 2**20
INLINE_BYTES = 1024
"""Initializers up to this size are written into the proto: shapes and scalars must be there for shape inference."""
REPLACEABLE_BYTES = 16
"""Float initializers above this size are weights, which an engine may get later; smaller ones are bounds, exponents and
the like, which decide what is built."""

_ELEMENT_TYPES: dict[str, int] = {
    name.lower(): number for name, number in TensorProto.DataType.items() if name != "UNDEFINED"
}
_ELEMENT_TYPES["float32"] = TensorProto.FLOAT
_ELEMENT_TYPES["float64"] = TensorProto.DOUBLE
_NAMES = {number: name for name, number in _ELEMENT_TYPES.items()}


def element_type(data_type: str) -> int:
    """ONNX's TensorProto.DataType number of an element type name such as "float32"."""
    return _ELEMENT_TYPES[data_type]


def element_type_name(number: int) -> str:
    """The name of a TensorProto.DataType number: "float32", "bfloat16", "float8e4m3fn", ..."""
    return _NAMES.get(number, f"unknown type {number}")


def to_model(graph: OnnxGraph) -> OnnxModel:
    """Serialize. Initializers above INLINE_BYTES stay out of the proto and are not copied."""
    proto, weights = graph_to_proto(graph)
    return OnnxModel(
        proto=proto.SerializeToString(),
        inputs=tuple(_spec(graph, name, value) for name, value in graph.inputs.items()),
        outputs=tuple(_spec(graph, name, value) for name, value in graph.outputs.items()),
        weights=weights,
    )


def graph_to_proto(graph: OnnxGraph) -> tuple[onnx.ModelProto, dict[str, np.ndarray[Any, Any]]]:
    """The ModelProto, and the weights it refers to as external data of location ``pynn-weights``."""
    model = onnx.ModelProto(ir_version=graph.ir_version, producer_name="pynn")
    domains = {node.domain for node in graph.nodes} | graph.opsets.keys()
    for domain in sorted(domains):
        model.opset_import.add(domain=domain, version=graph.opsets.get(domain, 1))
    for key, text in graph.metadata.items():
        model.metadata_props.add(key=key, value=text)
    proto = model.graph
    proto.name = "pynn"
    for side, values in ((proto.input, graph.inputs.values()), (proto.output, graph.outputs.values())):
        for value in values:
            tensor = graph.values[value]
            shape = None if value in graph.unshaped else graph.dims.get(value, tensor.shape)
            side.append(onnx.helper.make_tensor_value_info(value, element_type(tensor.data_type), shape))
    weights: dict[str, np.ndarray[Any, Any]] = {}
    used = {name for node in graph.nodes for name in node.inputs} | graph.captured() | set(graph.outputs.values())
    for name, array in graph.initializers.items():
        if name not in used:
            continue
        if array.nbytes <= INLINE_BYTES or array.dtype.itemsize * 8 > array.nbytes * 8:
            proto.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
            continue
        weights[name] = array
        number = element_type(element_name(array.dtype))
        tensor_proto = proto.initializer.add(name=name, data_type=number, dims=array.shape)
        tensor_proto.data_location = TensorProto.EXTERNAL
        tensor_proto.external_data.add(key="location", value=WEIGHTS_LOCATION)
    for node in graph.nodes:
        added = proto.node.add(op_type=node.op_type, input=node.inputs, output=node.outputs, name=node.name)
        if node.domain:
            added.domain = node.domain
        for key, value in node.attributes.items():
            number = element_type(value) if key == "to" and node.op_type == "Cast" else value
            added.attribute.append(_attribute(key, number))
    return model, weights


def _attribute(key: str, value: Any) -> onnx.AttributeProto:
    if type(value) is int:
        return onnx.AttributeProto(name=key, type=onnx.AttributeProto.INT, i=value)
    if type(value) is float:
        return onnx.AttributeProto(name=key, type=onnx.AttributeProto.FLOAT, f=value)
    if isinstance(value, onnx.AttributeProto):
        return value
    if isinstance(value, bool):
        return onnx.AttributeProto(name=key, type=onnx.AttributeProto.INT, i=int(value))
    if isinstance(value, (list, tuple)) and value and type(value[0]) is int:
        return onnx.AttributeProto(name=key, type=onnx.AttributeProto.INTS, ints=value)
    return onnx.helper.make_attribute(key, value)


def _spec(graph: OnnxGraph, name: str, value: str) -> TensorSpec:
    tensor = graph.values[value]
    public = graph.carriers.get(value, tensor.data_type)
    shape = graph.dims.get(value, tensor.shape)
    return TensorSpec(name, value, public, shape, tensor.data_type if public != tensor.data_type else "")


def inline_weights(model: OnnxModel) -> onnx.ModelProto:
    proto = onnx.load_model_from_string(model.proto)
    for tensor in proto.graph.initializer:
        if tensor.name in model.weights:
            del tensor.external_data[:]
            tensor.data_location = TensorProto.DEFAULT
            tensor.CopyFrom(onnx.numpy_helper.from_array(model.weights[tensor.name], tensor.name))
    return proto


def write_model(model: OnnxModel, path: Path) -> Path:
    if len(model.proto) + sum(w.nbytes for w in model.weights.values()) < PROTOBUF_LIMIT:
        path.write_bytes(model.to_bytes())
        return path
    proto = onnx.load_model_from_string(model.proto)
    data = path.with_name(path.name + ".data")
    with data.open("wb") as file:
        for tensor in proto.graph.initializer:
            if tensor.name not in model.weights:
                continue
            array = onnx_memory(model.weights[tensor.name])
            file.write(b"\0" * (-file.tell() % 4096))
            entries = {"location": data.name, "offset": str(file.tell()), "length": str(array.nbytes)}
            del tensor.external_data[:]
            for key, value in entries.items():
                tensor.external_data.add(key=key, value=value)
            file.write(array.reshape(-1).view(np.uint8).data)
    path.write_bytes(proto.SerializeToString())
    return path


def read_model(source: str | os.PathLike[str] | bytes | onnx.ModelProto) -> OnnxModel:
    if isinstance(source, onnx.ModelProto):
        return _model_of(source, source.SerializeToString(), "the ModelProto", None)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return parse_model(bytes(source), f"{len(source)} bytes", None)
    path = Path(source)
    return parse_model(path.read_bytes(), str(path), path)


def parse_model(data: bytes, where: str, path: Path | None) -> OnnxModel:
    """``where`` names the model in errors. Raises ModelError."""
    try:
        proto = onnx.load_model_from_string(detach(data, INLINE_BYTES)[0])
    except Exception as error:
        if is_engine(data[:8]):
            raise ModelError(f"{where} is a TensorRT engine, not an ONNX model; pynn.load_engine opens it") from None
        raise ModelError(f"{where} is not an ONNX model: {error}") from None
    return _model_of(proto, data, where, path)


def _model_of(proto: onnx.ModelProto, data: bytes, where: str, path: Path | None) -> OnnxModel:
    if not proto.graph.node and not proto.graph.output:
        raise ModelError(f"{where} is not an ONNX model: it has neither nodes nor outputs")
    if not proto.graph.output:
        raise ModelError(f"{where} has no outputs: a run would give nothing; name its results as outputs of the graph")
    initialized = {tensor.name for tensor in proto.graph.initializer}
    inputs = tuple(_spec_of(info, where) for info in proto.graph.input if info.name not in initialized)
    outputs = tuple(_spec_of(info, where) for info in proto.graph.output)
    return OnnxModel(data, inputs, outputs, path=path)


def _spec_of(info: onnx.ValueInfoProto, where: str) -> TensorSpec:
    if not info.type.HasField("tensor_type"):
        raise ModelError(f"{where}: {info.name!r} is not a tensor; sequences, maps and optionals are not supported")
    tensor = info.type.tensor_type
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else (dim.dim_param or None) for dim in tensor.shape.dim)
    return TensorSpec(info.name, info.name, element_type_name(tensor.elem_type), shape)


def external_locations(proto: bytes) -> tuple[str, ...]:
    """The files that tensors of a model refer to, relative to the model's own, each once and sorted."""
    model = onnx.load_model_from_string(proto)
    tensors = [tensor for graph in _graphs(model) for tensor in _tensors(graph)]
    entries = (entry for tensor in tensors for entry in tensor.external_data)
    return tuple(sorted({entry.value for entry in entries if entry.key == "location"} - {WEIGHTS_LOCATION}))


def _graphs(model: onnx.ModelProto) -> list[Any]:
    """The graph, those inside its attributes, and the functions."""
    graphs: list[Any] = [model.graph, *model.functions]
    for graph in graphs:  # grows while it is walked
        for node in graph.node:
            for attribute in node.attribute:
                graphs += ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs)
    return graphs


def _tensors(graph: Any) -> Iterator[TensorProto]:
    """A function has no initializers."""
    yield from getattr(graph, "initializer", ())
    for sparse in getattr(graph, "sparse_initializer", ()):
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors


def topology_parts(proto: bytes) -> Iterator[tuple[str, bytes | memoryview]]:
    """The model without the values of its float weights, named, and the values of other initializers: the same for two
    models that differ in float weights only."""
    stripped, spans = detach(proto, REPLACEABLE_BYTES)
    yield "topology", stripped
    tensors = onnx.load_model_from_string(stripped).graph.initializer if spans else ()
    for number, tensor in enumerate(tensors):
        if number in spans and "float" not in element_type_name(tensor.data_type):
            start, length = spans[number]
            yield f"initializer {number}", memoryview(proto)[start : start + length]


def float_weights(model: OnnxModel) -> Iterator[tuple[str, memoryview]]:
    """Name and memory of each float weight whose values ``topology_parts`` and a digest of the topology leave out."""
    for name, array in model.weights.items():
        if "float" in array.dtype.name:
            yield name, np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    stripped, spans = detach(model.proto, REPLACEABLE_BYTES)
    tensors = onnx.load_model_from_string(stripped).graph.initializer if spans else ()
    for number, tensor in enumerate(tensors):
        if number in spans and "float" in element_type_name(tensor.data_type):
            start, length = spans[number]
            yield tensor.name, memoryview(model.proto)[start : start + length]


def other_float_weights(model: OnnxModel) -> Iterator[tuple[str, bytes]]:
    """Name and content of each float initializer that ``float_weights`` passes over: small ones, and those in files
    beside the model. Raises OSError for a file that cannot be read."""
    stripped, spans = detach(model.proto, REPLACEABLE_BYTES)
    for number, tensor in enumerate(onnx.load_model_from_string(stripped).graph.initializer):
        if number in spans or tensor.name in model.weights or "float" not in element_type_name(tensor.data_type):
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if not entries:
            yield tensor.name, tensor.raw_data or onnx.numpy_helper.to_array(tensor).tobytes()
        elif model.path is not None:
            with (model.path.parent / entries["location"]).open("rb") as file:
                file.seek(int(entries.get("offset", 0)))
                yield tensor.name, file.read(int(entries.get("length", -1)))


def normalization_parameters(proto: bytes) -> tuple[tuple[str, ...], ...]:
    """Scale, bias, mean and variance of each BatchNormalization whose four are all initializers."""
    graph = onnx.load_model_from_string(detach(proto, INLINE_BYTES)[0]).graph
    initialized = {tensor.name for tensor in graph.initializer}
    nodes = (tuple(node.input[1:5]) for node in graph.node if node.op_type == "BatchNormalization")
    return tuple(names for names in nodes if initialized.issuperset(names))


def constant_names(proto: bytes) -> frozenset[str]:
    """Initializers, and what Constant nodes give."""
    graph = onnx.load_model_from_string(detach(proto, INLINE_BYTES)[0]).graph
    constants = {node.output[0] for node in graph.node if node.op_type == "Constant"}
    return frozenset(constants | {tensor.name for tensor in graph.initializer})
