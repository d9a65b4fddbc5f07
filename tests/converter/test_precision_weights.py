"""Weights as small numbers and scales: rounding, decisions, and the numbers that ONNX makes of them."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from pynn.converter.model import OnnxModel, element_name, numpy_dtype
from pynn.converter.onnx_graph import OnnxGraph, OnnxNode
from pynn.converter.passes import run_passes
from pynn.converter.precision.weights import WeightDecision, check_form, quantize_weights, weight_pass
from pynn.converter.precision.weights_grid import (
    FORMS,
    Form,
    Grid,
    Layout,
    block_that_divides,
    blocks,
    channels,
    dequantize,
    scale_grid,
)
from pynn.converter.precision.weights_round import Rounded, hessian, round_weight, round_with_inputs
from pynn.converter.serialize import to_model
from pynn.errors import FeatureNotSupportedError, UnsupportedModelError, ValidationError
from pynn.ops.emitter import Tensor

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(7)

STEP = {"int8": 0.5 / 127, "int4": 0.5 / 7, "fp8": 2.0**-4, "fp4": 1 / 6 + 2.0**-3}
"""By form, the largest error of one weight as a part of the largest of its block. fp4's scale is itself rounded to
three bits, so that the largest weight may be clipped by a sixteenth and the half step grows as much."""


def graph_of(
    weight: Array, op_type: str = "MatMul", rows: int = 3, opset: int = 21, **attributes: Any
) -> tuple[OnnxGraph, str]:
    """One product or table of ``weight``: input ``x``, output ``y``."""
    graph = OnnxGraph()
    graph.opsets[""] = opset
    data_type = element_name(weight.dtype)
    if op_type == "Gather":
        inputs, x, y = ["w", "x"], Tensor("x", "int64", (rows,)), (rows, *weight.shape[1:])
    elif op_type == "Conv":
        x, y = Tensor("x", data_type, (1, weight.shape[1], 4, 4)), (1, weight.shape[0], 4, 4)
        inputs, attributes = ["x", "w"], {"pads": [weight.shape[2] // 2] * 4, **attributes}
    else:
        length, width = weight.shape[-2:][::-1] if attributes.get("transB") else weight.shape[-2:]
        inputs, x, y = ["x", "w"], Tensor("x", data_type, (rows, length)), (*weight.shape[:-2], rows, width)
    graph.values = {"x": x, "w": Tensor("w", data_type, weight.shape), "y": Tensor("y", data_type, y)}
    graph.initializers = {"w": weight}
    graph.inputs, graph.outputs = {"x": "x"}, {"y": "y"}
    graph.nodes = [OnnxNode(op_type, inputs, ["y"], attributes, "product", "product")]
    return graph, "x"


def weight_of(graph: OnnxGraph) -> Array:
    """The weight as numpy dequantises it."""
    nodes = {node.outputs[0]: node for node in graph.nodes if node.op_type == "DequantizeLinear"}
    node = nodes["w"]
    values, name = graph.initializers[node.inputs[0]], node.inputs[1]
    unit = 0.0
    if name in nodes:
        name, held = nodes[name].inputs
        unit = float(graph.initializers[held])
    scale = graph.initializers[name]
    block = node.attributes.get("block_size", 0)
    axis = node.attributes["axis"]
    layout = blocks(values.shape, axis, block) if block else channels(values.shape, axis)
    return dequantize(values, scale, layout, graph.values["w"].data_type, unit)


def by_ort(graph: OnnxGraph, x: Array) -> Array:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(to_model(graph).to_bytes(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def by_reference(graph: OnnxGraph, x: Array) -> Array:
    return np.asarray(ReferenceEvaluator(to_model(graph).to_proto()).run(None, {"x": x})[0])


def one(decisions: tuple[WeightDecision, ...]) -> WeightDecision:
    (decision,) = decisions
    return decision


# -- what ONNX makes of it


@pytest.mark.ort
@pytest.mark.parametrize("data_type", ["float32", "float16"])
@pytest.mark.parametrize("form", ["int8", "int4", "fp8"])
@pytest.mark.parametrize("op_type", ["MatMul", "Gemm", "Gemm transposed", "Gather"])
def test_onnx_runtime_dequantises_as_numpy_does(form: Form, data_type: str, op_type: str) -> None:
    """Products with the unit matrix (and a table's rows) show each weight, bit for bit."""
    kind, _, transposed = op_type.partition(" ")
    weight = RNG.standard_normal((64, 96)).astype(data_type)
    graph, _ = graph_of(weight, kind, 96 if transposed else 64, **({"transB": 1} if transposed else {}))
    decision = one(quantize_weights(graph, form, block=32, min_elements=1))
    assert decision.form and decision.bytes_after < decision.bytes_before
    onnx.checker.check_model(to_model(graph).to_proto(), full_check=True)
    want = weight_of(graph)
    if kind == "Gather":
        np.testing.assert_array_equal(by_ort(graph, np.arange(64)), want)
    else:
        unit = np.eye(96 if transposed else 64, dtype=data_type)
        np.testing.assert_array_equal(by_ort(graph, unit), want.T if transposed else want)


@pytest.mark.parametrize("data_type", ["float32", "float16"])
@pytest.mark.parametrize("method", ["rtn", "hqq"])
def test_fp4_of_two_levels_is_what_onnx_says(data_type: str, method: str) -> None:
    """ONNX Runtime 1.32 has no kernel of it; onnx's evaluator is the judge."""
    weight = RNG.standard_normal((64, 48)).astype(data_type)
    graph, _ = graph_of(weight, rows=64)
    decision = one(quantize_weights(graph, "fp4", method=method, min_elements=1))
    assert decision.form == "fp4, blocks of 16" and graph.opsets[""] == 23 and graph.ir_version == 11
    onnx.checker.check_model(to_model(graph).to_proto(), full_check=True)
    np.testing.assert_array_equal(by_reference(graph, np.eye(64, dtype=data_type)), weight_of(graph))


@pytest.mark.ort
@pytest.mark.parametrize("form", ["int8", "fp8"])
def test_filters_by_output_channel(form: Form) -> None:
    weight = (RNG.standard_normal((8, 4, 3, 3)) * np.logspace(-3, 3, 8).reshape(8, 1, 1, 1)).astype(np.float32)
    graph, _ = graph_of(weight, "Conv")
    assert one(quantize_weights(graph, form, min_elements=1)).form == f"{form} per channel"
    plain, _ = graph_of(weight_of(graph), "Conv")
    x = RNG.standard_normal((1, 4, 4, 4)).astype(np.float32)
    np.testing.assert_allclose(by_ort(graph, x), by_ort(plain, x), rtol=1e-5, atol=1e-3)
    error = np.abs(weight_of(graph) - weight).reshape(8, -1).max(axis=1)
    assert (error <= STEP[form] * np.abs(weight).reshape(8, -1).max(axis=1) * 1.001).all()


def test_filters_take_no_blocks() -> None:
    graph, _ = graph_of(RNG.standard_normal((64, 64, 3, 3)).astype("f"), "Conv")
    decision = one(quantize_weights(graph, "int4"))
    assert not decision.form and "filters of Conv take no int4" in decision.reason
    assert "w" in graph.initializers and len(graph.nodes) == 1


# -- error bounds


@st.composite
def weights(draw: st.DrawFn) -> Array:
    """Matrices of all sizes of numbers that float16 has, with zero blocks and outliers."""
    groups, block, width = draw(st.integers(1, 4)), draw(st.sampled_from([16, 32, 64])), draw(st.integers(1, 9))
    seed, exponent = draw(st.integers(0, 2**31)), draw(st.integers(-10, 9))
    random = np.random.default_rng(seed)
    matrix = random.standard_normal((groups * block, width)) * 2.0**exponent
    kind = draw(st.sampled_from(["normal", "heavy", "zero block", "constant"]))
    if kind == "heavy":
        matrix = np.sign(matrix) * np.abs(matrix) ** 2
    elif kind == "zero block":
        matrix[:block] = 0
    elif kind == "constant":
        matrix[:] = matrix[0, 0]
    return matrix.clip(-60000, 60000).astype(draw(st.sampled_from(["float32", "float16"])))


def rounded(weight: Array, form: Form, *, search: bool = False) -> tuple[Rounded, Array, Layout]:
    layout = blocks(weight.shape, 0, 16) if form in ("int4", "fp4") else channels(weight.shape, 1)
    scales = scale_grid(form, element_name(weight.dtype), float(np.abs(weight).max()))
    made = round_weight(weight, Grid(form), scales, layout, search=search)
    return made, dequantize(made.values, made.scale, layout, "float32", scales.unit), layout


@settings(max_examples=60, deadline=None)
@given(weights(), st.sampled_from(FORMS))
def test_each_weight_is_within_a_step_of_its_block(weight: Array, form: Form) -> None:
    made, back, layout = rounded(weight, form)
    assert made.values.dtype == Grid(form).dtype and made.scale.shape == layout.scale_shape
    wide = weight.astype(np.float64)
    most = np.abs(wide.reshape(layout.view)).max(axis=2, keepdims=True)
    error = np.abs(back - wide).reshape(layout.view)
    least = 2.0**-24 * 8 if weight.dtype == np.float16 else 1e-30
    whole = np.abs(wide).max() * 2.0**-9 / 448 * 2 if form == "fp4" else 0.0
    assert (error <= STEP[form] * most * 1.01 + least + whole).all()
    held = made.scale.astype(np.float32)
    assert np.isfinite(held).all() and (held > 0).all()


@settings(max_examples=60, deadline=None)
@given(weights(), st.sampled_from(FORMS))
def test_search_is_never_worse_than_rounding(weight: Array, form: Form) -> None:
    plain, searched = rounded(weight, form)[0], rounded(weight, form, search=True)[0]
    assert searched.error <= plain.error * (1 + 1e-5)


def test_search_gains_where_weights_have_outliers() -> None:
    weight = RNG.standard_t(3, (1024, 64)).astype(np.float32)
    layout = blocks(weight.shape, 0, 128)
    scales = scale_grid("int4", "float16", float(np.abs(weight).max()))
    plain, searched = (round_weight(weight, Grid("int4"), scales, layout, search=s).error for s in (False, True))
    assert searched < 0.9 * plain


@pytest.mark.parametrize("form", FORMS)
def test_gptq_is_better_on_correlated_inputs(form: Form) -> None:
    mix = RNG.standard_normal((64, 64)) * np.logspace(0, -2, 64)
    inputs = (RNG.standard_normal((2048, 64)) @ mix).astype(np.float32)
    weight = RNG.standard_normal((64, 48)).astype(np.float32)
    layout = blocks(weight.shape, 0, 16) if form in ("int4", "fp4") else channels(weight.shape, 1)
    scales = scale_grid(form, "float32", float(np.abs(weight).max()))

    def loss(made: Rounded) -> float:
        back = dequantize(made.values, made.scale, layout, "float32", scales.unit)
        return float(np.linalg.norm(inputs @ (back - weight)))

    nearest = round_weight(weight, Grid(form), scales, layout, search=False)
    aware = round_with_inputs(weight, Grid(form), scales, layout, hessian(inputs))
    assert loss(aware) < 0.7 * loss(nearest)


def test_gptq_of_a_graph_names_what_has_no_activations() -> None:
    weight = RNG.standard_normal((64, 64)).astype("f")
    inputs = RNG.standard_normal((256, 64)).astype("f")
    options: dict[str, Any] = {"block": 32, "min_elements": 1}
    for attributes in ({}, {"transB": 1}):
        graph, x = graph_of(weight, "Gemm", **attributes)
        decision = one(
            quantize_weights(graph, "int4", block=32, method="gptq", activations={x: inputs}, min_elements=1)
        )
        assert decision.method == "gptq" and not decision.reason
        plain, _ = graph_of(weight, "Gemm", **attributes)
        quantize_weights(plain, "int4", **options)
        turn = (lambda w: w.T) if attributes else (lambda w: w)
        losses = [np.linalg.norm(inputs @ turn(weight_of(g) - weight)) for g in (graph, plain)]
        assert losses[0] < losses[1]
    graph, x = graph_of(weight)
    decision = one(quantize_weights(graph, "int4", method="gptq", activations={"z": inputs}, min_elements=1))
    assert decision.method == "hqq" and "no activations of 'x'" in decision.reason
    graph, x = graph_of(weight)
    with pytest.raises(ValidationError, match="have 32 channels, its product 'product' sums 64"):
        quantize_weights(graph, "int4", method="gptq", activations={x: inputs[:, :32]}, min_elements=1)


# -- decisions


@pytest.mark.parametrize(("length", "block", "want"), [(384, 128, 128), (96, 128, 32), (48, 64, 16), (1000, 128, 0)])
def test_blocks_are_halved_until_they_divide(length: int, block: int, want: int) -> None:
    assert block_that_divides(length, block) == want
    graph, _ = graph_of(RNG.standard_normal((length, 64)).astype("f"))
    decision = one(quantize_weights(graph, "int4", block=block, min_elements=1))
    if want:
        assert decision.form == f"int4, blocks of {want}"
        assert (decision.reason == "") is (want == block)
    else:
        assert not decision.form and "divides its 1000 rows" in decision.reason and "stays" in str(decision)


def test_the_names_to_keep_are_kept_and_unknown_ones_refused() -> None:
    weight = RNG.standard_normal((64, 64)).astype("f")
    for name in ("product", "MatMul"):
        graph, _ = graph_of(weight)
        assert one(quantize_weights(graph, "int4", keep=[name], min_elements=1)).reason == "kept as asked"
        assert len(graph.nodes) == 1
    graph, _ = graph_of(weight)
    with pytest.raises(ValidationError, match="prodct"):
        quantize_weights(graph, "int4", keep=["prodct"])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("form", FORMS)
def test_weights_that_are_no_numbers_stay(form: Form, bad: float) -> None:
    weight = RNG.standard_normal((64, 64)).astype("f")
    weight[3, 3] = bad
    graph, _ = graph_of(weight)
    assert "NaN or infinity" in one(quantize_weights(graph, form, min_elements=1)).reason


def test_weights_above_float16_are_whole_in_float32() -> None:
    weight = (RNG.standard_normal((64, 64)) * 1e30).astype(np.float32)
    graph, _ = graph_of(weight)
    assert one(quantize_weights(graph, "int4", min_elements=1)).error < 0.2
    assert np.isfinite(weight_of(graph)).all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("data_type", ["float32", "float16", "bfloat16"])
def test_all_zero(form: Form, data_type: str) -> None:
    graph, _ = graph_of(np.zeros((64, 64), numpy_dtype(data_type)))
    decision = one(quantize_weights(graph, form, min_elements=1, method="hqq"))
    assert decision.error == 0 and not weight_of(graph).astype("f").any()


def test_a_weight_with_other_readers_stays_and_a_shared_one_is_stored_once() -> None:
    weight = RNG.standard_normal((64, 64)).astype("f")
    graph, _ = graph_of(weight)
    graph.nodes.append(OnnxNode("Neg", ["w"], ["z"], {}, "neg", "neg"))
    graph.values["z"] = Tensor("z", "float32", (64, 64))
    graph.outputs["z"] = "z"
    assert "something else" in one(quantize_weights(graph, "int4", min_elements=1)).reason
    graph, _ = graph_of(weight, "Gemm", transB=1)
    graph.values |= {"i": Tensor("i", "int64", (2,)), "z": Tensor("z", "float32", (2, 64))}
    graph.inputs["i"], graph.outputs["z"] = "i", "z"
    graph.nodes.append(OnnxNode("Gather", ["w", "i"], ["z"], {}, "table", "table"))
    decision = one(quantize_weights(graph, "int4", min_elements=1))
    assert decision.operators == ("product", "table") and decision.form
    assert sum(node.op_type == "DequantizeLinear" for node in graph.nodes) == 1
    graph.nodes = [node for node in graph.nodes if node.op_type != "Gather"]


def test_small_weights_vectors_and_integers_are_not_looked_at() -> None:
    graph, _ = graph_of(RNG.standard_normal((16, 16)).astype("f"))
    assert quantize_weights(graph, "int8") == ()
    graph, _ = graph_of(RNG.integers(0, 9, (128, 64)), "Gather")
    assert quantize_weights(graph, "int8") == ()


def test_bfloat16_weights_have_bfloat16_scales() -> None:
    weight = RNG.standard_normal((64, 64)).astype(ml_dtypes.bfloat16)
    graph, _ = graph_of(weight)
    assert one(quantize_weights(graph, "int4", min_elements=1)).error < 0.2
    assert graph.initializers["w/scale"].dtype == ml_dtypes.bfloat16
    assert graph.values["w"].data_type == "bfloat16"


def test_a_named_pass_that_keeps_its_decisions() -> None:
    graph, _ = graph_of(RNG.standard_normal((64, 64)).astype("f"))
    decisions: list[WeightDecision] = []
    (record,) = run_passes(graph, [weight_pass("int4", decisions, min_elements=1)])
    assert record.name == "int4_weights" and "DequantizeLinear" in str(record)
    assert "int4, blocks of 64 by rtn (128 does not divide 64)" in str(decisions[0])


@pytest.mark.ort
def test_stacked_rows_become_one_matrix() -> None:
    graph, _ = graph_of(RNG.standard_normal((64, 32)).astype("f"))
    graph.values |= {"x": Tensor("x", "float32", (2, 5, 64)), "y": Tensor("y", "float32", (2, 5, 32))}
    plain = deepcopy(graph)
    quantize_weights(graph, "int4", min_elements=1)
    assert [node.op_type for node in graph.nodes] == ["DequantizeLinear", "Reshape", "MatMul", "Reshape"]
    onnx.checker.check_model(to_model(graph).to_proto(), full_check=True)
    plain.initializers["w"] = weight_of(graph)
    x = RNG.standard_normal((2, 5, 64)).astype("f")
    np.testing.assert_allclose(by_ort(graph, x), by_ort(plain, x), rtol=1e-5, atol=1e-5)
    plain.values |= {"x": Tensor("x", "float32", (-1, 5, 64)), "y": Tensor("y", "float32", (-1, 5, 32))}
    quantize_weights(plain, "int4", min_elements=1)
    assert [node.op_type for node in plain.nodes] == ["DequantizeLinear", "MatMul"]


# -- wrong arguments


def test_wrong_arguments() -> None:
    graph, _ = graph_of(RNG.standard_normal((64, 64)).astype("f"))
    with pytest.raises(ValidationError, match="weights can be int8, int4, fp8, fp4; got 'int3'"):
        quantize_weights(graph, "int3")  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="block must be one of 32, 64, 128; got 48"):
        quantize_weights(graph, "int4", block=48)
    with pytest.raises(ValidationError, match="method must be one of"):
        quantize_weights(graph, "int4", method="magic")
    with pytest.raises(ValidationError, match="needs activations"):
        quantize_weights(graph, "int4", method="gptq")
    for wrong in (np.full((4, 64), np.nan, "f"), np.zeros((4, 64), int), np.zeros((0, 64), "f"), np.zeros(64, "f")):
        with pytest.raises(ValidationError, match="activations of 'x'"):
            quantize_weights(graph, "int4", method="gptq", activations={"x": wrong})


@pytest.mark.parametrize(("form", "lacks", "has"), [("int4", 75, 80), ("fp8", 86, 89), ("fp4", 90, 100)])
def test_a_form_that_the_target_lacks(form: Form, lacks: int, has: int) -> None:
    check_form(form, [has, 0])
    with pytest.raises(FeatureNotSupportedError, match=rf"{form} weights need .* takes int8"):
        check_form(form, [has, lacks])


# -- opsets


@pytest.mark.ort
def test_an_older_opset_is_raised_and_means_the_same() -> None:
    weight = RNG.standard_normal((64, 64)).astype("f")
    graph, _ = graph_of(weight, opset=13)
    graph.outputs = {"m": "m", "s": "s"}
    graph.values |= {n: Tensor(n, "float32", s) for n, s in (("m", (3,)), ("s", (3, 32)), ("t", (3, 32)))}
    graph.nodes += [
        OnnxNode("ReduceMax", ["y"], ["m"], {"axes": [1], "keepdims": 0}, "max", "max"),
        OnnxNode("Split", ["y"], ["s", "t"], {"axis": 1}, "split", "split"),
    ]
    before = to_model(graph).to_bytes()
    quantize_weights(graph, "int8", min_elements=1)
    assert graph.opsets[""] == 13
    graph, decisions = _again(before), []
    run_passes(graph, [weight_pass("int4", decisions, min_elements=1)])
    assert graph.opsets[""] == 21
    onnx.checker.check_model(to_model(graph).to_proto(), full_check=True)
    plain = _again(before)
    plain.initializers["w"] = weight_of(graph)
    x = RNG.standard_normal((3, 64)).astype("f")
    np.testing.assert_array_equal(by_ort(graph, x), by_ort(plain, x))


def _again(data: bytes) -> OnnxGraph:
    from pynn.converter.import_model import import_model

    return import_model(OnnxModel.load(data))


def test_an_opset_that_cannot_be_raised_names_the_operator() -> None:
    graph, _ = graph_of(RNG.standard_normal((64, 64)).astype("f"), opset=20)
    graph.nodes.append(OnnxNode("GroupNormalization", ["y"], ["z"], {}, "norm", "norm"))
    with pytest.raises(UnsupportedModelError, match=r"opset is 20, .* needs 21.*GroupNormalization.*'norm'"):
        quantize_weights(graph, "int4", min_elements=1)
    graph, _ = graph_of(RNG.standard_normal((64, 64)).astype("f"), opset=11)
    with pytest.raises(UnsupportedModelError, match="opset is 11"):
        quantize_weights(graph, "int8", min_elements=1)
