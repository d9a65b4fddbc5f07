"""cuda.py over a driver API played by a stand-in; its names against the real cuda-python."""

from __future__ import annotations

import gc
import re
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pynn.backends import cuda
from pynn.backends.cuda import Device, DeviceMemory, Driver, Event, PinnedMemory, Stream
from pynn.errors import CudaError, DeviceOutOfMemoryError, DeviceUnsupportedError


class Result(IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_NO_DEVICE = 100
    CUDA_ERROR_INVALID_CONTEXT = 201


class FakeApi:
    """Counts what is open; ``fails`` maps a function's name to an error."""

    CUresult = Result
    CU_MEMHOSTALLOC_PORTABLE, CU_MEMHOSTALLOC_DEVICEMAP = 1, 2

    class CUstream_flags:  # noqa: N801
        CU_STREAM_NON_BLOCKING = 1

    class CUevent_flags:  # noqa: N801
        CU_EVENT_DEFAULT, CU_EVENT_DISABLE_TIMING = 0, 2

    class CUdevice_attribute:  # noqa: N801
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = "major"
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = "minor"

    def __init__(self, devices: int = 1, fails: dict[str, Result] | None = None) -> None:
        self.devices, self.fails = devices, fails or {}
        self.stack = 0
        self.blocks: dict[int, np.ndarray[Any, Any]] = {}
        self.open: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        value = object.__getattribute__(self, name)
        if name.startswith("cu") and name in self.fails and name != "cuGetErrorString":
            return lambda *_: (self.fails[name], None)
        return value

    def cuInit(self, flags: int) -> Any:  # noqa: N802
        return (Result.CUDA_SUCCESS,)

    def cuDriverGetVersion(self) -> Any:  # noqa: N802
        return Result.CUDA_SUCCESS, 13010

    def cuDeviceGetCount(self) -> Any:  # noqa: N802
        return Result.CUDA_SUCCESS, self.devices

    def cuDeviceGet(self, index: int) -> Any:  # noqa: N802
        return Result.CUDA_SUCCESS, index

    def cuDeviceGetName(self, size: int, device: int) -> Any:  # noqa: N802
        return Result.CUDA_SUCCESS, b"Fake GPU\0\0\0"

    def cuDeviceGetAttribute(self, attribute: str, device: int) -> Any:  # noqa: N802
        return Result.CUDA_SUCCESS, {"major": 12, "minor": 1}[attribute]

    def cuDeviceTotalMem(self, device: int) -> Any:  # noqa: N802
        return Result.CUDA_SUCCESS, 1 << 30

    def cuGetErrorString(self, result: Result) -> Any:  # noqa: N802
        return Result.CUDA_SUCCESS, f"text of {int(result)}".encode()

    def cuDevicePrimaryCtxRetain(self, device: int) -> Any:  # noqa: N802
        self.open.append("context")
        return Result.CUDA_SUCCESS, 77

    def cuDevicePrimaryCtxRelease(self, device: int) -> Any:  # noqa: N802
        self.open.remove("context")
        return (Result.CUDA_SUCCESS,)

    def cuCtxPushCurrent(self, context: int) -> Any:  # noqa: N802
        self.stack += 1
        return (Result.CUDA_SUCCESS,)

    def cuCtxPopCurrent(self) -> Any:  # noqa: N802
        self.stack -= 1
        return Result.CUDA_SUCCESS, 77

    def _allocate(self, size: int) -> Any:
        assert self.stack == 1, "no context is current"
        block = np.zeros(size, np.uint8)
        self.blocks[block.ctypes.data] = block
        return Result.CUDA_SUCCESS, block.ctypes.data

    def cuMemAlloc(self, size: int) -> Any:  # noqa: N802
        return self._allocate(size)

    def cuMemHostAlloc(self, size: int, flags: int) -> Any:  # noqa: N802
        assert flags == 3
        return self._allocate(size)

    def cuMemHostGetDevicePointer(self, pointer: int, flags: int) -> Any:  # noqa: N802
        return Result.CUDA_SUCCESS, pointer + 1

    def cuMemFree(self, pointer: int) -> Any:  # noqa: N802
        assert self.stack == 1, "no context is current"
        del self.blocks[pointer]
        return (Result.CUDA_SUCCESS,)

    cuMemFreeHost = cuMemFree  # noqa: N815

    def cuStreamCreate(self, flags: int) -> Any:  # noqa: N802
        assert flags == 1
        self.open.append("stream")
        return Result.CUDA_SUCCESS, 5

    def cuStreamDestroy(self, stream: int) -> Any:  # noqa: N802
        self.open.remove("stream")
        return (Result.CUDA_SUCCESS,)

    def cuStreamSynchronize(self, stream: int) -> Any:  # noqa: N802
        return (Result.CUDA_SUCCESS,)

    def cuEventCreate(self, flags: int) -> Any:  # noqa: N802
        self.open.append("event")
        return Result.CUDA_SUCCESS, 6

    def cuEventDestroy(self, event: int) -> Any:  # noqa: N802
        self.open.remove("event")
        return (Result.CUDA_SUCCESS,)


def test_devices_are_described() -> None:
    driver = Driver(FakeApi(2))
    assert driver.version_text == "13.1"
    assert [d.title for d in driver.devices] == ["Fake GPU (compute capability 12.1)"] * 2
    assert driver.devices[1].memory == 1 << 30 and driver.devices[1].index == 1


def test_driver_without_gpu() -> None:
    assert Driver(FakeApi(fails={"cuInit": Result.CUDA_ERROR_NO_DEVICE})).devices == ()


def test_errors_name_function_and_reason() -> None:
    driver = Driver(FakeApi())
    driver.api.fails["cuMemAlloc"] = Result.CUDA_ERROR_OUT_OF_MEMORY
    device = Device(driver, 0)
    with pytest.raises(DeviceOutOfMemoryError, match=r"cuMemAlloc failed: text of 2 \(CUDA_ERROR_OUT_OF_MEMORY\)"):
        DeviceMemory(device, 10)
    assert driver.api.stack == 0
    driver.api.fails["cuStreamCreate"] = Result.CUDA_ERROR_INVALID_CONTEXT
    with pytest.raises(CudaError, match="cuStreamCreate"):
        Stream(device)
    with pytest.raises(CudaError, match="cuInit"):
        Driver(FakeApi(fails={"cuInit": Result.CUDA_ERROR_INVALID_CONTEXT}))


def test_missing_device_lists_those_there() -> None:
    with pytest.raises(DeviceUnsupportedError, match="no GPU 3; found 0: Fake GPU"):
        Device(Driver(FakeApi()), 3)


def test_everything_is_given_back_by_close_and_by_collection() -> None:
    api = FakeApi()
    device = Device(Driver(api), 0)
    things = [PinnedMemory(device, 100), DeviceMemory(device, 100), Stream(device), Event(device)]
    assert len(api.blocks) == 2 and sorted(api.open) == ["context", "event", "stream"]
    things[0].close(), things[0].close()
    assert len(api.blocks) == 1
    del device
    gc.collect()
    assert "context" in api.open, "the context outlives what was made in it"
    del things
    gc.collect()
    assert api.blocks == {} and api.open == [] and api.stack == 0


def test_half_made_pinned_memory_is_freed() -> None:
    api = FakeApi(fails={"cuMemHostGetDevicePointer": Result.CUDA_ERROR_INVALID_CONTEXT})
    device = Device(Driver(api), 0)
    with pytest.raises(CudaError):
        PinnedMemory(device, 100)
    assert api.blocks == {} and api.stack == 0


def test_pinned_memory_is_seen_without_a_copy_and_kept_by_its_views() -> None:
    api = FakeApi()
    memory = PinnedMemory(Device(Driver(api), 0), 16)
    assert memory.device_address == memory.address + 1
    (block,) = api.blocks.values()
    view = memory.view()[4:8].view(np.float32)
    view[...] = 1.5
    assert block[4:8].view(np.float32)[0] == 1.5
    del memory
    gc.collect()
    assert api.blocks
    del view
    gc.collect()
    assert not api.blocks


def test_zero_bytes_are_allocated_as_one() -> None:
    api = FakeApi()
    memory = DeviceMemory(Device(Driver(api), 0), 0)
    assert memory.size == 0 and len(api.blocks) == 1


def test_names_exist_in_cuda_python() -> None:
    api = pytest.importorskip("cuda.bindings.driver", reason="cuda-python is not installed")
    source = Path(cuda.__file__).read_text(encoding="utf-8")
    names = {*re.findall(r'"(cu[A-Z]\w+)"', source), *re.findall(r"api\.(\w+)", source)} - {"bindings"}
    assert len(names) > 20 and not [name for name in names if not hasattr(api, name)]
    assert "cuMemAllocManaged" not in source


def test_discovery_never_raises() -> None:
    found = cuda.discover()
    assert found.driver is not None or (found.reason and found.hint)
    assert cuda.discover() is found
    if found.driver is None:
        with pytest.raises(DeviceUnsupportedError):
            found.require()
