"""Autocast, decision by decision: what runs in float16, what stays, where casts are and are not."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections import Counter
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pynn.converter.model import OnnxModel
from pynn.converter.precision import ANY, Precision, PrecisionReport, Target, apply_precision
from pynn.errors import ModelError, UnsupportedModelError, ValidationError

from .test_import_model import chain, model_of, value

Array = np.ndarray[Any, Any]
RANDOM = np.random.default_rng(7)
CPU = Target("onnxruntime")


def node(op_type: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    """A node named after its first output."""
    ins = [name if name != "-" else "" for name in inputs.split()]
    return helper.make_node(op_type, ins, outputs.split(), name=outputs.split()[0], **attributes)


def weight(*shape: int, scale: float = 0.5) -> Array:
    return (RANDOM.standard_normal(shape) * scale).astype(np.float32)


def model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, Any],
    outputs: dict[str, Any],
    weights: dict[str, Array] | None = None,
    opset: int = 21,
) -> OnnxModel:
    """``inputs`` and ``outputs``: shapes, or (shape, TensorProto type), by name."""

    def side(specs: dict[str, Any]) -> list[onnx.ValueInfoProto]:
        return [value(name, *(spec if isinstance(spec, tuple) else (spec,))) for name, spec in specs.items()]

    inner = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    proto = model_of(helper.make_graph(nodes, "g", side(inputs), side(outputs), inner), opset)
    return OnnxModel.load(proto.SerializeToString())


def narrow(given: OnnxModel, name: Any = "fp16", target: Target = ANY, **options: Any) -> OnnxModel:
    made = apply_precision(given, Precision(name, **options), target)
    onnx.checker.check_model(made.to_proto(), full_check=True)
    return made


def report_of(made: OnnxModel) -> PrecisionReport:
    assert made.precision is not None
    return made.precision


def types(made: OnnxModel) -> dict[str, str]:
    return {one.name: one.data_type for one in report_of(made).decisions}


def ops(made: OnnxModel) -> list[str]:
    return [one.op_type for one in made.to_proto().graph.node]


def run(given: OnnxModel, **arrays: Array) -> list[Array]:
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(given.to_bytes(), providers=["CPUExecutionProvider"])
    return list(session.run(None, arrays))


def test_a_product_is_narrow_between_casts() -> None:
    given = model(
        [node("MatMul", "x w", "p"), node("Relu", "p", "y")], {"x": [2, 4]}, {"y": [2, 3]}, {"w": weight(4, 3)}
    )
    made = narrow(given)
    assert ops(made) == ["Cast", "MatMul", "Relu", "Cast"]
    assert types(made) == {"p": "float16", "y": "float16"}
    assert [str(s) for s in (*made.inputs, *made.outputs)] == ["x: float32[2, 4]", "y: float32[2, 3]"]
    assert {a.data_type for a in made.to_proto().graph.initializer} == {TensorProto.FLOAT16}
    x = RANDOM.standard_normal((2, 4)).astype("f")
    np.testing.assert_allclose(run(made, x=x)[0], run(given, x=x)[0], atol=5e-3)


def test_io_becomes_narrow_when_asked() -> None:
    given = model(
        [node("MatMul", "x w", "p"), node("Softmax", "p", "y")], {"x": [2, 4]}, {"y": [2, 3]}, {"w": weight(4, 3)}
    )
    made = narrow(given, io=True)
    assert ops(made) == ["MatMul", "Cast", "Softmax", "Cast"]
    assert [str(s) for s in (*made.inputs, *made.outputs)] == ["x: float16[2, 4]", "y: float16[2, 3]"]
    assert run(made, x=np.ones((2, 4), np.float16))[0].dtype == np.float16


def test_softmax_is_wide_and_attention_casts_twice() -> None:
    nodes = [
        node("MatMul", "q k", "s"), node("Mul", "s c", "scaled"), node("Softmax", "scaled", "p", axis=-1),
        node("Transpose", "p", "t", perm=[0, 1]), node("MatMul", "t v", "y"),
    ]  # fmt: skip
    given = model(nodes, {"q": [4, 8], "k": [8, 4], "v": [4, 8]}, {"y": [4, 8]}, {"c": np.array(0.35, np.float32)})
    made = narrow(given)
    assert types(made) == {"s": "float16", "scaled": "float16", "p": "float32", "t": "float16", "y": "float16"}
    assert ops(made) == [
        "Cast",
        "Cast",
        "MatMul",
        "Mul",
        "Cast",
        "Softmax",
        "Cast",
        "Transpose",
        "Cast",
        "MatMul",
        "Cast",
    ]
    reasons = {one.name: one.reason for one in report_of(made).decisions}
    assert "exponentials" in reasons["p"] and "product" in reasons["s"]


def test_a_mask_that_overflows_keeps_its_sum_wide() -> None:
    nodes = [
        node("MatMul", "q k", "s"), node("Mul", "m least", "hide"), node("Add", "s hide", "masked"),
        node("Softmax", "masked", "y"),
    ]  # fmt: skip
    given = model(
        nodes, {"q": [2, 4], "k": [4, 2], "m": [2, 2]}, {"y": [2, 2]},
        {"least": np.array(np.finfo(np.float32).min, np.float32)},
    )  # fmt: skip
    made = narrow(given)
    assert types(made) == {"s": "float16", "hide": "float32", "masked": "float32", "y": "float32"}
    reason = report_of(made).decisions[1].reason
    assert "'least'" in reason and "more than float16 holds" in reason
    arrays = {"q": weight(2, 4), "k": weight(4, 2), "m": np.array([[0, 1], [0, 0]], np.float32)}
    np.testing.assert_allclose(run(made, **arrays)[0], run(given, **arrays)[0], atol=1e-3)
    assert types(narrow(given, "bf16", CPU))["hide"] == "float32", "float32's least is infinite in bfloat16"


def test_infinity_is_no_overflow_and_small_numbers_beside_large_ones_may_vanish() -> None:
    nodes = [node("MatMul", "x w", "p"), node("Add", "p b", "q"), node("Add", "q hide", "y")]
    bias = np.array([1e-7, 1, -3], np.float32)
    given = model(
        nodes,
        {"x": [2, 4]},
        {"y": [2, 3]},
        {"w": weight(4, 3), "b": bias, "hide": np.array([0, -np.inf, 0], np.float32)},
    )
    assert set(types(narrow(given)).values()) == {"float16"}


@pytest.mark.parametrize(("op", "constant"), [("Add", 1e-6), ("Mul", 1e-5), ("Max", 1e-12), ("Div", 1e6)])
def test_constants_that_do_not_fit_protect_their_operator(op: str, constant: float) -> None:
    nodes = [node("MatMul", "x w", "p"), node(op, "p c", "y")]
    given = model(nodes, {"x": [2, 4]}, {"y": [2, 3]}, {"w": weight(4, 3), "c": np.array(constant, np.float32)})
    made = narrow(given)
    assert types(made) == {"p": "float16", "y": "float32"}
    assert "'c'" in report_of(made).decisions[1].reason
    assert set(types(narrow(given, "bf16", CPU)).values()) == {"bfloat16"}


def test_the_terms_of_a_written_out_normalization_stay_together() -> None:
    nodes = [
        node("MatMul", "x w", "p"), node("ReduceMean", "p axes", "mean"), node("Sub", "p mean", "d"),
        node("Mul", "d d", "square"), node("ReduceMean", "square axes", "variance"), node("Add", "variance e", "v"),
        node("Sqrt", "v", "s"), node("Div", "d s", "n"), node("Mul", "n g", "scaled"), node("MatMul", "scaled w2", "y"),
    ]  # fmt: skip
    weights = {
        "w": weight(4, 8), "w2": weight(8, 4), "g": weight(8), "e": np.array(1e-6, np.float32), "axes": np.array([-1]),
    }  # fmt: skip
    made = narrow(model(nodes, {"x": [2, 4]}, {"y": [2, 4]}, weights))
    wide = {name for name, data_type in types(made).items() if data_type == "float32"}
    assert wide == {"mean", "d", "square", "variance", "v", "s", "n"}
    assert report_of(made).casts == 4


def test_residual_additions_do_not_bounce() -> None:
    nodes, x = [], "x"
    weights: dict[str, Array] = {"g": np.ones(8, np.float32)}
    for i in range(3):
        weights |= {f"w{i}": weight(8, 8)}
        nodes += [
            node("LayerNormalization", f"{x} g", f"n{i}", axis=-1), node("MatMul", f"n{i} w{i}", f"p{i}"),
            node("Add", f"{x} p{i}", f"r{i}"),
        ]  # fmt: skip
        x = f"r{i}"
    made = narrow(model(nodes, {"x": [2, 8]}, {"r2": [2, 8]}, weights))
    assert [types(made)[f"r{i}"] for i in range(3)] == ["float16"] * 3
    assert Counter(ops(made))["Cast"] == 1 + 3 + 2 + 1, (
        "x, each normalization's output, its input but for x, the result"
    )


def test_phases_stay_wide_back_to_the_positions() -> None:
    nodes = [
        node("Cast", "position", "f", to=TensorProto.FLOAT), node("MatMul", "f frequency", "angle"),
        node("Concat", "angle angle", "both", axis=-1), node("Cos", "both", "c"), node("Mul", "x c", "z"),
        node("MatMul", "z w", "y"),
    ]  # fmt: skip
    given = model(
        nodes, {"position": ([5, 1], TensorProto.INT64), "x": [5, 8]}, {"y": [5, 8]},
        {"frequency": weight(1, 4), "w": weight(8, 8)},
    )  # fmt: skip
    made = narrow(given)
    assert types(made) == {
        "f": "float32", "angle": "float32", "both": "float32", "c": "float32", "z": "float16", "y": "float16",
    }  # fmt: skip
    arrays = {"position": np.arange(3000, 3005)[:, None], "x": weight(5, 8)}
    np.testing.assert_allclose(run(made, **arrays)[0], run(given, **arrays)[0], atol=1e-2)


def test_integers_and_indices_are_untouched() -> None:
    nodes = [
        node("Gather", "table ids", "e"), node("MatMul", "e w", "p"), node("ArgMax", "p", "best", axis=-1, keepdims=0),
        node("Shape", "p", "shape"), node("Add", "best one", "next"), node("Greater", "p zero", "positive"),
        node("Cast", "positive", "mask", to=TensorProto.FLOAT), node("Mul", "p mask", "y"),
    ]  # fmt: skip
    given = model(
        nodes, {"ids": ([3], TensorProto.INT64)},
        {"y": [3, 4], "next": ([3], TensorProto.INT64), "shape": ([2], TensorProto.INT64)},
        {"table": weight(10, 4), "w": weight(4, 4), "one": np.array(1), "zero": np.array(0, np.float32)},
    )  # fmt: skip
    made = narrow(given)
    found = types(made)
    assert (found["next"], found["best"], found["e"], found["mask"]) == ("int64", "float32", "float16", "float16")
    casts = [one for one in made.to_proto().graph.node if one.op_type == "Cast"]
    assert [list(one.input) for one in casts if one.output[0] == "mask"] == [["positive"]], (
        "one cast, to float16 at once"
    )
    ids = np.array([1, 5, 9])
    for ours, theirs in zip(run(made, ids=ids), run(given, ids=ids), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, atol=5e-3)


def test_keep_by_name_type_and_what_is_unknown() -> None:
    nodes = [node("MatMul", "x w", "first"), node("MatMul", "first w", "second"), node("Relu", "second", "y")]
    given = model(nodes, {"x": [2, 4]}, {"y": [2, 4]}, {"w": weight(4, 4)})
    assert types(narrow(given, keep=("second",))) == {"first": "float16", "second": "float32", "y": "float16"}
    assert set(types(narrow(given, keep=("MatMul", "Relu"))).values()) == {"float32"}
    with pytest.raises(ValidationError, match=r"keep names 'secnd'.*close to it: 'second'"):
        narrow(given, keep=("secnd",))


def test_webnn_labels_and_operators_can_be_kept() -> None:
    import pynn

    b = pynn.GraphBuilder()
    x = b.input("x", [2, 4], "float32")
    y = b.matmul(b.matmul(x, b.constant(weight(4, 4)), label="it's"), b.constant(weight(4, 4)))
    graph = b.finish({"y": b.relu(y)})
    for keep in ("it's", "matmul_1", "relu", "Relu"):
        report = apply_precision(graph, Precision("fp16", keep=(keep,))).precision
        assert report is not None and [one.reason for one in report.decisions].count("kept as asked") == 1, keep


def test_what_graphs_in_attributes_read_keeps_its_type() -> None:
    then = helper.make_graph([helper.make_node("Add", ["p", "w"], ["t"])], "then", [], [value("t", [4, 4])])
    other = helper.make_graph([helper.make_node("Neg", ["p"], ["e"])], "else", [], [value("e", [4, 4])])
    nodes = [
        node("MatMul", "x w", "p"), helper.make_node("If", ["c"], ["q"], name="q", then_branch=then, else_branch=other),
        node("MatMul", "q w", "y"),
    ]  # fmt: skip
    given = model(nodes, {"x": [4, 4], "c": ([], TensorProto.BOOL)}, {"y": [4, 4]}, {"w": weight(4, 4)})
    made = narrow(given)
    assert types(made) == {"p": "float16", "q": "float32", "y": "float16"}
    arrays = {"x": weight(4, 4), "c": np.array(True)}
    np.testing.assert_allclose(run(made, **arrays)[0], run(given, **arrays)[0], atol=1e-2)


def test_other_domains_are_left_alone() -> None:
    nodes = [node("MatMul", "x w", "p"), helper.make_node("Gelu", ["p"], ["g"], name="g", domain="com.microsoft")]
    nodes += [node("Relu", "g", "r"), node("MatMul", "r w", "y")]
    inner = [numpy_helper.from_array(weight(4, 4), "w")]
    graph = helper.make_graph(nodes, "g", [value("x", [2, 4])], [value("y", [2, 4])], inner)
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    made = apply_precision(
        OnnxModel.load(model_of(graph, opset_imports=imports).SerializeToString()), Precision("fp16")
    )
    assert {name: data_type for name, data_type in types(made).items() if name in "pg"} == {
        "p": "float16",
        "g": "float32",
    }
    assert "not known" in report_of(made).decisions[2].reason
    assert run(made, x=weight(2, 4))[0].dtype == np.float32


def test_a_model_in_float16_is_told_so() -> None:
    given = model(
        [node("MatMul", "x w", "p"), node("Softmax", "p", "y")], {"x": [2, 4]}, {"y": [2, 3]}, {"w": weight(4, 3)}
    )
    half = narrow(given, io=True)
    again = narrow(half)
    assert ops(again) == ops(half)
    assert any("compute in float16 already" in note for note in report_of(again).notes)
    assert [str(s) for s in again.inputs] == ["x: float16[2, 4]"]


def test_quantized_weights_are_dequantized_to_the_narrow_type() -> None:
    nodes = [node("DequantizeLinear", "w s", "d", axis=1), node("MatMul", "x d", "y")]
    weights = {"w": np.arange(12, dtype=np.int8).reshape(4, 3), "s": np.full(3, 0.01, np.float32)}
    made = narrow(model(nodes, {"x": [2, 4]}, {"y": [2, 3]}, weights))
    assert ops(made) == ["DequantizeLinear", "Cast", "MatMul", "Cast"]
    assert types(made) == {"d": "float16", "y": "float16"}
    weights["s"] = np.full(3, 1e-7, np.float32)
    protected = narrow(model(nodes, {"x": [2, 4]}, {"y": [2, 3]}, weights))
    assert types(protected)["d"] == "float32"
    assert "scale" in report_of(protected).decisions[0].reason


@pytest.mark.parametrize("kind", ["int8", "float8_e4m3fn"])
def test_quantized_activations_stay_beside_their_product(kind: str) -> None:
    import ml_dtypes

    nodes = [
        node("QuantizeLinear", "x s zero", "q"), node("DequantizeLinear", "q s", "a"), node("MatMul", "a w", "p"),
        node("MatMul", "p w2", "y"),
    ]  # fmt: skip
    zero = np.zeros((), getattr(ml_dtypes, kind, kind))
    weights = {"s": np.array(0.02, np.float32), "zero": zero, "w": weight(4, 4), "w2": weight(4, 4)}
    made = narrow(model(nodes, {"x": [2, 4]}, {"y": [2, 4]}, weights))
    found = types(made)
    expected = "float32" if kind == "int8" else "float16"
    assert (found["a"], found["p"], found["y"]) == (expected, expected, "float16")
    assert any("QuantizeLinear and DequantizeLinear" in note for note in report_of(made).notes)


def test_batch_normalization_becomes_a_product_and_a_sum() -> None:
    nodes = [node("Conv", "x w", "c"), node("BatchNormalization", "c scale b mean var", "n"), node("Relu", "n", "y")]
    weights = {
        "w": weight(4, 3, 1, 1), "scale": weight(4), "b": weight(4), "mean": weight(4),
        "var": np.array([1, 2, 1e-7, 4], np.float32),
    }  # fmt: skip
    given = model(nodes, {"x": [1, 3, 5, 5]}, {"y": [1, 4, 5, 5]}, weights)
    made = narrow(given)
    assert ops(made) == ["Cast", "Conv", "Mul", "Add", "Relu", "Cast"]
    x = weight(1, 3, 5, 5)
    expected = run(given, x=x)[0]
    np.testing.assert_allclose(run(made, x=x)[0], expected, atol=4e-3 * np.abs(expected).max())
    assert "BatchNormalization" in ops(narrow(given, keep=("BatchNormalization",)))


def test_recurrent_networks_stay_wide_and_are_shielded_for_tensorrt() -> None:
    nodes = [node("MatMul", "x w", "p"), node("GRU", "p k r", "y", hidden_size=4)]
    weights = {"w": weight(6, 6), "k": weight(1, 12, 6), "r": weight(1, 12, 4)}
    given = model(nodes, {"x": [3, 2, 6]}, {"y": [3, 1, 2, 4]}, weights)
    made = narrow(given, target=Target("tensorrt", "RTX", "1.6.1.120", (86,)))
    assert types(made) == {"p": "float16", "y": "float32"}
    assert ops(made)[-3:] == ["Neg", "Neg", "GRU"]


def test_resize_keeps_its_scales() -> None:
    nodes = [node("Conv", "x w", "c"), node("Resize", "c - scales", "y", mode="nearest")]
    weights = {"w": weight(4, 3, 1, 1), "scales": np.array([1, 1, 2, 2], np.float32)}
    made = narrow(model(nodes, {"x": [1, 3, 4, 4]}, {"y": [1, 4, 8, 8]}, weights))
    assert types(made)["y"] == "float16"
    assert run(made, x=weight(1, 3, 4, 4))[0].shape == (1, 4, 8, 8)


def test_casts_of_the_model_are_merged_with_ours() -> None:
    nodes = [
        node("MatMul", "x w", "p"), node("Cast", "p", "half", to=TensorProto.FLOAT16), node("Relu", "half", "r"),
        node("Cast", "r", "back", to=TensorProto.FLOAT), node("MatMul", "back w", "y"),
    ]  # fmt: skip
    made = narrow(model(nodes, {"x": [2, 4]}, {"y": [2, 4]}, {"w": weight(4, 4)}))
    assert ops(made) == ["Cast", "MatMul", "Relu", "MatMul", "Cast"]


def test_an_output_that_is_read_inside_is_cast_once() -> None:
    nodes = [node("MatMul", "x w", "p"), node("Softmax", "p", "s"), node("MatMul", "p w", "y")]
    made = narrow(model(nodes, {"x": [2, 4]}, {"y": [2, 4], "p": [2, 4], "s": [2, 4]}, {"w": weight(4, 4)}))
    assert Counter(ops(made))["Cast"] == 3, "x, p and y; Softmax reads the float32 p"


def test_dynamic_shapes_stay() -> None:
    nodes = [node("MatMul", "x w", "p"), node("Softmax", "p", "y")]
    given = model(nodes, {"x": ["batch", 4]}, {"y": ["batch", 3]}, {"w": weight(4, 3)})
    made = narrow(given)
    assert made.inputs[0].shape == ("batch", 4) and made.outputs[0].shape == ("batch", 3)
    assert run(made, x=weight(7, 4))[0].shape == (7, 3)


def test_bfloat16_is_rounded_on_the_cpu_as_a_gpu_does() -> None:
    import ml_dtypes

    given = model([node("MatMul", "x w", "y")], {"x": [8, 16]}, {"y": [8, 16]}, {"w": weight(16, 16)})
    made = narrow(given, "bf16", CPU)
    x = weight(8, 16)
    w = numpy_helper.to_array(given.to_proto().graph.initializer[0]).astype(ml_dtypes.bfloat16).astype("f")
    expected = (x.astype(ml_dtypes.bfloat16).astype("f") @ w).astype(ml_dtypes.bfloat16).astype("f")
    np.testing.assert_allclose(run(made, x=x)[0], expected, rtol=2.0**-7)
    assert "no bfloat16" in report_of(made).notes[0]


def test_bfloat16_for_files_is_valid_onnx() -> None:
    nodes = [node("Conv", "x w", "c"), node("MaxPool", "c", "y", kernel_shape=[2, 2])]
    made = narrow(model(nodes, {"x": [1, 3, 4, 4]}, {"y": [1, 4, 3, 3]}, {"w": weight(4, 3, 1, 1)}), "bf16")
    assert {one.version for one in made.to_proto().opset_import if not one.domain} == {22}


def test_the_report_prints_and_goes_to_json() -> None:
    import json

    made = narrow(model([node("MatMul", "x w", "y")], {"x": [2, 4]}, {"y": [2, 4]}, {"w": weight(4, 4)}))
    report = report_of(made)
    assert str(report).startswith("precision: fp16 for any library\noperators: 1 float16; 2 casts put in")
    assert json.loads(json.dumps(report.to_dict()))["operators"][0]["data_type"] == "float16"
    with pytest.raises(AttributeError):
        report.casts = 3  # type: ignore[misc]
    assert any(record.name == "autocast_float16" for record in made.rewrites)


def test_sparse_weights_are_refused() -> None:
    proto = model([node("Relu", "x", "y")], {"x": [2]}, {"y": [2]}).to_proto()
    proto.graph.sparse_initializer.add().values.name = "thin"
    with pytest.raises(ModelError, match="sparse"):
        apply_precision(OnnxModel.load(proto.SerializeToString()), Precision("fp16"))


def test_ten_thousand_nodes_take_less_than_a_second() -> None:
    """0.6 s of the processor where this was written. Other tests share it, so the quietest try is judged, and what they
    left in memory is kept from the garbage collector meanwhile."""
    given = OnnxModel.load(chain(10_000).SerializeToString())
    times = []
    gc.collect()
    gc.freeze()
    try:
        for _ in range(6):
            start = time.process_time()
            made = apply_precision(given, Precision("fp16"))
            times.append(time.process_time() - start)
            if times[-1] < 1:
                break
    finally:
        gc.unfreeze()
    assert min(times) < 1
    assert report_of(made).counts() == {"float16": 8000, "float32": 2000}


def test_memory_is_less_than_twice_the_weights() -> None:
    data = model([node("MatMul", "x w", "y")], {"x": [1, 2048]}, {"y": [1, 2048]}, {"w": weight(2048, 2048)}).proto
    given = OnnxModel.load(data)
    tracemalloc.start()
    try:
        apply_precision(given, Precision("fp16"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.8 * len(data), "with the model itself less than twice its weights"


def test_bfloat16_needs_an_opset_that_has_it() -> None:
    given = model([node("MatMul", "x w", "y")], {"x": [2, 4]}, {"y": [2, 4]}, {"w": weight(4, 4)}, opset=11)
    for target in (CPU, ANY):
        with pytest.raises(UnsupportedModelError, match="opset 11; bf16 needs 13"):
            apply_precision(given, Precision("bf16"), target)
    assert set(types(narrow(given)).values()) == {"float16"}
    for_gpu = apply_precision(given, Precision("bf16"), Target("tensorrt", "RTX", "1.6.1.120", (86,)))
    assert set(types(for_gpu).values()) == {"bfloat16"}
