"""``precision=`` from end to end: compile, contexts, engines to be, explanations, the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
from pynn import FeatureNotSupportedError, Precision, ValidationError
from pynn.backends import selection
from pynn.backends.base import Probe
from pynn.cli import main
from pynn.converter.precision import Target, apply_precision
from pynn.converter.precision.target import resolve
from pynn.options import parse_options

from .backends.partition_fakes import FakeTensorRT as PartlyRefusing
from .converter.test_import_model import chain, linear
from .test_selection import FakeTensorRT

pytestmark = pytest.mark.ort
WEIGHT = np.random.default_rng(5).standard_normal((64, 64)).astype(np.float32) / 8
X = {"x": np.random.default_rng(6).standard_normal((2, 64)).astype(np.float32)}


def graph() -> pynn.Graph:
    b = pynn.GraphBuilder()
    x = b.input("x", [2, 64], "float32")
    return b.finish({"y": b.softmax(b.matmul(x, b.constant(WEIGHT), label="dense"), 1)})


def gpu(capability: str, flavor: str = "RTX") -> Probe:
    details = {"version": "1.6.1.120", "flavor": flavor, "compute_capability": capability}
    return Probe("tensorrt", "TensorRT for RTX 1.6.1.120", True, "here", details=details)


@pytest.fixture
def tensorrt(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A fake TensorRT on a GPU of the compute capability asked for."""

    def install(capability: str, flavor: str = "RTX") -> FakeTensorRT:
        fake = FakeTensorRT((gpu(capability, flavor),))
        monkeypatch.setattr(selection, "_tensorrt", lambda wish: fake)
        return fake

    return install


def used(fake: FakeTensorRT) -> str | None:
    report = fake.models[-1].precision
    return None if report is None else report.used


# -- on the CPU


@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp32", "tf32", "auto", None])
def test_graphs_and_files_keep_their_types_outside(precision: Any) -> None:
    expected = pynn.compile(graph(), backend="onnxruntime").run(X)["y"]
    for source in (graph(), pynn.to_onnx(graph()).to_bytes()):
        with pynn.compile(source, backend="onnxruntime", precision=precision) as executable:
            found = executable.run(X)["y"]
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, expected, rtol=0.05)
            report = executable.explain_precision()
            assert report.used == (None if precision in ("auto", None) else precision)
            assert bool(report.decisions) == (precision in ("fp16", "bf16"))
            if precision in ("auto", None, "fp32", "tf32"):
                np.testing.assert_array_equal(found, expected)


def test_a_context_computes_in_its_precision() -> None:
    with pynn.ML().create_context(backend="onnxruntime", precision=Precision("fp16", keep=("dense",))) as context:
        b = context.create_graph_builder()
        x = b.input("x", [2, 64], "float32")
        built = b.build({"y": b.relu(b.matmul(x, b.constant(WEIGHT), label="dense"))})
        decisions = {one.op_type: one for one in built.executable.explain_precision().decisions}
        assert decisions["MatMul"].data_type == "float32" and decisions["MatMul"].reason == "kept as asked"
        assert decisions["Relu"].data_type == "float16"
        np.testing.assert_allclose(context.compute(built, X)["y"], np.maximum(X["x"] @ WEIGHT, 0), atol=2e-2)


def test_a_file_with_its_data_beside_it(tmp_path: Path) -> None:
    import onnx

    path = tmp_path / "m.onnx"
    onnx.save_model(
        linear(np.eye(64, dtype="f")), str(path), save_as_external_data=True, size_threshold=0, location="w"
    )
    with pynn.compile(path, backend="onnxruntime", precision="fp16") as executable:
        np.testing.assert_allclose(executable.run(X)["z"], np.maximum(X["x"], 0), rtol=1e-3, atol=1e-6)


def test_unknown_names_are_refused_with_those_close() -> None:
    with pytest.raises(ValidationError, match=r"keep names 'dens'.*'dense'"):
        pynn.compile(graph(), backend="onnxruntime", precision=Precision("fp16", keep=("dens",)))
    with pytest.raises(ValidationError, match="precision must be one of"):
        pynn.compile(graph(), precision="fp12")  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="needs a name"):
        pynn.compile(graph(), backend="onnxruntime", precision=Precision(keep=("dense",)))


# -- for a GPU


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, None),
        ({"power_preference": "default"}, None),
        ({"power_preference": "high-performance"}, "fp16"),
        ({"power_preference": "low-power", "backend": "tensorrt"}, "fp16"),
        ({"power_preference": "high-performance", "precision": "fp32"}, "fp32"),
        ({"power_preference": "high-performance", "precision": None}, None),
        ({"precision": "auto"}, "fp16"),
    ],
)
def test_the_stated_power_preference_decides(tensorrt: Any, options: dict[str, Any], expected: str | None) -> None:
    fake = tensorrt("9.0")
    pynn.compile(graph(), **options)
    assert used(fake) == expected


def test_low_power_on_the_cpu_stays_as_given() -> None:
    with pynn.compile(graph(), power_preference="low-power") as executable:
        assert executable.explain_precision().used is None


@pytest.mark.parametrize(
    ("name", "capability", "flavor", "says"),
    [
        ("fp8", "8.6", "RTX", r"fp8 needs compute capability 8\.9, this is 8\.6.*fp32, tf32, fp16, bf16, int8, int4"),
        ("fp4", "9.0", "RTX", r"fp4 needs compute capability 12\.0, this is 9\.0"),
        ("fp4", "9.0", "TENSORRT", r"fp4 needs compute capability 10\.0, this is 9\.0"),
        ("bf16", "7.5", "RTX", r"bf16 needs compute capability 8\.0, this is 7\.5.*can do fp32, tf32, fp16, int8;"),
    ],
)
def test_what_a_gpu_lacks_is_an_error_and_no_fallback(
    tensorrt: Any, name: Any, capability: str, flavor: str, says: str
) -> None:
    fake = tensorrt(capability, flavor)
    with pytest.raises(FeatureNotSupportedError, match=says):
        pynn.compile(graph(), precision=name)
    assert fake.models == []


def test_auto_never_fails_and_takes_int8_where_it_is_calibrated_and_runs() -> None:
    table = pynn.CalibrationTable("digest", {"x": 1.0})
    calibrated = Precision("auto", calibration=table)
    for capability in (75, 86, 90, 120):
        assert resolve(Precision("auto"), Target("tensorrt", "RTX", "1.6", (capability,))) == "fp16"
        assert resolve(calibrated, Target("tensorrt", "RTX", "1.6", (capability,))) == "fp16"
        assert resolve(calibrated, Target("tensorrt", "TENSORRT", "10.9", (capability,))) == "int8"
    assert resolve(calibrated, Target("onnxruntime")) is None
    with pytest.raises(FeatureNotSupportedError, match="without a calibration, int8 stores weights"):
        resolve(Precision("int8", calibration=table), Target("tensorrt", "RTX", "1.6", (86,)))


def test_options_of_fp32_and_tf32() -> None:
    assert parse_options("compile", {"precision": "tf32"})[1].tf32 is True
    assert parse_options("compile", {"precision": "fp32"})[1].tf32 is False
    with pytest.raises(ValidationError, match="contradict"):
        parse_options("compile", {"precision": "fp32", "tf32": True})


@pytest.mark.filterwarnings("ignore::pynn.FallbackWarning")
def test_parts_of_a_graph_are_narrow_each(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = PartlyRefusing("bad")
    monkeypatch.setattr(selection, "_tensorrt", lambda wish: fake)
    b = pynn.GraphBuilder()
    x = b.input("x", [300, 300], "float32")
    w = b.constant(np.random.default_rng(1).standard_normal((300, 300)).astype("f") / 16)
    y = b.matmul(b.softmax(b.matmul(x, w, label="first"), 1, label="bad"), w, label="last")
    made, arrays = b.finish({"y": y}), {"x": np.random.default_rng(2).standard_normal((300, 300)).astype("f")}
    expected = pynn.compile(made, backend="onnxruntime").run(arrays)["y"]
    for keep in ((), ("first",), ("bad", "matmul")):
        with pynn.compile(made, backend="tensorrt", precision=Precision("fp16", keep=keep)) as executable:
            found = executable.run(arrays)["y"]
            report = executable.explain_precision()
        np.testing.assert_allclose(found, expected, atol=2e-3)
        assert (found == expected).all() == (len(keep) == 2)
        assert report.used == "fp16" and any("runs in parts" in note for note in report.notes)
    with pytest.raises(ValidationError, match="keep names 'firsr'"):
        pynn.compile(made, backend="tensorrt", precision=Precision("fp16", keep=("firsr",)))


# -- explained and written


def test_explain_precision_needs_no_library_and_no_gpu() -> None:
    report = pynn.explain_precision(graph(), "fp16", compute_capability="8.6")
    assert [(one.op_type, one.data_type) for one in report.decisions] == [("MatMul", "float16"), ("Softmax", "float32")]
    assert report.decisions[0].origin == "matmul 'dense'"
    assert "8.6" in str(report)
    as_is = pynn.explain_precision(pynn.to_onnx(graph()))
    assert as_is.used is None and {one.data_type for one in as_is.decisions} == {"float32"}
    with pytest.raises(FeatureNotSupportedError, match=r"8\.9"):
        pynn.explain_precision(graph(), "fp8", compute_capability=(8, 6))
    with pytest.raises(ValidationError, match="backend must be"):
        pynn.explain_precision(graph(), "fp16", backend="cuda")  # type: ignore[arg-type]


def test_a_model_is_written_in_another_precision() -> None:
    model, report = pynn.convert_precision(graph(), Precision("fp16", io=True))
    assert [str(spec) for spec in model.inputs] == ["x: float16[2, 64]"]
    assert report.casts == 2
    with pynn.compile(model.to_bytes(), backend="onnxruntime") as executable:
        assert executable.run({"x": X["x"].astype(np.float16)})["y"].dtype == np.float16


def test_the_passes_are_named_and_recorded() -> None:
    model = apply_precision(graph(), Precision("bf16"), Target("onnxruntime"))
    assert [record.name for record in model.rewrites] == ["autocast_bfloat16", "emulate_bfloat16"]


def test_convert_and_run_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = tmp_path / "m.onnx", tmp_path / "half.onnx"
    source.write_bytes(chain(10).SerializeToString())
    assert main(["convert", "--json", str(source), "-o", str(target), "--precision", "fp16", "--keep", "MatMulm0"]) == 0
    found = json.loads(capsys.readouterr().out)["precision"]
    assert found["used"] == "fp16"
    assert {one["name"]: one["data_type"] for one in found["operators"]}["MatMulm0"] == "float32"
    assert main(["run", "--json", str(source), "--precision", "bf16", "--backend", "onnxruntime"]) == 0
    assert json.loads(capsys.readouterr().out)["precision"]["counts"]["bfloat16"] == 8
    assert main(["convert", str(source), "-o", str(target), "--keep", "Softmax"]) != 0
    assert "--keep needs --precision" in capsys.readouterr().err
    assert main(["convert", str(source), "-o", str(target), "--precision", "fp16", "--explain"]) == 0
    assert "MatMulm0 (MatMul): float16: a product" in capsys.readouterr().out


def test_graphs_with_named_dimensions() -> None:
    b = pynn.GraphBuilder()
    x = b.input("x", ["batch", 64], "float32")
    y = b.softmax(b.matmul(x, b.constant(WEIGHT), label="dense"), 1)
    made = b.finish({"y": b.add(y, b.constant(np.full(64, 1e-3, np.float32)))})
    with pynn.compile(made, backend="onnxruntime", precision="fp16") as executable:
        found = {one.op_type: one.data_type for one in executable.explain_precision().decisions}
        assert (found["MatMul"], found["Softmax"], found["Add"]) == ("float16", "float32", "float16")
        expected = pynn.compile(made, backend="onnxruntime").run(X)["y"]
        np.testing.assert_allclose(executable.run(X)["y"], expected, atol=1e-3)
        assert executable.run({"x": np.zeros((5, 64), np.float32)})["y"].shape == (5, 64)
