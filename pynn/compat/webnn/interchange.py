"""Between graph files and pynn's Graph: names to operands and back, each operator by the registry's own table."""

from __future__ import annotations

import base64
import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from ...errors import ValidationError
from ...graph import Graph, Node, Operand
from ...ops.registry import Operator, operators, snake_case
from ...types import DataType, OperandDescriptor
from .errors import GraphFileError
from .graph_file import Constant, GraphFile, NodeEntry, descriptor_of, number, pack, unpack
from .lenient import LenientBuilder

EXTENSIONS = {
    "squeeze": "squeeze",
    "unsqueeze": "unsqueeze",
    "shape": "shape",
    "globalAveragePool": "global_average_pool",
    "globalMaxPool": "global_max_pool",
}
"""Operators of the files that WebNN lacks, and the builder's methods for them; each has one operand, ``input``."""

_SYNONYMS = {
    "pads": "padding", "perm": "permutation", "to": "data_type", "type": "data_type",
    "rounding_type": "output_shape_rounding", "keepdims": "keep_dimensions",
}  # fmt: skip
_IGNORED = {"kind", "batch_dimensions", "has_scale", "has_bias"}
_EMPTY_MEANS_DEFAULT = {"padding", "strides", "dilations", "output_padding", "output_sizes", "scales", "activations"}
_EMPTY_MEANS_DEFAULT_OF = {("resample2d", "sizes"), ("resample2d", "axes"), ("transpose", "permutation")}
_NUMBERS = {"min_value", "max_value", "value"}


def camel_case(name: str) -> str:
    """``keep_dimensions`` -> ``keepDimensions``."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


# -- a Graph to a file


def to_file(
    graph: Graph, inputs: Mapping[str, Operand], narrow: Mapping[str, DataType], *, quantized: bool = False
) -> GraphFile:
    """The file of ``graph``; ``inputs`` are all that were declared, also those that no output needs.

    ``narrow`` has the inputs that are of a 4-bit type and travel in another.
    """
    if graph.dimensions:
        names = ", ".join(map(repr, graph.dimensions))
        raise ValidationError(f"graph files have numbers for all dimensions, not names ({names}); build with numbers")
    return _Writer(graph, inputs, narrow, quantized).file


class _Writer:
    def __init__(
        self, graph: Graph, inputs: Mapping[str, Operand], narrow: Mapping[str, DataType], quantized: bool
    ) -> None:
        self.file = GraphFile(quantized=quantized)
        self._names: dict[int, str] = {}
        self._taken = {*inputs, *graph.outputs}
        for name, operand in inputs.items():
            self._names[id(operand)] = name
            self.file.inputs[name] = OperandDescriptor(narrow.get(name, operand.data_type), operand.shape)
        for operand in graph.constants:
            name = self._fresh(operand)
            data = operand._data
            assert data is not None
            self.file.constants[name] = Constant(operand.descriptor, pack(data, operand.data_type))
        again = self._name_outputs(graph)
        for node in graph.nodes:
            if not self._is_shown_input(node):
                self._add(node)
        self.file.nodes += again

    def _fresh(self, operand: Operand) -> str:
        number = len(self._names)
        while (name := f"operand_{number}") in self._taken:
            number += 1
        self._taken.add(name)
        self._names[id(operand)] = name
        return name

    def _name_outputs(self, graph: Graph) -> list[NodeEntry]:
        """Results that are outputs have the output's name; a second name is one more node."""
        again: list[NodeEntry] = []
        for name, operand in graph.outputs.items():
            known = self._names.get(id(operand))
            if name in self.file.inputs:
                source = operand._node.inputs.get("input") if operand._node and operand._node.op == "identity" else None
                shown = source is not None and self._names.get(id(source)) == name
                self.file.outputs[name] = name if shown else known or self._fresh(operand)
                if shown:
                    self._names[id(operand)] = name
            elif known is None:
                self._names[id(operand)] = self.file.outputs[name] = name
            else:
                again.append(NodeEntry(name, "identity", [known], {}))
                self.file.outputs[name] = name
        return again

    def _is_shown_input(self, node: Node) -> bool:
        """An identity that only makes an input an output of the same name."""
        return node.op == "identity" and self._names.get(id(node.outputs[0])) in self.file.inputs

    def _add(self, node: Node) -> None:
        operator = operators[node.op]
        inputs: list[str] = []
        options: dict[str, Any] = {}
        for param in operator.params:
            value = node.inputs.get(param.name)
            if isinstance(value, tuple):
                inputs += [self._names[id(one)] for one in value]
            elif value is not None and param.optional:
                options[camel_case(param.name)] = self._names[id(value)]
            elif value is not None:
                inputs.append(self._names[id(value)])
        for key, value in node.attributes.items():
            if value is not None:
                options["to" if (node.op, key) == ("cast", "data_type") else camel_case(key)] = _plain(value)
        if node.label:
            options["label"] = node.label
        names = [self._names.get(id(o)) or self._fresh(o) for o in node.outputs]
        outputs = names if operator.returns_list else None
        self.file.nodes.append(NodeEntry(names[0], node.op, inputs, options, outputs))


def _plain(value: Any) -> Any:
    """As JSON has it; numbers it lacks are strings."""
    if isinstance(value, DataType):
        return value.value
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return "NaN" if np.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


# -- a file to a Graph


def from_file(file: GraphFile) -> tuple[Graph, dict[str, Operand], dict[str, DataType]]:
    """The graph, all its declared inputs, and those of 4-bit types.

    Raises GraphFileError naming the node and the line of what is wrong.
    """
    return _Loader(file).finish()


class _Loader:
    def __init__(self, file: GraphFile) -> None:
        self._file = file
        self._builder = LenientBuilder()
        self._operands: dict[str, Operand] = {}

    def finish(self) -> tuple[Graph, dict[str, Operand], dict[str, DataType]]:
        for name, descriptor in self._file.inputs.items():
            self._declare(
                name, f"input {name!r}", [self._built(f"input {name!r}", self._builder.input, name, descriptor)]
            )
        for name, constant in self._file.constants.items():
            self._declare(name, f"constant {name!r}", [self._constant(name, constant)])
        for node in self._file.nodes:
            names = [node.id] if node.outputs is None else node.outputs
            self._declare_all(names, node.where, self._node(node, len(names)))
        if not self._file.outputs:
            raise GraphFileError("the graph has no outputs")
        outputs = {name: self._operand(ref, f"output {name!r}") for name, ref in self._file.outputs.items()}
        graph = self._built("outputs", self._builder.finish, outputs)
        return graph, self._builder.declared, self._builder.narrow

    def _built(self, where: str, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        try:
            return call(*arguments, **options)
        except ValidationError as error:
            raise GraphFileError(f"{where}: {error}") from error

    def _declare(self, name: str, where: str, operands: list[Operand]) -> None:
        self._declare_all([name], where, operands)

    def _declare_all(self, names: list[str], where: str, operands: list[Operand]) -> None:
        if len(names) != len(operands):
            raise GraphFileError(f"{where} has {len(operands)} results, but {len(names)} names for them")
        for name, operand in zip(names, operands, strict=True):
            if name in self._operands:
                raise GraphFileError(f"{where}: the name {name!r} is already taken")
            self._operands[name] = operand

    def _operand(self, name: str, where: str) -> Operand:
        try:
            return self._operands[name]
        except KeyError:
            raise GraphFileError(f"{where}: operand {name!r} is not declared before it") from None

    def _constant(self, name: str, constant: Constant) -> Operand:
        array = self._built(f"constant {name!r}", unpack, name, constant)
        operand: Operand = self._built(f"constant {name!r}", self._builder.constant, array)
        return operand

    # -- nodes

    def _node(self, node: NodeEntry, count: int) -> list[Operand]:
        operands = [self._operand(name, node.where) for name in node.inputs]
        if not node.op:
            return operands
        if node.op == "constant":
            return [self._constant_node(node)]
        operator = operators.get(node.op)
        method = operator.method if operator else EXTENSIONS.get(node.op)
        if method is None:
            raise GraphFileError(f"{node.where}: the operator is unknown{_similar(node.op)}")
        call = getattr(self._builder, method)
        arguments = _positional(node, operator, operands)
        arguments |= self._options(node, operator, _parameters(method), operands)
        missing = [name for name, needed in _parameters(method).items() if needed and name not in arguments]
        if missing:
            raise GraphFileError(f"{node.where}: {', '.join(map(camel_case, missing))} missing")
        result = self._built(node.where, call, **arguments)
        return list(result) if isinstance(result, list) else [result]

    def _constant_node(self, node: NodeEntry) -> Operand:
        options = node.options
        descriptor = descriptor_of(node.where, options.get("dataType"), options.get("shape", []))
        try:
            data = base64.b64decode(options["data"], validate=True)
        except (KeyError, TypeError, ValueError) as error:
            raise GraphFileError(f"{node.where}: data must be the bytes in base64: {error!r}") from error
        return self._constant(node.id, Constant(descriptor, np.frombuffer(data, np.uint8)))

    def _options(
        self, node: NodeEntry, operator: Operator | None, known: Mapping[str, bool], operands: list[Operand]
    ) -> dict[str, Any]:
        named = {param.name for param in operator.params if param.optional} if operator else set()
        found: dict[str, Any] = {}
        for key, value in node.options.items():
            name = snake_case(key)
            name = _SYNONYMS.get(name, name) if name not in known else name
            if name in _IGNORED or value is None or value == "":
                continue
            if name not in known:
                options = [camel_case(n) for n in known if n not in ("input", "a", "b")]
                raise GraphFileError(f"{node.where}: the option {key!r} is unknown; known: {', '.join(options)}")
            if value == [] and (name in _EMPTY_MEANS_DEFAULT or (node.op, name) in _EMPTY_MEANS_DEFAULT_OF):
                continue
            if name in named:
                value = self._named(node, key, value)
                if value is None:
                    continue
            elif name in ("axis", "axes") and operands:
                value = _from_the_start(value, operands[0].rank + (len(value) if node.op == "unsqueeze" else 0))
            elif name in _NUMBERS:
                value = number(value, f"{node.where}: {key}")
            found[name] = value
        return found

    def _named(self, node: NodeEntry, key: str, value: Any) -> Operand | None:
        """An option that is an operand: its name. Old files have a number: of the operand when it was saved."""
        if isinstance(value, str):
            return self._operand(value, f"{node.where}: {key}")
        if f"operand_{value}" in self._operands:
            return self._operands[f"operand_{value}"]
        operator = operators[node.op]
        required = sum(not param.optional for param in operator.params)
        if len(node.inputs) > required:  # it is among the inputs as well
            return None
        raise GraphFileError(
            f"{node.where}: {key} is operand number {value!r} of the program that saved the file; save it again with a "
            "version that writes names"
        )


def _positional(node: NodeEntry, operator: Operator | None, operands: list[Operand]) -> dict[str, Any]:
    """Operands by parameter; those beyond the required ones are the optional ones in order."""
    if operator is None:
        return dict(zip(("input",), operands, strict=False))
    if operator.params[0].variadic:
        return {operator.params[0].name: operands}
    absent = {p.name for p in operator.params if p.optional and node.options.get(f"has{p.name.capitalize()}") is False}
    names = [param.name for param in operator.params if param.name not in absent]
    required = [param.name for param in operator.params if not param.optional]
    if node.op in ("quantizeLinear", "dequantizeLinear"):
        required = required[:2]
    if not len(required) <= len(operands) <= len(names):
        raise GraphFileError(f"{node.where}: {len(operands)} operands given; it takes {', '.join(names)}")
    return dict(zip(names, operands, strict=False))


@lru_cache(maxsize=256)
def _parameters(method: str) -> Mapping[str, bool]:
    """The parameters of a builder method, and whether each is needed."""
    signature = inspect.signature(getattr(LenientBuilder, method))
    return {p.name: p.default is p.empty for p in signature.parameters.values() if p.name != "self"}


def _from_the_start(value: Any, rank: int) -> Any:
    """Negative axes, which WebNN does not have, as the positive ones."""
    if isinstance(value, list):
        return [_from_the_start(item, rank) for item in value]
    return value + rank if isinstance(value, int) and -rank <= value < 0 else value


def _similar(op: str) -> str:
    close = difflib.get_close_matches(op, _known_operators(), 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _known_operators() -> Iterable[str]:
    return [*operators, *EXTENSIONS, "constant"]
