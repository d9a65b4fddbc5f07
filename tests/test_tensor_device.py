"""Tensors in the memory of a GPU, played by a driver that does nothing before it is waited for."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from pynn import ExecutionError, InvalidStateError, MLContext, MLGraph, MLTensor, UnknownError, ValidationError
from pynn.dispatch import MAX_BOUND

from .backends.cuda_fakes import FOREIGN_CONTEXT, FakeApi, Result
from .backends.device_fakes import FakeGpu, FakeRun, gpu_context

F32 = np.float32


@pytest.fixture
def api() -> FakeApi:
    return FakeApi(2)


@pytest.fixture
def gpu(api: FakeApi) -> FakeGpu:
    return FakeGpu(api, lambda a: {"z": a["x"] + a["y"]})


@pytest.fixture
def context(api: FakeApi, gpu: FakeGpu) -> Iterator[MLContext]:
    FakeRun.alive.clear()
    with gpu_context(gpu) as made:
        yield made
    gc.collect()
    assert not FakeRun.alive and api.stack == 0
    assert sorted(set(api.open)) == ["context"], "streams and events are given back"


def add_graph(context: MLContext, data_type: str = "float32") -> MLGraph:
    """z = x + y, [2]."""
    b = context.create_graph_builder()
    return b.build({"z": b.add(b.input("x", [2], data_type), b.input("y", [2], data_type))})


def tensor(context: MLContext, *values: float, data_type: str = "float32") -> MLTensor:
    made = context.create_tensor([2], data_type, readable=True, writable=True)
    if values:
        context.write_tensor(made, np.array(values, data_type))
    return made


def blocks(api: FakeApi) -> int:
    """Allocated, without what is staging."""
    return sum(block.size < 64 << 10 for block in api.blocks.values())


# -- contents


@pytest.mark.parametrize("shape", [[], [3], [2, 0 + 1, 5], [1000, 1100]])
@pytest.mark.parametrize("data_type", ["float16", "int64", "uint8"])
def test_new_tensors_are_zero_and_round_trip(context: MLContext, shape: list[int], data_type: str) -> None:
    made = context.create_tensor(shape, data_type, readable=True, writable=True)
    assert made.location == "gpu"
    zeros = context.read_tensor(made)
    assert zeros.shape == tuple(shape) and zeros.dtype == np.dtype(data_type) and not zeros.any()
    values = np.random.default_rng(0).integers(0, 200, shape).astype(data_type)
    context.write_tensor(made, values)
    np.testing.assert_array_equal(context.read_tensor(made), values)


def test_more_than_all_staging_memory(context: MLContext) -> None:
    made = context.create_tensor([25 << 20], "uint8", readable=True, writable=True)
    values = np.random.default_rng(1).integers(0, 255, 25 << 20, np.uint8)
    context.write_tensor(made, values)
    np.testing.assert_array_equal(context.read_tensor(made), values)
    out = bytearray(25 << 20)
    assert context.read_tensor(made, out) is None
    assert bytes(out) == values.tobytes()


def test_what_is_written_may_be_changed_at_once(context: MLContext) -> None:
    tensors = [tensor(context) for _ in range(20)]
    buffer = np.empty(2, F32)
    for i, made in enumerate(tensors):
        buffer[:] = i
        context.write_tensor(made, buffer)
    buffer[:] = -1
    assert [int(context.read_tensor(made)[0]) for made in tensors] == list(range(20))


def test_reading_into_buffers(context: MLContext) -> None:
    made = tensor(context, 1, 2)
    same, wide, raw = np.empty(2, F32), np.zeros((2, 2), F32), np.empty(8, np.uint8)
    for out in (same, wide[:, 0], raw):
        assert context.read_tensor(made, out) is None
    assert same.tolist() == raw.view(F32).tolist() == wide[:, 0].tolist() == [1, 2] and not wide[:, 1].any()
    with pytest.raises(ValidationError, match="output has 4 bytes, the tensor has 8"):
        context.read_tensor(made, bytearray(4))
    with pytest.raises(ValidationError, match="12 bytes given"):
        context.write_tensor(made, np.zeros(3, F32))


def test_constants_stay_in_main_memory(context: MLContext, api: FakeApi) -> None:
    before = blocks(api)
    made = context.create_constant_tensor(np.ones(2, F32))
    assert made.location == "host" and blocks(api) == before
    b = context.create_graph_builder()
    assert context.compile(b.finish({"z": b.add(b.constant(made), b.input("x", [2], "float32"))}))


def test_no_memory_on_the_gpu(context: MLContext, api: FakeApi) -> None:
    tensor(context)
    api.fails["cuMemAlloc"] = Result.CUDA_ERROR_OUT_OF_MEMORY
    words = r"create_tensor: no GPU memory for 8 bytes \(GPU 0 has 12345 of 1073741824 bytes free\); destroy tensors"
    with pytest.raises(UnknownError, match=words):
        context.create_tensor([2], "float32")
    api.fails.clear()
    api.fails["cuMemHostAlloc"] = Result.CUDA_ERROR_OUT_OF_MEMORY
    with pytest.raises(MemoryError, match="cuMemHostAlloc"):
        context.write_tensor(tensor(context), np.ones(2, F32))
    api.fails.clear()
    assert context.read_tensor(tensor(context, 3, 4)).tolist() == [3, 4]


# -- dispatch


def test_dispatch_is_bound_once_and_launched_each_time(context: MLContext, gpu: FakeGpu) -> None:
    graph = add_graph(context)
    assert graph.stats["dispatch"] is None
    x, y, z = tensor(context, 1, 2), tensor(context, 10, 20), tensor(context)
    for i in range(5):
        context.write_tensor(x, np.array([i, i], F32))
        context.dispatch(graph, {"x": x, "y": y}, {"z": z})
        assert context.read_tensor(z).tolist() == [10 + i, 20 + i]
    (made,) = gpu.made
    assert (made.bindings, made.launches, made.runs) == (1, 5, 0)
    assert (graph.stats["dispatch"], graph.stats["dispatch_reason"]) == ("gpu", "")


def test_dispatch_returns_before_the_work_is_done(context: MLContext, api: FakeApi) -> None:
    graph = add_graph(context)
    x, y, z = tensor(context, 1, 2), tensor(context, 10, 20), tensor(context)
    for _ in range(3):
        context.dispatch(graph, {"x": x, "y": y}, {"z": z})
    assert any(api.work.values()), "nobody waited"
    context.dispatch(graph, {"x": z, "y": y}, {"z": x})
    assert context.read_tensor(x).tolist() == [21, 42]


def test_names_decide_not_the_order_of_the_mapping(context: MLContext, gpu: FakeGpu) -> None:
    gpu.function = lambda a: {"z": a["x"] - a["y"]}
    graph = add_graph(context)
    a, b, z = tensor(context, 5, 5), tensor(context, 1, 1), tensor(context)
    for inputs, expected in (
        ({"x": a, "y": b}, 4), ({"y": b, "x": a}, 4), ({"x": b, "y": a}, -4), ({"y": a, "x": b}, -4),
    ) * 2:  # fmt: skip
        context.dispatch(graph, inputs, {"z": z})
        assert context.read_tensor(z)[0] == expected


@pytest.mark.parametrize("kind", ["mapping", "tensor", "name", "missing", "twice", "destroyed", "graph"])
def test_a_ready_dispatch_checks_as_much_as_the_first(context: MLContext, gpu: FakeGpu, kind: str) -> None:
    graph, x, y, z = add_graph(context), tensor(context, 1, 2), tensor(context, 3, 4), tensor(context)
    context.dispatch(graph, {"x": x, "y": y}, {"z": z})
    inputs: Any = {"x": x, "y": y}
    error: type[Exception] = ValidationError
    if kind == "mapping":
        inputs = [x, y]
    elif kind == "tensor":
        inputs["x"] = np.ones(2)
    elif kind == "name":
        inputs = {"x": x, "b": y}
    elif kind == "missing":
        del inputs["y"]
    elif kind == "twice":
        inputs["y"] = x
    elif kind == "destroyed":
        y.destroy()
    else:
        graph.destroy()
        error = InvalidStateError
    with pytest.raises(error, match="dispatch"):
        context.dispatch(graph, inputs, {"z": z})
    with gpu_context(gpu) as other, pytest.raises(ValidationError, match="another context"):
        other.dispatch(graph, {"x": x, "y": y}, {"z": z})


def test_a_graph_without_inputs_takes_none(context: MLContext, gpu: FakeGpu) -> None:
    gpu.function = lambda _: {"z": np.full(2, 7, F32)}
    b = context.create_graph_builder()
    graph = b.build({"z": b.relu(b.constant(np.ones(2, F32)))})
    z = tensor(context)
    context.dispatch(graph, {}, {"z": z})
    assert context.read_tensor(z).tolist() == [7, 7]
    with pytest.raises(ValidationError, match="not of this graph"):
        context.dispatch(graph, {"z": z}, {})


def test_a_new_tensor_in_an_old_ones_place_is_bound_anew(context: MLContext, gpu: FakeGpu) -> None:
    graph, y, z = add_graph(context), tensor(context, 1, 1), tensor(context)
    for i in range(50):
        x = tensor(context, i, i)
        context.dispatch(graph, {"x": x, "y": y}, {"z": z})
        assert context.read_tensor(z)[0] == i + 1
        if i % 2:
            x.destroy()
        del x
    assert gpu.made[0].bindings == 50 and len(graph._ready.kept) <= 1


def test_few_sets_of_tensors_are_kept_and_those_in_use_longest(context: MLContext, gpu: FakeGpu) -> None:
    graph, y, z = add_graph(context), tensor(context, 1, 1), tensor(context)
    often = tensor(context, 5, 5)
    others = [tensor(context, i, i) for i in range(3 * MAX_BOUND)]
    for i, x in enumerate(others):
        context.dispatch(graph, {"x": often, "y": y}, {"z": z})
        context.dispatch(graph, {"x": x, "y": y}, {"z": z})
        assert context.read_tensor(z)[0] == i + 1
        assert len(graph._ready.kept) <= MAX_BOUND and len(FakeRun.alive) <= MAX_BOUND
    assert gpu.made[0].bindings == 3 * MAX_BOUND + 1


def test_a_failing_launch_is_told_and_the_next_one_works(context: MLContext, gpu: FakeGpu) -> None:
    graph, x, y, z = add_graph(context), tensor(context, 1, 2), tensor(context, 3, 4), tensor(context)
    context.dispatch(graph, {"x": x, "y": y}, {"z": z})
    (bound,) = graph._ready.kept.values()
    run = bound.run
    assert run is not None
    launch, failures = run.launch, [ExecutionError("no"), TypeError("no"), KeyError("no")]
    for error in failures:

        def fail(error: Exception = error) -> None:
            raise error

        run.launch = fail  # type: ignore[method-assign]
        with pytest.raises(type(error)):
            context.dispatch(graph, {"x": x, "y": y}, {"z": z})
    run.launch = launch  # type: ignore[method-assign]
    context.dispatch(graph, {"x": x, "y": y}, {"z": z})
    assert context.read_tensor(z).tolist() == [4, 6]
    assert gpu.made[0].bindings == 1


# -- the way by main memory


@pytest.mark.parametrize(
    ("data_type", "carriers", "way", "reason"),
    [
        ("uint32", {"x": "int32", "y": "int32", "z": "int32"}, "gpu", ""),
        ("uint32", {"x": "int64", "y": "int64", "z": "int64"}, "host", "'x' is uint32, which the engine has as int64"),
        ("uint8", {"z": "bool"}, "gpu", ""),
        ("uint8", {"y": "bool"}, "host", "'y' is uint8, which the engine has as bool"),
        ("int64", {"z": "float32"}, "host", "'z' is int64, which the engine has as float32"),
        ("int32", {"x": "float32"}, "host", "'x' is int32, which the engine has as float32"),
    ],
)
def test_types_that_the_engine_has_otherwise(
    context: MLContext, gpu: FakeGpu, data_type: str, carriers: dict[str, str], way: str, reason: str
) -> None:
    gpu.carriers = carriers
    gpu.function = lambda a: {"z": np.minimum(a["x"], 1)}
    graph = add_graph(context, data_type)
    x, y, z = (tensor(context, *values, data_type=data_type) for values in ((1, 0), (0, 0), (0, 0)))
    for _ in range(2):
        context.dispatch(graph, {"x": x, "y": y}, {"z": z})
        assert context.read_tensor(z).tolist() == [1, 0]
    assert (graph.stats["dispatch"], graph.stats["dispatch_reason"]) == (way, reason)


def test_a_graph_that_another_back_end_runs(api: FakeApi) -> None:
    gpu = FakeGpu(api, lambda a: {"z": a["x"] + a["y"]}, binds=False)
    with gpu_context(gpu) as context:
        graph, x, y, z = add_graph(context), tensor(context, 1, 2), tensor(context, 3, 4), tensor(context)
        context.dispatch(graph, {"x": x, "y": y}, {"z": z})
        context.dispatch(graph, {"x": z, "y": y}, {"z": x})
        assert context.read_tensor(x).tolist() == [7, 10]
        assert graph.stats["dispatch"] == "host" and "does not take memory of a GPU" in graph.stats["dispatch_reason"]
        assert gpu.made[0].runs == 2


def test_compute_takes_arrays_as_ever(context: MLContext, gpu: FakeGpu) -> None:
    graph = add_graph(context)
    result = context.compute(graph, {"x": np.array([1, 2], F32), "y": np.array([3, 4], F32)})
    assert result["z"].tolist() == [4, 6] and gpu.made[0].runs == 1


# -- the end of tensors, graphs and contexts


def test_tensors_destroyed_in_flight(context: MLContext, api: FakeApi) -> None:
    graph, y = add_graph(context), tensor(context, 10, 20)
    before = blocks(api)
    x, z, w = tensor(context, 1, 2), tensor(context), tensor(context)
    context.dispatch(graph, {"x": x, "y": y}, {"z": z})
    context.dispatch(graph, {"x": z, "y": y}, {"z": w})
    x.destroy()
    z.destroy()
    assert context.read_tensor(w).tolist() == [21, 42]
    assert blocks(api) == before + 1
    w.destroy()
    assert blocks(api) == before
    assert w.destroyed and w.location == "gpu"


def test_tensors_forgotten_in_flight(context: MLContext, api: FakeApi) -> None:
    graph, y, w = add_graph(context), tensor(context, 10, 20), tensor(context)
    before = blocks(api)
    for _ in range(10):
        x = tensor(context, 1, 2)
        context.dispatch(graph, {"x": x, "y": y}, {"z": w})
        del x
        gc.collect()
        assert blocks(api) == before and not FakeRun.alive and not graph._ready.kept
        assert context.read_tensor(w).tolist() == [11, 22]


def test_the_tensors_of_the_last_dispatches_are_held_until_the_next_tensor(context: MLContext, api: FakeApi) -> None:
    graph, y, w = add_graph(context), tensor(context, 10, 20), tensor(context)
    before = blocks(api)
    for _ in range(2):
        x = tensor(context, 1, 2)
        for _ in range(4):
            context.dispatch(graph, {"x": x, "y": y}, {"z": w})
        del x
        gc.collect()
        assert blocks(api) == before + 1
    x = tensor(context, 5, 5)
    gc.collect()
    assert blocks(api) == before + 1
    x.destroy()
    assert blocks(api) == before


def test_what_is_retired_while_the_stream_is_in_use_goes_later(context: MLContext, api: FakeApi) -> None:
    x, y = tensor(context, 1, 2), tensor(context, 1, 2)
    queue = context._queue()
    assert queue is not None
    before = blocks(api)
    with queue.using():
        x.destroy()
        assert blocks(api) == before, "the one who uses the stream is not disturbed"
    context.read_tensor(y)
    assert blocks(api) == before - 1


def test_a_graph_destroyed_in_flight(context: MLContext, gpu: FakeGpu) -> None:
    graph, x, y, z = add_graph(context), tensor(context, 1, 2), tensor(context, 3, 4), tensor(context)
    context.dispatch(graph, {"x": x, "y": y}, {"z": z})
    graph.destroy()
    assert not FakeRun.alive
    assert context.read_tensor(z).tolist() == [4, 6]


def test_an_executable_closed_by_its_user(context: MLContext, gpu: FakeGpu) -> None:
    graph, x, y, z = add_graph(context), tensor(context, 1, 2), tensor(context, 3, 4), tensor(context)
    for _ in range(2):
        context.dispatch(graph, {"x": x, "y": y}, {"z": z})
    graph.executable.close()
    with pytest.raises(InvalidStateError, match="closed"):
        context.dispatch(graph, {"x": x, "y": y}, {"z": z})
    assert context.read_tensor(z).tolist() == [4, 6]


def test_a_forgotten_graph_is_not_kept_by_its_tensors(context: MLContext, gpu: FakeGpu) -> None:
    graph, x, y, z = add_graph(context), tensor(context, 1, 2), tensor(context, 3, 4), tensor(context)
    context.dispatch(graph, {"x": x, "y": y}, {"z": z})
    context.read_tensor(z)
    gone = weakref.ref(graph.executable)
    gpu.made.clear()
    del graph
    gc.collect()
    assert gone() is None


def test_a_graph_forgotten_in_flight(context: MLContext, gpu: FakeGpu, api: FakeApi) -> None:
    graph, x, y, z = add_graph(context), tensor(context, 1, 2), tensor(context, 3, 4), tensor(context)
    context.dispatch(graph, {"x": x, "y": y}, {"z": z})
    (run,) = FakeRun.alive
    del graph
    gc.collect()
    assert run.closed, "it is closed when the stream has passed, not left to garbage collection"
    assert context.read_tensor(z).tolist() == [4, 6]


def test_a_graph_that_its_context_leads_to_can_be_forgotten(gpu: FakeGpu, api: FakeApi) -> None:
    context = gpu_context(gpu)
    graph, x, y, z = add_graph(context), tensor(context, 1, 2), tensor(context, 3, 4), tensor(context)
    context.dispatch(graph, {"x": x, "y": y}, {"z": z})
    context.lost.add_done_callback(lambda _, graph=graph: None)  # type: ignore[misc]
    gpu.made.clear()
    del context, graph, x, y, z
    gc.collect()
    gc.collect()
    assert api.blocks == {} and api.open == ["context"] and not FakeRun.alive


def test_destroying_a_context_gives_everything_back(api: FakeApi, gpu: FakeGpu) -> None:
    for _ in range(20):
        context = gpu_context(gpu)
        graph, x, y, z = add_graph(context), tensor(context, 1, 2), tensor(context, 3, 4), tensor(context)
        context.dispatch(graph, {"x": x, "y": y}, {"z": z})
        context.destroy()
        assert api.blocks == {} and api.open == ["context"] and not FakeRun.alive
        with pytest.raises(ValidationError, match=r"destroyed \(the context is lost"):
            context.read_tensor(z)
        with pytest.raises(InvalidStateError, match="lost"):
            context.create_tensor([2], "float32")
        with pytest.raises(InvalidStateError, match="lost"):
            context.dispatch(graph, {"x": x, "y": y}, {"z": z})


def test_a_forgotten_context_gives_everything_back(api: FakeApi, gpu: FakeGpu) -> None:
    context = gpu_context(gpu)
    graph, x, y, z = add_graph(context), tensor(context, 1, 2), tensor(context, 3, 4), tensor(context)
    context.dispatch(graph, {"x": x, "y": y}, {"z": z})
    gpu.made.clear()
    del context, graph, x, y, z
    gc.collect()
    assert api.blocks == {} and api.open == ["context"]


# -- streams of the user


class Protocol:
    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def __cuda_stream__(self) -> Any:
        return self._answer


@pytest.mark.parametrize("form", ["handle", "protocol", "legacy", "legacy by 0", "per thread"])
def test_runs_are_ordered_with_the_users_stream(context: MLContext, api: FakeApi, form: str) -> None:
    graph, x, y, z = add_graph(context), tensor(context), tensor(context, 1, 1), tensor(context)
    address = x._storage.address  # type: ignore[union-attr]
    result = z._storage.address  # type: ignore[union-attr]
    handle = {"legacy": 1, "legacy by 0": 1, "per thread": 2}.get(form) or api.new_stream()
    given: Any = {"protocol": Protocol((0, handle)), "legacy by 0": 0}.get(form, handle)
    seen = []
    for value in range(20):
        api.put(handle, lambda value=value: api.bytes_at(address, 8).view(F32).fill(value))  # type: ignore[misc]
        context.dispatch(graph, {"x": x, "y": y}, {"z": z}, stream=given)
        api.put(handle, lambda: seen.append(float(api.bytes_at(result, 8).view(F32)[0])))
    api.run(handle)
    assert seen == [value + 1 for value in range(20)]


def test_the_way_by_main_memory_is_ordered_too(api: FakeApi) -> None:
    with gpu_context(FakeGpu(api, lambda a: {"z": a["x"] + a["y"]}, binds=False)) as context:
        graph, x, y, z = add_graph(context), tensor(context), tensor(context, 1, 1), tensor(context)
        address, result = x._storage.address, z._storage.address  # type: ignore[union-attr]
        handle, seen = api.new_stream(), []
        for value in range(5):
            api.put(handle, lambda value=value: api.bytes_at(address, 8).view(F32).fill(value))  # type: ignore[misc]
            context.dispatch(graph, {"x": x, "y": y}, {"z": z}, stream=handle)
            api.put(handle, lambda: seen.append(float(api.bytes_at(result, 8).view(F32)[0])))
        api.run(handle)
        assert seen == [1, 2, 3, 4, 5]


def test_streams_that_cannot_be_used(context: MLContext, api: FakeApi) -> None:
    graph, x, y, z = add_graph(context), tensor(context), tensor(context), tensor(context)
    foreign = api.new_stream(FOREIGN_CONTEXT)
    for stream, words in (
        (foreign, "belongs to another CUDA context; pynn runs in the primary context of GPU 0"),
        (123456789, "0x75bcd15 is no CUDA stream"),
        (-1, "stream must be a CUDA stream's handle"),
        ("fast", "stream must be a CUDA stream's handle or an object with __cuda_stream__, got 'fast'"),
        (True, "stream must be"),
        (Protocol(5), "gave 5, not"),
        (Protocol((0, -3)), "not .0, handle"),
        (Protocol((1, 5)), "version 1; pynn knows 0"),
    ):
        with pytest.raises(ValidationError, match=words):
            context.dispatch(graph, {"x": x, "y": y}, {"z": z}, stream=stream)


def test_a_context_has_a_stream_of_its_own(context: MLContext, api: FakeApi, gpu: FakeGpu) -> None:
    version, handle = context.__cuda_stream__()
    assert version == 0 and handle in api.work
    with gpu_context(gpu) as other:
        graph = add_graph(other)
        x, y, z = tensor(other, 1, 1), tensor(other, 1, 1), tensor(other)
        other.dispatch(graph, {"x": x, "y": y}, {"z": z}, stream=context)
        assert other.read_tensor(z).tolist() == [2, 2]


# -- threads and loops


def test_threads_share_a_context(context: MLContext) -> None:
    graph = add_graph(context)
    y = tensor(context, 1, 1)

    def work(number: int) -> bool:
        x, z = tensor(context), tensor(context)
        for i in range(30):
            context.write_tensor(x, np.full(2, number * 100 + i, F32))
            context.dispatch(graph, {"x": x, "y": y}, {"z": z})
            if context.read_tensor(z)[0] != number * 100 + i + 1:
                return False
        x.destroy()
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(8)))


def test_tensors_destroyed_by_another_thread(context: MLContext) -> None:
    """Either the dispatch works or it says that the tensor is destroyed; never a launch on freed memory."""
    graph, y, z = add_graph(context), tensor(context, 1, 1), tensor(context)
    for _ in range(30):
        x = tensor(context, 1, 2)
        start = threading.Barrier(2)

        def destroy(x: MLTensor = x, start: threading.Barrier = start) -> None:
            start.wait()
            x.destroy()

        thread = threading.Thread(target=destroy)
        thread.start()
        start.wait()
        try:
            for _ in range(20):
                context.dispatch(graph, {"x": x, "y": y}, {"z": z})
        except ValidationError as error:
            assert "destroyed" in str(error)  # noqa: PT017
        thread.join()
        context.read_tensor(z)


def test_graphs_destroyed_by_another_thread(context: MLContext) -> None:
    x, y, z = tensor(context, 1, 2), tensor(context, 1, 1), tensor(context)
    for _ in range(30):
        graph = add_graph(context)
        context.dispatch(graph, {"x": x, "y": y}, {"z": z})
        start = threading.Barrier(2)

        def destroy(graph: MLGraph = graph, start: threading.Barrier = start) -> None:
            start.wait()
            graph.destroy()

        thread = threading.Thread(target=destroy)
        thread.start()
        start.wait()
        try:
            for _ in range(20):
                context.dispatch(graph, {"x": x, "y": y}, {"z": z})
        except InvalidStateError as error:
            assert "destroyed" in str(error) or "closed" in str(error)  # noqa: PT017
        thread.join()
        assert context.read_tensor(z).tolist() == [2, 3]


def test_awaited_reads_keep_their_place(context: MLContext) -> None:
    async def work() -> None:
        graph, x, y, z = add_graph(context), tensor(context), tensor(context, 1, 1), tensor(context)
        reads = []
        for value in range(20):
            context.write_tensor(x, np.full(2, value, F32))
            context.dispatch(graph, {"x": x, "y": y}, {"z": z})
            reads.append(asyncio.ensure_future(context.read_tensor_async(z)))
            await asyncio.sleep(0)
        results = await asyncio.gather(*reads)
        assert [int(array[0]) for array in results] == [v + 1 for v in range(20)]  # type: ignore[index]

    asyncio.run(work())


def test_a_pending_read_holds_up_neither_the_loop_nor_other_calls(context: MLContext, api: FakeApi) -> None:
    graph, x, y, z = add_graph(context), tensor(context, 1, 2), tensor(context, 1, 1), tensor(context)
    gate, waiting = threading.Event(), api.cuEventSynchronize

    async def work() -> None:
        context.dispatch(graph, {"x": x, "y": y}, {"z": z})
        api.cuEventSynchronize = lambda event: gate.wait(10) and waiting(event)  # type: ignore[method-assign]
        first, second = (asyncio.ensure_future(context.read_tensor_async(z)) for _ in range(2))
        await asyncio.sleep(0.02)
        assert not first.done() and not second.done()
        context.dispatch(graph, {"x": z, "y": y}, {"z": x})
        context.dispatch(graph, {"x": x, "y": y}, {"z": z})
        gate.set()
        assert [list(await read) for read in (first, second)] == [[2, 3], [2, 3]]  # type: ignore[arg-type]
        assert context.read_tensor(z).tolist() == [4, 5]

    asyncio.run(work())


@pytest.mark.parametrize("end", ["tensor", "context"])
def test_a_pending_read_fails_when_its_tensor_goes(context: MLContext, api: FakeApi, end: str) -> None:
    x, gate, waiting = tensor(context, 1, 2), threading.Event(), api.cuEventSynchronize

    async def work() -> None:
        api.cuEventSynchronize = lambda event: gate.wait(10) and waiting(event)  # type: ignore[method-assign]
        read = asyncio.ensure_future(context.read_tensor_async(x))
        await asyncio.sleep(0.02)
        if end == "tensor":
            x.destroy()
        gate.set()
        if end == "context":
            context.destroy()
        with pytest.raises(InvalidStateError, match="destroyed during the read"):
            await read

    asyncio.run(work())
