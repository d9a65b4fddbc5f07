"""The CUDA driver through cuda-python: devices, the primary context, memory, streams. Loaded only for a GPU path.

The primary context is used, so that PyTorch and CuPy in the same process share it. Managed memory never is.
"""

from __future__ import annotations

import ctypes
import functools
import sys
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
from typing_extensions import Self

from ..errors import CudaError, DeviceOutOfMemoryError, DeviceUnsupportedError, ForkError
from ..native.binding import fork_guard

DRIVER_NAME = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_OUT_OF_MEMORY, _NO_DEVICE = 2, 100


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """A GPU. ``compute_capability`` is major * 10 + minor: 86 is 8.6."""

    index: int
    name: str
    compute_capability: int
    memory: int

    @property
    def title(self) -> str:
        return f"{self.name} (compute capability {capability_text(self.compute_capability)})"


def capability_text(capability: int) -> str:
    return f"{capability // 10}.{capability % 10}"


@dataclass(frozen=True, slots=True)
class Discovery:
    """What the driver said. ``driver`` is None when there is none or no GPU: then ``reason`` and ``hint`` say why."""

    driver: Driver | None
    reason: str = ""
    hint: str = ""

    def require(self) -> Driver:
        if self.driver is None:
            raise DeviceUnsupportedError(f"{self.reason}; {self.hint}" if self.hint else self.reason)
        return self.driver


def discover() -> Discovery:
    """Ask the driver API for GPUs. Never raises. The answer is kept for the process; a child of fork asks anew."""
    with _discovering:
        return _discover(fork_guard.epoch)


_discovering = threading.Lock()


@functools.lru_cache(maxsize=1)
def _discover(epoch: int) -> Discovery:
    try:
        ctypes.CDLL(DRIVER_NAME)
    except OSError as error:
        return Discovery(None, f"there is no NVIDIA driver: {error}", "install the NVIDIA driver (580 or newer)")
    try:
        from cuda.bindings import driver as api
    except ImportError as error:
        return Discovery(None, f"cuda-python cannot be imported: {error}", "pip install cuda-python")
    try:
        driver = Driver(api)
    except Exception as error:
        hint = "CUDA does not survive a fork: start workers with 'spawn'" if epoch else "see nvidia-smi"
        return Discovery(None, f"the NVIDIA driver does not start: {error}", hint)
    if not driver.devices:
        return Discovery(None, "the NVIDIA driver is installed but sees no GPU", "look at CUDA_VISIBLE_DEVICES")
    return Discovery(driver)


class Driver:
    """cuda-python's driver bindings (12 and 13), initialised; errors become exceptions."""

    def __init__(self, api: Any) -> None:
        self.api = api
        code = int(api.cuInit(0)[0])
        if code not in (0, _NO_DEVICE):
            self._fail(code, "cuInit")
        self.version = int(self.call("cuDriverGetVersion"))
        count = 0 if code == _NO_DEVICE else int(self.call("cuDeviceGetCount"))
        self.devices = tuple(self._device(index) for index in range(count))

    @property
    def version_text(self) -> str:
        """The CUDA version that the driver supports, as "13.0"."""
        return f"{self.version // 1000}.{self.version % 1000 // 10}"

    def _device(self, index: int) -> DeviceInfo:
        handle, attribute = self.call("cuDeviceGet", index), self.api.CUdevice_attribute
        name = self.call("cuDeviceGetName", 256, handle)
        text = name.split(b"\0")[0].decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
        major = self.call("cuDeviceGetAttribute", attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, handle)
        minor = self.call("cuDeviceGetAttribute", attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, handle)
        return DeviceInfo(index, text, int(major) * 10 + int(minor), int(self.call("cuDeviceTotalMem", handle)))

    def call(self, function: str, *arguments: Any) -> Any:
        """The function's result, or a tuple of several. Raises CudaError, DeviceOutOfMemoryError."""
        code, *values = getattr(self.api, function)(*arguments)
        if int(code):
            self._fail(int(code), function)
        return values[0] if len(values) == 1 else tuple(values) or None

    def _fail(self, code: int, function: str) -> None:
        result = self.api.CUresult(code)
        text = self.api.cuGetErrorString(result)[1]
        why = text.decode() if isinstance(text, bytes) else result.name
        kind = DeviceOutOfMemoryError if code == _OUT_OF_MEMORY else CudaError
        raise kind(f"{function} failed: {why} ({result.name})")


class Resource:
    """Owns something of the driver; given back by ``close``, by garbage collection, not at exit nor after a fork."""

    def __init__(self, device: Device | None, release: Callable[..., object], *arguments: Any) -> None:
        self._epoch = fork_guard.epoch
        self._finalizer = weakref.finalize(self, _release, device, self._epoch, release, arguments)
        self._finalizer.atexit = False

    def close(self) -> None:
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _release(device: Device | None, epoch: int, release: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    """Errors are not raised: what fails here is a context that is gone, and the memory with it."""
    if epoch != fork_guard.epoch:
        return
    if device is None:
        release(*arguments)
        return
    api = device.driver.api
    if int(api.cuCtxPushCurrent(device.context)[0]) == 0:
        release(*arguments)
        api.cuCtxPopCurrent()


class Device(Resource):
    """A GPU's primary context, retained."""

    def __init__(self, driver: Driver, index: int) -> None:
        if not 0 <= index < len(driver.devices):
            listing = ", ".join(f"{d.index}: {d.name}" for d in driver.devices)
            raise DeviceUnsupportedError(f"there is no GPU {index}; found {listing}")
        self.driver = driver
        self.info = driver.devices[index]
        handle = driver.call("cuDeviceGet", index)
        self.context = driver.call("cuDevicePrimaryCtxRetain", handle)
        super().__init__(None, driver.api.cuDevicePrimaryCtxRelease, handle)

    @property
    def context_address(self) -> int:
        """The CUcontext as a number."""
        return int(self.context)

    @property
    def usable(self) -> bool:
        """False after close, and in a child of fork."""
        return self._finalizer.alive and self._epoch == fork_guard.epoch

    def current(self) -> Current:
        """Make the context current on this thread: ``with device.current(): ...``."""
        if self._epoch != fork_guard.epoch:
            raise ForkError("this GPU context was made before os.fork(); CUDA does not survive a fork: use 'spawn'")
        return Current(self)

    def synchronize(self) -> None:
        """Wait for all work of all streams of this GPU's primary context."""
        with self.current():
            self.driver.call("cuCtxSynchronize")

    def free_memory(self) -> int:
        with self.current():
            return int(self.driver.call("cuMemGetInfo")[0])


class Current:
    """The context of a device, current on this thread inside ``with``."""

    def __init__(self, device: Device) -> None:
        self._device = device

    def __enter__(self) -> None:
        self._device.driver.call("cuCtxPushCurrent", self._device.context)

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._device.driver.call("cuCtxPopCurrent")


class DeviceMemory(Resource):
    """Memory of the GPU."""

    def __init__(self, device: Device, size: int) -> None:
        with device.current():
            pointer = device.driver.call("cuMemAlloc", max(size, 1))
        self.address = int(pointer)
        self.size = size
        super().__init__(device, device.driver.api.cuMemFree, pointer)


class PinnedMemory(Resource):
    """Page-locked host memory that the GPU also sees: at ``device_address``."""

    def __init__(self, device: Device, size: int) -> None:
        api = device.driver.api
        flags = api.CU_MEMHOSTALLOC_PORTABLE | api.CU_MEMHOSTALLOC_DEVICEMAP
        with device.current():
            pointer = device.driver.call("cuMemHostAlloc", max(size, 1), flags)
            try:
                self.device_address = int(device.driver.call("cuMemHostGetDevicePointer", pointer, 0))
            except BaseException:
                api.cuMemFreeHost(pointer)
                raise
        self.address = int(pointer)
        self.size = size
        super().__init__(device, api.cuMemFreeHost, pointer)

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return {"shape": (self.size,), "typestr": "|u1", "data": (self.address, False), "version": 3}

    def view(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """The bytes as an array, which keeps this object alive (but not from ``close``)."""
        return np.asarray(self)


class StreamHandle:
    """A stream by its handle, owned by somebody else. Its methods want the device's context current, but for
    ``synchronize``."""

    def __init__(self, device: Device, handle: Any) -> None:
        self._device, self._stream = device, handle
        self.address = int(handle)

    def synchronize(self) -> None:
        self._device.driver.call("cuStreamSynchronize", self._stream)

    def record(self, event: Event) -> None:
        self._device.driver.call("cuEventRecord", event.handle, self._stream)

    def wait(self, event: Event) -> None:
        """Later work of this stream waits for the event."""
        self._device.driver.call("cuStreamWaitEvent", self._stream, event.handle, 0)

    def context_address(self) -> int:
        """The CUcontext of the stream as a number; for the default streams the one that is current."""
        return int(self._device.driver.call("cuStreamGetCtx", self._stream))

    def copy_in(self, device_address: int, host_address: int, size: int) -> None:
        """Asynchronous from pinned memory, which must stay as it is until the stream has passed."""
        self._device.driver.call("cuMemcpyHtoDAsync", device_address, host_address, size, self._stream)

    def copy_out(self, host_address: int, device_address: int, size: int) -> None:
        self._device.driver.call("cuMemcpyDtoHAsync", host_address, device_address, size, self._stream)

    def copy_within(self, target: int, source: int, size: int) -> None:
        self._device.driver.call("cuMemcpyDtoDAsync", target, source, size, self._stream)

    def zero(self, device_address: int, size: int) -> None:
        self._device.driver.call("cuMemsetD8Async", device_address, 0, size, self._stream)


class Stream(StreamHandle, Resource):
    """A stream of ours that does not wait for the legacy default stream."""

    def __init__(self, device: Device) -> None:
        api = device.driver.api
        with device.current():
            stream = device.driver.call("cuStreamCreate", int(api.CUstream_flags.CU_STREAM_NON_BLOCKING))
        StreamHandle.__init__(self, device, stream)
        Resource.__init__(self, device, api.cuStreamDestroy, stream)


class Event(Resource):
    """A point in a stream's work. With ``timing`` the time between two can be asked."""

    def __init__(self, device: Device, *, timing: bool = False) -> None:
        flags = device.driver.api.CUevent_flags
        kind = flags.CU_EVENT_DEFAULT if timing else flags.CU_EVENT_DISABLE_TIMING
        with device.current():
            self.handle = device.driver.call("cuEventCreate", int(kind))
        self._device = device
        super().__init__(device, device.driver.api.cuEventDestroy, self.handle)

    def synchronize(self) -> None:
        self._device.driver.call("cuEventSynchronize", self.handle)

    def seconds_since(self, earlier: Event) -> float:
        return float(self._device.driver.call("cuEventElapsedTime", earlier.handle, self.handle)) / 1000
