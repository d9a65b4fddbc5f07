"""``op_support_limits`` says what is so: every data type and rank that it claims compiles, and runs on ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest

import pynn
from pynn.backends.base import CompileOptions
from pynn.backends.ort import OrtBackend
from pynn.backends.selection import Selection, check_wish, select
from pynn.backends.trt import TensorRTBackend, build_plan
from pynn.converter import backend_passes, to_onnx
from pynn.limits import op_support_limits
from pynn.native import Library
from pynn.ops.registry import ANY_RANK, Operator, Param, operators
from pynn.types import DataType

pytestmark = pytest.mark.ort

Shape = tuple[int, ...]

RNN = {"input": (1, 1, 1), "initial_hidden_state": (1, 1, 1), "initial_cell_state": (1, 1, 1)}
CELL = {"input": (1, 1), "hidden_state": (1, 1), "cell_state": (1, 1)}
IMAGE = {"input": (1, 1, 3, 3), "filter": (1, 1, 2, 2), "bias": (1,)}

SAMPLES: dict[str, tuple[Mapping[str, Shape], dict[str, Any]]] = {
    "softmax": ({}, {"axis": 0}),
    "conv2d": (IMAGE, {}),
    "conv_transpose2d": (IMAGE, {}),
    "average_pool2d": (IMAGE, {"window_dimensions": [2, 2]}),
    "l2_pool2d": (IMAGE, {"window_dimensions": [2, 2]}),
    "max_pool2d": (IMAGE, {"window_dimensions": [2, 2]}),
    "resample2d": (IMAGE, {"sizes": [2, 2]}),
    "gather": ({"indices": (2,)}, {}),
    "gather_nd": ({"indices": (1, 1)}, {}),
    "scatter_nd": ({"indices": (1, 1), "updates": (1, 2)}, {}),
    "concat": ({}, {"axis": 0}),
    "expand": ({}, {"new_shape": [2, 2]}),
    "pad": ({}, {"beginning_padding": [1, 1], "ending_padding": [1, 1]}),
    "reshape": ({}, {"new_shape": [4]}),
    "slice": ({}, {"starts": [0, 0], "sizes": [1, 1]}),
    "split": ({}, {"splits": 2}),
    "tile": ({}, {"repetitions": [2, 1]}),
    "batch_normalization": ({"mean": (2,), "variance": (2,), "scale": (2,), "bias": (2,)}, {}),
    "instance_normalization": ({"input": (1, 2, 2, 2), "scale": (2,), "bias": (2,)}, {}),
    "layer_normalization": ({"scale": (2,), "bias": (2,)}, {}),
    "cast": ({}, {"data_type": "float32"}),
    "arg_min": ({}, {"axis": 0}),
    "arg_max": ({}, {"axis": 0}),
    "cumulative_sum": ({}, {"axis": 0}),
    "gru": (
        RNN | {"weight": (1, 3, 1), "recurrent_weight": (1, 3, 1), "bias": (1, 3), "recurrent_bias": (1, 3)},
        {"steps": 1, "hidden_size": 1},
    ),
    "gru_cell": (
        CELL | {"weight": (3, 1), "recurrent_weight": (3, 1), "bias": (3,), "recurrent_bias": (3,)},
        {"hidden_size": 1},
    ),
    "lstm": (
        RNN
        | {"weight": (1, 4, 1), "recurrent_weight": (1, 4, 1), "bias": (1, 4), "recurrent_bias": (1, 4)}
        | {"peephole_weight": (1, 3)},
        {"steps": 1, "hidden_size": 1},
    ),
    "lstm_cell": (
        CELL
        | {"weight": (4, 1), "recurrent_weight": (4, 1), "bias": (4,), "recurrent_bias": (4,)}
        | {"peephole_weight": (3,)},
        {"hidden_size": 1},
    ),
}
"""Shapes of operands that are not 2x2, and what else the method needs, by builder method."""


def default_type(param: Param) -> str:
    return "float32" if DataType.FLOAT32 in param.types else "int32" if DataType.INT32 in param.types else "uint8"


def sample(
    operator: Operator, types: Mapping[str, str], rank: int | None = None
) -> tuple[pynn.Graph, list[pynn.Operand]]:
    """A graph of one operator with all its optional operands, and its results."""
    b = pynn.GraphBuilder()
    shapes, more = SAMPLES.get(operator.method, ({}, {}))
    chosen: dict[str, str] = {}
    operands: dict[str, Any] = {}
    for param in operator.params:
        chosen[param.name] = chosen[param.like] if param.like else types.get(param.name, default_type(param))
        shape = shapes.get(param.name, (2, 2))
        if rank is not None:
            shape = ((1,) * (rank - 2) + (2, 2))[-rank:] if rank else ()
        operand = b.input(param.name, shape, chosen[param.name])
        operands[param.name] = [operand, operand] if param.variadic else operand
    made = getattr(b, operator.method)(**operands, **more | {k: v for k, v in types.items() if k == "data_type"})
    results = made if isinstance(made, list) else [made]
    return b.finish({f"y{i}": result for i, result in enumerate(results)}), results


def run_sample(selection: Selection, operator: Operator, types: Mapping[str, str], rank: int | None = None) -> None:
    """Compile the sample and run it on ones."""
    graph, results = sample(operator, types, rank)
    with selection.compile(graph, CompileOptions()) as executable:
        outputs = executable.run({spec.name: np.ones(spec.shape, spec.numpy) for spec in executable.inputs})
    for i, result in enumerate(results):
        assert outputs[f"y{i}"].dtype == result.data_type.numpy
        assert outputs[f"y{i}"].shape == result.shape


@pytest.fixture(scope="module")
def selection() -> Selection:
    return select(check_wish("onnxruntime", "default", False, 0, None))


@pytest.fixture(scope="module")
def limits() -> dict[str, Any]:
    with pynn.ML().create_context(backend="onnxruntime") as context:
        return context.op_support_limits()


def refused(selection: Selection, operator: Operator, types: Mapping[str, str], rank: int | None = None) -> str:
    try:
        run_sample(selection, operator, types, rank)
    except pynn.OperationError as error:
        return str(error)
    return ""


def claims(operator: Operator) -> Iterator[tuple[Param, str]]:
    """Each operand whose type can be chosen, with each type that the spec allows."""
    for param in operator.params:
        if not param.like:
            yield from ((param, t.value) for t in DataType if t in param.types and t.bits >= 8)


every_operator = pytest.mark.parametrize("operator", operators.values(), ids=lambda operator: operator.name)


@every_operator
def test_data_types_are_claimed_exactly_where_they_run(
    operator: Operator, selection: Selection, limits: dict[str, Any]
) -> None:
    wrong = []
    for param, data_type in claims(operator):
        claimed = data_type in limits[operator.method][param.name]["data_types"]
        why = refused(selection, operator, {param.name: data_type})
        if claimed == bool(why):
            wrong.append((param.name, data_type, why or "runs, but is not claimed"))
    assert wrong == []


@pytest.mark.trt
@every_operator
def test_tensorrt_builds_every_claimed_type(operator: Operator, newest_library: Library) -> None:
    """Parse and build, without a GPU: values are the conformance run's."""
    limits = op_support_limits(TensorRTBackend().limits())
    passes = backend_passes("tensorrt", newest_library.info.version)
    for param, data_type in claims(operator):
        if data_type in limits[operator.method][param.name]["data_types"]:
            model = to_onnx(sample(operator, {param.name: data_type})[0], passes)
            build_plan(model, newest_library, CompileOptions(optimization_level=0), [86])


@every_operator
def test_operands_of_equal_type_claim_equal_types(operator: Operator, limits: dict[str, Any]) -> None:
    record = limits[operator.method]
    for param in operator.params:
        if param.like:
            assert record[param.name]["data_types"] == record[param.like]["data_types"]


def test_cast_to_every_type(selection: Selection, limits: dict[str, Any]) -> None:
    for data_type in limits["cast"]["output"]["data_types"]:
        for source in limits["cast"]["input"]["data_types"]:
            assert refused(selection, operators["cast"], {"input": source, "data_type": data_type}) == ""


@pytest.mark.parametrize("method", ["relu", "add", "where", "identity", "clamp", "reduce_sum", "equal"])
def test_ranks(method: str, selection: Selection, limits: dict[str, Any]) -> None:
    operator = next(operator for operator in operators.values() if operator.method == method)
    ranges = {tuple(limits[method][param.name]["rank_range"].values()) for param in operator.params}
    assert ranges == {(0, 8)}
    for rank in range(9):
        assert refused(selection, operator, {}, rank) == ""


@every_operator
def test_fixed_ranks_are_the_specs(operator: Operator, limits: dict[str, Any]) -> None:
    for param in operator.params:
        if param.rank_range != ANY_RANK:
            low, high = param.rank_range
            assert limits[operator.method][param.name]["rank_range"] == {"min": low, "max": min(high, 8)}


def test_results(limits: dict[str, Any]) -> None:
    def ranks(method: str) -> dict[str, tuple[int, int]]:
        return {k: tuple(v["rank_range"].values()) for k, v in limits[method].items() if k.startswith("output")}

    assert ranks("conv2d") == {"output": (4, 4)}
    assert ranks("split") == {"outputs": (1, 8)}
    assert ranks("arg_max") == ranks("gather_nd") == {"output": (0, 8)}
    assert ranks("gru") == {"output0": (3, 3), "output1": (4, 4)}
    assert ranks("lstm_cell") == {"output0": (2, 2), "output1": (2, 2)}
    assert limits["is_nan"]["output"]["data_types"] == ["uint8"]


def test_a_tensor_of_the_largest_size_is_only_an_upper_bound() -> None:
    assert OrtBackend().limits().max_tensor_byte_length == (2**31 - 1) * 8
