"""Write the pages of docs/operators from the registry: ``python docs/generate_operators.py``.

The ONNX on a page is what the example really becomes; ``tests/test_operator_docs.py`` fails when a page is out of date.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from pynn.backends.base import OperatorLimits
from pynn.backends.ort import OrtBackend
from pynn.backends.trt import TensorRTBackend
from pynn.builder import GraphBuilder
from pynn.converter import OnnxGraph, lower_graph
from pynn.converter.passes import Pass, PassRecord, backend_passes, run_passes
from pynn.converter.passes.ort_kernels import LACKS
from pynn.graph import Graph, Node, Operand
from pynn.ops.registry import ANY_RANK, Operator, Param, operators
from pynn.types import DataType

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "operators"
ORDER = ROOT / "tests" / "ops" / "spec_methods.json"
SPEC = "https://www.w3.org/TR/webnn/#dom-mlgraphbuilder-"

ORT = ".".join(map(str, max(LACKS)))
BACKENDS = (
    (f"ONNX Runtime {ORT} (CPU)", backend_passes("onnxruntime", ORT), OrtBackend().limits()),
    ("TensorRT for RTX 1.6", backend_passes("tensorrt", "1.6.1"), TensorRTBackend().limits()),
)

INDEX = """\
Every operator of WebNN, in the order of [the standard](https://www.w3.org/TR/webnn/). A page has the signature, the
rules, the operands, the ONNX that an example becomes, and what each back end's [passes](passes.md) change. Written by
`python docs/generate_operators.py` from the registry: do not edit."""
PASSES = """\
Rewrites of the ONNX graph, run in this order and only for the back end they are for. Each answers a limit of one
library."""

TITLES = {
    "elementwise_binary": "element-wise binary",
    "elementwise_logical": "element-wise logical",
    "elementwise_unary": "element-wise unary",
    "gather_scatter": "gather and scatter",
    "quantization_cast": "quantization and cast",
    "rnn": "recurrent",
}
"""Sections of the facts table whose name does not read well."""

_POOL = "T(1, 3, 8, 8), window_dimensions=[2, 2], strides=[2, 2]"
EXAMPLES = {
    "softmax": "T(2, 3), axis=1",
    "clamp": "T(2, 3), min_value=0, max_value=6",
    "linear": "T(2, 3), alpha=2.0, beta=1.0",
    "conv2d": "T(1, 3, 8, 8), W(4, 3, 3, 3), bias=W(4), padding=[1, 1, 1, 1], strides=[2, 2]",
    "conv_transpose2d": "T(1, 3, 8, 8), W(3, 4, 2, 2), bias=W(4), strides=[2, 2]",
    "average_pool2d": _POOL,
    "l2_pool2d": _POOL,
    "max_pool2d": _POOL,
    "batch_normalization": "T(1, 3, 8, 8), W(3), W(3), scale=W(3), bias=W(3)",
    "instance_normalization": "T(1, 3, 8, 8), scale=W(3), bias=W(3)",
    "layer_normalization": "T(2, 8), scale=W(8), bias=W(8)",
    "arg_min": "T(2, 3), axis=1",
    "arg_max": "T(2, 3), axis=1",
    "cumulative_sum": "T(2, 3), axis=1",
    "gemm": "T(2, 4), W(3, 4), c=W(3), b_transpose=True, alpha=0.5",
    "matmul": "T(2, 4), W(4, 3)",
    "gru": "T(2, 1, 4), W(1, 9, 4), W(1, 9, 3), steps=2, hidden_size=3",
    "gru_cell": "T(1, 4), W(9, 4), W(9, 3), T(1, 3), hidden_size=3",
    "lstm": "T(2, 1, 4), W(1, 12, 4), W(1, 12, 3), steps=2, hidden_size=3",
    "lstm_cell": "T(1, 4), W(12, 4), W(12, 3), T(1, 3), T(1, 3), hidden_size=3",
    "cast": 'T(2, 3), "int32"',
    "dequantize_linear": "T(4, 8), scale=float32(4, 1), zero_point=T(4, 1)",
    "quantize_linear": "float32(4, 8), scale=float32(4, 1), zero_point=T(4, 1)",
    "concat": "[T(2, 3), T(2, 1)], axis=1",
    "expand": "T(1, 3), [2, 3]",
    "pad": "T(2, 3), [0, 1], [0, 2]",
    "reshape": "T(2, 3), [3, 2]",
    "resample2d": 'T(1, 3, 8, 8), mode="linear", scales=[2.0, 2.0]',
    "slice": "T(4, 6), [1, 0], [2, 6]",
    "split": "T(2, 6), 3, axis=1",
    "tile": "T(2, 3), [1, 2]",
    "where": "uint8(2, 3), T(2, 3), T(2, 3)",
    "gather": "T(4, 3), int32(2)",
    "gather_elements": "T(4, 3), int32(2, 3)",
    "gather_nd": "T(4, 3), int32(2, 1)",
    "scatter_elements": "T(4, 3), int32(2, 3), T(2, 3)",
    "scatter_nd": "T(4, 3), int32(2, 1), T(2, 3)",
}
"""Arguments by method. T is an input of the data type that the page varies, W a constant of it; others are their first
operands, of shape [2, 3]."""

VARIED = {"where": "true_value", "quantize_linear": "zero_point"}
"""The operand whose data types T takes, if not the first."""


# -- examples -------------------------------------------------------------------------------


def arguments(operator: Operator) -> str:
    required = (p for p in operator.params if not p.optional)
    return EXAMPLES.get(operator.method) or ", ".join("T(2, 3)" for _ in required)


def varied(operator: Operator) -> list[DataType]:
    """The data types that T takes, as the spec's tables order them."""
    name = VARIED.get(operator.method, operator.params[0].name)
    types = next(param.types for param in operator.params if param.name == name)
    return [data_type for data_type in DataType if data_type in types]


def example(operator: Operator, data_type: DataType) -> Graph:
    builder, serial = GraphBuilder(), count()

    def given(of: DataType, *, constant: bool = False) -> Callable[..., Operand]:
        def operand(*shape: int) -> Operand:
            if constant or of.bits < 8:
                return builder.constant(np.ones(shape, of.numpy))
            return builder.input(f"x{next(serial)}", shape, of)

        return operand

    names = {member.value: given(member) for member in DataType}
    names |= {"T": given(data_type), "W": given(data_type, constant=True), "method": getattr(builder, operator.method)}
    made = eval(f"method({arguments(operator)})", {"__builtins__": {}, "True": True}, names)
    results = made if isinstance(made, list) else [made]
    return builder.finish({f"y{i}": result for i, result in enumerate(results)})


# -- what a page shows ----------------------------------------------------------------------


def call_text(operator: Operator, data_type: DataType) -> str:
    text = arguments(operator).replace("W(", f"constant {data_type}(").replace("T(", f"{data_type}(")
    shown = re.sub(r"(\w+\d)\(([^()]*)\)", r"\1[\2]", text)
    return f"{operator.method}({shown})"


def onnx_lines(operator: Operator, graph: Graph) -> Iterator[str]:
    """One line for each ONNX node, with the operands' names of WebNN and constants written out."""
    lowered = lower_graph(graph)
    names = _names(graph.nodes[0], lowered)
    for node in lowered.nodes:
        for name in node.outputs:
            names.setdefault(name, f"t{sum(known.startswith('t') and known[1:].isdigit() for known in names.values())}")
        left = ", ".join(names[name] if name else "_" for name in node.outputs)
        right = [names[name] if name else "none" for name in node.inputs]
        right += [f"{key}={_value(value)}" for key, value in node.attributes.items()]
        yield f"{left} = {node.op_type}({', '.join(right)})"


def _names(node: Node, lowered: OnnxGraph) -> dict[str, str]:
    names = {name: _constant(array) for name, array in lowered.initializers.items()}
    kept = {id(array): name for name, array in lowered.initializers.items()}
    for param, value in node.inputs.items():
        for i, operand in enumerate(value if isinstance(value, tuple) else [value]):
            name = kept.get(id(operand._data)) if operand.is_constant else lowered.inputs[str(operand._name)]
            if name:
                names[name] = f"{param}[{i}]" if isinstance(value, tuple) else param
    many = len(lowered.outputs) > 1
    return names | {name: f"output{i}" if many else "output" for i, name in enumerate(lowered.outputs.values())}


def _constant(array: np.ndarray[Any, Any]) -> str:
    if array.size > 8:
        return f"{array.dtype}{list(array.shape)}"
    return _value(array.tolist()) if array.dtype == np.int64 else f"{array.dtype}({_value(array.tolist())})"


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.7g}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(value) if isinstance(value, str) else str(value)


def rewrites(operator: Operator, passes: Sequence[Pass]) -> Iterator[str]:
    """By what the passes change, the data types that they change it for."""
    groups: dict[str, list[DataType]] = {}
    for data_type in varied(operator):
        lowered = lower_graph(example(operator, data_type))
        records = run_passes(lowered, passes)
        text = "; ".join(map(_record, records)) or "as above"
        groups.setdefault(text, []).append(data_type)
    for text, types in groups.items():
        yield f"- {', '.join(types)}: {text}"


def _record(record: PassRecord) -> str:
    def side(number: int) -> str:
        total: dict[str, int] = {}
        for counts in record.changed.values():
            for op_type, n in counts[number].items():
                total[op_type] = total.get(op_type, 0) + n
        return " ".join(op_type if n == 1 else f"{n}x{op_type}" for op_type, n in total.items()) or "nothing"

    return f"[{record.name}](passes.md#{record.name}) ({side(0)} → {side(1)})"


def refused(operator: Operator, limits: OperatorLimits) -> Iterator[str]:
    for (name, operand), types in limits.unsupported.items():
        if name == operator.name:
            yield f"- not taken{f' as `{operand}`' if operand else ''}: {', '.join(t for t in DataType if t in types)}"


def prose(docstring: str | None) -> str:
    """A docstring as Markdown."""
    text = re.sub(r"\s*Spec:\s+https://\S+", "", inspect.cleandoc(docstring or ""))
    return re.sub(r"(?<!\.)\s+https://\S+$", "", text.replace("``", "`"))


def family(operator: Operator) -> type:
    return next(base for base in GraphBuilder.__mro__ if operator.method in vars(base))


def signature(operator: Operator) -> str:
    parameters = list(inspect.signature(getattr(GraphBuilder, operator.method)).parameters.values())[1:]
    first = next(i for i, p in enumerate(parameters) if p.kind is p.KEYWORD_ONLY)
    lines = [*map(_parameter, parameters[:first]), "*", *map(_parameter, parameters[first:])]
    body = "".join(f"    {line},\n" for line in lines)
    return f"{operator.method}(\n{body}) -> {'list[Operand]' if operator.returns_list else 'Operand'}"


def _parameter(parameter: inspect.Parameter) -> str:
    text = f"{parameter.name}: {parameter.annotation}"
    if parameter.default is parameter.empty:
        return text
    return f"{text} = {json.dumps(parameter.default) if isinstance(parameter.default, str) else parameter.default}"


def _row(operator: Operator, param: Param) -> str:
    low, high = param.rank_range
    rank = "any" if (low, high) == ANY_RANK else str(low) if low == high else f"{low} to {high}"
    rank = f"at least {low}" if low and high == ANY_RANK[1] else rank
    types = ", ".join(t for t in DataType if t in param.types)
    if param.like:
        same = any(p.name == param.like and p.types <= param.types for p in operator.params)
        types = f"that of `{param.like}`" if same else f"that of `{param.like}`: {types}"
    notes = [text for text, holds in (("optional", param.optional), ("a sequence", param.variadic)) if holds]
    return f"| `{param.name}` | {types} | {rank} | {', '.join(notes)} |"


def page(operator: Operator) -> str:
    first = next((t for t in varied(operator) if t in ("float32", "int8")), varied(operator)[0])
    graph = example(operator, first)
    common = prose(vars(family(operator)).get("__doc__"))
    result = graph.nodes[0].outputs
    out_types = ", ".join(t for t in DataType if t in operator.output_types)
    parts = [
        f"# {operator.method}",
        f"[{operator.name} in the standard]({SPEC}{operator.name.lower()}) · [all operators](README.md)",
        f"```python\n{signature(operator)}\n```",
        prose(getattr(GraphBuilder, operator.method).__doc__),
        f"All {TITLES.get(operator.section, operator.section)} operators: {common}" if common else "",
        "## Operands",
        "| operand | data types | rank | |\n|---|---|---|---|\n"
        + "\n".join(_row(operator, p) for p in operator.params),
        f"Data types of the {'results' if operator.returns_list else 'result'}: {out_types}.",
        "## ONNX",
        f"`{call_text(operator, first)}` becomes",
        "```\n" + "\n".join(onnx_lines(operator, graph)) + "\n```",
        "with the " + _plural("result", [f"{r.data_type}{list(r.shape)}" for r in result]) + ".",
        "## Back ends",
        "The same call by data type, and what [passes](passes.md) make of it:",
    ]
    for title, passes, limits in BACKENDS:
        parts += [f"{title}:", "\n".join([*rewrites(operator, passes), *refused(operator, limits)])]
    return "\n\n".join(part for part in parts if part) + "\n"


def _plural(noun: str, items: Sequence[str]) -> str:
    return f"{noun} {items[0]}" if len(items) == 1 else f"{noun}s {', '.join(items)}"


# -- the other pages ------------------------------------------------------------------------


def in_order() -> list[Operator]:
    return [operators[entry["name"]] for entry in json.loads(ORDER.read_text("utf-8"))]


def index(ordered: Iterable[Operator]) -> str:
    parts = [
        "# Operators",
        INDEX,
        "\n".join(
            f"- {title}: rank up to {limits.max_rank}, tensors up to {limits.max_tensor_byte_length} bytes."
            for title, _, limits in BACKENDS
        ),
    ]
    sections: dict[str, list[str]] = {}
    for operator in ordered:
        summary = prose(getattr(GraphBuilder, operator.method).__doc__).partition("\n\n")[0].replace("\n", " ")
        row = f"| [{operator.method}]({operator.method}.md) | {summary.replace('|', chr(92) + '|')} |"
        sections.setdefault(operator.section, []).append(row)
    for section, rows in sections.items():
        title = TITLES.get(section, section).capitalize()
        parts += [f"## {title}", "| | |\n|---|---|\n" + "\n".join(rows)]
    return "\n\n".join(parts) + "\n"


def passes_page() -> str:
    parts = ["# Passes", PASSES]
    for title, passes, _ in BACKENDS:
        parts.append(f"## {title}")
        for one in passes:
            parts += [f"### {one.name}", prose(one.limit)]
    return "\n\n".join(parts) + "\n"


def pages() -> dict[str, str]:
    """All pages by file name."""
    ordered = in_order()
    made = {f"{operator.method}.md": page(operator) for operator in ordered}
    return made | {"README.md": index(ordered), "passes.md": passes_page()}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    wanted = pages()
    for old in FOLDER.glob("*.md"):
        if old.name not in wanted:
            old.unlink()
    for name, text in wanted.items():
        (FOLDER / name).write_text(text, "utf-8")
