"""Programs in pywebnn's style give the values that numpy gives, and so do their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn.compat.webnn as webnn

from .samples import F32, SAMPLES, A, Sample
from .test_webnn_signatures import BUILDER

pytestmark = pytest.mark.ort

each_sample = pytest.mark.parametrize("sample", SAMPLES, ids=[f"{s.name}-{i}" for i, s in enumerate(SAMPLES)])


@pytest.fixture(scope="module")
def context() -> webnn.MLContext:
    return webnn.ML().create_context(accelerated=False)


def test_every_operator_has_a_sample() -> None:
    makers = {"input", "constant", "build", "operand_shape", "operand_data_type"}
    assert {sample.name for sample in SAMPLES} == set(BUILDER) - makers


@each_sample
def test_values(sample: Sample, context: webnn.MLContext) -> None:
    graph, feeds = sample.build(context)
    sample.check(context.compute(graph, feeds))


@each_sample
@pytest.mark.parametrize("notation", ["json", "text"])
def test_values_after_saving_and_loading(
    sample: Sample, notation: Any, context: webnn.MLContext, tmp_path: Path
) -> None:
    graph, feeds = sample.build(context)
    graph.save(tmp_path / "g.webnn", format=notation)
    loaded = webnn.MLGraph.load(str(tmp_path / "g.webnn"))
    assert loaded.get_input_names() == graph.get_input_names()
    assert (loaded.operand_count, loaded.operation_count) == (graph.operand_count, graph.operation_count)
    sample.check(context.compute(loaded, feeds))


# -- leniencies


def run(context: webnn.MLContext, builder: webnn.MLGraphBuilder, output: webnn.MLOperand, **feeds: Any) -> Any:
    return context.compute(builder.build({"out": output}), feeds)["out"]


def test_positional_options_of_conv2d(context: webnn.MLContext) -> None:
    b = context.create_graph_builder()
    x = b.input("x", [1, 2, 4, 4], "float32")
    w = b.constant(np.ones((2, 1, 3, 3), F32), [2, 1, 3, 3], "float32")
    y = b.conv2d(x, w, [2, 2], None, [1, 1, 1, 1], 2)
    assert y.shape == [1, 2, 2, 2]
    assert run(context, b, y, x=np.ones((1, 2, 4, 4), F32))[0, 0].tolist() == [[4, 6], [6, 9]]


def test_inputs_and_constants_as_outputs(context: webnn.MLContext) -> None:
    b = context.create_graph_builder()
    x = b.input("x", [2, 3], "float32")
    graph = b.build({"x": x, "again": x, "c": b.constant(np.int64(7))})
    results = context.compute(graph, {"x": A})
    assert (results["x"] == A).all() and (results["again"] == A).all()
    assert (results["c"], results["c"].dtype, results["c"].shape) == (7, np.int64, ())


@pytest.mark.parametrize(
    ("value", "shape", "data_type", "wanted"),
    [
        ([1.5, 2.5], None, None, np.array([1.5, 2.5], F32)),
        ([1, 2], None, None, np.array([1, 2], np.int64)),
        (3.5, [], "float16", np.float16(3.5)),
        ([True, False], None, None, np.array([1, 0], np.uint8)),
        ([[1, 2], [3, 4]], [4], "int32", np.array([1, 2, 3, 4], np.int32)),
        (np.array([1, 2**63], np.uint64), None, None, np.array([1, 2**63], np.uint64)),
        (np.array([1.0, 2.0]), None, "float32", np.array([1, 2], F32)),
        (np.array([15360], np.uint16), [1], "float16", np.array([1], np.float16)),
        (np.array([[1, -1]], np.int8), None, "uint8", np.array([[1, 255]], np.uint8)),
    ],
)  # fmt: skip
def test_constants(value: Any, shape: Any, data_type: Any, wanted: Any, context: webnn.MLContext) -> None:
    b = context.create_graph_builder()
    constant = b.constant(value, shape, data_type)
    assert (constant.data_type, constant.shape, constant.name) == (wanted.dtype.name, list(wanted.shape), None)
    assert (run(context, b, constant) == wanted).all()


def test_four_bit_constants(context: webnn.MLContext) -> None:
    b = context.create_graph_builder()
    weights = b.constant(np.array([[-8, 7, 1]], np.int8), data_type="int4")
    point = b.constant(np.array([[1]], np.int8), [1, 1], "int4")
    assert (weights.data_type, weights.shape) == ("int4", [1, 3])
    plain = b.dequantize_linear(weights, b.constant(np.array([[0.5]], F32)), point)
    assert run(context, b, plain).tolist() == [[-4.5, 3, 0]]
    with pytest.raises(ValueError, match=r"uint4 values must be in \[0, 15\]"):
        context.create_graph_builder().constant(np.array([16]), data_type="uint4")


def test_four_bit_inputs_travel_in_eight_bits(context: webnn.MLContext, tmp_path: Path) -> None:
    b = context.create_graph_builder()
    x = b.input("x", [2, 2], "int4")
    assert (x.data_type, b.operand_data_type(x)) == ("int4", "int4")
    scale, point = b.constant(np.array([[0.5, 2.0]] * 2, F32)), b.constant(np.array([[0, -1]] * 2, np.int8))
    graph = b.build({"y": b.dequantize_linear(x, scale, point)})
    graph.save(tmp_path / "g.json")
    assert '"x": {"dataType": "int4", "shape": [2, 2]}' in (tmp_path / "g.json").read_text("utf-8")
    for one in (graph, webnn.MLGraph.load(tmp_path / "g.json")):
        feeds = {"x": np.array([[2, -1], [0, 7]], np.int8)}
        assert context.compute(one, feeds)["y"].tolist() == [[1, 0], [0, 16]]
        with pytest.raises(ValueError, match=r"input 'x': int4 values must be in \[-8, 7\]"):
            context.compute(one, {"x": [[8, 0], [0, 0]]})


def test_four_bit_constants_with_an_eight_bit_zero_point(context: webnn.MLContext) -> None:
    b = context.create_graph_builder()
    weights = b.constant(np.array([2, -1, 0, 7], np.int8), data_type="int4")
    graph = b.build({"y": b.dequantize_linear(weights, b.constant(F32(1)), b.constant(np.int8(1)))})
    assert graph.operation_count == 1
    assert context.compute(graph, {})["y"].tolist() == [1, -2, -1, 6]
    b = context.create_graph_builder()
    weights = b.constant(np.array([2, -1], np.int8), data_type="int4")
    far = b.dequantize_linear(weights, b.constant(F32(1)), b.constant(np.int8(100)))
    assert run(context, b, far).tolist() == [-98, -101]


def test_data_types_stay_exact(context: webnn.MLContext) -> None:
    for name, value in {"int64": 2**53 + 1, "uint64": 2**64 - 1, "int32": 2**24 + 1, "uint32": 2**32 - 1}.items():
        b = context.create_graph_builder()
        x = b.input("x", [1], name)
        result = run(context, b, b.identity(x), x=np.array([value], name))
        assert (result.dtype.name, int(result[0])) == (name, value)


def test_recurrent_weights_of_another_shape_are_refused(context: webnn.MLContext) -> None:
    b = context.create_graph_builder()
    x, w = b.input("x", [2, 2, 4]), b.input("w", [1, 11, 4])
    with pytest.raises(ValueError, match="weight"):
        b.gru(x, w, w, 2, 4)
    assert b.relu(x).shape == [2, 2, 4]


# -- errors: pywebnn's classes, pynn's words, and the builder stays usable


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (lambda b, x: b.softmax(x, axis=2), "softmax: axis.*0..1"),
        (lambda b, x: b.reshape(x, [5]), "reshape"),
        (lambda b, x: b.conv2d(x, x), "conv2d: input has rank 2"),
        (lambda b, x: b.global_average_pool(x), "rank"),
        (lambda b, x: b.average_pool2d(x, layout="wrong"), "average_pool2d"),
        (lambda b, x: b.clamp(x, 6.0, 0.0), "clamp"),
        (lambda b, x: b.add(x, np.ones(3)), "add: b must be an operand"),
        (lambda b, x: b.squeeze(x, [1]), r"squeeze: dimension 1 of shape \[2, 3\] is not 1"),
        (lambda b, x: b.squeeze(x, [7]), "squeeze: axes"),
        (lambda b, x: b.unsqueeze(x, [0, 0]), "unsqueeze: axes"),
        (lambda b, x: b.pad(x, [3, 0, 0, 0], "symmetric"), "symmetric padding of 3"),
        (lambda b, x: b.pad(x, [1, 1], "symmetric"), "pad: 1 beginning"),
        (lambda b, x: b.cast(x, "float64"), "unknown data type 'float64'"),
        (lambda b, x: b.input("x", [2]), "already has an input"),
        (lambda b, x: b.input("y", [2], "bool"), "unknown data type"),
        (lambda b, x: b.constant(np.ones(2)), "float64"),
        (lambda b, x: b.constant(["a"], data_type="float32"), "no numbers"),
        (lambda b, x: b.constant([1, 2], [3], "float32"), "2 elements of shape"),
        (lambda b, x: b.build({}), "non-empty"),
        (lambda b, x: b.build({"y": 3}), "not an operand"),
        (lambda b, x: b.build(None), "mapping"),
        (lambda b, x: b.where_(3, x, x), "condition must be an operand"),
        (lambda b, x: b.shape(3), "must be an operand"),
    ],
)  # fmt: skip
def test_bad_arguments_are_value_errors(program: Any, words: str, context: webnn.MLContext) -> None:
    b = context.create_graph_builder()
    x = b.input("x", [2, 3], "float32")
    with pytest.raises(ValueError, match=words):
        program(b, x)
    assert (run(context, b, b.neg(x), x=A) == -A).all()


def test_building_twice_is_a_runtime_error(context: webnn.MLContext) -> None:
    b = context.create_graph_builder()
    x = b.input("x", [2])
    b.build({"y": b.relu(x)})
    with pytest.raises(RuntimeError, match="already built"):
        b.build({"y": x})
    with pytest.raises(RuntimeError, match="create_graph_builder"):
        webnn.MLGraphBuilder()
