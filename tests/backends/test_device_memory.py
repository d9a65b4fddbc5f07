"""A context's stream on a fake GPU: staging, order between streams, what waits until the stream has passed."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from pynn.backends.base import CompileOptions
from pynn.backends.cuda import Device, Driver
from pynn.backends.device_memory import DeviceQueue, same_bits
from pynn.backends.trt import TensorRTBackend
from pynn.errors import CudaError, DeviceOutOfMemoryError, InvalidStateError
from pynn.native.binding import fork_guard

from .cuda_fakes import FakeApi, Result
from .trt_fakes import spec


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
def queue(api: FakeApi) -> Iterator[DeviceQueue]:
    made = DeviceQueue(Device(Driver(api), 0), threading.RLock())
    yield made
    made.close()
    made.close()
    gc.collect()
    assert set(api.open) <= {"context"}


def test_staging_is_reused_only_when_its_copy_is_done(queue: DeviceQueue, api: FakeApi) -> None:
    memories = [queue.allocate(1000) for _ in range(30)]
    for i, memory in enumerate(memories):
        queue.write(memory.address, np.full(1000, i, np.uint8))
    assert sum(block.size == 64 << 10 for block in api.blocks.values()) <= 4
    for i, memory in enumerate(memories):
        target = np.empty(1000, np.uint8)
        queue.read(memory.address, target)
        assert (target == i).all()


def test_reads_begun_together_are_finished_in_any_order(queue: DeviceQueue) -> None:
    memory = queue.allocate(1000)
    targets, finishers = [np.empty(1000, np.uint8) for _ in range(10)], []
    for i, target in enumerate(targets):
        queue.write(memory.address, np.full(1000, i, np.uint8))
        finishers.append(queue.begin_read(memory.address, target))
    for finish in reversed(finishers):
        finish()
    assert [int(target[0]) for target in targets] == list(range(10))


def test_a_stream_that_failed_is_told_where_it_is_waited_for(queue: DeviceQueue, api: FakeApi) -> None:
    memory = queue.allocate(1000)
    api.fails["cuEventSynchronize"] = Result.CUDA_ERROR_INVALID_VALUE
    with pytest.raises(CudaError, match="cuEventSynchronize"):
        queue.read(memory.address, np.empty(1000, np.uint8))
    api.fails.clear()
    api.fails["cuMemAlloc"] = Result.CUDA_ERROR_OUT_OF_MEMORY
    with pytest.raises(DeviceOutOfMemoryError):
        queue.allocate(5)
    api.fails.clear()
    target = np.empty(1000, np.uint8)
    queue.read(memory.address, target)
    assert not target.any() and api.stack == 0


def test_order_with_another_stream(queue: DeviceQueue, api: FakeApi) -> None:
    user = queue.user_stream("here", api.new_stream())
    seen: list[str] = []
    for i in range(3):
        api.put(user.address, lambda i=i: seen.append(f"before {i}"))  # type: ignore[misc]
        with queue.using():
            queue.follow(user)
            api.put(queue.stream.address, lambda i=i: seen.append(f"run {i}"))  # type: ignore[misc]
            queue.lead(user)
        api.put(user.address, lambda i=i: seen.append(f"after {i}"))  # type: ignore[misc]
    api.run(user.address)
    assert seen == [f"{what} {i}" for i in range(3) for what in ("before", "run", "after")]


def test_the_gate(queue: DeviceQueue, api: FakeApi) -> None:
    seen: list[str] = []
    gate = queue.gate
    assert gate is queue.gate and gate.address != queue.stream.address
    api.put(gate.address, lambda: seen.append("producer"))
    queue.pass_gate()
    api.put(queue.stream.address, lambda: seen.append("run"))
    queue.stream.synchronize()
    assert seen == ["producer", "run"]


def test_what_is_retired_waits_for_the_stream(queue: DeviceQueue, api: FakeApi) -> None:
    seen: list[str] = []

    def fail() -> None:
        seen.append("failed")
        raise CudaError("no")

    api.put(queue.stream.address, lambda: seen.append("run"))
    with queue.using():
        queue.retire(fail)
        assert seen == []
    queue.retire(lambda: seen.append("gone"))
    assert seen == ["run", "failed", "gone"]


def test_retiring_never_waits_for_another_thread(queue: DeviceQueue) -> None:
    seen: list[str] = []
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with queue.using():
            entered.set()
            leave.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    entered.wait(10)
    queue.retire(lambda: seen.append("gone"))
    assert seen == []
    leave.set()
    holder.join()
    with queue.using():
        assert seen == ["gone"]


def test_after_close(queue: DeviceQueue) -> None:
    seen: list[str] = []
    memory = queue.allocate(10)
    queue.close()
    queue.retire(lambda: seen.append("gone"))
    assert seen == ["gone"]
    with pytest.raises(InvalidStateError, match="the context is destroyed"):
        queue.read(memory.address, np.empty(10, np.uint8))


def test_everything_goes_after_a_failure(queue: DeviceQueue, api: FakeApi) -> None:
    memory = queue.allocate(1000)
    queue.write(memory.address, np.zeros(1000, np.uint8))
    queue.begin_read(memory.address, np.empty(1000, np.uint8))()
    memory.close()
    api.fails["cuEventSynchronize"] = api.fails["cuStreamSynchronize"] = Result.CUDA_ERROR_INVALID_VALUE
    queue.close()
    api.fails.clear()
    assert not api.blocks and set(api.open) <= {"context"}


def test_a_child_of_fork_touches_nothing(queue: DeviceQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(fork_guard, "epoch", fork_guard.epoch + 1)
        queue.retire(lambda: seen.append("gone"))
    assert seen == []


@pytest.mark.parametrize(
    ("data_type", "carrier", "inputs", "outputs"),
    [
        ("float32", "", True, True),
        ("float32", "float32", True, True),
        ("uint32", "int32", True, True),
        ("uint8", "int8", True, True),
        ("uint32", "int64", False, False),
        ("uint8", "bool", False, True),
        ("int32", "float32", False, False),
        ("float16", "bfloat16", False, False),
        ("float64", "float32", False, False),
        ("bool", "uint8", False, False),
    ],
)
def test_types_of_the_same_bits(data_type: str, carrier: str, inputs: bool, outputs: bool) -> None:
    tensor = spec("x", data_type, 2, carrier=carrier)
    assert same_bits(tensor, is_output=False) is inputs
    assert same_bits(tensor, is_output=True) is outputs


def test_the_back_end_says_on_which_gpu_its_tensors_are(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    device: Any = Device(Driver(api), 0)
    monkeypatch.setattr(TensorRTBackend, "_usable", lambda self, options: (None, device))
    assert TensorRTBackend().device(CompileOptions()) is device
