"""Engines built without weights, engines whose weights are replaced or streamed, on a real GPU against ONNX Runtime.

python -m pytest tests/gpu/test_refit_gpu.py --require=gpu
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import pynn
from pynn.backends import cuda
from pynn.backends.base import BuildControl, CompileOptions
from pynn.backends.ort import OrtBackend
from pynn.backends.trt import TensorRTBackend, TensorRTExecutable
from pynn.backends.trt_refit import STREAMING, WEIGHTS
from pynn.converter.model import OnnxModel
from pynn.errors import FeatureNotSupportedError, PlanError
from pynn.native.refit import Refitter, activation_memory, weight_streaming

from ..native.models import model_of, with_weights_outside

pytestmark = pytest.mark.gpu

ERROR = 5e-3
"""Relative to the largest value: products may be TF32 here."""
X = np.random.default_rng(3).standard_normal((2, 8, 16, 16), np.float32)


@pytest.fixture(scope="module")
def backend() -> TensorRTBackend:
    backend = TensorRTBackend()
    assert any(probe.usable for probe in backend.probe()), [probe.reason for probe in backend.probe()]
    return backend


@pytest.fixture(scope="module")
def refits(backend: TensorRTBackend) -> None:
    """An expected failure, in the library's words, where it builds nothing for refit on a GPU that it runs on."""
    try:
        compiled(backend, network(0), refit=True).close()
    except FeatureNotSupportedError as error:
        if "target_sm '90'" not in str(error):
            raise
        pytest.xfail(str(error)[:400])


def network(seed: int, *, norm: bool = True) -> OnnxModel:
    """Conv with bias, BatchNormalization, Clip with bounds, global mean, Gemm with bias: what parsers fold."""
    rng = np.random.default_rng(seed)
    many = 320
    weights: dict[str, Any] = {
        "kernel": rng.standard_normal((many, 8, 3, 3), np.float32) / 8,
        "kernel_bias": rng.standard_normal(many, np.float32),
        "low": np.float32(-1),
        "high": np.float32(1.5),
        "dense": rng.standard_normal((many, 40), np.float32) / 16,
        "dense_bias": rng.standard_normal(40, np.float32),
    }
    nodes = [helper.make_node("Conv", ["x", "kernel", "kernel_bias"], ["c"], name="conv", pads=[1, 1, 1, 1])]
    if norm:
        names = ("scale", "shift", "mean", "variance")
        weights |= {name: rng.random(many, np.float32) + 0.5 for name in names}
        nodes.append(helper.make_node("BatchNormalization", ["c", *names], ["n"], name="norm"))
    nodes += [
        helper.make_node("Clip", ["n" if norm else "c", "low", "high"], ["l"], name="clip"),
        helper.make_node("GlobalAveragePool", ["l"], ["g"], name="pool"),
        helper.make_node("Flatten", ["g"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "dense", "dense_bias"], ["y"], name="gemm"),
    ]
    return model_of(nodes, {"x": (TensorProto.FLOAT, [2, 8, 16, 16])}, {"y": (TensorProto.FLOAT, [2, 40])}, **weights)


def compiled(backend: TensorRTBackend, model: OnnxModel, **options: Any) -> TensorRTExecutable:
    executable = backend.compile(model, CompileOptions(**{"cache": False, **options}))
    assert isinstance(executable, TensorRTExecutable)
    return executable


def expected(model: OnnxModel) -> np.ndarray[Any, Any]:
    with OrtBackend().compile(model, CompileOptions()) as judge:
        return judge.run({"x": X})["y"]


def close(executable: pynn.Executable, model: OnnxModel) -> None:
    wanted, got = expected(model), executable.run({"x": X})["y"]
    assert np.abs(got - wanted).max() <= ERROR * np.abs(wanted).max()


def options_of(executable: TensorRTExecutable) -> Any:
    return executable.engine_file.options


@pytest.mark.usefixtures("refits")
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("outside", [False, True])
def test_a_stripped_engine_gives_the_same_results(backend: TensorRTBackend, norm: bool, outside: bool) -> None:
    model = network(0, norm=norm)
    given = with_weights_outside(model) if outside else model
    with compiled(backend, given, refit=True) as executable:
        assert WEIGHTS in options_of(executable)
        close(executable, model)


@pytest.mark.usefixtures("refits")
def test_other_weights_without_a_build(backend: TensorRTBackend, tmp_path: Path) -> None:
    builds: list[object] = []
    results = []
    for seed in (0, 1, 0):
        model = network(seed, norm=False)
        options = {"cache": True, "cache_dir": str(tmp_path), "refit": True}
        control = BuildControl(progress=builds.append)
        with compiled(backend, model, **options, control=control) as executable:
            close(executable, model)
            results.append(executable.run({"x": X})["y"])
            assert executable.cache is not None and executable.cache.hit is (len(results) > 1), executable.cache
        if len(results) == 1:
            builds.clear()
    assert builds == []
    assert np.abs(results[0] - results[1]).max() > 0.1 and np.array_equal(results[0], results[2])


@pytest.mark.usefixtures("refits")
def test_normalised_networks_are_right_whether_replaced_or_built_again(
    backend: TensorRTBackend, tmp_path: Path
) -> None:
    for seed in (0, 1):
        model = network(seed)
        with compiled(backend, model, cache=True, cache_dir=str(tmp_path), refit=True) as executable:
            close(executable, model)


@pytest.mark.usefixtures("refits")
def test_small_constants_are_part_of_the_key(backend: TensorRTBackend, tmp_path: Path) -> None:
    """The bounds of a Clip go into the engine: another one must not be overlooked."""
    for high in (1.5, 0.25):
        proto = onnx.load_model_from_string(network(0).proto)
        for tensor in proto.graph.initializer:
            if tensor.name == "high":
                tensor.CopyFrom(numpy_helper.from_array(np.float32(high), "high"))
        model = OnnxModel.load(proto)
        with compiled(backend, model, cache=True, cache_dir=str(tmp_path), refit=True) as executable:
            close(executable, model)


def chain(count: int = 4) -> OnnxModel:
    """Products of 1024 x 1024 weights, 4 MiB each."""
    rng = np.random.default_rng(0)
    layers = {f"w{i}": rng.standard_normal((1024, 1024), np.float32) / 32 for i in range(count)}
    nodes, last = [], "x"
    for name in layers:
        nodes += [
            helper.make_node("MatMul", [last, name], [f"m_{name}"], name=f"product_{name}"),
            helper.make_node("Tanh", [f"m_{name}"], [f"t_{name}"], name=f"tanh_{name}"),
        ]
        last = f"t_{name}"
    nodes.append(helper.make_node("Identity", [last], ["y"], name="last"))
    sides = {"x": (TensorProto.FLOAT, [8, 1024])}, {"y": (TensorProto.FLOAT, [8, 1024])}
    return model_of(nodes, *sides, **layers)


@pytest.mark.usefixtures("refits")
def test_the_plan_is_smaller_and_tells_its_weights(backend: TensorRTBackend) -> None:
    model = chain()
    with compiled(backend, model) as whole, compiled(backend, model, refit=True) as stripped:
        assert whole.stats["plan_bytes"] > 16 << 20
        assert stripped.stats["plan_bytes"] < 4 << 20, "STRIP_PLAN did not strip"
        assert stripped.memory.weights >= 16 << 20
        with stripped._device.current(), Refitter(stripped._engine) as refitter:
            assert {"w0", "w3"} <= set(refitter.names())
            assert refitter.prototype("w0") == (0, 1024 * 1024)
            assert activation_memory(stripped._engine) >= 0


@pytest.mark.usefixtures("refits")
def test_an_engine_file_without_weights(backend: TensorRTBackend, tmp_path: Path) -> None:
    path = tmp_path / "stripped.engine"
    with compiled(backend, network(0, norm=False), refit=True) as executable:
        executable.engine_file.save(path)
    with pytest.raises(PlanError, match="load it with weights="):
        pynn.load_engine(path)
    for seed in (0, 1):
        model = network(seed, norm=False)
        with pynn.load_engine(path, weights=model) as loaded:
            close(loaded, model)


def test_isolated_builds_for_this_gpu(backend: TensorRTBackend) -> None:
    model = network(0)
    with compiled(backend, model, control=BuildControl(isolate=True)) as executable:
        close(executable, model)


@pytest.mark.usefixtures("refits")
def test_isolated_builds_without_weights(backend: TensorRTBackend) -> None:
    model = network(0)
    with compiled(backend, model, refit=True, control=BuildControl(isolate=True)) as executable:
        close(executable, model)


def test_streamed_weights(backend: TensorRTBackend) -> None:
    model = chain()
    x = np.random.default_rng(1).standard_normal((8, 1024), np.float32)
    with OrtBackend().compile(model, CompileOptions()) as judge:
        wanted = judge.run({"x": x})["y"]
    for size in (1 << 20, 1 << 30):
        with compiled(backend, model, weight_streaming_bytes=size) as executable:
            assert options_of(executable)[STREAMING] == size
            for _ in range(3):
                assert np.abs(executable.run({"x": x})["y"] - wanted).max() <= 2e-2
            with executable._device.current():
                state = weight_streaming(executable._engine)
            assert state.streamable > 8 << 20 and state.budget <= min(size, state.streamable), state


def test_builds_of_many_threads_on_this_gpu(backend: TensorRTBackend) -> None:
    """TensorRT for RTX builds side by side; TensorRT one after the other."""
    from concurrent.futures import ThreadPoolExecutor

    models = [network(seed, norm=bool(seed % 2)) for seed in range(6)]
    with ThreadPoolExecutor(6) as pool:
        executables = list(pool.map(lambda model: compiled(backend, model), models))
    for executable, model in zip(executables, models, strict=True):
        close(executable, model)
        executable.close()


def test_the_gpu_is_named(backend: TensorRTBackend) -> None:
    with compiled(backend, network(0), control=BuildControl(isolate=True)) as executable:
        assert executable.engine_file.gpu == cuda.discover().require().devices[0].name
