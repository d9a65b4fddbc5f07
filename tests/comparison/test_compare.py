"""``pynn.compare`` on ONNX Runtime: errors of outputs and operators, keep-lists, bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from onnx import TensorProto, helper

import pynn
from pynn.backends.ort import OrtBackend
from pynn.backends.report import BackendReport
from pynn.backends.selection import Selection
from pynn.comparison.emulation import emulate_float4
from pynn.comparison.operators import judge
from pynn.comparison.run import _Workbench
from pynn.comparison.shadow import Shadow
from pynn.converter.convert import lower_graph
from pynn.converter.onnx_graph import OnnxGraph
from pynn.converter.passes import run_passes
from pynn.converter.precision import ANY, Precision, Target, precision_passes
from pynn.converter.precision.autocast_passes import emulate_float16
from pynn.converter.precision.opset import raise_opset

from ..converter.test_precision_bounds import graphs
from ..native.models import model_of, tiny
from ..quantization.nets import data, mlp, mobile
from .planted import BAD, cancelling, planted

pytestmark = pytest.mark.ort
Array = np.ndarray[Any, Any]
CPU: dict[str, Any] = {"backend": "onnxruntime"}


def operator(found: pynn.Comparison, label: str) -> Any:
    return next(one for one in found.operators if label in one.name)


# -- a bad operator is found


def test_an_overflow_is_the_worst_operator_and_is_suggested() -> None:
    found = pynn.compare(planted(), "fp16", **CPU)
    worst = found.operators[0]
    assert BAD in worst.name and worst.op_type == "MatMul" and worst.data_type == "float16"
    assert worst.origin == f"matmul {BAD!r}"
    assert worst.own is not None and worst.own.relative == np.inf and worst.own.inf > 0
    assert found.suggestion == (worst.name,)
    assert found.outputs["scores"].relative == np.inf and found.outputs["scores"].nan > 0
    assert operator(found, "first").own.relative < 1e-3 > operator(found, "last").own.relative
    assert operator(found, "last").total.nan > 0, "what follows is ruined, but not by itself"


@pytest.mark.parametrize("as_file", [False, True], ids=["graph", "file"])
def test_auto_keep_finds_exactly_the_bad_operator(as_file: bool) -> None:
    graph = planted()
    source = pynn.to_onnx(graph).to_bytes() if as_file else graph
    found = pynn.compare(source, "fp16", auto_keep=2e-3, **CPU)
    assert found.auto_keep is not None and found.auto_keep.met and found.auto_keep.minimal
    assert found.auto_keep.keep == (found.operators[0].name,) and BAD in found.operators[0].name
    again = pynn.compare(source, found.recommended, **CPU)
    assert again.worst.relative == found.auto_keep.error <= 2e-3
    assert again.suggestion == () and operator(again, BAD).is_exact
    with pynn.compile(source, precision=found.recommended, **CPU) as executable:
        assert np.isfinite(executable.run(data(graph, 1)[0])["scores"]).all()


def test_auto_keep_by_cosine_and_what_cannot_be_met() -> None:
    graph = cancelling()
    samples = [{"x": np.ones((4, 256), np.float32)}]
    found = pynn.compare(graph, "fp16", inputs=samples, auto_keep=0.9999, metric="cosine", **CPU)
    assert found.auto_keep is not None and found.auto_keep.error >= 0.9999
    found = pynn.compare(graph, "fp16", inputs=samples, auto_keep=5e-3, **CPU)
    assert found.auto_keep is not None and [name for name in found.auto_keep.keep if "cancels" in name]
    assert len(found.auto_keep.keep) == 1, found.auto_keep
    hopeless = pynn.compare(graph, "fp16", inputs=samples, auto_keep=-1.0, **CPU).auto_keep
    assert hopeless is not None and not hopeless.met and hopeless.error < 1e-6
    assert "no keep-list meets" in str(hopeless)


def test_a_fine_model_has_no_suggestion() -> None:
    found = pynn.compare(planted(bad=False), "fp16", auto_keep=2e-3, **CPU)
    assert found.suggestion == () and found.auto_keep is not None and found.auto_keep.keep == ()
    assert found.worst.relative < 2e-3 and found.recommended.keep == ()


# -- numbers


def test_errors_of_operators_by_numpy() -> None:
    source = tiny()
    x = np.random.default_rng(0).standard_normal((4, 64)).astype("f")
    found = pynn.compare(source, "fp16", inputs={"x": x}, **CPU)
    graph = pynn.OnnxModel.load(source.to_bytes()).to_proto().graph
    w = np.frombuffer(graph.initializer[0].raw_data, "f").reshape(64, 32)
    exact = x @ w
    half = (x.astype(np.float16).astype("f") @ w.astype(np.float16).astype("f")).astype(np.float16)

    def relative(one: Array, other: Array) -> float:
        return float(np.linalg.norm(one.astype("d") - other) / np.linalg.norm(other.astype("d")))

    product, positive = operator(found, "product"), operator(found, "positive")
    assert product.own.relative == pytest.approx(relative(half, exact), rel=1e-3) == product.total.relative
    rounded = np.maximum(exact, 0).astype(np.float16)
    assert positive.own.relative == pytest.approx(relative(rounded, np.maximum(exact, 0)), rel=1e-3)
    assert positive.total.relative == pytest.approx(relative(np.maximum(half, 0), np.maximum(exact, 0)), rel=1e-3)
    assert found.outputs["y"].relative == positive.total.relative


def test_fp32_is_at_no_distance() -> None:
    for precision in ("fp32", "tf32", "auto"):
        found = pynn.compare(mobile(), precision, **CPU)  # type: ignore[arg-type]
        assert found.worst.relative == 0 and found.worst.cosine == 1 and found.worst.ulp == 0
        assert found.operators == () and found.outputs["y"].top_1 == 1


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(case=graphs())
def test_random_graphs_in_fp32_and_fp16(case: tuple[pynn.Graph, dict[str, Array]]) -> None:
    """Not rewritten, every operator is exact; rewritten, what computes in float32 is, by itself."""
    graph, arrays = case
    exact = lower_graph(graph)
    inputs = {name: arrays[name] for name in exact.inputs}
    for one in judged(exact, exact.copy(), inputs):
        assert one.own is not None and one.own.relative == 0 == one.total.relative, one
    reduced = exact.copy()
    plan = precision_passes(Precision("fp16"), ANY)
    run_passes(reduced, [*plan.passes, emulate_float16])
    types = {one.name: one.data_type for one in plan.report().decisions}
    for one in judged(exact, reduced, inputs):
        assert one.own is not None
        assert types[one.name] == "float16" or one.own.relative == 0, one


def judged(exact: OnnxGraph, reduced: OnnxGraph, *samples: dict[str, Array], memory_bytes: int = 1 << 28) -> Any:
    backend = OrtBackend(use_gpu=False)
    return judge(Shadow(exact, reduced), (), samples, backend, (), memory_bytes, "fp16")


def test_parts_give_the_same_as_one() -> None:
    exact = lower_graph(mobile())
    reduced = exact.copy()
    run_passes(reduced, [*precision_passes(Precision("fp16"), ANY).passes, emulate_float16])
    (sample,) = data(mobile(), 1)
    single = {one.name: one for one in judged(exact, reduced, sample, memory_bytes=1)}
    together = {one.name: one for one in judged(exact, reduced, sample)}
    assert single.keys() == together.keys()
    for name, one in single.items():
        assert one.own.relative == pytest.approx(together[name].own.relative, rel=0.02)
        assert one.total.relative == pytest.approx(together[name].total.relative, rel=0.02)


@pytest.mark.parametrize("precision", ["bf16", "int8", "fp8"])
def test_other_precisions(precision: Any) -> None:
    found = pynn.compare(mlp(width=64), precision, **CPU)
    assert 0 < found.worst.relative < 0.1
    up = operator(found, "up")
    assert 1e-4 < up.own.relative < 0.1
    assert precision == "bf16" or f"weights stored in {precision}" in up.reason
    assert operator(found, "layer").own.relative == 0


def test_int4_loses_more_than_int8_and_smoothing_is_said() -> None:
    graph = mlp(outliers=True)
    assert pynn.compare(graph, "int4", **CPU).worst.relative > 3 * pynn.compare(graph, "int8", **CPU).worst.relative
    table = pynn.calibrate(graph, data(graph, 4), smooth=0.5)
    found = pynn.compare(graph, Precision("int8", calibration=table), inputs=data(graph, 2), **CPU)
    assert found.worst.relative < 0.05 and operator(found, "up").own.relative < 0.1
    normalized = operator(found, "layerNormalization")
    assert normalized.own is None and "what its result means" in normalized.note


def test_an_old_opset_is_raised_for_both() -> None:
    """int4 needs opset 21; axes of reductions became inputs at 18."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"], name="product"),
        helper.make_node("ReduceMax", ["p"], ["y"], name="largest", axes=[1], keepdims=0),
    ]
    sides: list[dict[str, Any]] = [{"x": (TensorProto.FLOAT, [4, 64])}, {"y": (TensorProto.FLOAT, [4])}]
    w = np.random.default_rng(0).standard_normal((64, 64)).astype("f")
    proto = model_of(nodes, *sides, w=w).to_proto()
    proto.opset_import[0].version = 17
    found = pynn.compare(proto, "int4", **CPU)
    assert operator(found, "product").own.relative > 1e-2 and operator(found, "largest").is_exact


def test_fp4_by_emulation() -> None:
    exact = lower_graph(mlp())
    reduced = exact.copy()
    run_passes(reduced, precision_passes(Precision("fp4"), ANY).passes)
    run_passes(reduced, [emulate_float4])
    (sample,) = data(mlp(), 1)
    worst = judged(exact, reduced, sample)[0]
    assert worst.op_type == "MatMul" and 0.02 < worst.own.relative < 0.3
    with pytest.raises(pynn.FeatureNotSupportedError, match="fp4"):
        pynn.compare(mlp(), "fp4", **CPU)


def test_roundings_that_onnxruntime_would_leave_out_are_seen() -> None:
    """An overflow between two operators in float16 is infinity on a GPU, and no more than a note of the compiled
    model's here."""
    random = np.random.default_rng(0)
    b = pynn.GraphBuilder()
    x = b.input("x", [4, 16], "float32")
    big = b.matmul(x, b.constant((random.standard_normal((16, 16)) * 1.5e4).astype("f")), label="big")
    graph = b.finish({"y": b.matmul(big, b.constant((random.standard_normal((16, 16)) * 1e-3).astype("f")))})
    found = pynn.compare(pynn.to_onnx(graph), "fp16", **CPU)
    assert found.outputs["y"].relative == np.inf and "big" in found.operators[0].name
    assert any("ONNX Runtime by itself leaves roundings out" in note for note in found.notes)


def test_narrow_inputs_and_outputs() -> None:
    found = pynn.compare(mlp(), Precision("fp16", io=True), **CPU)
    assert 1e-4 < found.worst.relative < 2e-3 and found.outputs["y"].ulp == found.outputs["y"].ulp_fp16
    assert all(one.own is not None for one in found.operators)


def test_dynamic_sizes_and_datasets() -> None:
    source = tiny("batch")
    random = np.random.default_rng(0)
    dataset = [random.standard_normal((rows, 64)).astype("f") for rows in (1, 5, 3)]
    found = pynn.compare(source, "fp16", inputs=dataset, limit=2, **CPU)
    assert found.samples == 2 and found.outputs["y"].rows == 6 and found.judged == 2
    one = pynn.compare(source, "fp16", inputs=dataset[1], **CPU)
    assert one.samples == 1 and one.outputs["y"].rows == 5
    sized = pynn.compare(source, "fp16", shapes={"batch": (1, 4, 8)}, samples=3, seed=7, **CPU)
    assert sized.samples == 3 and sized.inputs == {"x": "float32[4, 64]"}


def test_agreement_of_a_classifier() -> None:
    """The two largest scores are nearer to each other than int4 tells them apart."""
    random = np.random.default_rng(3)
    dataset = [{"image": random.standard_normal((1, 3, 32, 32)).astype("f")} for _ in range(8)]
    fine = pynn.compare(mobile(), "fp16", inputs=dataset, operators=0, **CPU)
    assert fine.outputs["y"].top_1 == 1 and fine.outputs["y"].top_k == 1 and fine.operators == ()
    b = pynn.GraphBuilder()
    x = b.input("x", [1, 64], "float32")
    w = np.repeat(random.standard_normal((64, 32)), 2, axis=1) + random.standard_normal((64, 64)) * 1e-3
    coarse = pynn.compare(b.finish({"y": b.matmul(x, b.constant(w.astype("f")))}), "int4", samples=20, **CPU)
    assert coarse.outputs["y"].rows == 20 and 0.1 < (coarse.outputs["y"].top_1 or 0) < 1


def test_inner_graphs_and_unknown_types() -> None:
    """An If keeps what it reads; the operators around it are judged."""
    inner = helper.make_graph(
        [helper.make_node("Relu", ["p"], ["r"])],
        "then",
        [],
        [helper.make_tensor_value_info("r", TensorProto.FLOAT, [4, 32])],
    )
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"], name="product"),
        helper.make_node("If", ["c"], ["q"], name="choice", then_branch=inner, else_branch=inner),
        helper.make_node("MatMul", ["q", "v"], ["y"], name="last"),
    ]
    random = np.random.default_rng(0)
    weights = {"w": random.standard_normal((64, 32)).astype("f"), "v": random.standard_normal((32, 8)).astype("f")}
    sides: list[dict[str, Any]] = [
        {"x": (TensorProto.FLOAT, [4, 64]), "c": (TensorProto.BOOL, [])},
        {"y": (TensorProto.FLOAT, [4, 8])},
    ]
    found = pynn.compare(model_of(nodes, *sides, **weights), "fp16", **CPU)
    assert {one.name for one in found.operators} == {"product", "choice", "last"}
    assert 1e-4 < operator(found, "product").own.relative < 1e-3
    assert any("graphs inside choice" in note for note in found.notes)


# -- for another back end


class Stand(OrtBackend):
    """TensorRT for RTX on compute capability 12.0, as far as the choice of passes goes; runs on ONNX Runtime."""

    name = "tensorrt"

    def __init__(self) -> None:
        super().__init__(use_gpu=False)
        self.seen: list[pynn.Precision] = []

    def target(self) -> Target:
        return Target("tensorrt", "RTX", "1.6.1.120", (120,))

    def compile(self, model: pynn.OnnxModel, options: pynn.CompileOptions) -> pynn.Executable:
        self.seen.append(options.precision)
        executable = super().compile(model, options)
        executable.backend = self.name
        return executable


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch) -> Stand:
    backend = Stand()
    report = BackendReport("auto", "default", True, "tensorrt", "a stand-in")
    monkeypatch.setattr("pynn.comparison.run.select", lambda wish: Selection([backend], report))
    monkeypatch.setattr("pynn.backends.selection.backend_passes", lambda name, version: ())
    return backend


@pytest.mark.parametrize(("precision", "least"), [("fp16", 1e-4), ("int4", 1e-2), ("int8", 1e-3), ("fp8", 1e-2)])
def test_the_passes_of_the_chosen_back_end(stand: Stand, precision: Any, least: float) -> None:
    found = pynn.compare(mlp(), precision)
    assert found.ran_on == "TensorRT" and len(stand.seen) == 1
    up = operator(found, "up")
    assert up.data_type == "float16" and least < up.own.relative < 0.3 and up.total.relative < 0.3
    assert precision == "fp16" or f"weights stored in {precision}" in up.reason


def test_what_onnxruntime_lacks_is_emulated_for_the_chosen_back_end(stand: Stand) -> None:
    """bfloat16 and fp4 would not run here, were they not."""
    plan = pynn.explain_precision(mlp(), "fp4", compute_capability="12.0")
    assert plan.weights
    for precision, least, most in (("bf16", 1e-3, 1e-2), ("fp4", 2e-2, 0.3)):
        bench = _Workbench(mlp(), pynn.CompileOptions(), Selection([stand], BackendReport("auto", "", True, "", "")))
        reduced, made = bench.rewritten(Precision(precision), stand.target())  # type: ignore[arg-type]
        raised = bench.exact.copy()
        raise_opset(raised, reduced.opsets[""])
        decisions = made.report().decisions
        found = judge(Shadow(raised, reduced), decisions, data(mlp(), 1), bench.cpu, bench.passes, 1 << 28, precision)
        (up,) = [one for one in found if one.name.startswith("up/")]
        assert up.own is not None and least < up.own.relative < most, precision


def test_auto_keep_compiles_for_the_chosen_back_end(stand: Stand) -> None:
    found = pynn.compare(planted(), "fp16", auto_keep=2e-3)
    assert found.auto_keep is not None and found.auto_keep.met and len(found.auto_keep.keep) <= 1
    kept = [one.keep for one in stand.seen]
    assert kept[0] == () and len(kept) == found.auto_keep.evaluations


# -- what it looks like


def test_dict_markdown_and_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = pynn.compare(planted(), Precision("fp16"), operators=2, **CPU)
    assert len(found.operators) == 2 and found.judged == 5
    record = json.loads(json.dumps(found.to_dict()))
    assert record["recommended_keep"] == list(found.suggestion) and record["operators_judged"] == 5
    assert record["outputs"]["scores"]["relative"] == np.inf
    text = found.to_markdown()
    assert text == str(found) and "Worst operators of 5" in text and f"--keep {found.suggestion[0]}" in text
    for name in ("errors.svg", "errors.png"):
        found.plot(tmp_path / name)
        assert (tmp_path / name).stat().st_size > 1000
    with pytest.raises(pynn.ValidationError, match="written as"):
        found.plot(tmp_path / "errors.txt")


def test_progress_is_told_and_may_end_it() -> None:
    told: list[str] = []
    pynn.compare(tiny(), "fp16", samples=2, progress=told.append, **CPU)
    assert told == ["compiling in fp16", "operators: sample 1 of 2", "operators: sample 2 of 2"]

    def stop(text: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pynn.compare(tiny(), "fp16", progress=stop, **CPU)


# -- bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"precision": Precision()}, "name a precision"),
        ({"precision": "fp17"}, "precision must be one of"),
        ({"against": "fp16"}, "against can be 'fp32' only"),
        ({"metric": "size"}, "metric must be"),
        ({"samples": 0}, "samples must be an integer, 1 or more"),
        ({"operators": -1}, "operators must be an integer, 0 or more"),
        ({"evaluations": 2}, "evaluations must be an integer, 3 or more"),
        ({"auto_keep": "little"}, "auto_keep must be a tolerance"),
        ({"auto_keep": float("nan")}, "auto_keep must be a tolerance"),
        ({"inputs": []}, "the dataset is empty"),
        ({"inputs": {"z": np.ones((4, 64), "f")}}, "comparison sample 0: input 'x' is missing"),
        ({"inputs": [{"x": np.ones((4, 64))}]}, "comparison sample 0: input 'x' is float64, expected float32"),
        ({"inputs": [np.ones((4, 64), "f"), np.ones((4, 63), "f")]}, "comparison sample 1"),
        ({"inputs": [np.full((4, 64), np.nan, "f")]}, "has nan at"),
        ({"precision": Precision("fp16", keep=("prodduct",))}, "keep names 'prodduct'.*'product'"),
        ({"shapes": {"nothing": 3}}, "nothing"),
    ],
    ids=str,
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(pynn.ValidationError, match=message):
        pynn.compare(tiny(), **{"precision": "fp16", **CPU, **arguments})


def test_a_model_that_was_reduced_before() -> None:
    with pytest.raises(pynn.ValidationError, match="computes in float16 already"):
        pynn.compare(mlp("float16"), "fp16", **CPU)
    quantized = pynn.convert_precision(mlp(), Precision("int8", calibration=pynn.calibrate(mlp(), data(mlp(), 2))))[0]
    with pytest.raises(pynn.UnsupportedModelError, match="quantised activations already"):
        pynn.compare(quantized, "fp16", **CPU)
