"""cuda.py over a driver API played by a stand-in; its names against the real cuda-python."""

from __future__ import annotations

import gc
import re
from pathlib import Path

import numpy as np
import pytest

from pynn.backends import cuda
from pynn.backends.cuda import Device, DeviceMemory, Driver, Event, PinnedMemory, Stream
from pynn.errors import CudaError, DeviceOutOfMemoryError, DeviceUnsupportedError

from .cuda_fakes import FakeApi, Result


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
