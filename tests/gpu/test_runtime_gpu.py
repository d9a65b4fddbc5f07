"""How engines run on a real GPU: graphs, dynamic shapes, threads, pinned arrays, device memory, nothing left over."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pynn.backends import cuda
from pynn.backends.base import CompileOptions
from pynn.backends.trt import TensorRTBackend, TensorRTExecutable, load_engine
from pynn.backends.trt_session import MAX_SESSIONS
from pynn.converter.model import OnnxModel

from ..native.models import deep, tiny, weights_of

pytestmark = pytest.mark.gpu
ERROR = 2e-3
"""float32 products may be TF32, whatever the flag says, where the process loaded the library so."""


@pytest.fixture(scope="module")
def backend() -> TensorRTBackend:
    return TensorRTBackend()


@pytest.fixture(scope="module")
def device() -> Iterator[cuda.Device]:
    with cuda.Device(cuda.discover().require(), 0) as device:
        yield device


def compiled(backend: TensorRTBackend, model: OnnxModel, **options: Any) -> TensorRTExecutable:
    executable = backend.compile(model, CompileOptions(**{"cache": False, **options}))
    assert isinstance(executable, TensorRTExecutable)
    return executable


def rows(n: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).standard_normal((n, 64), np.float32)


def check(y: np.ndarray[Any, Any], x: np.ndarray[Any, Any]) -> None:
    expected = np.maximum(x.astype(np.float64) @ weights_of().astype(np.float64), 0)
    assert y.shape == expected.shape
    assert np.abs(y - expected).max() <= ERROR * np.abs(expected).max()


def test_static_runs_are_graphs_from_the_first(backend: TensorRTBackend) -> None:
    with compiled(backend, tiny()) as one:
        assert one.stats["cuda_graph"] is True and one.stats["runs"] == 0
        x = rows(4)
        check(one.run({"x": x})["y"], x)


@pytest.mark.parametrize("specialization", ["auto", "lazy", "eager", "none"])
def test_dynamic_shapes_in_any_order(backend: TensorRTBackend, specialization: str) -> None:
    with compiled(backend, tiny("batch"), shapes={"batch": (1, 8, 600)}, kernel_specialization=specialization) as one:
        for i, n in enumerate((8, 1, 8, 600, 17, 8, 33, 5, 64, 600, 1, 2, 3, 17)):
            for repeat in range(3):
                x = rows(n, i * 10 + repeat)
                check(one.run({"x": x})["y"], x)
        assert one.stats["shape_sets"] == MAX_SESSIONS and one.stats["cuda_graph"] is True


@pytest.mark.parametrize("shapes", [None, (1, 8, 64)])
def test_many_threads_on_one_executable(backend: TensorRTBackend, shapes: tuple[int, int, int] | None) -> None:
    model = tiny() if shapes is None else tiny("batch")
    wrong: list[str] = []
    with compiled(backend, model, shapes={} if shapes is None else {"batch": shapes}) as one:

        def work(seed: int) -> None:
            try:
                for i in range(100):
                    x = rows(4 if shapes is None else 1 + (seed * 7 + i) % 9, seed * 1000 + i)
                    check(one.run({"x": x})["y"], x)
            except BaseException as error:
                wrong.append(repr(error))

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong and one.stats["lanes"] <= 8


def test_map_and_futures(backend: TensorRTBackend) -> None:
    with compiled(backend, deep(6)) as one:
        spec = one.inputs[0]
        arrays = [np.random.default_rng(i).standard_normal(spec.shape).astype(spec.numpy) for i in range(40)]
        expected = [one.run({spec.name: a}) for a in arrays]
        for got, want in zip(one.map({spec.name: a} for a in arrays), expected, strict=True):
            for name in want:
                np.testing.assert_array_equal(got[name], want[name])
        futures = [one.run_async({spec.name: a}) for a in arrays]
        for future, want in zip(futures, expected, strict=True):
            for name in want:
                np.testing.assert_array_equal(future.result()[name], want[name])


@pytest.mark.parametrize("n", [4, 700, 70_000])
@pytest.mark.parametrize("pinned", [False, True])
def test_arrays_of_every_size_pinned_or_not(backend: TensorRTBackend, n: int, pinned: bool) -> None:
    with compiled(backend, tiny(n)) as one:
        inputs = one.empty_inputs() if pinned else {"x": np.empty((n, 64), np.float32)}
        out = one.empty_outputs() if pinned else {"y": np.empty((n, 32), np.float32)}
        for i in range(4):
            inputs["x"][...] = rows(n, i)
            assert one.run(inputs, out=out)["y"] is out["y"]
            check(out["y"], inputs["x"])
            check(one.run(inputs)["y"], inputs["x"])


@pytest.mark.parametrize("wait", ["spin", "block", "auto"])
def test_ways_to_wait(backend: TensorRTBackend, wait: str) -> None:
    with compiled(backend, tiny(3000), wait=wait) as one:
        for i in range(3):
            x = rows(3000, i)
            check(one.run({"x": x})["y"], x)


@pytest.mark.parametrize("dynamic", [False, True])
def test_device_runs(backend: TensorRTBackend, device: cuda.Device, dynamic: bool) -> None:
    shapes = {"shapes": {"batch": (1, 8, 64)}} if dynamic else {}
    n = 16 if dynamic else 4
    with compiled(backend, tiny("batch" if dynamic else 4), **shapes) as one, cuda.Stream(device) as stream:
        memories = [cuda.DeviceMemory(device, n * 64 * 4) for _ in range(4)]
        runs = [
            one.bind_device(stream.address, {"x": (a.address, (n, 64))}, {"y": (b.address, (n, 32))})
            for a, b in (memories[:2], memories[2:])
        ]
        back = np.empty((n, 32), np.float32)
        for i in range(5):
            for run, (a, b) in zip(runs, (memories[:2], memories[2:]), strict=True):
                x = rows(n, i)
                with device.current():
                    device.driver.call("cuMemcpyHtoD", a.address, x.ctypes.data, x.nbytes)
                    run.launch()
                    stream.synchronize()
                    device.driver.call("cuMemcpyDtoH", back.ctypes.data, b.address, back.nbytes)
                check(back, x)
        runs[0].close()
        runs[1].launch()
        stream.synchronize()


def test_a_thousand_rounds_leave_no_more_than_the_library(
    backend: TensorRTBackend, device: cuda.Device, tmp_path: Path
) -> None:
    """The library itself keeps some memory of every engine: NVIDIA's own binding, doing the same, is the measure."""
    options = CompileOptions(cache_dir=str(tmp_path))
    engine = backend.compile(tiny(), options)
    assert isinstance(engine, TensorRTExecutable)
    file = engine.engine_file
    kernels = bytes(engine._stock.data)
    engine.close()
    x = rows(4)

    def ours() -> None:
        with load_engine(file, options=options) as one:
            check(one.run({"x": x})["y"], x)

    by_hand = _by_hand(bytes(file.plan), kernels, device)
    growth = {}
    for name, round_trip, rounds in (("hand", by_hand, 300), ("pynn", ours, 1000)):
        for _ in range(20):
            round_trip()
        before, resident = device.free_memory(), _resident()
        for _ in range(rounds):
            round_trip()
        growth[name] = ((before - device.free_memory()) / rounds, (_resident() - resident) / rounds)
    for name, (gpu, host) in growth.items():
        print(f"{name}: {gpu / 1e3:.1f} kB of the GPU and {host / 1e3:.1f} kB of the host a round")
    assert growth["pynn"][0] <= growth["hand"][0] + 20e3
    assert growth["pynn"][1] <= growth["hand"][1] * 1.3 + 20e3


def _by_hand(plan: bytes, kernels: bytes, device: cuda.Device) -> Callable[[], None]:
    """One round by NVIDIA's binding: read the engine and the kernels, run, give all back."""
    trt = pytest.importorskip("tensorrt_rtx_bindings", reason="NVIDIA's binding is not installed: no measure")
    logger = trt.Logger(trt.Logger.ERROR)
    stream = cuda.Stream(device)
    memories = [cuda.DeviceMemory(device, 4096) for _ in range(3)]

    def round_trip() -> None:
        with device.current():
            engine = trt.Runtime(logger).deserialize_cuda_engine(plan)
            config = engine.create_runtime_config()
            config.set_execution_context_allocation_strategy(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
            cache = config.create_runtime_cache()
            cache.deserialize(kernels)
            config.set_runtime_cache(cache)
            context = engine.create_execution_context(config)
            size = context.update_device_memory_size_for_shapes()
            scratch = cuda.DeviceMemory(device, max(size, 256))
            context.set_device_memory(scratch.address, size)
            context.set_tensor_address("x", memories[0].address)
            context.set_tensor_address("y", memories[1].address)
            assert context.execute_async_v3(stream.address)
            stream.synchronize()
            del context, cache, config, engine
            scratch.close()

    return round_trip


def _resident() -> int:
    with open("/proc/self/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * 4096
