"""The TensorRT back end on a real GPU: values against ONNX Runtime and numpy, types, shapes, threads, files.

python -m pytest tests/gpu --require=gpu
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from pynn.backends import cuda
from pynn.backends.base import CompileOptions
from pynn.backends.engine_file import EngineFile
from pynn.backends.ort import OrtBackend
from pynn.backends.trt import TensorRTBackend, TensorRTExecutable, build_plan, load_engine, open_library
from pynn.converter.model import OnnxModel
from pynn.errors import (
    DeviceOutOfMemoryError,
    EngineBuildError,
    InputError,
    InvalidStateError,
    PlanError,
    UnsupportedModelError,
)

from ..native.models import deep, model_of, tiny, weights_of, with_weights_outside

pytestmark = pytest.mark.gpu

TF32_ERROR = 2e-3
"""float32 products may be TF32 on this GPU whatever the flag says; exactness is tested elsewhere."""


@pytest.fixture(scope="session")
def backend() -> TensorRTBackend:
    backend = TensorRTBackend()
    probes = backend.probe()
    assert any(probe.usable for probe in probes), [probe.reason for probe in probes]
    return backend


def compiled(backend: TensorRTBackend, model: OnnxModel, **options: Any) -> TensorRTExecutable:
    executable = backend.compile(model, CompileOptions(**{"cache": False, **options}))
    assert isinstance(executable, TensorRTExecutable)
    return executable


def rows(n: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).standard_normal((n, 64), np.float32)


def close(y: np.ndarray[Any, Any], x: np.ndarray[Any, Any]) -> None:
    expected = np.maximum(x.astype(np.float64) @ weights_of().astype(np.float64), 0)
    assert y.dtype == np.float32 and y.shape == expected.shape
    assert np.abs(y - expected).max() <= TF32_ERROR * np.abs(expected).max()


def identity(data_type: int, dims: list[int | str]) -> OnnxModel:
    spec = (data_type, dims)
    return model_of([helper.make_node("Identity", ["x"], ["y"], name="same")], {"x": spec}, {"y": spec})


def test_probe_tells_all(backend: TensorRTBackend) -> None:
    probe = next(p for p in backend.probe() if p.usable)
    driver = cuda.discover().require()
    assert probe.details["gpu"] == driver.devices[0].name
    assert {"version", "generation", "path", "compute_capability", "driver"} <= set(probe.details)


@pytest.mark.parametrize("cuda_graph", [True, False])
def test_tiny_net(backend: TensorRTBackend, cuda_graph: bool) -> None:
    with compiled(backend, tiny(), cuda_graph=cuda_graph) as executable:
        for seed in range(20):
            x = rows(4, seed)
            close(executable.run({"x": x})["y"], x)
        stats = executable.stats
    assert stats["runs"] == 20
    assert stats["cuda_graph"] is cuda_graph, stats["cuda_graph_reason"]
    assert stats["seconds"]["build"] > 0 and stats["seconds"]["context"] > 0


@pytest.mark.ort
def test_deep_net_is_that_of_onnx_runtime(backend: TensorRTBackend) -> None:
    x = {"x": rows(4)}
    with compiled(backend, deep(6)) as gpu, OrtBackend(use_gpu=False).compile(deep(6), CompileOptions()) as cpu:
        a, b = gpu.run(x)["y"], cpu.run(x)["y"]
    np.testing.assert_allclose(a, b, atol=2e-2)


def test_weights_outside_the_proto(backend: TensorRTBackend) -> None:
    model = with_weights_outside(tiny())
    with compiled(backend, model) as executable:
        del model
        gc.collect()
        close(executable.run({"x": rows(4)})["y"], rows(4))


def test_weights_in_a_file(backend: TensorRTBackend, tmp_path: Path) -> None:
    proto = onnx.load_model_from_string(tiny().proto)
    onnx.save_model(proto, tmp_path / "m.onnx", save_as_external_data=True, location="w", size_threshold=0)
    with compiled(backend, OnnxModel.load(tmp_path / "m.onnx")) as executable:
        close(executable.run({"x": rows(4)})["y"], rows(4))


TYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "int8": TensorProto.INT8,
    "uint8": TensorProto.UINT8,
    "bool": TensorProto.BOOL,
    "float64": TensorProto.DOUBLE,
}


@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (300, 1001)])
@pytest.mark.parametrize("data_type", TYPES)
def test_types_come_back_exact(backend: TensorRTBackend, data_type: str, shape: tuple[int, ...]) -> None:
    version = next(p for p in backend.probe() if p.usable).details["version"]
    if data_type == "int8" and version.startswith("1.4."):
        pytest.skip("TensorRT for RTX 1.4 takes int8 only where it is quantized: 'cannot be quantized by x'")
    dtype = np.dtype(ml_dtypes.bfloat16 if data_type == "bfloat16" else data_type)
    x = np.random.default_rng(3).integers(-100, 100, shape).astype(dtype)
    with compiled(backend, identity(TYPES[data_type], list(shape))) as executable:
        for _ in range(3):
            y = executable.run({"x": x})["y"]
            assert y.dtype == dtype and y.shape == shape and y.tobytes() == x.tobytes()


def test_zero_size(backend: TensorRTBackend) -> None:
    with compiled(backend, identity(TensorProto.FLOAT, [2, 0, 3])) as executable:
        assert executable.run({"x": np.zeros((2, 0, 3), np.float32)})["y"].shape == (2, 0, 3)


def test_symbolic_batch_is_one(backend: TensorRTBackend) -> None:
    with compiled(backend, tiny("batch")) as executable:
        assert "'batch'" in executable.notes[0]
        close(executable.run({"x": rows(1)})["y"], rows(1))
        with pytest.raises(InputError, match="batch"):
            executable.run({"x": rows(2)})


@pytest.mark.parametrize("cuda_graph", [True, False])
def test_dynamic_batch(backend: TensorRTBackend, cuda_graph: bool) -> None:
    with compiled(backend, tiny("batch"), shapes={"batch": (1, 4, 600)}, cuda_graph=cuda_graph) as executable:
        for n in (4, 1, 600, 4, 4, 7, 9, 300, 4, 1, 600, 4):
            x = rows(n, n)
            close(executable.run({"x": x})["y"], x)
        with pytest.raises(InputError, match=r"dimension 0 \('batch'\) is 601, outside"):
            executable.run({"x": rows(601)})


def test_out(backend: TensorRTBackend) -> None:
    with compiled(backend, tiny()) as executable:
        mine = np.zeros((4, 32), np.float32)
        for seed in range(4):
            assert executable.run({"x": rows(4, seed)}, out={"y": mine})["y"] is mine
            close(mine, rows(4, seed))


def test_large_tensors_and_many_outputs(backend: TensorRTBackend) -> None:
    nodes = [helper.make_node("Neg", ["x"], ["a"], name="neg"), helper.make_node("Abs", ["s"], ["b"], name="abs")]
    big, small = (TensorProto.FLOAT, [1000, 1000]), (TensorProto.FLOAT, [3])
    model = model_of(nodes, {"x": big, "s": small}, {"a": big, "b": small})
    with compiled(backend, model) as executable:
        for seed in range(4):
            x = np.random.default_rng(seed).standard_normal((1000, 1000), np.float32)
            s = np.array([-1, seed, -seed], np.float32)
            result = executable.run({"x": x, "s": s})
            np.testing.assert_array_equal(result["a"], -x)
            np.testing.assert_array_equal(result["b"], np.abs(s))


def test_threads_on_one_executable(backend: TensorRTBackend) -> None:
    problems: list[BaseException] = []
    with compiled(backend, tiny("batch"), shapes={"batch": (1, 4, 8)}) as executable:

        def work(seed: int) -> None:
            try:
                for i in range(60):
                    x = rows(1 + (seed + i) % 3, seed * 100 + i)
                    close(executable.run({"x": x})["y"], x)
            except BaseException as error:
                problems.append(error)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not problems


def test_threads_with_executables_of_their_own(backend: TensorRTBackend) -> None:
    problems: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            with compiled(backend, tiny()) as executable:
                for i in range(20):
                    close(executable.run({"x": rows(4, i)})["y"], rows(4, i))
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems


def test_engine_file(backend: TensorRTBackend, tmp_path: Path) -> None:
    with compiled(backend, tiny("batch"), shapes={"batch": (1, 4, 8)}) as executable:
        executable.engine_file.save(tmp_path / "tiny.engine")
    with load_engine(tmp_path / "tiny.engine") as loaded:
        assert loaded.inputs == executable.inputs and loaded.outputs == executable.outputs
        for n in (1, 8, 3):
            close(loaded.run({"x": rows(n)})["y"], rows(n))
        bare = bytes(loaded.engine_file.plan)
    with load_engine(bare) as raw:
        close(raw.run({"x": rows(5)})["y"], rows(5))


def test_engine_built_ahead(backend: TensorRTBackend) -> None:
    """TensorRT for RTX takes on an unlisted GPU what was built for older ones."""
    path = next(p for p in backend.probe() if p.usable).details["path"]
    with open_library(Path(path).parent) as library:
        engine = build_plan(tiny(), library)
    with load_engine(EngineFile.load(engine.to_bytes())) as loaded:
        close(loaded.run({"x": rows(4)})["y"], rows(4))


def test_damaged_plan_is_a_plan_error(backend: TensorRTBackend) -> None:
    with compiled(backend, tiny()) as executable:
        plan = bytes(executable.engine_file.plan)
    for broken in (plan[:100], plan[: len(plan) // 2], plan[:-1], b"vtrt" + bytes(len(plan))):
        with pytest.raises(PlanError):
            load_engine(broken)
    with load_engine(plan) as loaded:
        close(loaded.run({"x": rows(4)})["y"], rows(4))


def test_opened_and_closed_many_times_without_a_leak(backend: TensorRTBackend) -> None:
    device = cuda.Device(cuda.discover().require(), 0)

    def once() -> None:
        with compiled(backend, tiny()) as executable:
            executable.run({"x": rows(4)})

    for _ in range(3):
        once()
    before = device.free_memory()
    for _ in range(20):
        once()
    assert before - device.free_memory() < 32 << 20
    executable = compiled(backend, tiny())
    executable.run({"x": rows(4)})
    del executable
    gc.collect()
    assert before - device.free_memory() < 32 << 20


def test_closed_in_the_middle_of_runs(backend: TensorRTBackend) -> None:
    executable = compiled(backend, tiny())
    ended: list[BaseException] = []

    def work() -> None:
        try:
            while True:
                executable.run({"x": rows(4)})
        except BaseException as error:
            ended.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    executable.close()
    for thread in threads:
        thread.join()
    assert {type(error) for error in ended} == {InvalidStateError}


def test_out_of_gpu_memory_is_named_and_passes(backend: TensorRTBackend) -> None:
    device = cuda.Device(cuda.discover().require(), 0)
    with pytest.raises(DeviceOutOfMemoryError, match="memory"):
        cuda.DeviceMemory(device, 1 << 45)
    big = tiny(1 << 22)
    with cuda.DeviceMemory(device, device.free_memory() - (256 << 20)), pytest.raises(DeviceOutOfMemoryError):
        compiled(backend, big)
    with compiled(backend, tiny()) as executable:
        close(executable.run({"x": rows(4)})["y"], rows(4))


def test_refused_model_leaves_the_backend_usable(backend: TensorRTBackend) -> None:
    model = tiny()
    wrong = OnnxModel(model.proto.replace(b"Relu", b"Rulu"), model.inputs, model.outputs)
    with pytest.raises(UnsupportedModelError, match="Rulu"):
        compiled(backend, wrong)
    with compiled(backend, model) as executable:
        close(executable.run({"x": rows(4)})["y"], rows(4))


def test_data_dependent_output_is_unsupported(backend: TensorRTBackend) -> None:
    """TensorRT for RTX 1.6 does not even have the operator."""
    nodes = [helper.make_node("NonZero", ["x"], ["y"], name="where")]
    model = model_of(nodes, {"x": (TensorProto.FLOAT, [4])}, {"y": (TensorProto.INT64, [1, "n"])})
    with pytest.raises((UnsupportedModelError, EngineBuildError), match=r"depends on the values|NonZero|where"):
        compiled(backend, model)


def test_inspect(backend: TensorRTBackend) -> None:
    with compiled(backend, tiny()) as executable:
        assert executable.inspect()


@pytest.mark.parametrize(
    "how", ["pass", "executable.close()", "import threading; threading.Thread(target=loop, daemon=True).start()"]
)
def test_interpreter_exit(backend: TensorRTBackend, how: str) -> None:
    code = f"""
import sys
from pynn.backends.base import CompileOptions
from pynn.backends.trt import TensorRTBackend
from tests.gpu.test_trt_gpu import rows, tiny
executable = TensorRTBackend().compile(tiny(), CompileOptions())
executable.run({{"x": rows(4)}})
def loop():
    while True:
        executable.run({{"x": rows(4)}})
{how}
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200, cwd=root)
    assert result.returncode == 0 and "Traceback" not in result.stderr, result.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork exists on POSIX only")
def test_fork(backend: TensorRTBackend) -> None:
    with compiled(backend, tiny()) as executable:
        executable.run({"x": rows(4)})
        pid = os.fork()
        if pid == 0:
            from pynn.errors import ForkError

            status = 1
            try:
                executable.run({"x": rows(4)})
            except ForkError:
                executable.close()
                gc.collect()
                status = 0
            os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
        close(executable.run({"x": rows(4)})["y"], rows(4))
