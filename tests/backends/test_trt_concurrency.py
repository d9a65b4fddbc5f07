"""Runs side by side: lanes, futures, map, device runs, kernels handed on, memory counted."""

from __future__ import annotations

import copy
import pickle
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from pynn.backends.base import CompileOptions
from pynn.backends.pool import Pool
from pynn.backends.trt_executable import TensorRTExecutable
from pynn.backends.trt_session import KernelStock
from pynn.errors import CudaError, DeviceOutOfMemoryError, ExecutionError, InputError, InvalidStateError

from .trt_fakes import Arrays, Context, Counted, FakeDevice, Fakes, Runner, spec


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> Fakes:
    return Fakes(monkeypatch)


def doubled(arrays: Arrays) -> Arrays:
    return {"y_onnx": arrays["x_onnx"] * 2}


def executable(fakes: Fakes, function: Callable[[Arrays], Arrays] = doubled, **options: Any) -> TensorRTExecutable:
    sides = [[spec(name, "float32", 2)] for name in "xy"]
    return fakes.executable(sides[0], sides[1], function, options=CompileOptions(**options))


def x(value: float) -> Arrays:
    return {"x": np.full(2, value, "f4")}


def in_threads(count: int, work: Callable[[int], None]) -> None:
    threads = [threading.Thread(target=work, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)


def test_one_thread_has_one_lane(fakes: Fakes) -> None:
    with executable(fakes) as one:
        for i in range(5):
            one.run(x(i))
        assert one.stats["lanes"] == 1 and one.stats["runs"] == 5


def test_overlapping_runs_get_lanes_up_to_the_limit(fakes: Fakes) -> None:
    inside, most, lock = 0, 0, threading.Lock()

    def slow(arrays: Arrays) -> Arrays:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.01)
        with lock:
            inside -= 1
        return doubled(arrays)

    wrong: list[float] = []
    with executable(fakes, slow, concurrency=3) as one:

        def work(i: int) -> None:
            values = [10.0 * i + j for j in range(4)]
            if [one.run(x(value))["y"].tolist() for value in values] != [[2 * value] * 2 for value in values]:
                wrong.append(i)

        in_threads(8, work)
        assert most == 3 and one.stats["lanes"] == 3 and one.stats["runs"] == 32
    assert not wrong and fakes.alive == 0


def test_a_lane_that_finds_no_memory_is_done_without(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()

    def wait(arrays: Arrays) -> Arrays:
        if arrays["x_onnx"][0]:
            gate.wait(10)
        return doubled(arrays)

    with executable(fakes, wait) as one:
        first = one.run_async(x(1))
        while one._lanes.free:
            time.sleep(0.001)
        monkeypatch.setattr(Context, "infer_shapes", _out_of_memory)
        second = one.run_async(x(2))
        time.sleep(0.05)
        gate.set()
        assert first.result(10)["y"][0] == 2 and second.result(10)["y"][0] == 4
        assert one.stats["lanes"] == 1 and "at most 1 runs at a time: no memory" in one.stats["lanes_note"]
    assert fakes.alive == 0


def _out_of_memory(_: object) -> None:
    raise DeviceOutOfMemoryError("no memory")


def test_run_async(fakes: Fakes) -> None:
    with executable(fakes) as one:
        futures = [one.run_async(x(i)) for i in range(20)]
        assert [f.result(10)["y"][0] for f in futures] == [2 * i for i in range(20)]
        mine = np.zeros(2, "f4")
        assert one.run_async(x(3), out={"y": mine}).result(10)["y"] is mine and mine[0] == 6
        with pytest.raises(InputError, match="'x'"):
            one.run_async({"x": np.zeros(3, "f4")})
        Runner.failures.append(ExecutionError("no"))
        with pytest.raises(ExecutionError):
            one.run_async(x(1)).result(10)
    with pytest.raises(InvalidStateError):
        one.run_async(x(1))


def test_map_keeps_the_order_and_reads_little_ahead(fakes: Fakes) -> None:
    asked: list[int] = []

    def source() -> Iterator[Arrays]:
        for i in range(50):
            asked.append(i)
            yield x(i)

    with executable(fakes) as one:
        results = one.map(source())
        assert next(results)["y"][0] == 0 and len(asked) <= one._workers + 2
        assert [r["y"][0] for r in results] == [2 * i for i in range(1, 50)]
        half = one.map(source())
        next(half)
        half.close()
        with pytest.raises(InputError):
            list(one.map([x(1), {"x": np.zeros(1, "f4")}, x(2)]))
    assert fakes.alive == 0
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("pynn-run")]


def test_close_while_futures_wait(fakes: Fakes) -> None:
    one = executable(fakes, lambda arrays: time.sleep(0.005) or doubled(arrays))  # type: ignore[func-returns-value]
    futures = [one.run_async(x(i)) for i in range(30)]
    one.close()
    done = [f for f in futures if not f.cancelled()]
    assert all(f.done() for f in futures) and all(f.exception() is None or f.exception() for f in done)
    assert fakes.alive == 0


def test_arrays_of_the_back_end(fakes: Fakes) -> None:
    with executable(fakes) as one:
        inputs, out = one.empty_inputs(), one.empty_outputs()
        inputs["x"][...] = 4
        assert one.run(inputs, out=out)["y"] is out["y"] and out["y"].tolist() == [8, 8]
        assert Counted.alive["PinnedMemory"] == 3
        del inputs
        with pytest.raises(InputError, match="shapes of 'x'"):
            one.empty_inputs({"x": (3,)})
    assert out["y"].tolist() == [8, 8]


def test_device_runs(fakes: Fakes) -> None:
    one = executable(fakes)
    a, b = np.full(2, 3, "f4"), np.zeros(2, "f4")
    at = {"x": (a.ctypes.data, (2,))}
    run = one.bind_device(7, at, {"y": (b.ctypes.data, (2,))})
    run.launch()
    assert b.tolist() == [6, 6] and Counted.alive["Context"] == 2
    run.close()
    run.close()
    with pytest.raises(InvalidStateError):
        run.launch()
    with pytest.raises(InputError, match="has shape"):
        one.bind_device(7, at, {"y": (b.ctypes.data, (3,))})
    with pytest.raises(InputError, match="outputs: got"):
        one.bind_device(7, at, {})
    last = one.bind_device(7, at, {"y": (b.ctypes.data, (2,))})
    one.close()
    assert fakes.alive == 0
    with pytest.raises(InvalidStateError):
        last.launch()


def test_device_runs_of_a_gpu_that_failed_are_given_back(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    def failed(_: object) -> None:
        raise CudaError("cuCtxSynchronize failed: an illegal memory access was encountered")

    one = executable(fakes)
    a, b = np.full(2, 3, "f4"), np.zeros(2, "f4")
    places = {"x": (a.ctypes.data, (2,))}, {"y": (b.ctypes.data, (2,))}
    first, _ = one.bind_device(7, *places), one.bind_device(8, *places)
    monkeypatch.setattr(FakeDevice, "synchronize", failed)
    first.close()
    one.close()
    assert fakes.alive == 0


def test_arrays_are_let_go_when_a_run_fails(fakes: Fakes) -> None:
    sides = [[spec(name, "float32", 1 << 20)] for name in "xy"]
    with fakes.executable(sides[0], sides[1], doubled) as one:
        array = np.ones(1 << 20, "f4")
        gone = weakref.ref(array)
        Runner.failures.append(ExecutionError("no"))
        with pytest.raises(ExecutionError):
            one.run({"x": array})
        del array
        assert gone() is None


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, pickle.dumps])
def test_no_copies(fakes: Fakes, way: Callable[[object], object]) -> None:
    with executable(fakes) as one, pytest.raises(TypeError, match="threads may share it"):
        way(one)


def test_kernels_are_saved_when_there_are_more(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[bytes] = []

    class Cache:
        def load(self) -> bytes:
            return b"old"

        def save(self, data: bytes, merge: Any = None) -> None:
            saved.append(merge(b"other process's kernels", data))

    class Engine:
        def merge_runtime_caches(self, caches: list[bytes]) -> bytes:
            return b"+".join(caches)

    class Warm:
        def __init__(self, kernels: bytes) -> None:
            self.kernels = kernels

        def runtime_cache(self) -> bytes:
            return self.kernels

    stock = KernelStock(Engine(), Cache())  # type: ignore[arg-type]
    given = stock.data
    assert stock.add(Warm(b"old+new"), given) == b"old+new"  # type: ignore[arg-type]
    assert stock.data == b"old+new" and saved == [b"other process's kernels+old+new"]
    assert stock.add(Warm(b"OLD"), given) is given  # type: ignore[arg-type]
    stock.add(Warm(b"old+more"), given)  # type: ignore[arg-type]
    assert stock.data == b"old+new+old+more" and len(saved) == 2


def test_memory_is_counted_and_given_back(fakes: Fakes) -> None:
    one = executable(fakes)
    use = one.memory
    assert use.weights == 4 and use.host_staging == 512 and use.total == 516
    one.close()
    assert one.memory.total == 0


def test_library_graphs_for_dynamic_shapes(fakes: Fakes) -> None:
    sides = [[spec(name, "float32", "n")] for name in "xy"]
    with fakes.executable(
        sides[0], sides[1], doubled, lambda s: {"y_onnx": s["x_onnx"]}, ranges={"x": ((1, 2, 9),)}
    ) as one:
        assert one.stats["cuda_graph"] is True and "TensorRT captures" in one.stats["cuda_graph_reason"]
        with pytest.raises(InputError, match=r"dimension 0 \('n'\) is 10, outside"):
            one.bind_device(7, {"x": (256, (10,))}, {"y": (512, (10,))})
        session = one._sessions()[0]
        assert session._runner.options["use_cuda_graph"] is False


def test_pool_hands_on_and_closes() -> None:
    made: list[int] = []
    pool: Pool[int] = Pool(lambda: made.append(1) or len(made), 2)  # type: ignore[func-returns-value]
    one, two = pool.take(), pool.take()
    got: list[int] = []
    waiter = threading.Thread(target=lambda: got.append(pool.take()))
    waiter.start()
    time.sleep(0.02)
    assert not got
    pool.give(one)
    waiter.join(10)
    assert got == [one]
    failing: Pool[int] = Pool(_fail, 2)
    with pytest.raises(ValueError, match="no"):
        failing.take()
    closer = threading.Thread(target=pool.close)
    closer.start()
    time.sleep(0.02)
    with pytest.raises(InvalidStateError):
        pool.take()
    pool.give(one)
    pool.give(two)
    closer.join(10)
    assert not closer.is_alive()


def test_pool_waits_for_what_is_taken_while_it_closes() -> None:
    raced: list[int] = []

    class Racing(list[int]):
        """Another thread takes one when this is looked at first."""

        def __len__(self) -> int:
            found = super().__len__()
            self._race()
            return found

        def pop(self, index: Any = -1) -> int:
            self._race()
            return super().pop(index)

        def _race(self) -> None:
            if not raced:
                raced.append(super().pop())

    pool: Pool[int] = Pool(iter((1, 2)).__next__, 2)
    for item in [pool.take(), pool.take()]:
        pool.give(item)
    pool.free = Racing(pool.free)
    closed: list[tuple[int, ...]] = []
    closer = threading.Thread(target=lambda: closed.append(pool.close()), daemon=True)
    closer.start()
    closer.join(0.05)
    assert closer.is_alive() and not closed, "closed under a run"
    pool.give(raced[0])
    closer.join(10)
    assert sorted(closed[0]) == [1, 2]


def test_a_wait_that_is_interrupted_hands_its_turn_on(monkeypatch: pytest.MonkeyPatch) -> None:
    pool: Pool[int] = Pool(lambda: 1, 1)
    one = pool.take()
    wait = pool._changed.wait
    outcome: dict[str, object] = {}

    def interrupted(timeout: float | None = None) -> bool:
        done = wait(timeout)
        if threading.current_thread().name == "interrupted":
            raise KeyboardInterrupt
        return done

    def take() -> None:
        try:
            outcome[threading.current_thread().name] = pool.take()
        except KeyboardInterrupt as error:
            outcome[threading.current_thread().name] = error

    monkeypatch.setattr(pool._changed, "wait", interrupted)
    threads = [threading.Thread(target=take, name=name, daemon=True) for name in ("interrupted", "next")]
    for count, thread in enumerate(threads, 1):
        thread.start()
        while pool.waiting < count:
            time.sleep(0.001)
    pool.give(one)
    for thread in threads:
        thread.join(5)
    assert isinstance(outcome["interrupted"], KeyboardInterrupt) and outcome.get("next") == one


def _fail() -> int:
    raise ValueError("no")
