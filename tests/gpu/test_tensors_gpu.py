"""Tensors in the memory of a real GPU: values, order between streams, DLPack with PyTorch, what a dispatch costs.

python -m pytest tests/gpu/test_tensors_gpu.py --require=gpu
"""

from __future__ import annotations

import gc
import statistics
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import pynn
from pynn import MLContext, MLGraph, MLTensor, UnknownError, ValidationError
from pynn.backends import cuda
from pynn.types import ALL_TYPES

pytestmark = pytest.mark.gpu

F32 = np.float32
LARGE = 1 << 20


@pytest.fixture
def context() -> Iterator[MLContext]:
    with pynn.ML().create_context(backend="tensorrt") as made:
        yield made


@pytest.fixture
def torch() -> Any:
    module = pytest.importorskip("torch", reason="PyTorch is not installed")
    if not module.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    return module


def affine(context: MLContext, size: int) -> MLGraph:
    """y = 2 x + 1, exact for small integers."""
    b = context.create_graph_builder()
    x = b.input("x", [size], "float32")
    return b.build({"y": b.add(b.mul(x, b.constant("float32", 2)), b.constant("float32", 1))})


def heavy(context: MLContext, layers: int = 40, size: int = 4096) -> MLGraph:
    """Milliseconds of work."""
    b = context.create_graph_builder()
    w = b.constant(np.random.default_rng(0).standard_normal((size, size), F32) / size**0.5)
    y = b.input("x", [size, size], "float32")
    for _ in range(layers):
        y = b.relu(b.matmul(y, w))
    return b.build({"y": y})


def tensor(context: MLContext, size: int = LARGE) -> MLTensor:
    return context.create_tensor([size], "float32", readable=True, writable=True)


# -- values and order on the context's own stream


@pytest.mark.parametrize("size", [1, 1000, LARGE, 9 * LARGE])
def test_contents_round_trip(context: MLContext, size: int) -> None:
    made = tensor(context, size)
    assert made.location == "gpu" and not context.read_tensor(made).any()
    values = np.random.default_rng(size).standard_normal(size, F32)
    context.write_tensor(made, values)
    np.testing.assert_array_equal(context.read_tensor(made), values)
    out = np.empty(size, F32)
    assert context.read_tensor(made, out) is None
    np.testing.assert_array_equal(out, values)


def test_a_chain_of_dispatches(context: MLContext) -> None:
    graph = affine(context, LARGE)
    a, b = tensor(context), tensor(context)
    expected = np.arange(LARGE, dtype=F32) % 5
    context.write_tensor(a, expected)
    for _ in range(4):
        context.dispatch(graph, {"x": a}, {"y": b})
        context.dispatch(graph, {"x": b}, {"y": a})
        expected = 2 * (2 * expected + 1) + 1
    np.testing.assert_array_equal(context.read_tensor(a), expected)
    assert (graph.stats["dispatch"], graph.stats["dispatch_reason"]) == ("gpu", "")


def test_writes_between_dispatches_are_seen_in_order(context: MLContext) -> None:
    graph, x, y = affine(context, 3 * LARGE), tensor(context, 3 * LARGE), tensor(context, 3 * LARGE)
    values = np.empty(3 * LARGE, F32)
    for i in range(30):
        values[:] = i
        context.write_tensor(x, values)
        values[:] = -1
        context.dispatch(graph, {"x": x}, {"y": y})
        result = context.read_tensor(y)
        assert (result == 2 * i + 1).all(), i


@pytest.mark.parametrize("data_type", sorted(ALL_TYPES))
def test_all_types_whatever_the_engine_has(context: MLContext, data_type: str) -> None:
    b = context.create_graph_builder()
    x = b.input("x", [2, 100], data_type)
    graph = b.build({"y": b.concat([x, x], 0)})
    source = context.create_tensor([2, 100], data_type, writable=True)
    target = context.create_tensor([4, 100], data_type, readable=True)
    values = np.arange(200).reshape(2, 100).astype(data_type)
    context.write_tensor(source, values)
    for _ in range(3):
        context.dispatch(graph, {"x": source}, {"y": target})
    np.testing.assert_array_equal(context.read_tensor(target), np.concatenate([values, values]))
    assert graph.stats["dispatch"] in ("gpu", "host")
    assert (graph.stats["dispatch"] == "gpu") == (graph.stats["dispatch_reason"] == "")


def test_many_sets_of_tensors(context: MLContext) -> None:
    graph, y = affine(context, 100), tensor(context, 100)
    sources = [tensor(context, 100) for _ in range(40)]
    for round_ in range(2):
        for i, x in enumerate(sources):
            context.write_tensor(x, np.full(100, i + round_, F32))
            context.dispatch(graph, {"x": x}, {"y": y})
            assert context.read_tensor(y)[99] == 2 * (i + round_) + 1


def test_tensors_destroyed_and_forgotten_in_flight(context: MLContext) -> None:
    graph = affine(context, LARGE)
    first, last = tensor(context), tensor(context)
    for i in range(100):
        context.write_tensor(first, np.full(LARGE, i, F32))
        middle = tensor(context)
        context.dispatch(graph, {"x": first}, {"y": middle})
        context.dispatch(graph, {"x": middle}, {"y": last})
        if i % 2:
            middle.destroy()
        del middle
        other = tensor(context)  # may get the same memory
        context.write_tensor(other, np.full(LARGE, -1, F32))
        assert (context.read_tensor(last) == 4 * i + 3).all()


def test_a_graph_destroyed_in_flight(context: MLContext) -> None:
    for i in range(10):
        graph, x, y = affine(context, LARGE), tensor(context), tensor(context)
        context.write_tensor(x, np.full(LARGE, i, F32))
        context.dispatch(graph, {"x": x}, {"y": y})
        graph.destroy()
        assert (context.read_tensor(y) == 2 * i + 1).all()


def test_threads_share_a_graph(context: MLContext) -> None:
    graph = affine(context, 1000)
    failures: list[object] = []

    def work(number: int) -> None:
        x, y = tensor(context, 1000), tensor(context, 1000)
        for i in range(100):
            context.write_tensor(x, np.full(1000, number * 1000 + i, F32))
            context.dispatch(graph, {"x": x}, {"y": y})
            if not (context.read_tensor(y) == 2 * (number * 1000 + i) + 1).all():
                failures.append((number, i))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


# -- what it costs


def test_a_dispatch_returns_before_the_work_is_done(context: MLContext) -> None:
    graph = heavy(context)
    x, y = (context.create_tensor([4096, 4096], "float32", readable=True) for _ in range(2))
    for _ in range(3):
        context.dispatch(graph, {"x": x}, {"y": y})
        context.read_tensor(y)
    start = time.perf_counter()
    context.dispatch(graph, {"x": x}, {"y": y})
    sent = time.perf_counter() - start
    context.read_tensor(y)
    assert sent < (time.perf_counter() - start) / 5


def test_host_time_of_a_dispatch(context: MLContext) -> None:
    """``benchmarks/dispatch_overhead/gpu.py`` has the exact number; this notices when the ready way is not taken."""
    graph, x, y = affine(context, 64), tensor(context, 64), tensor(context, 64)
    inputs, outputs = {"x": x}, {"y": y}
    for _ in range(100):
        context.dispatch(graph, inputs, outputs)
    context.read_tensor(y)
    times = []
    for i in range(2000):
        start = time.perf_counter_ns()
        context.dispatch(graph, inputs, outputs)
        times.append(time.perf_counter_ns() - start)
        if i % 20 == 0:
            context.read_tensor(y)
    assert statistics.median(times) < 10_000, f"{statistics.median(times) / 1000} us"


def test_memory_is_given_back() -> None:
    device = cuda.Device(cuda.discover().require(), 0)

    def rounds(count: int) -> None:
        for _ in range(count):
            with pynn.ML().create_context(backend="tensorrt") as context:
                for _ in range(20):
                    made = tensor(context, 4 * LARGE)
                    context.write_tensor(made, np.ones(4 * LARGE, F32))
        gc.collect()

    rounds(2)
    before = device.free_memory()
    rounds(10)
    assert before - device.free_memory() < 32 << 20


def test_no_memory_left(context: MLContext) -> None:
    held = []

    def fill() -> None:
        for _ in range(1000):
            held.append(context.create_tensor([2_000_000_000], "uint8"))  # noqa: PERF401

    with pytest.raises(UnknownError, match=r"no GPU memory for 2000000000 bytes \(GPU 0 has \d+ of \d+ bytes free\)"):
        fill()
    for made in held:
        made.destroy()
    assert not context.read_tensor(tensor(context)).any()


# -- other libraries


def test_torch_shares_a_tensors_memory(context: MLContext, torch: Any) -> None:
    x, y = tensor(context), tensor(context)
    graph = affine(context, LARGE)
    theirs = torch.from_dlpack(x)
    assert theirs.is_cuda and theirs.dtype == torch.float32 and tuple(theirs.shape) == (LARGE,)
    theirs.fill_(3)
    stream = torch.cuda.current_stream().cuda_stream
    context.dispatch(graph, {"x": x}, {"y": y}, stream=stream)
    result = torch.from_dlpack(y)
    assert bool((result == 7).all())
    again = context.from_dlpack(result)
    assert torch.from_dlpack(again).data_ptr() == result.data_ptr() == y._storage.address  # type: ignore[union-attr]
    y.destroy()
    again.destroy()
    context.destroy()
    assert bool((result == 7).all()), "the consumer keeps the memory"


def test_a_tensor_shares_torchs_memory(context: MLContext, torch: Any) -> None:
    graph = affine(context, LARGE)
    source, target = torch.full((LARGE,), 5.0, device="cuda"), torch.zeros(LARGE, device="cuda")
    x, y = context.from_dlpack(source), context.from_dlpack(target)
    assert x._storage.address == source.data_ptr()  # type: ignore[union-attr]
    context.dispatch(graph, {"x": x}, {"y": y}, stream=torch.cuda.current_stream().cuda_stream)
    assert bool((target == 11).all())
    assert graph.stats["dispatch"] == "gpu"
    for _ in range(50):  # the tensor alone keeps the memory
        x = context.from_dlpack(torch.full((LARGE,), 6.0, device="cuda"))
        torch.full((LARGE,), 9.0, device="cuda")
        context.dispatch(graph, {"x": x}, {"y": y})
        assert (context.read_tensor(y) == 13).all()


@pytest.mark.parametrize("data_type", ["float16", "int32", "int64", "int8", "uint8", "float32"])
def test_types_of_torch(context: MLContext, torch: Any, data_type: str) -> None:
    source = torch.arange(100, device="cuda").to(getattr(torch, data_type))
    x = context.from_dlpack(source)
    assert x.data_type == data_type
    np.testing.assert_array_equal(context.read_tensor(x), source.cpu().numpy())
    assert torch.equal(torch.from_dlpack(x), source)


def test_arrays_of_torch_that_cannot_be_shared(context: MLContext, torch: Any) -> None:
    for made, words in (
        (torch.zeros(4), "the array is on the CPU, .* on CUDA:0: copy=True copies it"),
        (torch.zeros(4, 5, device="cuda").t(), "not C-contiguous"),
        (torch.zeros(8, device="cuda")[::2], "not C-contiguous"),
        (torch.zeros(4, dtype=torch.float64, device="cuda"), "unknown data type 'float64'"),
        (torch.zeros(4, dtype=torch.bfloat16, device="cuda"), "unknown data type 'bfloat16'"),
        (torch.zeros(4, dtype=torch.bool, device="cuda"), "unknown data type 'bool'"),
    ):
        with pytest.raises(ValidationError, match=words):
            context.from_dlpack(made)
    assert context.read_tensor(context.from_dlpack(torch.ones(4), copy=True)).tolist() == [1] * 4


def test_memory_in_the_middle_of_an_array(context: MLContext, torch: Any) -> None:
    whole = torch.arange(200, dtype=torch.float32, device="cuda")
    x, y = context.from_dlpack(whole[1:101]), tensor(context, 100)
    graph = affine(context, 100)
    context.dispatch(graph, {"x": x}, {"y": y})
    np.testing.assert_array_equal(context.read_tensor(y), 2 * np.arange(1, 101, dtype=F32) + 1)
    assert "multiple of 256 bytes" in graph.stats["dispatch_reason"]


def test_cuda_array_interface(context: MLContext, torch: Any) -> None:
    x = tensor(context)
    context.write_tensor(x, np.full(LARGE, 4, F32))
    context.read_tensor(x)  # PyTorch does not look at the interface's stream
    theirs = torch.as_tensor(x, device="cuda")
    assert theirs.data_ptr() == x.__cuda_array_interface__["data"][0]
    x.destroy()
    assert bool((theirs == 4).all())


@pytest.mark.parametrize("form", ["handle", "protocol", "default"])
def test_order_with_a_stream_of_torch(context: MLContext, torch: Any, form: str) -> None:
    """What is late on one stream must be waited for by the other, both ways, 500 times."""
    graph, x, y = affine(context, LARGE), tensor(context), tensor(context)
    stream = torch.cuda.default_stream() if form == "default" else torch.cuda.Stream()

    class Protocol:
        def __cuda_stream__(self) -> tuple[int, int]:
            return 0, stream.cuda_stream

    given = Protocol() if form == "protocol" else stream.cuda_stream
    with torch.cuda.stream(stream):
        source, target = torch.from_dlpack(x), torch.from_dlpack(y)
        seen = torch.zeros(500, 2, device="cuda")
        for i in range(500):
            torch.cuda._sleep(20_000)
            source.fill_(i % 1000)
            context.dispatch(graph, {"x": x}, {"y": y}, stream=given)
            seen[i, 0] = target.min()
            seen[i, 1] = target.max()
    stream.synchronize()
    expected = 2 * (np.arange(500) % 1000) + 1
    np.testing.assert_array_equal(seen.cpu().numpy(), np.stack([expected, expected], 1))
    assert graph.stats["dispatch"] == "gpu"


def test_dlpack_orders_streams(context: MLContext, torch: Any) -> None:
    """``from_dlpack`` on both sides waits for what the producer's stream does, without ``stream=``."""
    graph, y = affine(context, LARGE), tensor(context)
    side = torch.cuda.Stream()
    for i in range(100):
        with torch.cuda.stream(side):
            source = torch.empty(LARGE, device="cuda")
            torch.cuda._sleep(100_000)
            source.fill_(i)
            x = context.from_dlpack(source)
        context.dispatch(graph, {"x": x}, {"y": y})
        with torch.cuda.stream(side):
            result = torch.from_dlpack(y).clone()
            side.synchronize()
            assert bool((result == 2 * i + 1).all()), i


def test_two_contexts_are_ordered_by_their_streams(context: MLContext) -> None:
    with pynn.ML().create_context(backend="tensorrt") as other:
        first, second = affine(context, LARGE), affine(other, LARGE)
        a, b, d = tensor(context), tensor(context), tensor(other)
        c = other.from_dlpack(b)
        for i in range(100):
            context.write_tensor(a, np.full(LARGE, i, F32))
            context.dispatch(first, {"x": a}, {"y": b})
            other.dispatch(second, {"x": c}, {"y": d}, stream=context)
            assert (other.read_tensor(d) == 4 * i + 3).all()


def test_a_stream_of_another_context(context: MLContext) -> None:
    driver = cuda.discover().require()
    handle = driver.call("cuDeviceGet", 0)
    try:
        foreign = driver.call("cuCtxCreate", None, 0, handle)  # cuda-python 13
    except TypeError:
        foreign = driver.call("cuCtxCreate", 0, handle)
    stream = driver.call("cuStreamCreate", 1)
    driver.call("cuCtxPopCurrent")
    try:
        graph, x, y = affine(context, 64), tensor(context, 64), tensor(context, 64)
        with pytest.raises(ValidationError, match="belongs to another CUDA context"):
            context.dispatch(graph, {"x": x}, {"y": y}, stream=int(stream))
        with pytest.raises(ValidationError, match="belongs to another CUDA context"):
            x.__dlpack__(stream=int(stream))
    finally:
        driver.call("cuCtxDestroy", foreign)


def test_numpy_gets_a_copy_when_it_asks_for_main_memory(context: MLContext) -> None:
    x = tensor(context, 10)
    context.write_tensor(x, np.arange(10, dtype=F32))
    capsule = x.__dlpack__(dl_device=(1, 0))
    assert "dltensor" in repr(capsule)
    if tuple(map(int, np.__version__.split(".")[:2])) < (2, 1):
        pytest.skip("numpy before 2.1 cannot ask for a device")
    np.testing.assert_array_equal(np.from_dlpack(x, device="cpu"), np.arange(10))


def test_two_gpus(torch: Any) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("there is one GPU")
    with pynn.ML().create_context(backend="tensorrt", device=1) as context:
        graph, y = affine(context, 100), tensor(context, 100)
        x = context.from_dlpack(torch.ones(100, device="cuda:1"))
        context.dispatch(graph, {"x": x}, {"y": y})
        assert (context.read_tensor(y) == 3).all()
        assert torch.from_dlpack(y).device.index == 1
        with pytest.raises(ValidationError, match=r"on CUDA:0, .* on CUDA:1"):
            context.from_dlpack(torch.ones(100, device="cuda:0"))
