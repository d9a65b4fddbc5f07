"""Weights that are put into an engine when it is loaded, or streamed: what can be told without a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from pynn.backends import trt_build, trt_refit
from pynn.backends.base import CompileOptions
from pynn.backends.engine_file import EngineFile
from pynn.backends.trt_build import USER_ALLOCATION, build_plan
from pynn.backends.trt_cache import model_digest
from pynn.backends.trt_refit import STREAMING, WEIGHTS, prepare, weight_digests
from pynn.converter.model import OnnxModel
from pynn.errors import (
    EngineBuildError,
    FeatureNotSupportedError,
    PlanError,
    TensorRTError,
    UnsupportedModelError,
)
from pynn.native import BuilderFlag, Library
from pynn.native.refit import WeightStreaming

from ..conftest import missing_gpu
from ..native.models import model_of, tiny, weights_of, with_weights_outside

ENGINE: Any = object()
NAMES = ("k", "w", "scale", "bias", "mean", "variance")


def normalized(seed: int = 0) -> OnnxModel:
    """y = BatchNormalization(x + k) @ w; each weight is large enough to be left out of a topology."""
    rng = np.random.default_rng(seed)
    weights = {name: rng.random(512, np.float32) + 0.5 for name in NAMES}
    weights["w"] = rng.random((512, 4), np.float32)
    nodes = [
        helper.make_node("Add", ["x", "k"], ["a"], name="add"),
        helper.make_node("BatchNormalization", ["a", "scale", "bias", "mean", "variance"], ["n"], name="norm"),
        helper.make_node("MatMul", ["n", "w"], ["y"], name="product"),
    ]
    sides = {"x": (TensorProto.FLOAT, [2, 512])}, {"y": (TensorProto.FLOAT, [2, 4])}
    return model_of(nodes, *sides, **weights)


class FakeRefitter:
    """Takes what it is given. ``places`` are the names of the weights that the engine lets replace."""

    places: tuple[str, ...] = ("k", "w", "temporary_0", "temporary_1")
    old = False
    fails: type[TensorRTError] | None = None
    calls: list[Any]

    def __init__(self, engine: object) -> None:
        assert engine is ENGINE

    def __enter__(self) -> FakeRefitter:
        return self

    def __exit__(self, *_: object) -> None:
        self.calls.append("close")

    def names(self, *, missing: bool = False) -> tuple[str, ...]:
        return self.places

    def load_model(self, model: bytes, path: str | None) -> None:
        if self.old:
            raise FeatureNotSupportedError("before 10.13")
        self.calls.append("load")

    def load_initializer(self, name: str, array: np.ndarray[Any, Any]) -> None:
        self.calls.append((name, array.nbytes))

    def set_from_loaded(self) -> None:
        self.calls.append("loaded")

    def set_from_model(self, model: bytes, path: str | None) -> None:
        self.calls.append(len(model) > 10_000)

    def refit(self) -> None:
        if self.fails is not None:
            raise self.fails("the library says no")
        self.calls.append("refit")


@pytest.fixture
def refitter(monkeypatch: pytest.MonkeyPatch) -> type[FakeRefitter]:
    class Mine(FakeRefitter):
        calls: list[Any] = []  # noqa: RUF012

    monkeypatch.setattr(trt_refit, "Refitter", Mine)
    return Mine


def stripped(model: OnnxModel) -> EngineFile:
    return EngineFile(b"plan", version="1.6.1.120", options={WEIGHTS: weight_digests(model)})


def test_digests_are_those_of_the_weights_that_the_topology_leaves_out() -> None:
    inside, outside = normalized(), with_weights_outside(normalized())
    assert set(weight_digests(inside)) == set(NAMES) and weight_digests(inside) == weight_digests(outside)
    other = normalized(1)
    assert all(weight_digests(other)[name] != digest for name, digest in weight_digests(inside).items())
    for one, two in ((inside, other), (outside, with_weights_outside(other))):
        assert model_digest(one) != model_digest(two)
        assert model_digest(one, topology=True) == model_digest(two, topology=True)


def test_weights_inside_the_model(refitter: type[FakeRefitter]) -> None:
    size = prepare(ENGINE, stripped(normalized(0)), normalized(1))
    assert refitter.calls == [True, "refit", "close"] and size == len(b"plan") + 9 * 512 * 4


def test_weights_outside_the_model(refitter: type[FakeRefitter]) -> None:
    prepare(ENGINE, stripped(normalized(0)), with_weights_outside(normalized(1)))
    sizes = [(name, 512 * 4 * (4 if name == "w" else 1)) for name in NAMES]
    assert refitter.calls[0] == "load" and sorted(refitter.calls[1:7]) == sorted(sizes)
    assert refitter.calls[7:] == ["loaded", "refit", "close"]
    refitter.calls.clear()
    refitter.old = True
    prepare(ENGINE, stripped(normalized(0)), with_weights_outside(normalized(1)))
    assert refitter.calls == [True, "refit", "close"]


def test_a_weight_that_went_into_the_engine_must_stay(refitter: type[FakeRefitter]) -> None:
    refitter.places = ("w", "temporary_0", "temporary_1")
    with pytest.raises(PlanError, match="built with another value of 'k', which cannot be replaced"):
        prepare(ENGINE, stripped(normalized(0)), normalized(1))
    prepare(ENGINE, stripped(normalized(0)), normalized(0))
    refitter.places = ("k", "w")
    with pytest.raises(PlanError, match="another value of 'scale'"):
        prepare(ENGINE, stripped(normalized(0)), normalized(1))


def test_a_small_weight_that_went_into_the_engine_must_stay(refitter: type[FakeRefitter]) -> None:
    def clipped(bound: float) -> OnnxModel:
        nodes = [helper.make_node("Mul", ["x", "w"], ["m"]), helper.make_node("Clip", ["m", "bound"], ["y"])]
        side = (TensorProto.FLOAT, [2, 512])
        return model_of(nodes, {"x": side}, {"y": side}, w=np.ones(512, np.float32), bound=np.float32(bound))

    refitter.places = ("w",)
    with pytest.raises(PlanError, match="another value of 'bound', which cannot be replaced"):
        prepare(ENGINE, stripped(clipped(0)), clipped(1))
    prepare(ENGINE, stripped(clipped(0)), clipped(0))


def test_a_weight_in_a_file_that_went_into_the_engine_must_stay(refitter: type[FakeRefitter], tmp_path: Path) -> None:
    def saved(seed: int) -> OnnxModel:
        folder = tmp_path / str(seed)
        folder.mkdir(exist_ok=True)
        proto = onnx.load_model_from_string(normalized(seed).to_bytes())
        onnx.save_model(proto, folder / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
        return OnnxModel.load(folder / "m.onnx")

    assert weight_digests(saved(0)) == weight_digests(normalized(0))
    refitter.places = ("w", "temporary_0", "temporary_1")
    with pytest.raises(PlanError, match="built with another value of 'k', which cannot be replaced"):
        prepare(ENGINE, stripped(saved(0)), saved(1))
    prepare(ENGINE, stripped(saved(0)), normalized(0))


def test_the_weights_of_another_model(refitter: type[FakeRefitter]) -> None:
    with pytest.raises(PlanError, match=r"for a model with other weights: 'bias', 'k', 'mean' differ"):
        prepare(ENGINE, stripped(normalized()), tiny())
    with pytest.raises(PlanError, match=r"load it with weights=, the model that it was built from"):
        prepare(ENGINE, stripped(normalized()))
    for kind in (EngineBuildError, UnsupportedModelError):
        refitter.fails = kind
        with pytest.raises(PlanError, match="do not fit this engine: the library says no"):
            prepare(ENGINE, stripped(normalized()), normalized())


def test_an_engine_with_its_weights_is_left_alone(refitter: type[FakeRefitter]) -> None:
    assert prepare(ENGINE, EngineFile(b"plan", version="1.6.1.120"), normalized()) == 4
    assert refitter.calls == []


@pytest.mark.parametrize(("wished", "given"), [(100, 100), (5000, 1000)])
def test_the_budget_is_at_most_what_can_be_streamed(monkeypatch: pytest.MonkeyPatch, wished: int, given: int) -> None:
    budgets: list[int] = []
    monkeypatch.setattr(trt_refit, "weight_streaming", lambda engine: WeightStreaming(1000, given, 500, 8))
    monkeypatch.setattr(trt_refit, "set_weight_budget", lambda engine, size: budgets.append(size))
    plan = EngineFile(bytes(1500), version="1.6.1.120", options={STREAMING: wished})
    assert prepare(ENGINE, plan) == 500 + given
    assert budgets == [given]


class FakeConfig:
    def __init__(self) -> None:
        self.flags: list[BuilderFlag] = []

    def set_flag(self, flag: BuilderFlag) -> None:
        self.flags.append(flag)


class FakeInfo:
    title = "TensorRT"
    version = "11.3.0.1"


def test_a_version_that_loses_biases_is_not_used_for_refit() -> None:
    config, info, options = FakeConfig(), FakeInfo(), CompileOptions(refit=True, weight_streaming_bytes=1)
    with pytest.raises(FeatureNotSupportedError, match="may lose the bias of a Gemm"):
        trt_build._configure_weights(config, info, options)  # type: ignore[arg-type]
    info.version = "11.4.0.1"
    trt_build._configure_weights(config, info, options)  # type: ignore[arg-type]
    assert config.flags == [BuilderFlag.STRIP_PLAN, BuilderFlag.REFIT, BuilderFlag.WEIGHT_STREAMING]


@pytest.mark.trt
def test_streamed_engines_are_built_without_a_gpu(trt_library: Library) -> None:
    engine = build_plan(tiny(), trt_library, CompileOptions(weight_streaming_bytes=1000), (86,))
    assert engine.options[STREAMING] == 1000 and engine.options[USER_ALLOCATION] is False
    assert weights_of().tobytes()[:64] in bytes(engine.plan) or len(engine.plan) > weights_of().nbytes


@pytest.mark.trt
@pytest.mark.skipif(not missing_gpu(), reason="there is a GPU: tests/gpu/test_refit_gpu.py builds here")
def test_refittable_engines_need_a_driver(newest_library: Library) -> None:
    with pytest.raises(EngineBuildError, match="only be built where there is an NVIDIA driver and GPU"):
        build_plan(tiny(), newest_library, CompileOptions(refit=True), (86,))
