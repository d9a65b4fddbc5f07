"""MLTensor: an array that lives with a context, in main memory or on its GPU.

Spec: https://www.w3.org/TR/webnn/#api-mltensor.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from typing_extensions import Self

from .dlpack import CPU, device_title
from .errors import ValidationError
from .storage import DeviceStorage, HostStorage, Storage
from .types import DataType, OperandDescriptor, Shape, check_shape

if TYPE_CHECKING:
    from .context import MLContext
    from .dispatch import Bound

TensorLike = OperandDescriptor | Mapping[str, Any] | Sequence[int]
"""A descriptor, a mapping with ``data_type`` and ``shape``, or a shape (then the data type is the next argument)."""


class MLTensor:
    """A tensor of one context; make it with ``MLContext.create_tensor`` or ``from_dlpack``.

    ``readable`` and ``writable`` allow ``read_tensor`` and ``write_tensor``; ``constant`` tensors are for
    ``MLGraphBuilder.constant`` only. ``location`` says where the contents are. ``destroy`` gives the memory back; any
    later use is a ValidationError.

    Speaks DLPack: ``torch.from_dlpack(tensor)``, ``numpy.from_dlpack(tensor)`` for one in main memory, and so on share
    the memory, whatever ``readable`` and ``writable`` say, and keep it when the tensor is destroyed.
    """

    __slots__ = (
        "__weakref__",
        "_bound",
        "_constant",
        "_context",
        "_descriptor",
        "_kept",
        "_location",
        "_readable",
        "_storage",
        "_writable",
    )

    def __init__(
        self,
        context: MLContext,
        storage: Storage,
        descriptor: OperandDescriptor,
        *,
        readable: bool,
        writable: bool,
        constant: bool,
    ) -> None:
        self._context = context
        self._storage: Storage | None = storage
        self._location = storage.location
        self._descriptor = descriptor
        self._readable = readable
        self._writable = writable
        self._constant = constant
        self._kept: Storage | None = None
        self._bound: weakref.WeakSet[Bound] = weakref.WeakSet()

    @property
    def data_type(self) -> DataType:
        return self._descriptor.data_type

    @property
    def shape(self) -> Shape:
        return self._descriptor.shape

    @property
    def readable(self) -> bool:
        return self._readable

    @property
    def writable(self) -> bool:
        return self._writable

    @property
    def constant(self) -> bool:
        return self._constant

    @property
    def descriptor(self) -> OperandDescriptor:
        return self._descriptor

    @property
    def byte_length(self) -> int:
        return self.descriptor.byte_length

    @property
    def location(self) -> str:
        """ "gpu" or "host"."""
        return self._location

    @property
    def destroyed(self) -> bool:
        return self._storage is None

    def destroy(self) -> None:
        """Give the memory back. Idempotent; queued work that uses the tensor still completes, pending reads fail."""
        self._storage = None
        for bound in list(self._bound):
            bound.end()

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """A DLPack capsule over the tensor's memory. Called by the consumer's ``from_dlpack``.

        ``stream``, of a GPU, will see what was asked of the context before: a handle, None and 1 for the legacy default
        stream, 2 for the thread's, -1 for no ordering. To have the context see what the consumer writes, give that
        stream to ``dispatch``. ``dl_device`` (1, 0) copies to main memory.

        Raises ValidationError for a destroyed tensor or a stream of another CUDA context, BufferError for what DLPack
        calls not possible: another device, or sharing what must be copied.
        Spec: https://data-apis.org/array-api/latest/API_specification/generated/array_api.array.__dlpack__.html.
        """
        storage = self._shared("__dlpack__")
        if dl_device is not None and tuple(dl_device) != storage.device:
            if dl_device[0] != CPU:
                raise BufferError(
                    f"__dlpack__: the tensor is on {device_title(storage.device)}, not on {device_title(dl_device)}"
                )
            if copy is False:
                raise BufferError("__dlpack__: a tensor of a GPU in main memory is a copy, which copy=False forbids")
            copied = HostStorage(self._context._timeline.run(storage.fetch))
            return copied.capsule(max_version, copy=False)
        if isinstance(storage, DeviceStorage):
            return self._context._timeline.run(self._device_capsule, storage, stream, max_version, bool(copy))
        if stream not in (None, -1):
            raise BufferError(f"__dlpack__: stream={stream!r} for a tensor in main memory; leave it out")
        return self._context._timeline.run(storage.capsule, max_version, copy=bool(copy))

    @staticmethod
    def _device_capsule(
        storage: DeviceStorage, stream: int | None, max_version: tuple[int, int] | None, copy: bool
    ) -> Any:
        if stream == 0:
            raise ValidationError("__dlpack__: DLPack does not say which stream 0 is; pass 1, 2 or a handle")
        queue = storage.queue
        target = None if stream == -1 else queue.user_stream("__dlpack__", 1 if stream is None else stream)
        capsule = storage.capsule(max_version, copy=copy)
        if target is not None:
            with queue.using():
                queue.lead(target)
        return capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        """DLPack's device type (1: CPU, 2: CUDA) and number."""
        return self._shared("__dlpack_device__").device

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Version 3, for a tensor of a GPU. Afterwards ``destroy`` leaves the memory to whoever holds this object.

        Spec: https://numba.readthedocs.io/en/stable/cuda/cuda_array_interface.html.
        """
        storage = self._storage
        if not isinstance(storage, DeviceStorage):
            raise AttributeError("__cuda_array_interface__: the tensor is not in the memory of a GPU")
        self._kept = storage
        return {
            "shape": self.shape,
            "typestr": self.data_type.numpy.str,
            "data": (storage.address, False),
            "strides": None,
            "version": 3,
            "stream": storage.queue.stream.address,
        }

    def _shared(self, where: str) -> Storage:
        if self._storage is None:
            raise ValidationError(f"{where}: the tensor is destroyed")
        return self._storage

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.destroy()

    def __repr__(self) -> str:
        flags = [name for name in ("constant", "readable", "writable", "destroyed") if getattr(self, name)]
        return f"<MLTensor {self.data_type}{list(self.shape)}{' ' if flags else ''}{' '.join(flags)}>"


def parse_descriptor(
    where: str, descriptor: TensorLike, data_type: str | DataType | None, max_byte_length: int
) -> OperandDescriptor:
    """A checked descriptor from any of the forms of ``TensorLike``. Raises ValidationError."""
    shape: object = descriptor
    if isinstance(descriptor, (OperandDescriptor, Mapping)):
        if data_type is not None:
            raise ValidationError(
                f"{where}: the descriptor already has a data type; give {data_type!r} only with a shape"
            )
        if isinstance(descriptor, Mapping):
            for key in ("data_type", "shape"):
                if key not in descriptor:
                    raise ValidationError(f"{where}: the descriptor lacks {key!r}")
            shape, data_type = descriptor["shape"], descriptor["data_type"]
        else:
            shape, data_type = descriptor.shape, descriptor.data_type
    if data_type is None:
        raise ValidationError(f"{where}: a data type is missing; pass a shape and a data type, or a descriptor")
    try:
        parsed = OperandDescriptor(DataType.parse(data_type), check_shape(shape))
    except ValidationError as error:
        raise ValidationError(f"{where}: {error}") from None
    if parsed.data_type.bits < 8:
        raise ValidationError(f"{where}: {parsed.data_type} exists for constants of a builder only")
    if parsed.byte_length > max_byte_length:
        raise ValidationError(
            f"{where}: {parsed.data_type}{list(parsed.shape)} takes {parsed.byte_length} bytes; "
            f"the limit is {max_byte_length}"
        )
    return parsed
