"""A graph as webnn-graph files hold it: by names, in either notation. Reading and writing the JSON notation."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...errors import ValidationError
from ...types import DataType, OperandDescriptor, cast_number, check_shape
from .errors import GraphFileError

FORMAT = "webnn-graph-json"
VERSIONS = (1, 2)

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True, slots=True)
class WeightsRef:
    """Data kept in another file under this name."""

    key: str


@dataclass(frozen=True, slots=True)
class Scalar:
    """Every element is this number."""

    value: float


@dataclass(slots=True)
class Constant:
    """``init`` is the little-endian bytes (4-bit elements packed, the low half first), or where to get them."""

    descriptor: OperandDescriptor
    init: Bytes | WeightsRef | Scalar


@dataclass(slots=True)
class NodeEntry:
    """One operator. Without ``outputs`` its one result has the name ``id``; an empty ``op`` is another name of it."""

    id: str
    op: str
    inputs: list[str]
    options: dict[str, Any]
    outputs: list[str] | None = None
    line: int = 0

    @property
    def where(self) -> str:
        line = f"line {self.line}: " if self.line else ""
        return f"{line}node {self.id!r} ({self.op})"


@dataclass(slots=True)
class GraphFile:
    """``outputs`` maps each output's name to the operand it is."""

    name: str = "graph"
    version: int = 2
    quantized: bool = False
    inputs: dict[str, OperandDescriptor] = field(default_factory=dict)
    constants: dict[str, Constant] = field(default_factory=dict)
    nodes: list[NodeEntry] = field(default_factory=list)
    outputs: dict[str, str] = field(default_factory=dict)

    def check_version(self) -> None:
        if self.version not in VERSIONS:
            raise GraphFileError(f"version {self.version} of the graph format is unknown; known: 1 and 2")


# -- bytes and arrays


def pack(array: np.ndarray[Any, Any], data_type: DataType) -> Bytes:
    """The bytes of an array as files hold them."""
    if data_type.bits >= 8:
        little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
        return little.reshape(-1).view(np.uint8)
    halves = np.zeros(array.size + array.size % 2, np.uint8)
    halves[: array.size] = array.reshape(-1).astype(np.int8).view(np.uint8) & 0x0F
    packed: Bytes = (halves[0::2] | halves[1::2] << 4).astype(np.uint8)
    return packed


def unpack(name: str, constant: Constant) -> np.ndarray[Any, Any]:
    """The array of a constant whose data is here. Raises GraphFileError for a wrong number of bytes."""
    descriptor, init = constant.descriptor, constant.init
    dtype = descriptor.data_type.numpy
    if isinstance(init, Scalar):
        return np.full(descriptor.shape, cast_number(init.value, descriptor.data_type), dtype)
    assert not isinstance(init, WeightsRef)
    if init.size != descriptor.byte_length:
        raise GraphFileError(
            f"constant {name!r}: {init.size} bytes of data, but {descriptor.data_type}{list(descriptor.shape)} takes "
            f"{descriptor.byte_length}"
        )
    if descriptor.data_type.bits >= 8:
        array: np.ndarray[Any, Any] = init.view(dtype.newbyteorder("<")).astype(dtype, copy=False)
        return array.reshape(descriptor.shape)
    halves = np.stack((init & 0x0F, init >> 4), axis=-1).reshape(-1)[: descriptor.element_count]
    if descriptor.data_type is DataType.INT4:
        return ((halves.astype(np.int8) ^ 8) - 8).astype(dtype).reshape(descriptor.shape)
    return halves.astype(dtype).reshape(descriptor.shape)


def descriptor_of(where: str, data_type: object, shape: object) -> OperandDescriptor:
    """Checked; a dimension that is a mapping is a dynamic one, which pynn's graphs do not have."""
    if isinstance(shape, Iterable):
        for dim in shape:
            if isinstance(dim, Mapping):
                raise GraphFileError(
                    f"{where}: dimension {dim.get('name')!r} is dynamic; pynn's WebNN graphs have fixed shapes: export "
                    "the model with a size for it"
                )
    try:
        return OperandDescriptor(DataType.parse(data_type), check_shape(shape))
    except ValidationError as error:
        raise GraphFileError(f"{where}: {error}") from error


# -- JSON


def read_json(text: str) -> GraphFile:
    """Raises GraphFileError with the line for what is not JSON, with the member's path for what is no graph."""
    try:
        top = json.loads(text)
    except json.JSONDecodeError as error:
        raise GraphFileError(f"not valid JSON, or truncated: {error}") from error
    if not isinstance(top, dict) or top.get("format") != FORMAT:
        raise GraphFileError(f'not a graph file: the member "format" must be {FORMAT!r}')
    file = GraphFile(
        name=_get(top, "", "name", str, "graph") or "graph",
        version=_get(top, "", "version", int, 2),
        quantized=_get(top, "", "quantized", bool, False),
    )
    file.check_version()
    for name, entry in _get(top, "", "inputs", dict).items():
        where = f"inputs.{name}"
        file.inputs[name] = descriptor_of(where, _get(entry, where, "dataType", str), _get(entry, where, "shape", list))
    for name, entry in _get(top, "", "consts", dict, {}).items():
        where = f"consts.{name}"
        described = descriptor_of(where, _get(entry, where, "dataType", str), _get(entry, where, "shape", list))
        file.constants[name] = Constant(described, _init(_get(entry, where, "init", dict), f"{where}.init"))
    for i, entry in enumerate(_get(top, "", "nodes", list)):
        where = f"nodes[{i}]"
        outputs = _get(entry, where, "outputs", list, None)
        node = NodeEntry(
            id=_get(entry, where, "id", str),
            op=_get(entry, where, "op", str),
            inputs=_names(_get(entry, where, "inputs", list), f"{where}.inputs"),
            options=_get(entry, where, "options", dict, {}) or {},
            outputs=None if outputs is None else _names(outputs, f"{where}.outputs"),
        )
        file.nodes.append(node)
    for name, operand in _get(top, "", "outputs", dict).items():
        file.outputs[name] = _names([operand], f"outputs.{name}")[0]
    return file


def write_json(file: GraphFile) -> str:
    """One line for each input, constant, node and output."""

    def record(entry: Mapping[str, Any]) -> str:
        return json.dumps(entry, ensure_ascii=False)

    def members(entries: Mapping[str, Any]) -> str:
        return ",\n".join(f"    {record_key(name)}: {record(entry)}" for name, entry in entries.items())

    def record_key(name: str) -> str:
        return json.dumps(name, ensure_ascii=False)

    def block(opening: str, body: str, closing: str) -> str:
        return f"{opening}\n{body}\n  {closing}" if body else opening + closing

    inputs = {name: described(d) for name, d in file.inputs.items()}
    constants = {name: described(c.descriptor) | {"init": _init_record(c)} for name, c in file.constants.items()}
    nodes = ",\n".join(f"    {record(_node_record(node))}" for node in file.nodes)
    outputs = ",\n".join(f"    {record_key(k)}: {record_key(v)}" for k, v in file.outputs.items())
    head = {"format": FORMAT, "version": file.version, "name": file.name, "quantized": file.quantized}
    lines = [f"  {record_key(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in head.items()]
    lines.append('  "inputs": ' + block("{", members(inputs), "}"))
    lines.append('  "consts": ' + block("{", members(constants), "}"))
    lines.append('  "nodes": ' + block("[", nodes, "]"))
    lines.append('  "outputs": ' + block("{", outputs, "}"))
    return "{\n" + ",\n".join(lines) + "\n}\n"


def described(descriptor: OperandDescriptor) -> dict[str, Any]:
    return {"dataType": descriptor.data_type.value, "shape": list(descriptor.shape)}


def _node_record(node: NodeEntry) -> dict[str, Any]:
    record: dict[str, Any] = {"id": node.id, "op": node.op, "inputs": node.inputs, "options": node.options}
    if node.outputs is not None:
        record["outputs"] = node.outputs
    return record


def _init_record(constant: Constant) -> dict[str, Any]:
    init = constant.init
    if isinstance(init, WeightsRef):
        return {"kind": "weights", "ref": init.key}
    if isinstance(init, Scalar):
        return {"kind": "scalar", "value": init.value}
    return {"kind": "inlineBytes", "bytes": init.tolist()}


def _init(entry: dict[str, Any], where: str) -> Bytes | WeightsRef | Scalar:
    kind = _get(entry, where, "kind", str)
    if kind == "weights":
        return WeightsRef(_get(entry, where, "ref", str))
    if kind == "scalar":
        return Scalar(number(_get(entry, where, "value", object), f"{where}.value"))
    if kind == "inlineBytes":
        return bytes_of(_get(entry, where, "bytes", list), f"{where}.bytes")
    raise GraphFileError(f"{where}: kind {kind!r} is unknown; known: weights, scalar, inlineBytes")


def bytes_of(values: list[Any], where: str) -> Bytes:
    try:
        return np.frombuffer(bytes(values), np.uint8)
    except (TypeError, ValueError) as error:
        raise GraphFileError(f"{where}: must be integers in 0..255: {error}") from error


def number(value: object, where: str) -> float:
    """JSON has no infinities and no NaN: they are strings."""
    if isinstance(value, str) and value in ("Infinity", "-Infinity", "NaN"):
        return float(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    raise GraphFileError(f"{where}: expected a number, got {value!r}")


_MISSING = object()


def _get(entry: object, where: str, key: str, kind: type, default: Any = _MISSING) -> Any:
    path = f"{where}.{key}" if where else key
    if not isinstance(entry, dict):
        raise GraphFileError(f"{where} must be an object, got {entry!r}")
    value = entry.get(key, default)
    if value is _MISSING:
        raise GraphFileError(f"the member {path} is missing")
    if value is not default and value is not None and not isinstance(value, kind):
        raise GraphFileError(f"{path} must be of type {kind.__name__}, got {value!r}")
    if value is None and default is _MISSING:
        raise GraphFileError(f"the member {path} is null")
    return value


def _names(values: list[Any], where: str) -> list[str]:
    for value in values:
        if not isinstance(value, str):
            raise GraphFileError(f"{where} must be names, got {value!r}")
    return values
