"""Which back end is chosen, why, what is warned of, and what happens when a library refuses a model."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
from pynn import (
    BackendUnavailableError,
    FallbackWarning,
    NotSupportedError,
    UnsupportedModelError,
    ValidationError,
)
from pynn.backends import selection
from pynn.backends.base import Array, Backend, CompileOptions, Executable, OperatorLimits, Probe
from pynn.backends.ort import OrtBackend
from pynn.converter import OnnxModel

pytestmark = pytest.mark.ort


class FakeExecutable(Executable):
    backend = "tensorrt"

    def _run(self, arrays: dict[str, Array], out: Mapping[str, Array] | None) -> dict[str, Array]:
        return {spec.name: np.zeros((2,), spec.numpy) for spec in self.outputs}

    def _close(self) -> None:
        pass


class FakeTensorRT(Backend):
    """Usable or not by ``probes``; refuses with ``refusal``, and keeps the models it was given."""

    name = "tensorrt"

    def __init__(self, probes: tuple[Probe, ...], refusal: Exception | None = None) -> None:
        self.probes = probes
        self.refusal = refusal
        self.models: list[OnnxModel] = []

    def probe(self) -> tuple[Probe, ...]:
        return self.probes

    def limits(self) -> OperatorLimits:
        return OperatorLimits(max_rank=5, max_tensor_byte_length=1000)

    def compile(self, model: OnnxModel, options: CompileOptions) -> Executable:
        self.models.append(model)
        if self.refusal is not None:
            raise self.refusal
        return FakeExecutable(model.inputs, model.outputs)


NO_DRIVER = Probe("tensorrt", "TensorRT-RTX 1.6.1", False, "no NVIDIA driver", "install the driver")
REFUSED_GPU = Probe("tensorrt", "TensorRT-RTX 1.7.1", False, "it refuses compute capability 9.0", "take 1.6")
USABLE = Probe(
    "tensorrt", "TensorRT-RTX 1.6.1", True, "TensorRT-RTX 1.6.1 on an H200", details={"version": "1.6.1.120"}
)
PARSER_REFUSAL = UnsupportedModelError("the parser refuses node n of type Foo", node="n", op_type="Foo", log="E: Foo")


@pytest.fixture
def tensorrt(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put a fake in the place of the TensorRT back end."""

    def install(*probes: Probe, refusal: Exception | None = None) -> FakeTensorRT:
        fake = FakeTensorRT(probes, refusal)
        monkeypatch.setattr(selection, "_tensorrt", lambda wish: fake)
        return fake

    return install


@pytest.fixture
def no_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = Probe("onnxruntime", "onnxruntime", False, "onnxruntime cannot be imported", "pip install onnxruntime")
    monkeypatch.setattr(OrtBackend, "probe", lambda self: (missing,))


def graph() -> pynn.Graph:
    b = pynn.GraphBuilder()
    x = b.input("x", [2], "float32")
    return b.finish({"y": b.add(x, x, label="sum")})


def build(context: pynn.MLContext) -> pynn.MLGraph:
    b = context.create_graph_builder()
    x = b.input("x", [2], "float32")
    return b.build({"y": b.add(x, x)})


# -- the preference


@pytest.mark.parametrize(
    ("power_preference", "accelerated", "chosen"),
    [
        ("default", True, "tensorrt"),
        ("default", False, "onnxruntime"),
        ("high-performance", True, "tensorrt"),
        ("high-performance", False, "tensorrt"),
        ("low-power", True, "onnxruntime"),
        ("low-power", False, "onnxruntime"),
    ],
)
def test_preference(tensorrt: Any, power_preference: Any, accelerated: bool, chosen: str) -> None:
    tensorrt(USABLE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        context = pynn.ML().create_context(power_preference=power_preference, accelerated=accelerated)
        graph_ = build(context)
    assert context.backend == graph_.backend == context.backend_report.chosen == chosen
    assert context.accelerated is accelerated
    assert context.power_preference == power_preference
    assert not context.backend_report.fallback
    verdicts = {probe.backend: probe.usable for probe in context.backend_report.probes}
    assert verdicts == {"tensorrt": chosen == "tensorrt", "onnxruntime": True}


def test_backend_wins_over_the_preference(tensorrt: Any) -> None:
    tensorrt(USABLE)
    assert pynn.ML().create_context(backend="tensorrt", power_preference="low-power").backend == "tensorrt"
    assert pynn.ML().create_context(backend="onnxruntime", power_preference="high-performance").backend == "onnxruntime"
    assert pynn.ML().create_context(backend="auto").backend == "tensorrt"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"backend": "cuda"}, "backend must be one of 'auto', 'tensorrt', 'onnxruntime', got 'cuda'"),
        ({"power_preference": "fast"}, "power_preference must be one of .*'high-performance'.* got 'fast'"),
        ({"power_preference": None}, "power_preference must be one of"),
        ({"accelerated": 1}, "accelerated must be True or False, got 1"),
        ({"device": -1}, "device must be the number of a GPU, 0 or more, got -1"),
        ({"device": "cuda:0"}, "device must be"),
        ({"tensorrt_library": 5}, "tensorrt_library must be a directory, got 5"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        pynn.ML().create_context(**arguments)
    with pytest.raises(ValidationError, match=words):
        pynn.compile(graph(), **arguments)


# -- fallback at the choice


def test_every_verdict_is_kept_and_printed(tensorrt: Any) -> None:
    tensorrt(NO_DRIVER, REFUSED_GPU)
    with pytest.warns(FallbackWarning) as caught:
        context = pynn.ML().create_context()
    assert len(caught) == 1
    assert "no NVIDIA driver" in str(caught[0].message)
    assert "install the driver" in str(caught[0].message)
    assert "backend='onnxruntime'" in str(caught[0].message)
    assert caught[0].filename == __file__
    report = context.backend_report
    assert (report.chosen, report.fallback) == ("onnxruntime", True)
    text = str(report)
    for probe in (NO_DRIVER, REFUSED_GPU):
        assert probe.candidate in text
        assert probe.reason in text
        assert probe.hint in text
    record = json.loads(json.dumps(report.to_dict()))
    assert [probe["reason"] for probe in record["probes"][:2]] == [NO_DRIVER.reason, REFUSED_GPU.reason]
    assert record["chosen"] == "onnxruntime"


def test_the_second_library_is_usable(tensorrt: Any) -> None:
    tensorrt(REFUSED_GPU, USABLE)
    context = pynn.ML().create_context()
    assert context.backend == "tensorrt"
    assert "it refuses compute capability 9.0" in str(context.backend_report)


def test_one_warning_in_a_context_even_if_graphs_follow(tensorrt: Any) -> None:
    tensorrt(NO_DRIVER)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        context = pynn.ML().create_context()
        build(context)
        build(context)
    assert [w.category for w in caught] == [FallbackWarning]


def test_demanded_tensorrt_does_not_fall_back(tensorrt: Any) -> None:
    tensorrt(NO_DRIVER, REFUSED_GPU)
    for demand in (
        lambda: pynn.ML().create_context(backend="tensorrt"),
        lambda: pynn.compile(graph(), backend="tensorrt"),
    ):
        with pytest.raises(BackendUnavailableError) as caught:
            demand()
        assert isinstance(caught.value, NotSupportedError)
        for probe in (NO_DRIVER, REFUSED_GPU):
            assert f"{probe.candidate}: {probe.reason} ({probe.hint})" in str(caught.value)


def test_nothing_can_be_used(tensorrt: Any, no_onnxruntime: None) -> None:
    tensorrt(NO_DRIVER)
    for arguments in ({}, {"accelerated": False}, {"backend": "onnxruntime"}):
        with pytest.raises(BackendUnavailableError, match=r"onnxruntime cannot be imported.*pip install onnxruntime"):
            pynn.ML().create_context(**arguments)


def test_warning_of_an_async_context_points_at_the_user(tensorrt: Any) -> None:
    tensorrt(NO_DRIVER)

    async def user() -> None:
        await pynn.ML().create_context_async()

    with pytest.warns(FallbackWarning) as caught:
        asyncio.run(user())
    assert [w.filename for w in caught] == [__file__]


# -- fallback at a model


def test_tf32_that_this_process_cannot_have_is_an_error_not_a_fallback(
    tensorrt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensorrt(USABLE)

    def settled(_: object, options: pynn.CompileOptions) -> None:
        if options.tf32:
            raise pynn.FeatureNotSupportedError("TF32 was asked for, but it is settled")

    monkeypatch.setattr(FakeTensorRT, "require", settled)
    for asked in ({"tf32": True}, {"precision": "tf32"}):
        with pytest.raises(pynn.FeatureNotSupportedError, match="settled"):
            pynn.compile(graph(), **asked)
    assert pynn.compile(graph()).backend == "tensorrt"


def test_a_refused_model_falls_back_with_the_parsers_reason(tensorrt: Any) -> None:
    fake = tensorrt(USABLE, refusal=PARSER_REFUSAL)
    context = pynn.ML().create_context()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        first, second = build(context), build(context)
    assert [w.category for w in caught] == [FallbackWarning]
    assert caught[0].filename == __file__
    assert "the parser refuses node n of type Foo" in str(caught[0].message)
    assert len(fake.models) == 2
    assert context.backend == "tensorrt"
    for made in (first, second):
        assert made.backend == "onnxruntime"
        assert made.backend_report.refused == {"tensorrt": "the parser refuses node n of type Foo"}
        assert "the parser refuses node n" in str(made.backend_report)
        assert made.executable.report is made.backend_report
    assert context.compute(first, {"x": np.ones(2, np.float32)})["y"].tolist() == [2, 2]


def test_warning_of_an_async_build_points_at_the_user(tensorrt: Any) -> None:
    tensorrt(USABLE, refusal=PARSER_REFUSAL)

    async def user() -> None:
        b = pynn.ML().create_context().create_graph_builder()
        x = b.input("x", [2], "float32")
        await b.build_async({"y": b.add(x, x)})

    with pytest.warns(FallbackWarning) as caught:
        asyncio.run(user())
    assert [w.filename for w in caught] == [__file__]


@pytest.mark.parametrize("kind", [pynn.EngineBuildError, pynn.FeatureNotSupportedError, pynn.DeviceUnsupportedError])
def test_other_refusals_fall_back_too(tensorrt: Any, kind: type[Exception]) -> None:
    tensorrt(USABLE, refusal=kind("no tactic"))
    with pytest.warns(FallbackWarning, match="no tactic"):
        assert pynn.compile(graph()).backend == "onnxruntime"


@pytest.mark.parametrize("kind", [pynn.DeviceOutOfMemoryError, pynn.BuildCancelledError, pynn.CudaError, KeyError])
def test_failures_that_are_no_refusal_are_raised(tensorrt: Any, kind: type[Exception]) -> None:
    tensorrt(USABLE, refusal=kind("no memory"))
    with pytest.raises(kind, match="no memory"):
        pynn.compile(graph())


def test_a_demanded_back_end_raises_its_own_refusal(tensorrt: Any) -> None:
    tensorrt(USABLE, refusal=PARSER_REFUSAL)
    with pytest.raises(UnsupportedModelError) as caught:
        pynn.compile(graph(), backend="tensorrt")
    assert caught.value is PARSER_REFUSAL
    context = pynn.ML().create_context(backend="tensorrt")
    with pytest.raises(pynn.OperationError):
        build(context)


def test_refused_by_everyone(tensorrt: Any, tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    node = helper.make_node("Frobnicate", ["x"], ["y"], domain="com.example")
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.example", 1)]
    model = helper.make_model(
        helper.make_graph([node], "g", values[:1], values[1:]), opset_imports=opsets, ir_version=10
    )
    tensorrt(USABLE, refusal=PARSER_REFUSAL)
    with pytest.raises(UnsupportedModelError) as caught:
        pynn.compile(model)
    assert "TensorRT: the parser refuses node n" in str(caught.value)
    assert "ONNX Runtime: ONNX Runtime does not know operator com.example:Frobnicate" in str(caught.value)


def test_each_back_end_gets_its_own_passes(tensorrt: Any) -> None:
    fake = tensorrt(USABLE, refusal=PARSER_REFUSAL)
    b = pynn.GraphBuilder()
    x = b.input("x", [2], "uint8")
    with pytest.warns(FallbackWarning):
        executable = pynn.compile(b.finish({"y": b.add(x, x)}))
    (model,) = fake.models
    assert model.rewrites, "TensorRT takes no uint8 arithmetic without a pass"
    assert executable.run({"x": np.array([1, 200], np.uint8)})["y"].tolist() == [2, 144]


def test_limits_are_those_of_the_chosen_back_end(tensorrt: Any) -> None:
    tensorrt(USABLE)
    limits = pynn.ML().create_context().op_support_limits()
    assert limits["max_tensor_byte_length"] == 1000
    assert limits["add"]["a"]["rank_range"]["max"] == 5


def test_tensor_above_the_limit(tensorrt: Any) -> None:
    tensorrt(USABLE)
    with pytest.raises(ValidationError, match="takes 1004 bytes; the limit is 1000"):
        pynn.ML().create_context().create_tensor([251], "float32")


# -- the real probes of this machine


@pytest.mark.trt
def test_a_library_without_its_parser(newest_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "libtensorrt_rtx.so.1").symlink_to(newest_folder / "libtensorrt_rtx.so.1")
    with pytest.raises(BackendUnavailableError, match="has no ONNX parser"):
        pynn.ML().create_context(backend="tensorrt", tensorrt_library=tmp_path)
    with pytest.raises(pynn.LibraryNotFoundError, match="has no ONNX parser"):
        pynn.build_engine(graph(), tensorrt_library=tmp_path)


def test_a_directory_without_a_library(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailableError) as caught:
        pynn.ML().create_context(backend="tensorrt", tensorrt_library=tmp_path)
    assert "tensorrt" in str(caught.value)
    with pytest.warns(FallbackWarning):
        assert pynn.ML().create_context(tensorrt_library=tmp_path).backend == "onnxruntime"
