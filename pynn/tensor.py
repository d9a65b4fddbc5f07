"""MLTensor: an array that lives with a context. Spec: https://www.w3.org/TR/webnn/#api-mltensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from typing_extensions import Self

from .builder import array_over_buffer
from .errors import UnknownError, ValidationError
from .types import DataType, OperandDescriptor, Shape, check_shape

if TYPE_CHECKING:
    from .context import MLContext

Array = np.ndarray[Any, Any]
TensorLike = OperandDescriptor | Mapping[str, Any] | Sequence[int]
"""A descriptor, a mapping with ``data_type`` and ``shape``, or a shape (then the data type is the next argument)."""


class MLTensor:
    """A tensor of one context; make it with ``MLContext.create_tensor``.

    ``readable`` and ``writable`` allow ``read_tensor`` and ``write_tensor``; ``constant`` tensors are for
    ``MLGraphBuilder.constant`` only. ``destroy`` gives the memory back; any later use is a ValidationError.
    """

    __slots__ = (
        "__weakref__",
        "_array",
        "_constant",
        "_context",
        "_descriptor",
        "_destroyed",
        "_readable",
        "_writable",
    )

    def __init__(
        self,
        context: MLContext,
        array: Array,
        descriptor: OperandDescriptor,
        *,
        readable: bool,
        writable: bool,
        constant: bool,
    ) -> None:
        self._context = context
        self._array: Array | None = array
        self._destroyed = False
        self._descriptor = descriptor
        self._readable = readable
        self._writable = writable
        self._constant = constant

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
    def destroyed(self) -> bool:
        return self._destroyed

    def destroy(self) -> None:
        """Give the memory back. Idempotent; queued work that uses the tensor still completes, pending reads fail."""
        self._destroyed = True
        self._array = None

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


def allocate(where: str, descriptor: OperandDescriptor) -> Array:
    """Zeroed memory. Raises UnknownError when there is none."""
    try:
        return np.zeros(descriptor.shape, descriptor.data_type.numpy)
    except MemoryError as error:
        raise UnknownError(
            f"{where}: no memory for {descriptor.byte_length} bytes; destroy tensors you no longer need"
        ) from error


def fill(where: str, target: Array, descriptor: OperandDescriptor, source: object) -> None:
    """Copy ``source`` into ``target`` by the spec's buffer rule."""
    if type(source) is np.ndarray and source.dtype == target.dtype and source.shape == target.shape:
        np.copyto(target, source)
    else:
        np.copyto(target, array_over_buffer(where, descriptor, source))


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
