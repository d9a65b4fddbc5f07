"""Where a tensor's contents are: in main memory, or in that of a GPU. Contents move here, and only here."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .builder import array_over_buffer
from .dlpack import CPU, CUDA, CUDA_MANAGED, Lease, array_at, device_of, device_title, export, take
from .errors import DeviceOutOfMemoryError, InputError, UnknownError, ValidationError
from .types import DataType, OperandDescriptor, Shape

if TYPE_CHECKING:
    from .backends.device_memory import DeviceQueue

Array = np.ndarray[Any, Any]


Reading = Callable[[], Array | None]


class _Owner(Protocol):
    """DeviceMemory, or a Lease of somebody else's."""

    @property
    def address(self) -> int: ...

    def close(self) -> None: ...


class HostStorage:
    """A C-contiguous array."""

    location = "host"
    device = (CPU, 0)

    def __init__(self, array: Array) -> None:
        self.array = array

    @classmethod
    def of_lease(cls, lease: Lease) -> HostStorage:
        """A producer's memory, without a copy."""
        return cls(array_at(lease.address, lease.descriptor.shape, lease.descriptor.data_type.numpy, lease))

    def write(self, where: str, descriptor: OperandDescriptor, source: object) -> None:
        """Copy ``source`` here by the spec's buffer rule."""
        if type(source) is np.ndarray and source.dtype == self.array.dtype and source.shape == self.array.shape:
            np.copyto(self.array, source)
        else:
            np.copyto(self.array, array_over_buffer(where, descriptor, source))

    def read(self, where: str, descriptor: OperandDescriptor, out: object) -> Reading:
        """A copy, or None after copying into ``out`` by the spec's buffer rule. The contents are those of now, the
        result is there when the answer is called: once, in any thread."""
        copied = None
        if out is not None:
            copy_out(where, self.array, descriptor, out)
        else:
            copied = _empty(where, descriptor)
            np.copyto(copied, self.array)
        return lambda: copied

    def fetch(self) -> Array:
        """The contents for a run on the host: not a copy."""
        return self.array

    def store(self, result: Array) -> None:
        """Take the result of a run on the host, unless it was written here already."""
        if result is not self.array:
            np.copyto(self.array, result)

    def capsule(self, max_version: tuple[int, int] | None, *, copy: bool) -> object:
        return export(self.array.copy() if copy else self.array, self.device, max_version, copied=copy)


class DeviceStorage:
    """Memory of a GPU, used on the stream of ``queue``. It is given back when nobody holds this object any more and the
    stream has passed; cuMemFree itself waits for the streams of those it was shared with."""

    location = "gpu"

    def __init__(self, queue: DeviceQueue, owner: _Owner, descriptor: OperandDescriptor) -> None:
        self.queue = queue
        self.address = owner.address
        self.descriptor = descriptor
        self.device = (CUDA, queue.device.info.index)
        finalizer = weakref.finalize(self, queue.retire, owner.close)
        finalizer.atexit = False

    def write(self, where: str, descriptor: OperandDescriptor, source: object) -> None:
        self.queue.write(self.address, array_over_buffer(where, descriptor, source))

    def read(self, where: str, descriptor: OperandDescriptor, out: object) -> Reading:
        direct = isinstance(out, np.ndarray) and out.flags.carray and (out.dtype, out.shape) == _kind(descriptor)
        target = out if direct and isinstance(out, np.ndarray) else _empty(where, descriptor)
        finish = self.queue.begin_read(self.address, target)

        def finished() -> Array | None:
            finish()
            if out is None:
                return target
            if not direct:
                copy_out(where, target, descriptor, out)
            return None

        return finished

    def fetch(self) -> Array:
        array = _empty("read", self.descriptor)
        self.queue.read(self.address, array)
        return array

    def store(self, result: Array) -> None:
        self.queue.write(self.address, np.ascontiguousarray(result))

    def capsule(self, max_version: tuple[int, int] | None, *, copy: bool) -> object:
        """A capsule for memory of the GPU; the consumer's stream must have been made to wait for the queue."""
        source = self.duplicate() if copy else self
        place = array_at(source.address, self.descriptor.shape, self.descriptor.data_type.numpy, source)
        return export(place, self.device, max_version, copied=copy)

    def duplicate(self) -> DeviceStorage:
        """The same contents in other memory of the GPU."""
        other = allocate_on(self.queue, "__dlpack__", self.descriptor)
        self.queue.copy(other.address, self.address, self.descriptor.byte_length)
        return other


Storage = HostStorage | DeviceStorage


def allocate(where: str, descriptor: OperandDescriptor) -> HostStorage:
    """Zeroed main memory. Raises UnknownError when there is none."""
    try:
        return HostStorage(np.zeros(descriptor.shape, descriptor.data_type.numpy))
    except MemoryError as error:
        raise _no_memory(where, descriptor, "memory") from error


def allocate_on(queue: DeviceQueue, where: str, descriptor: OperandDescriptor) -> DeviceStorage:
    """Zeroed memory of the GPU. Raises UnknownError when there is none."""
    try:
        return DeviceStorage(queue, queue.allocate(descriptor.byte_length), descriptor)
    except DeviceOutOfMemoryError as error:
        info = queue.device.info
        free = f"GPU {info.index} has {queue.device.free_memory()} of {info.memory} bytes free"
        raise _no_memory(where, descriptor, "GPU memory", f" ({free})") from error


def share(where: str, producer: object, queue: DeviceQueue | None, *, copy: bool) -> tuple[Storage, OperandDescriptor]:
    """The memory of a DLPack producer for a context with that queue, or a copy. Raises InputError, UnknownError."""
    device = device_of(where, producer)
    on_gpu = device[0] in (CUDA, CUDA_MANAGED)
    here = (CPU, 0) if queue is None else (CUDA, queue.device.info.index)
    if not on_gpu and (queue is None or copy):
        return _share_host(where, producer, queue, device, copy=copy)
    if queue is None or not on_gpu or device[1] != here[1]:
        fix = "copy=True copies it" if not on_gpu else "move it there first"
        raise InputError(
            f"{where}: the array is on {device_title(device)}, the tensors of this context are on "
            f"{device_title(here)}: {fix}"
        )
    lease = take(where, producer, queue.gate.address, device, to_read=copy)
    queue.pass_gate()
    storage = DeviceStorage(queue, lease, lease.descriptor)
    return (storage.duplicate() if copy else storage), lease.descriptor


def _share_host(
    where: str, producer: Any, queue: DeviceQueue | None, device: tuple[int, int], *, copy: bool
) -> tuple[Storage, OperandDescriptor]:
    if not copy:
        lease = take(where, producer, None, device)
        return HostStorage.of_lease(lease), lease.descriptor
    try:
        array = np.from_dlpack(producer)
    except (BufferError, RuntimeError, TypeError) as error:
        raise InputError(f"{where}: {error}") from None
    try:
        descriptor = OperandDescriptor(DataType.parse(array.dtype.name), array.shape)
    except ValidationError as error:
        raise InputError(f"{where}: {error}; convert it first") from None
    made = allocate(where, descriptor) if queue is None else allocate_on(queue, where, descriptor)
    made.write(where, descriptor, array)
    return made, descriptor


def _kind(descriptor: OperandDescriptor) -> tuple[np.dtype[Any], Shape]:
    return descriptor.data_type.numpy, descriptor.shape


def _empty(where: str, descriptor: OperandDescriptor) -> Array:
    try:
        return np.empty(descriptor.shape, descriptor.data_type.numpy)
    except MemoryError as error:
        raise UnknownError(
            f"{where}: no memory for {descriptor.byte_length} bytes; read into an array of yours"
        ) from error


def _no_memory(where: str, descriptor: OperandDescriptor, kind: str, more: str = "") -> UnknownError:
    return UnknownError(
        f"{where}: no {kind} for {descriptor.byte_length} bytes{more}; destroy tensors you no longer need"
    )


def copy_out(where: str, source: Array, descriptor: OperandDescriptor, target: object) -> None:
    """Copy a tensor's contents into a caller's buffer by the spec's buffer rule."""
    if isinstance(target, np.ndarray):
        view: Array = target
        if target.dtype != source.dtype and target.dtype != np.uint8:
            raise ValidationError(f"{where}: output array is {target.dtype}, the tensor is {descriptor.data_type}")
        if target.shape == source.shape and target.dtype == source.dtype:
            _check_writable(where, target)
            np.copyto(target, source)
            return
        if not target.flags.c_contiguous:
            raise ValidationError(f"{where}: output array of shape {list(target.shape)} is not C-contiguous")
    else:
        try:
            view = np.frombuffer(target, dtype=np.uint8)  # type: ignore[call-overload]
        except (TypeError, ValueError, BufferError):
            raise ValidationError(
                f"{where}: expected an array or a writable buffer, got {type(target).__name__}"
            ) from None
    if view.nbytes != source.nbytes:
        raise ValidationError(f"{where}: output has {view.nbytes} bytes, the tensor has {source.nbytes}")
    _check_writable(where, view)
    np.copyto(view.reshape(-1).view(np.uint8), source.reshape(-1).view(np.uint8))


def _check_writable(where: str, target: Array) -> None:
    if not target.flags.writeable:
        raise ValidationError(f"{where}: output is read-only; pass a writable array or a bytearray")
