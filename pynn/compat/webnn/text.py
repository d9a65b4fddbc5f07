"""The ``.webnn`` text notation of webnn-graph files: reading and writing.

webnn_graph "name" v2 {
  inputs { x: f32[1, 4]; }
  consts { w: f32[4, 2] @weights("w"); one: f32[] @scalar(1.0); }
  nodes { y = matmul(x, w); [a, b] = split(y, splits=2, axis=1); }
  outputs { a; b; }
}
"""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_left
from collections.abc import Iterator
from typing import Any, NoReturn

import numpy as np

from ...types import OperandDescriptor
from .errors import GraphFileError
from .graph_file import Bytes, Constant, GraphFile, NodeEntry, Scalar, WeightsRef, descriptor_of, number

SHORT = {
    "float32": "f32", "float16": "f16", "int4": "i4", "uint4": "u4", "int32": "i32", "uint32": "u32", "int64": "i64",
    "uint64": "u64", "int8": "i8", "uint8": "u8",
}  # fmt: skip
_BYTES = [str(value) for value in range(256)]
LONG = {short: long for long, short in SHORT.items()}

_TOKEN = re.compile(
    r"""(?P<space>\s+|\#[^\n]*|//[^\n]*)
    | (?P<string>"(?:\\.|[^"\\])*")
    | (?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
    | (?P<ident>[A-Za-z_/$%](?:[\w./]|::)*)
    | @bytes\s*\(\s*\[(?P<bytes>[\d,\s]*)\]\s*\)
    | (?P<annotation>@[a-z]+)
    | (?P<mark>[{}()\[\]:;,=])""",
    re.VERBOSE | re.ASCII,
)
_PLAIN = re.compile(r"[A-Za-z_/$][A-Za-z0-9_/]*", re.ASCII)


def sanitized(name: str) -> str:
    """Names of exporters as identifiers: ``onnx::MatMul.1`` is ``onnx__MatMul_1``, as rustnn has it."""
    return name.lstrip("%").replace("::", "__").replace(".", "_")


def read_text(text: str) -> GraphFile:
    """Raises GraphFileError with line and column."""
    return _Reader(text).file()


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._breaks = [match.start() for match in re.finditer("\n", text)]
        self._tokens = list(self._scan(text))
        self._at = 0

    def _scan(self, text: str) -> Iterator[tuple[str, str, int]]:
        position = 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                self._fail(f"unexpected character {text[position]!r}", position)
            if match.lastgroup != "space":
                kind = str(match.lastgroup)
                yield kind, match.group("bytes" if kind == "bytes" else 0), position
            position = match.end()
        yield "end", "", len(text)

    def _fail(self, message: str, position: int | None = None) -> NoReturn:
        if position is None:
            position = self._tokens[self._at][2]
        line = bisect_left(self._breaks, position) + 1
        column = position - self._text.rfind("\n", 0, position)
        raise GraphFileError(f"line {line}, column {column}: {message}")

    # -- tokens

    def _is(self, *values: str) -> bool:
        kind, value, _ = self._tokens[self._at]
        return value in values and kind != "string"

    def _next(self) -> tuple[str, str, int]:
        token = self._tokens[self._at]
        self._at += token[0] != "end"
        return token

    def _take(self, kind: str, value: str | None = None) -> str:
        found, text, position = self._next()
        if found != kind or (value is not None and text != value):
            wanted = repr(value) if value is not None else kind
            got = "the end of the file" if found == "end" else repr(text)
            self._fail(f"expected {wanted}, got {got}", position)
        return text

    def _mark(self, value: str) -> None:
        self._take("mark", value)

    def _skip(self, value: str) -> bool:
        if self._is(value):
            self._at += 1
            return True
        return False

    def _name(self) -> str:
        return sanitized(self._take("ident"))

    def _string(self) -> str:
        return re.sub(r'\\(["\\])', r"\1", self._take("string")[1:-1])

    def _number(self) -> float:
        text = self._take("number")
        return float(text) if any(c in text for c in ".eE") else int(text)

    def _int(self) -> int:
        value = self._number()
        if not isinstance(value, int) or value < 0:
            self._at -= 1
            self._fail(f"expected an integer of at least 0, got {value}")
        return value

    @property
    def _line(self) -> int:
        return bisect_left(self._breaks, self._tokens[self._at][2]) + 1

    # -- the grammar

    def file(self) -> GraphFile:
        self._take("ident", "webnn_graph")
        file = GraphFile(name=self._string())
        version = self._take("ident")
        if version == "v":
            file.version = self._int()
        elif re.fullmatch(r"v\d+", version):
            file.version = int(version[1:])
        else:
            self._at -= 1
            self._fail(f"expected a version such as v2, got {version!r}")
        file.check_version()
        if self._is("@quantized"):
            self._next()
            file.quantized = True
        self._mark("{")
        while not self._skip("}"):
            block = self._take("ident")
            read = {"inputs": self._input, "consts": self._constant, "nodes": self._node, "outputs": self._output}
            if block not in read:
                self._at -= 1
                self._fail(f"expected inputs, consts, nodes or outputs, got {block!r}")
            self._mark("{")
            while not self._skip("}"):
                read[block](file)
        self._take("end")
        return file

    def _input(self, file: GraphFile) -> None:
        name = self._name()
        if name in file.inputs:
            self._fail(f"input {name!r} is declared twice")
        self._mark(":")
        file.inputs[name] = self._type(f"input {name!r}")
        self._mark(";")

    def _constant(self, file: GraphFile) -> None:
        name = self._name()
        if name in file.constants:
            self._fail(f"constant {name!r} is declared twice")
        self._mark(":")
        described = self._type(f"constant {name!r}")
        init: Bytes | WeightsRef | Scalar = WeightsRef(name)
        while not self._skip(";"):
            if self._tokens[self._at][0] == "bytes":
                init = self._bytes()
                continue
            kind = self._take("annotation")
            self._mark("(")
            if kind == "@weights":
                init = WeightsRef(self._string())
            elif kind == "@scalar":
                text = self._tokens[self._at][0] == "string"
                init = Scalar(number(self._string() if text else self._number(), f"constant {name!r}"))
            else:
                self._fail(f"unknown annotation {kind}; known: @weights, @scalar, @bytes")
            self._mark(")")
        file.constants[name] = Constant(described, init)

    def _bytes(self) -> Bytes:
        """All at once: as tokens they would take a hundred times their size."""
        _, text, position = self._next()
        well_formed = re.fullmatch(r"\s*(?:\d+\s*(?:,\s*\d+\s*)*)?", text)
        values = np.fromstring(text, np.int64, sep=",") if well_formed and text.strip() else np.zeros(0, np.int64)
        if not well_formed or (values.size and values.max() > 255):
            self._fail("@bytes must be integers in 0..255 with commas between", position)
        return values.astype(np.uint8)

    def _node(self, file: GraphFile) -> None:
        line = self._line
        outputs = self._list(self._name) if self._is("[") else None
        names = [self._name()] if outputs is None else outputs
        if not names:
            self._fail("a node needs a name for its result")
        self._mark("=")
        op = self._take("ident")
        node = NodeEntry(names[0], op, [], {}, outputs, line)
        if self._skip("("):
            self._arguments(node)
        else:  # another name of an operand
            node.op, node.inputs = "", [sanitized(op)]
        self._mark(";")
        file.nodes.append(node)

    def _arguments(self, node: NodeEntry) -> None:
        while not self._skip(")"):
            kind, text, position = self._tokens[self._at]
            if kind != "ident":
                self._fail(f"{node.op}: expected an operand or name=value, got {text!r}", position)
            self._next()
            if self._skip("="):
                node.options[text] = self._value()
            else:
                node.inputs.append(sanitized(text))
            if not self._is(")"):
                self._mark(",")

    def _output(self, file: GraphFile) -> None:
        while True:
            name = self._name()
            file.outputs[name] = name
            if not self._skip(","):
                break
        self._skip(";")

    def _type(self, where: str) -> OperandDescriptor:
        short = self._take("ident")
        if short not in LONG:
            self._at -= 1
            self._fail(f"{where}: unknown data type {short!r}; one of: {', '.join(LONG)}")
        position = self._tokens[self._at][2]
        shape = self._list(self._dimension)
        try:
            return descriptor_of(where, LONG[short], shape)
        except GraphFileError as error:
            self._fail(str(error), position)

    def _dimension(self) -> Any:
        if not self._is("dyn"):
            return self._int()
        self._next()
        self._mark("(")
        name = self._string()
        self._mark(",")
        size = self._int()
        self._mark(")")
        return {"name": name, "maxSize": size}

    def _list(self, item: Any) -> list[Any]:
        self._mark("[")
        items: list[Any] = []
        while not self._skip("]"):
            items.append(item())
            if not self._is("]"):
                self._mark(",")
        return items

    def _value(self) -> Any:
        kind, text, position = self._tokens[self._at]
        if self._is("["):
            return self._list(self._value)
        if kind == "string":
            return self._string()
        if kind == "number":
            return self._number()
        if kind == "ident":
            self._next()
            return {"true": True, "false": False, "null": None}.get(text, sanitized(text))
        return self._fail(f"expected a value, got {text!r}", position)


# -- writing


def write_text(file: GraphFile) -> str:
    """Raises GraphFileError for names that the notation cannot hold, and for outputs under another name."""
    quantized = " @quantized" if file.quantized else ""
    lines = [f"webnn_graph {_quote(file.name)} v{file.version}{quantized} {{", "  inputs {"]
    lines += [f"    {_ident(name)}: {_type_text(d)};" for name, d in file.inputs.items()]
    lines += ["  }", "  consts {"]
    lines += [f"    {_ident(name)}: {_type_text(c.descriptor)} {_init_text(c)};" for name, c in file.constants.items()]
    lines += ["  }", "  nodes {"]
    lines += [f"    {_node_text(node)}" for node in file.nodes]
    lines += ["  }", "  outputs {"]
    for name, operand in file.outputs.items():
        if name != operand:
            raise GraphFileError(f"output {name!r} is operand {operand!r}: the text notation has one name for both")
        lines.append(f"    {_ident(name)};")
    return "\n".join([*lines, "  }", "}", ""])


def _ident(name: str) -> str:
    if _PLAIN.fullmatch(name) is None:
        raise GraphFileError(
            f"{name!r} is no identifier of the text notation (letters, digits, _ and /); save as JSON, or rename it"
        )
    return name


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _type_text(descriptor: OperandDescriptor) -> str:
    return f"{SHORT[descriptor.data_type.value]}[{', '.join(map(str, descriptor.shape))}]"


def _init_text(constant: Constant) -> str:
    init = constant.init
    if isinstance(init, WeightsRef):
        return f"@weights({_quote(init.key)})"
    if isinstance(init, Scalar):
        return f"@scalar({_value_text(init.value)})"
    return f"@bytes([{', '.join([_BYTES[value] for value in init.tolist()])}])"


def _node_text(node: NodeEntry) -> str:
    options = [f"{key}={_value_text(value)}" for key, value in node.options.items()]
    result = _ident(node.id) if node.outputs is None else f"[{', '.join(map(_ident, node.outputs))}]"
    return f"{result} = {node.op}({', '.join([*map(_ident, node.inputs), *options])});"


def _value_text(value: Any) -> str:
    if isinstance(value, str):
        return _quote(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_value_text, value))}]"
    if isinstance(value, float) and not math.isfinite(value):
        return _quote("NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity")
    return json.dumps(value)
