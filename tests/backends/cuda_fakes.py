"""A CUDA driver made of numpy: memory of the GPU is main memory, and streams do nothing until somebody waits for them.

So whatever relies on order without having asked for it fails, as it might on a GPU on its worst day.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from enum import IntEnum
from typing import Any

import numpy as np

OWN_CONTEXT, FOREIGN_CONTEXT = 77, 99


class Result(IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_VALUE = 1
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_NO_DEVICE = 100
    CUDA_ERROR_INVALID_CONTEXT = 201
    CUDA_ERROR_INVALID_HANDLE = 400


Done = tuple[Result]
Ticket = tuple[int, object]


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
        self.work: dict[int, deque[Callable[[], object]]] = {1: deque(), 2: deque()}
        self.contexts: dict[int, int] = {}
        self._lock = threading.RLock()
        self._done: set[object] = set()
        self._events: dict[int, Ticket] = {}
        self._next = 1000

    def __getattribute__(self, name: str) -> Any:
        value = object.__getattribute__(self, name)
        if name.startswith("cu") and name in self.fails and name != "cuGetErrorString":
            return lambda *_: (self.fails[name], None)
        return value

    # -- devices

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
        return Result.CUDA_SUCCESS, OWN_CONTEXT

    def cuDevicePrimaryCtxRelease(self, device: int) -> Any:  # noqa: N802
        self.open.remove("context")
        return (Result.CUDA_SUCCESS,)

    def cuCtxPushCurrent(self, context: int) -> Any:  # noqa: N802
        self.stack += 1
        return (Result.CUDA_SUCCESS,)

    def cuCtxPopCurrent(self) -> Any:  # noqa: N802
        self.stack -= 1
        return Result.CUDA_SUCCESS, OWN_CONTEXT

    def cuCtxSynchronize(self) -> Any:  # noqa: N802
        for stream in list(self.work):
            self.run(stream)
        return (Result.CUDA_SUCCESS,)

    # -- memory

    def _allocate(self, size: int) -> Any:
        assert self.stack, "no context is current"
        raw = np.full(size + 256, 0xA5, np.uint8)
        start = -raw.ctypes.data % 256
        block = raw[start : start + size]
        self.blocks[block.ctypes.data] = block
        return Result.CUDA_SUCCESS, block.ctypes.data

    def bytes_at(self, address: int, size: int) -> np.ndarray[Any, Any]:
        """Memory that is allocated now."""
        for start, block in self.blocks.items():
            if start <= address and address + size <= start + block.size:
                return block[address - start : address - start + size]
        raise AssertionError(f"{size} bytes at {address:#x} are not allocated")

    def cuMemAlloc(self, size: int) -> Any:  # noqa: N802
        return self._allocate(size)

    def cuMemHostAlloc(self, size: int, flags: int) -> Any:  # noqa: N802
        assert flags == 3
        return self._allocate(size)

    def cuMemHostGetDevicePointer(self, pointer: int, flags: int) -> Any:  # noqa: N802
        return Result.CUDA_SUCCESS, pointer + 1

    def cuMemFree(self, pointer: int) -> Any:  # noqa: N802
        assert self.stack, "no context is current"
        del self.blocks[pointer]
        return (Result.CUDA_SUCCESS,)

    cuMemFreeHost = cuMemFree  # noqa: N815

    def cuMemGetInfo(self) -> Any:  # noqa: N802
        return Result.CUDA_SUCCESS, 12345, 1 << 30

    def _copy(self, target: int, source: int, size: int, stream: int) -> Done:
        def copy() -> None:
            self.bytes_at(target, size)[:] = self.bytes_at(source, size)

        return self.put(stream, copy)

    cuMemcpyHtoDAsync = cuMemcpyDtoHAsync = cuMemcpyDtoDAsync = _copy  # noqa: N815

    def cuMemsetD8Async(self, target: int, value: int, size: int, stream: int) -> Done:  # noqa: N802
        return self.put(stream, lambda: self.bytes_at(target, size).fill(value))

    # -- streams

    def put(self, stream: int, work: Callable[[], object]) -> Done:
        with self._lock:
            assert stream in self.work, f"there is no stream {stream}"
            self.work[stream].append(work)
        return (Result.CUDA_SUCCESS,)

    def run(self, stream: int, until: object = None) -> None:
        """Do what is on the stream, or the part up to a ticket."""
        with self._lock:
            while self.work.get(stream) and (until is None or until not in self._done):
                self.work[stream].popleft()()

    def cuStreamCreate(self, flags: int) -> Any:  # noqa: N802
        assert flags == 1
        self.open.append("stream")
        self._next += 1
        self.work[self._next] = deque()
        return Result.CUDA_SUCCESS, self._next

    def cuStreamDestroy(self, stream: int) -> Any:  # noqa: N802
        self.run(stream)
        del self.work[stream]
        self.open.remove("stream")
        return (Result.CUDA_SUCCESS,)

    def cuStreamSynchronize(self, stream: int) -> Any:  # noqa: N802
        assert stream in self.work, f"there is no stream {stream}"
        self.run(stream)
        return (Result.CUDA_SUCCESS,)

    def cuStreamGetCtx(self, stream: int) -> Any:  # noqa: N802
        if stream not in self.work:
            return Result.CUDA_ERROR_INVALID_HANDLE, 0
        return Result.CUDA_SUCCESS, self.contexts.get(stream, OWN_CONTEXT)

    def cuEventCreate(self, flags: int) -> Any:  # noqa: N802
        self.open.append("event")
        self._next += 1
        return Result.CUDA_SUCCESS, self._next

    def cuEventDestroy(self, event: int) -> Any:  # noqa: N802
        self.open.remove("event")
        return (Result.CUDA_SUCCESS,)

    def cuEventRecord(self, event: int, stream: int) -> Done:  # noqa: N802
        ticket = object()
        self._events[event] = stream, ticket
        return self.put(stream, lambda: self._done.add(ticket))

    def cuEventSynchronize(self, event: int) -> Done:  # noqa: N802
        if event in self._events:
            self.run(*self._events[event])
        return (Result.CUDA_SUCCESS,)

    def cuStreamWaitEvent(self, stream: int, event: int, flags: int) -> Done:  # noqa: N802
        recorded = self._events.get(event)
        return self.put(stream, lambda: recorded is None or self.run(*recorded))

    def new_stream(self, context: int = OWN_CONTEXT) -> int:
        """A stream of somebody else's."""
        self._next += 1
        self.work[self._next] = deque()
        self.contexts[self._next] = context
        return self._next


def value_at(api: FakeApi, address: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
    """Memory of the GPU as an array, while it is allocated."""
    dtype = np.dtype(dtype)
    return api.bytes_at(address, int(np.prod(shape, dtype=np.int64)) * dtype.itemsize).view(dtype).reshape(shape)
