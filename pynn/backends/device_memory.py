"""What a context does on its GPU besides running engines: memory, copies and order between streams, on one stream."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from ..converter.model import TensorSpec, numpy_dtype
from ..errors import CudaError, InvalidStateError, PynnError, ValidationError
from ..native.binding import fork_guard
from .cuda import Device, DeviceMemory, Event, PinnedMemory, Stream, StreamHandle

if TYPE_CHECKING:
    from threading import RLock

Array = np.ndarray[Any, Any]

LEGACY_STREAM, PER_THREAD_STREAM = 1, 2
"""CUDA's numbers of the default streams."""
_CHUNK = 4 << 20
"""Copies go through pinned memory in pieces of at most this size."""
_SLOTS = 4
_SMALLEST_SLOT = 64 << 10


class DeviceQueue:
    """A stream of the GPU, and all that is put on it by pynn itself: in the order of the calls, from any thread.

    ``lock``, the timeline's, is held by whoever uses the stream, so that nothing comes between the calls of a stream
    capture. Work to be done when the stream has passed (closing a run, giving memory back to its producer) is given to
    ``retire``, which never waits: it may be called by garbage collection, anywhere.
    """

    def __init__(self, device: Device, lock: RLock) -> None:
        self.device = device
        self.lock = lock
        self._busy = False
        self._epoch = fork_guard.epoch
        self._retired: deque[Callable[[], object]] = deque()
        self.stream = Stream(device)
        self._gate: Stream | None = None
        self._event = Event(device)
        self._staging = Staging(device)
        self._spare: list[Slot] = []
        self._finalizer = weakref.finalize(self, _finish, self._retired, self.stream, self._epoch)
        self._finalizer.atexit = False

    @contextmanager
    def using(self) -> Iterator[None]:
        """Own the stream, with the GPU's context current. Raises InvalidStateError once it is closed."""
        with self.lock, self.device.current():
            if not self._finalizer.alive:
                raise InvalidStateError("the context is destroyed, and its stream with it")
            self._drain()
            outer, self._busy = self._busy, True
            try:
                yield
            finally:
                self._busy = outer

    # -- memory

    def allocate(self, size: int) -> DeviceMemory:
        """Zeroed memory of the GPU. Raises DeviceOutOfMemoryError."""
        memory = DeviceMemory(self.device, size)
        with self.using():
            self.stream.zero(memory.address, memory.size)
        return memory

    def write(self, address: int, source: Array) -> None:
        """Copy a C-contiguous array to the GPU; ``source`` may be changed at once."""
        data = source.reshape(-1).view(np.uint8)
        with self.using():
            for start in range(0, data.size, _CHUNK):
                piece = data[start : start + _CHUNK]
                slot = self._staging.slot(piece.size)
                slot.view[: piece.size] = piece
                self.stream.copy_in(address + start, slot.address, piece.size)
                self.stream.record(slot.passed)

    def read(self, address: int, target: Array) -> None:
        """Copy from the GPU into a C-contiguous array; returns when it is there."""
        data = target.reshape(-1).view(np.uint8)
        under_way: deque[tuple[Slot, Array]] = deque()
        with self.using():
            for start in range(0, data.size, _CHUNK):
                if len(under_way) == _SLOTS:
                    _collect(*under_way.popleft())
                piece = data[start : start + _CHUNK]
                slot = self._staging.slot(piece.size)
                self.stream.copy_out(slot.address, address + start, piece.size)
                self.stream.record(slot.passed)
                under_way.append((slot, piece))
            for slot, piece in under_way:
                _collect(slot, piece)

    def begin_read(self, address: int, target: Array) -> Callable[[], None]:
        """Put a copy from the GPU for a C-contiguous array on the stream. The result waits for it and fills ``target``:
        call it once, in any thread. What is too large for a piece of staging memory is read at once."""
        if target.nbytes > _CHUNK:
            self.read(address, target)
            return _nothing
        data = target.reshape(-1).view(np.uint8)
        with self.using():
            slot = self._spare_slot(data.size)
            self.stream.copy_out(slot.address, address, data.size)
            self.stream.record(slot.passed)

        def finish() -> None:
            _collect(slot, data)
            if len(self._spare) < _SLOTS and self._finalizer.alive:
                self._spare.append(slot)

        return finish

    def _spare_slot(self, size: int) -> Slot:
        for i, slot in enumerate(self._spare):
            if slot.size >= size:
                return self._spare.pop(i)
        return Slot(self.device, _slot_size(size))

    def copy(self, target: int, source: int, size: int) -> None:
        with self.using():
            self.stream.copy_within(target, source, size)

    # -- order between streams

    def user_stream(self, where: str, handle: int) -> StreamHandle:
        """A stream of the user's: 0 and 1 are the legacy default stream, 2 is that of the thread.

        Raises ValidationError for a stream of another CUDA context.
        """
        if handle <= PER_THREAD_STREAM:
            return StreamHandle(self.device, max(handle, LEGACY_STREAM))
        stream = StreamHandle(self.device, handle)
        try:
            with self.device.current():
                owner = stream.context_address()
        except CudaError as error:
            raise ValidationError(f"{where}: {handle:#x} is no CUDA stream: {error}") from None
        if owner != self.device.context_address:
            raise ValidationError(
                f"{where}: the stream {handle:#x} belongs to another CUDA context; pynn runs in the primary context of "
                f"GPU {self.device.info.index}: make the stream there"
            )
        return stream

    def follow(self, stream: StreamHandle) -> None:
        """What is put on this queue from now on waits for what is on ``stream`` now. The caller is ``using``."""
        stream.record(self._event)
        self.stream.wait(self._event)

    def lead(self, stream: StreamHandle) -> None:
        """What is put on ``stream`` from now on waits for what is on this queue now. The caller is ``using``."""
        self.stream.record(self._event)
        stream.wait(self._event)

    @property
    def gate(self) -> Stream:
        """A stream for those who want one to order their work on: no capture is disturbed by what they do there."""
        with self.lock:
            if self._gate is None:
                self._gate = Stream(self.device)
            return self._gate

    def pass_gate(self) -> None:
        """What is put on this queue from now on waits for what is on the gate now."""
        gate = self.gate
        with self.using():
            self.follow(gate)

    # -- the end

    def retire(self, call: Callable[[], object]) -> None:
        """``call`` once the stream has passed: now, or soon when the stream is in use."""
        self._retired.append(call)
        if self.lock.acquire(blocking=False):
            try:
                if not self._busy:
                    self._drain()
            finally:
                self.lock.release()

    def _drain(self) -> None:
        if self._retired and not self._busy:
            _finish(self._retired, self.stream if self._finalizer.alive else None, self._epoch)

    def close(self) -> None:
        """Wait for what was put on the stream, and give everything back. Idempotent."""
        with self.lock:
            if self._finalizer.alive:
                self._finalizer()
                self._staging.close()
                for slot in self._spare:
                    slot.close()
                self._spare.clear()
                self._event.close()
                if self._gate is not None:
                    self._gate.close()
                self.stream.close()


def _finish(retired: deque[Callable[[], object]], stream: Stream | None, epoch: int) -> None:
    """Errors are not raised: a stream that failed tells so to those who read from it, and what is retired must go."""
    if epoch != fork_guard.epoch:
        retired.clear()
        return
    if stream is not None:
        with suppress(PynnError):
            stream.synchronize()
    while retired:
        with suppress(PynnError):
            retired.popleft()()


class Slot:
    """A piece of pinned memory. ``passed`` is recorded after each copy that uses it."""

    def __init__(self, device: Device, size: int) -> None:
        self._memory = PinnedMemory(device, size)
        self.address, self.size = self._memory.address, size
        self.view = self._memory.view()
        self.passed = Event(device)

    def close(self) -> None:
        with suppress(CudaError):  # a stream that failed has passed, too
            self.passed.synchronize()
        self.passed.close()
        del self.view
        self._memory.close()


class Staging:
    """A few slots, used in turn; each is made and grows when it is needed."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._slots: deque[Slot | None] = deque([None] * _SLOTS)

    def slot(self, size: int) -> Slot:
        """The slot that is longest out of use, of ``size`` bytes at least, once its last copy is done."""
        slot = self._slots[0]
        if slot is None or slot.size < size:
            if slot is not None:
                self._slots[0] = None
                slot.close()
            slot = self._slots[0] = Slot(self._device, _slot_size(size))
        slot.passed.synchronize()
        self._slots.rotate(-1)
        return slot

    def close(self) -> None:
        for slot in self._slots:
            if slot is not None:
                slot.close()
        self._slots.clear()


def _slot_size(size: int) -> int:
    return max(1 << (size - 1).bit_length(), _SMALLEST_SLOT)


def _nothing() -> None:
    pass


def _collect(slot: Slot, target: Array) -> None:
    slot.passed.synchronize()
    target[:] = slot.view[: target.size]


def same_bits(spec: TensorSpec, *, is_output: bool) -> bool:
    """Whether the engine's type has the bits of the user's: uint32 as int32, or truth values given out as bytes."""
    if spec.carrier in ("", spec.data_type):
        return True
    inside, outside = numpy_dtype(spec.carrier), spec.numpy
    if inside.itemsize != outside.itemsize:
        return False
    return (inside.kind in "iu" and outside.kind in "iu") or (is_output and inside.kind == "b" and outside.kind in "iu")
