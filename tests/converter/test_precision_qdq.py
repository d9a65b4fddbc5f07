"""Q/DQ on graphs: the form, the values on ONNX Runtime, SmoothQuant, and what is refused."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

import pynn
from pynn.builder import GraphBuilder
from pynn.converter import OnnxGraph, lower_graph
from pynn.converter.import_model import import_model
from pynn.converter.passes import backend_passes, run_passes
from pynn.converter.precision.qdq import insert_qdq, quantize
from pynn.converter.precision.quantizable import calibration_points, sites
from pynn.converter.precision.scales import LARGEST, activation_scale, quantize_weights
from pynn.converter.precision.table import CalibrationTable
from pynn.converter.precision.target import Target
from pynn.converter.serialize import element_type_name, to_model
from pynn.errors import ModelError, UnsupportedModelError, ValidationError

from ..native.models import model_of, tiny
from ..quantization.nets import Net, cosine, data, flat_table, mlp, mobile, run

pytestmark = pytest.mark.ort

FORMS = ("int8", "fp8")
STORED = {"int8": "int8", "fp8": "float8e4m3fn"}


def check(graph: OnnxGraph) -> None:
    """Valid ONNX, declared as shape inference finds it, in the form that TensorRT takes."""
    proto = to_model(graph).to_proto()
    onnx.checker.check_model(proto, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)
    for info in (*inferred.graph.value_info, *inferred.graph.output):
        tensor, declared = info.type.tensor_type, graph.values[info.name]
        assert element_type_name(tensor.elem_type) == declared.data_type, info
        assert tuple(dim.dim_value for dim in tensor.shape.dim) == declared.shape, info
    names = [node.name for node in graph.nodes]
    assert len(set(names)) == len(names)
    for node in graph.nodes:
        if node.op_type == "QuantizeLinear":
            assert node.inputs[0] not in graph.initializers, "weights are stored quantised"
            assert len(node.inputs) == 2 and graph.values[node.inputs[1]].shape == ()
        if node.op_type == "DequantizeLinear":
            assert len(node.inputs) == 2
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert (graph.initializers[node.inputs[1]].astype(np.float64) > 0).all()


def calibrated(graph: pynn.Graph, form: Any = "int8", **more: Any) -> CalibrationTable:
    return pynn.calibrate(graph, data(graph, 8), form=form, **more)


@pytest.mark.parametrize(
    ("form", "method"),
    [
        ("int8", "minmax"),
        ("int8", "entropy"),
        ("int8", "percentile"),
        ("int8", "mse"),
        ("fp8", "minmax"),
        ("fp8", "mse"),
    ],
)
@pytest.mark.parametrize("net", [mobile, mlp])
def test_quantised_models_stay_near_the_float_model(net: Any, form: Any, method: Any) -> None:
    graph = net()
    table = calibrated(graph, form, method=method)
    quantized = lower_graph(graph)
    decisions = insert_qdq(quantized, table, form)
    check(quantized)
    assert {decision.precision for decision in decisions} == {form}
    least = 0.99 if form == "int8" else 0.97
    for sample in data(graph, 4, seed=100):
        expected, got = run(lower_graph(graph), sample)["y"], run(quantized, sample)["y"]
        assert cosine(expected, got) > least


@pytest.mark.parametrize("data_type", ["float32", "float16"])
@pytest.mark.parametrize("form", FORMS)
def test_the_form(form: Any, data_type: str) -> None:
    """Weights in 8 bits with a scale per output channel, one pair per activation, biases and the rest as they were."""
    graph = lower_graph(mobile(data_type))
    decisions, records = quantize(graph, flat_table(graph), form)
    check(graph)
    convolutions = [node for node in graph.nodes if node.op_type == "Conv"]
    makers = {name: node for node in graph.nodes for name in node.outputs}
    for node in convolutions:
        weight = makers[node.inputs[1]]
        stored, scale = (graph.initializers[name] for name in weight.inputs)
        assert weight.attributes == {"axis": 0} and scale.shape == (stored.shape[0],) and scale.dtype == data_type
        assert graph.values[weight.inputs[0]].data_type == STORED[form]
        if len(node.inputs) == 3:
            assert graph.initializers[node.inputs[2]].dtype == data_type
        pair = makers[node.inputs[0]]
        assert (pair.op_type, makers[pair.inputs[0]].op_type) == ("DequantizeLinear", "QuantizeLinear")
    quantized = [node.inputs[0] for node in graph.nodes if node.op_type == "QuantizeLinear"]
    assert len(set(quantized)) == len(quantized)
    assert not any(a.dtype == data_type and a.ndim == 4 for a in graph.initializers.values()), "float weights are gone"
    assert [record.name for record in records] == ["quantize_operands"] + ["quantize_residuals"] * (form == "int8")
    assert [d.op_type for d in decisions].count("Add") == (2 if form == "int8" else 0)


def test_per_tensor_weights() -> None:
    graph = lower_graph(mlp())
    insert_qdq(graph, flat_table(graph), "int8", per_channel=False)
    check(graph)
    assert all(graph.values[n.inputs[1]].shape == () for n in graph.nodes if n.op_type == "DequantizeLinear")


@pytest.mark.parametrize(
    ("backend", "flavor", "form", "rank"),
    [("tensorrt", "RTX", "fp8", 0), ("tensorrt", "TENSORRT", "fp8", 1), ("tensorrt", "TENSORRT", "int8", 1)],
)
def test_tensorrt_for_rtx_gets_one_scale_in_fp8(backend: str, flavor: str, form: Any, rank: int) -> None:
    """Measured with 1.6.1: a scale per channel makes a float16 product infinite."""
    graph = lower_graph(mlp())
    insert_qdq(graph, flat_table(graph), form, target=Target(backend, flavor, "1.6.1.120", (89,)))
    scales = [graph.initializers[node.inputs[1]] for node in graph.nodes if node.inputs[0] in graph.initializers]
    assert [scale.ndim for scale in scales] == [rank, rank]


def test_tensorrt_for_rtx_gets_no_convolutions_in_fp8() -> None:
    graph = lower_graph(mobile())
    decisions = insert_qdq(graph, flat_table(graph), "fp8", target=Target("tensorrt", "RTX", "1.6.1.120", (89,)))
    assert {d.op_type: d.precision for d in decisions} == {"Conv": "", "Gemm": "fp8"}


def test_a_residual_shares_the_pair_of_its_value_and_order_holds() -> None:
    """x is added before it is convolved: the pair stands before both readers."""
    n = Net()
    x = n.b.input("x", [1, 4, 6, 6], "float32")
    a = n.b.relu(x)
    added = n.b.add(n.b.conv2d(x, n.weight(4, 4, 1, 1)), a)
    last = n.b.conv2d(a, n.weight(4, 4, 1, 1))
    graph = lower_graph(n.b.finish({"y": n.b.add(added, last)}))
    insert_qdq(graph, flat_table(graph), "int8")
    check(graph)
    assert [node.op_type for node in graph.nodes].count("QuantizeLinear") == 3


def test_matrices_in_every_position() -> None:
    n = Net()
    b = n.b
    x = b.input("x", [5, 8], "float32")
    left, right = b.matmul(n.weight(6, 5), x), b.matmul(x, n.weight(8, 7))
    transposed = b.gemm(x, n.weight(9, 8), c=n.vector(9), b_transpose=True, alpha=0.5)
    first = b.gemm(n.weight(5, 3), x, a_transpose=True)
    batched = b.matmul(b.reshape(x, [1, 5, 8]), b.constant(n.rng.standard_normal((2, 8, 3)).astype("f")))
    built = b.finish(
        {"l": left, "r": right, "t": transposed, "f": first, "b": batched, "xx": b.matmul(x, b.transpose(x))}
    )
    graph = lower_graph(built)
    decisions = insert_qdq(graph, calibrated(built), "int8")
    check(graph)
    assert [d.precision for d in decisions] == ["int8"] * 5 + [""]
    assert "both operands are computed at run time" in str(decisions[-1])
    axes = [n.attributes.get("axis") for n in graph.nodes if n.op_type == "DequantizeLinear" and n.attributes]
    assert sorted(axes) == [0, 0, 1, 1, 2]
    for sample in data(built, 2, seed=5):
        expected, got = run(lower_graph(built), sample), run(graph, sample)
        for name in ("l", "r", "t", "f", "b"):
            assert cosine(expected[name], got[name]) > 0.999, name


def test_deconvolution() -> None:
    n = Net()
    x = n.b.input("x", [1, 4, 5, 5], "float32")
    whole = n.b.conv_transpose2d(x, n.weight(4, 6, 2, 2), strides=[2, 2])
    grouped = n.b.conv_transpose2d(x, n.weight(4, 3, 2, 2), strides=[2, 2], groups=2)
    built = n.b.finish({"w": whole, "g": grouped})
    graph = lower_graph(built)
    decisions = insert_qdq(graph, calibrated(built), "int8")
    check(graph)
    assert ["per tensor" in d.reason.split("weight ")[1] for d in decisions] == [False, True]
    sample = data(built, 1)[0]
    expected, got = run(lower_graph(built), sample), run(graph, sample)
    assert all(cosine(expected[name], got[name]) > 0.999 for name in "wg")


# -- SmoothQuant


@pytest.mark.parametrize("data_type", ["float32", "float16"])
def test_smoothing_changes_nothing_before_rounding(data_type: str) -> None:
    from pynn.converter.precision.smooth import smooth

    built = mlp(data_type, outliers=True)
    table = calibrated(built, smooth=0.5)
    graph = lower_graph(built)
    ranges, done = smooth(graph, sites(graph, "int8"), table.channels, 0.5)
    check(graph)
    assert [text.split(",")[1].split(" '")[0].strip() for _, text in done] == ["folded into", "by a Mul after"]
    assert all(0 < amax < 60 for amax in ranges.values())
    sample = data(built, 1)[0]
    tolerance = {"rtol": 2e-5, "atol": 2e-5} if data_type == "float32" else {"rtol": 2e-2, "atol": 2e-2}
    np.testing.assert_allclose(run(graph, sample)["y"], run(lower_graph(built), sample)["y"], **tolerance)


def test_smoothing_helps_where_channels_have_outliers() -> None:
    built = mlp(outliers=True)
    errors = {}
    for strength in (None, 0.5):
        table = calibrated(built, smooth=strength)
        graph = lower_graph(built)
        decisions, records = quantize(graph, table, "int8")
        check(graph)
        assert ("smooth_activations" in [record.name for record in records]) == (strength is not None)
        assert ("smoothed by 0.5" in decisions[0].reason) == (strength is not None)
        pairs = [(run(lower_graph(built), s)["y"], run(graph, s)["y"]) for s in data(built, 4, seed=50)]
        errors[strength] = float(np.mean([np.square(a - b).mean() for a, b in pairs]))
    assert errors[0.5] < 0.5 * errors[None], errors


# -- decisions and refusals


def test_keep() -> None:
    for keep, left in (
        (["stem"], 1),
        (["Conv"], 7),
        (["classifier", "project0"], 2),
        (["conv2d_2/Conv"], 1),
        (["Conv", "Gemm"], 8),
    ):
        graph = lower_graph(mobile())
        decisions = insert_qdq(graph, flat_table(graph), "fp8", keep)
        assert sum(d.reason == "kept as asked" for d in decisions) == left, keep
    graph = lower_graph(mobile())
    with pytest.raises(ValidationError, match="keep names 'nobody'"):
        insert_qdq(graph, flat_table(graph), "int8", ["stem", "nobody"])


def test_a_value_without_a_range_leaves_its_operator() -> None:
    graph = lower_graph(mlp())
    table = flat_table(graph)
    names = calibration_points(graph)
    table = CalibrationTable(table.model, dict.fromkeys(names[:1], 4.0))
    decisions = insert_qdq(graph, table, "int8")
    check(graph)
    assert [d.precision for d in decisions] == ["int8", ""]
    assert decisions[1].reason == f"the table has no range of {names[1]!r}"


def test_zero_and_tiny_ranges_are_named_decisions() -> None:
    graph = lower_graph(mlp("float16"))
    first, second = calibration_points(graph)
    table = CalibrationTable(flat_table(graph).model, {first: 0.0, second: 1e-4})
    decisions = insert_qdq(graph, table, "int8")
    check(graph)
    assert "it was all zero in calibration: scaled as if up to 1" in decisions[0].reason
    assert "is outside of float16" in decisions[1].reason


def test_what_is_refused() -> None:
    graph = lower_graph(mlp())
    with pytest.raises(ValidationError, match="of another model"):
        insert_qdq(graph, flat_table(lower_graph(mobile())), "int8")
    with pytest.raises(ValidationError, match="form must be"):
        insert_qdq(graph, flat_table(graph), "int4")  # type: ignore[arg-type]
    with pytest.raises(UnsupportedModelError, match="needs the whole model on one back end"):
        insert_qdq(graph, flat_table(graph), "int8", whole=False)
    rtx = Target("tensorrt", "RTX", "1.6.1.120", (89,))
    with pytest.raises(UnsupportedModelError, match="TensorRT for RTX is not given int8 activations") as caught:
        insert_qdq(graph, flat_table(graph), "int8", target=rtx)
    assert caught.value.op_type == "MatMul"
    insert_qdq(graph, flat_table(graph), "fp8", target=rtx)
    with pytest.raises(UnsupportedModelError, match="quantised activations already"):
        insert_qdq(graph, flat_table(graph), "int8")
    for bad in (np.nan, np.inf):
        broken = lower_graph(mlp())
        weight = next(n for n, a in broken.initializers.items() if a.ndim == 2)
        broken.initializers[weight] = broken.initializers[weight].copy()
        broken.initializers[weight][3, 5] = bad
        with pytest.raises(ModelError, match=r"has NaN or infinity \(channel 5 of axis 1\)"):
            insert_qdq(broken, flat_table(broken), "int8")


@pytest.mark.parametrize("opset", [11, 13, 17, 19, 20, 21, 22])
@pytest.mark.parametrize("form", FORMS)
def test_imported_models_of_every_opset(form: Any, opset: int) -> None:
    proto = tiny().to_proto()
    del proto.opset_import[:]
    proto.opset_import.add(domain="", version=opset)
    graph = import_model(pynn.OnnxModel.load(proto))
    table = flat_table(graph)
    if opset < 13:
        with pytest.raises(UnsupportedModelError, match="opset"):
            insert_qdq(graph, table, form)
        return
    insert_qdq(graph, table, form)
    assert graph.opsets[""] == max(opset, 13 if form == "int8" else 19)
    onnx.checker.check_model(to_model(graph).to_proto(), full_check=True)
    sample = {"x": np.random.default_rng(1).standard_normal((4, 64)).astype("f")}
    expected = run(import_model(tiny()), sample)["y"]
    assert cosine(expected, run(graph, sample)["y"]) > (0.999 if form == "int8" else 0.99)


def test_dynamic_and_captured_values_stay_valid() -> None:
    graph = import_model(tiny("batch"))
    insert_qdq(graph, flat_table(graph), "int8")
    model = to_model(graph)
    assert model.inputs[0].shape == ("batch", 64)
    onnx.checker.check_model(model.to_proto(), full_check=True)


def test_weights_behind_transposes_are_weights() -> None:
    """As torch.onnx writes a Linear of rank 3."""
    w = np.random.default_rng(0).standard_normal((16, 8)).astype("f")
    nodes = [
        helper.make_node("Identity", ["w"], ["same"], name="same"),
        helper.make_node("Transpose", ["same"], ["wt"], name="turn", perm=[1, 0]),
        helper.make_node("MatMul", ["x", "wt"], ["y"], name="product"),
    ]
    model = model_of(nodes, {"x": (TensorProto.FLOAT, [2, 4, 8])}, {"y": (TensorProto.FLOAT, [2, 4, 16])}, w=w)
    samples = [{"x": np.random.default_rng(i).standard_normal((2, 4, 8)).astype("f")} for i in range(3)]
    table = pynn.calibrate(model, samples)
    graph = import_model(model)
    (decision,), records = quantize(graph, table, "int8", ["turn"])
    check(graph)
    assert decision.precision == "int8" and records[0].name == "fold_moved_weights"
    assert [node.op_type for node in graph.nodes] == [
        "QuantizeLinear",
        "DequantizeLinear",
        "DequantizeLinear",
        "MatMul",
    ]
    assert cosine(samples[0]["x"] @ w.T, run(graph, samples[0])["y"]) > 0.999


def test_weights_stored_in_few_bits_are_left() -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["wide"], name="stored"),
        helper.make_node("MatMul", ["x", "wide"], ["y"], name="product"),
    ]
    sides: list[Any] = [{"x": (TensorProto.FLOAT, [4, 8])}, {"y": (TensorProto.FLOAT, [4, 8])}]
    graph = import_model(model_of(nodes, *sides, w=np.ones((8, 8), np.int8), s=np.float32(0.1)))
    (decision,) = insert_qdq(graph, flat_table(graph), "int8")
    assert decision.precision == "" and "computed at run time" in decision.reason


# -- scales and weights


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(FORMS),
    st.sampled_from(["float32", "float16", "bfloat16"]),
    st.lists(st.floats(-100, 100), min_size=4, max_size=24).filter(lambda x: len(x) % 4 == 0),
    st.sampled_from([None, 0, 1]),
)
def test_weights_are_within_half_a_step(form: Any, data_type: str, values: list[float], axis: int | None) -> None:
    dtype = np.dtype(getattr(ml_dtypes, data_type, data_type))
    array = np.array(values).reshape(-1, 4).astype(dtype)
    stored, scale = quantize_weights(array, axis, form, "w")
    assert scale.dtype == dtype and stored.shape == array.shape
    wide, steps = array.astype(np.float64), scale.astype(np.float64)
    if axis is not None:
        steps = steps[:, None] if axis == 0 else steps[None, :]
    error = np.abs(stored.astype(np.float64) * steps - wide)
    rounding = 2**-7 if data_type == "bfloat16" else 2**-10
    if form == "int8":
        assert (error <= steps * (0.5 + 127 * rounding) + 1e-30).all()
    else:
        assert (error <= np.abs(wide) * (2**-4 + rounding) + steps * 2**-10).all()
    assert not stored.astype(np.float64)[wide == 0].any()


@given(st.sampled_from(FORMS), st.floats(0, 3e38), st.sampled_from(["float32", "float16", "bfloat16"]))
def test_scales_are_normal_numbers(form: Any, amax: float, data_type: str) -> None:
    scale, why = activation_scale(amax, form, data_type)
    number = float(scale)
    assert 0 < number < np.inf and scale.shape == ()
    if not why:
        assert number == pytest.approx(amax / LARGEST[form], rel=2**-7)


@settings(deadline=None, max_examples=15)
@given(st.data())
def test_random_graphs_keep_their_interface_and_values(given_data: st.DataObject) -> None:
    draw = given_data.draw
    b = GraphBuilder()
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    width = draw(st.integers(1, 6))
    rows = draw(st.integers(1, 4))
    values = [b.input("x", [rows, width], "float32")]
    for _ in range(draw(st.integers(1, 6))):
        x = draw(st.sampled_from(values))
        kind = draw(st.sampled_from(["matmul", "gemm", "add", "tanh", "layer_normalization"]))
        if kind == "matmul":
            w = b.constant((rng.standard_normal((width, width)) / width).astype("f"))
            values.append(b.matmul(x, w))
        elif kind == "gemm":
            w = b.constant((rng.standard_normal((width, width)) / width).astype("f"))
            values.append(b.gemm(x, w, b_transpose=True, alpha=0.5))
        elif kind == "add":
            values.append(b.add(x, draw(st.sampled_from(values))))
        elif kind == "tanh":
            values.append(b.tanh(x))
        else:
            values.append(b.layer_normalization(x, axes=[1], epsilon=0.1))
    built = b.finish({"y": values[-1] if len(values) > 1 else b.tanh(values[0])})
    plain, graph = lower_graph(built), lower_graph(built)
    if not calibration_points(plain):
        return
    smooth = draw(st.sampled_from([None, 0.5]))
    sample = data(built, 1)[0]
    table = pynn.calibrate(built, [sample], smooth=smooth)
    form: Any = draw(st.sampled_from(FORMS))
    insert_qdq(graph, table, form)
    check(graph)
    assert (graph.inputs, graph.outputs) == (plain.inputs, plain.outputs)
    expected, got = run(plain, sample)["y"], run(graph, sample)["y"]
    assert got.shape == expected.shape and got.dtype == expected.dtype
    largest = max(1.0, float(np.abs(expected).max()), *table.amax.values())
    assert np.abs(got - expected).max() <= (0.15 if form == "int8" else 0.6) * largest


# -- the passes that run after


@pytest.mark.parametrize("version", ["10.13.0.35", "11.0.0.1"])
def test_tensorrt_gets_the_pairs_and_nothing_else_in_int8(version: str) -> None:
    built = mobile()
    graph = lower_graph(built)
    insert_qdq(graph, calibrated(built), "int8")
    before = [node.op_type for node in graph.nodes]
    run_passes(graph, backend_passes("tensorrt", version))
    check(graph)
    assert [node.op_type for node in graph.nodes] == before
    sample = data(built, 1, seed=8)[0]
    assert cosine(run(lower_graph(built), sample)["y"], run(graph, sample)["y"]) > 0.99


@pytest.mark.parametrize(
    ("backend", "version"), [("tensorrt", "1.6.1.120"), ("onnxruntime", "1.20.0"), ("onnxruntime", "1.32.0")]
)
@pytest.mark.parametrize("form", FORMS)
def test_the_passes_of_other_back_ends_keep_the_values(backend: str, version: str, form: Any) -> None:
    """TensorRT for RTX: int8 pairs become arithmetic, which is right, if not fast; fp8 stays."""
    built = mlp()
    graph, table = lower_graph(built), calibrated(built)
    insert_qdq(graph, table, form)
    sample = data(built, 1, seed=8)[0]
    expected = run(graph, sample)["y"]
    run_passes(graph, backend_passes(backend, version))
    onnx.checker.check_model(to_model(graph).to_proto(), full_check=True)
    assert cosine(run(graph, sample)["y"], expected) > 0.9999  # a quotient at a tie may round to the other side
    assert ("QuantizeLinear" in [n.op_type for n in graph.nodes]) == (form == "fp8" or backend == "onnxruntime")


def test_a_users_own_quantisation_with_a_zero_point_is_still_arithmetic_on_tensorrt() -> None:
    b = GraphBuilder()
    x = b.input("x", [2, 4], "float32")
    scale, zero = b.constant(np.full((1, 1), 0.5, np.float32)), b.constant(np.full((1, 1), 3, np.int8))
    graph = lower_graph(b.finish({"y": b.dequantize_linear(b.quantize_linear(x, scale, zero), scale, zero)}))
    run_passes(graph, backend_passes("tensorrt", "10.13.0.35"))
    assert not {"QuantizeLinear", "DequantizeLinear"} & {node.op_type for node in graph.nodes}
