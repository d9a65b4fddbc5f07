"""Every operator of the facts table has its method with exactly its signature, exactly its operands in the registry, a
rule, a lowering, a page of documentation, vectors and a property test.

``spec_methods.json`` is what this needs of the table (``shared/webnn/ops.json``), so that the sweep means something
without it. Write it anew with ``python -m tests.ops.test_registry_sweep TABLE``.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pynn.builder import GraphBuilder
from pynn.ops.registry import ANY_RANK, Operator, Param, operators, snake_case
from pynn.types import DataType

COMMITTED = Path(__file__).with_name("spec_methods.json")
ROOT = Path(__file__).parents[2]
TABLE = ROOT.parent / "shared" / "webnn" / "ops.json"
VECTORS = [ROOT.parent / "shared" / "conformance" / "oracle", ROOT / "tests" / "conformance" / "data"]
SUB_BYTE_EXTENSION = {("dequantizeLinear", "input"), ("dequantizeLinear", "zero_point")}
"""Operands that take int4 and uint4 constants beyond the spec."""


def extract(table: dict[str, Any]) -> list[dict[str, Any]]:
    """The operators of the table: names, positional parameters, options with defaults, operands with types and
    ranks."""
    return [_extract(op) for op in table["ops"] if op["section"] != "creation"]


def _extract(op: dict[str, Any]) -> dict[str, Any]:
    python_names = {p["name"]: p["python_name"] for p in (*op["inputs"], *op["attributes"], *op["options"])}
    positional = op["signature"].partition("(")[2].rstrip(")").split(", ")
    return {
        "name": op["name"],
        "method": op["python_name"],
        "section": op["section"],
        "positional": [python_names[name] for name in positional if name != "options"],
        "options": {option["python_name"]: option["default"] for option in op["options"]},
        "operands": [
            {
                "name": operand["python_name"],
                "dtypes": operand["dtypes"],
                "rank": operand["rank"],
                "like": python_names.get(operand.get("same_dtype_as", ""), ""),
                "optional": not operand["required"],
                "variadic": operand.get("is_list", False),
            }
            for operand in op["inputs"]
        ],
        "returns": op["output"]["returns"],
        "minimum_output_types": op["output"]["minimum_dtypes"],
    }


SPEC: list[dict[str, Any]] = json.loads(COMMITTED.read_text("utf-8")) if COMMITTED.exists() else []
every_operator = pytest.mark.parametrize("spec", SPEC, ids=lambda spec: spec["name"])


def test_the_committed_list_is_the_table() -> None:
    if not TABLE.exists():
        pytest.skip(f"the facts table {TABLE} is not here; the committed list stands in for it")
    assert extract(json.loads(TABLE.read_text("utf-8"))) == SPEC


def test_the_registry_holds_the_spec_and_nothing_else() -> None:
    assert len(SPEC) == 95
    assert set(operators) == {spec["name"] for spec in SPEC}


@every_operator
def test_signature(spec: dict[str, Any]) -> None:
    method = getattr(GraphBuilder, spec["method"])
    parameters = list(inspect.signature(method).parameters.values())[1:]
    positional = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert [p.name for p in positional] == spec["positional"]
    assert all(p.default is p.empty for p in positional), "required arguments have no defaults"
    options = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    assert [p.name for p in options] == list(spec["options"])
    assert options[-1].name == "label"
    for option in options:
        default = list(option.default) if isinstance(option.default, tuple) else option.default
        assert default == spec["options"][option.name], option.name
        assert type(default) is type(spec["options"][option.name]) or not isinstance(default, bool), option.name
    assert len(positional) + len(options) == len(parameters)


@every_operator
def test_method_is_documented_and_typed(spec: dict[str, Any]) -> None:
    method = getattr(GraphBuilder, spec["method"])
    assert inspect.getdoc(method), "a docstring is missing"
    signature = inspect.signature(method)
    annotated = [*list(signature.parameters.values())[1:]]
    assert all(p.annotation is not p.empty for p in annotated)
    assert signature.return_annotation == ("list[Operand]" if spec["returns"] == "list" else "Operand")


@every_operator
def test_operator(spec: dict[str, Any]) -> None:
    operator = operators[spec["name"]]
    assert (operator.method, operator.section) == (spec["method"], spec["section"])
    assert operator.returns_list == (spec["returns"] == "list")
    assert {DataType(t) for t in spec["minimum_output_types"]} <= operator.output_types


@every_operator
def test_operands(spec: dict[str, Any]) -> None:
    operator = operators[spec["name"]]
    assert [p.name for p in operator.params] == [o["name"] for o in spec["operands"]]
    for param, operand in zip(operator.params, spec["operands"], strict=True):
        allowed = {DataType(t) for t in operand["dtypes"]}
        if (operator.name, param.name) in SUB_BYTE_EXTENSION:
            allowed |= {DataType.INT4, DataType.UINT4}
        assert param.types == allowed, param.name
        assert (param.like, param.optional, param.variadic) == (
            operand["like"],
            operand["optional"],
            operand["variadic"],
        ), param.name
        _check_rank(operator, param, operand["rank"])


def _check_rank(operator: Operator, param: Param, rank: str) -> None:
    """ "4", "N", ">=1", "0..2" or "same as X": the last is checked by the operator itself."""
    if rank.startswith("same as "):
        assert param.rank_range == ANY_RANK or param.rank_range in {p.rank_range for p in operator.params}, param.name
        return
    if rank == "N":
        wanted = ANY_RANK
    elif rank.startswith(">="):
        wanted = (int(rank[2:]), ANY_RANK[1])
    else:
        low, _, high = rank.partition("..")
        wanted = (int(low), int(high or low))
    assert param.rank_range == wanted, param.name


# -- rule, lowering, documentation, vectors, property test ----------------------------------


@every_operator
def test_rule_and_lowering(spec: dict[str, Any]) -> None:
    """The pages of documentation show what they make of an example: tests/test_operator_docs.py."""
    operator = operators[spec["name"]]
    for rule, parameters in ((operator.infer, 1), (operator.lower, 2)):
        assert len(inspect.signature(rule).parameters) == parameters
        function = rule.func if isinstance(rule, functools.partial) else rule
        assert function.__module__.startswith("pynn.ops.")


@every_operator
def test_page(spec: dict[str, Any]) -> None:
    text = (ROOT / "docs" / "operators" / f"{spec['method']}.md").read_text("utf-8")
    for part in ("## Operands", "## ONNX", "ONNX Runtime", "TensorRT"):
        assert part in text


@every_operator
def test_vectors(spec: dict[str, Any]) -> None:
    files = [folder / f"{spec['method']}.json" for folder in VECTORS]
    present = [file for file in files if file.exists()]
    if not present and not VECTORS[0].exists():
        pytest.skip(f"the shared vectors {VECTORS[0]} are not here")
    tests = [test for file in present for test in json.loads(file.read_text("utf-8"))["tests"]]
    assert any(node["name"] == spec["name"] for test in tests for node in test["graph"]["operators"])


@every_operator
def test_property_test(spec: dict[str, Any]) -> None:
    assert spec["method"] in property_tested()


@functools.cache
def property_tested() -> frozenset[str]:
    """The builder methods that tests of this folder under ``@given`` call, by name or as a parameter."""
    tested: set[str] = set()
    for file in Path(__file__).parent.glob("test_*.py"):
        for test in vars(importlib.import_module(f"{__package__}.{file.stem}")).values():
            if getattr(test, "is_hypothesis_test", False):
                tested.update(_called(test))
    return frozenset(tested)


def _called(test: Any) -> Iterator[str]:
    for mark in getattr(test, "pytestmark", []):
        if mark.name == "parametrize":
            names = [mark.args[0]] if isinstance(mark.args[0], str) else list(mark.args[0])
            for i in (names.index(name) for name in ("name", "op", "method") if name in names):
                yield from (snake_case(value if len(names) == 1 else value[i]) for value in mark.args[1])
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(test.hypothesis.inner_test)))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("b", "g"):
            yield node.attr


def test_creation_methods() -> None:
    assert list(inspect.signature(GraphBuilder.input).parameters)[1:] == ["name", "shape", "data_type"]
    assert callable(GraphBuilder.constant)


def test_there_are_no_camel_case_names() -> None:
    public = [name for name in dir(GraphBuilder) if not name.startswith("_")]
    assert [name for name in public if name != name.lower()] == []
    parameters = {
        p for name in public for p in inspect.signature(getattr(GraphBuilder, name)).parameters if p != p.lower()
    }
    assert parameters == set()


if __name__ == "__main__":
    lines = ",\n".join(json.dumps(op) for op in extract(json.loads(Path(sys.argv[1]).read_text("utf-8"))))
    COMMITTED.write_text(f"[\n{lines}\n]\n", "utf-8")
