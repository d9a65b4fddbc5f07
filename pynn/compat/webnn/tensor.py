"""MLTensor as pywebnn has it. The flags are kept here; pynn's own tensor below can always be read and written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import tensor as core
from ...types import DataType
from .errors import ArgumentError, StateError, translated
from .lenient import CARRIERS

if TYPE_CHECKING:
    from .context import MLContext

Array = np.ndarray[Any, Any]


class MLTensor:
    """An array that lives with a context; made by ``MLContext.create_tensor``."""

    def __init__(
        self,
        context: MLContext,
        shape: Sequence[int],
        data_type: str,
        readable: bool,
        writable: bool,
        exportable_to_gpu: bool = False,
    ) -> None:
        self._context = context
        self._exportable = exportable_to_gpu
        self._narrow = DataType.parse(data_type) if data_type in CARRIERS else None
        self._readable = readable
        self._writable = writable
        self._capacity: list[int] | None = None
        self._core = self._allocate(shape, data_type)

    def _allocate(self, shape: Sequence[int], data_type: str) -> core.MLTensor:
        carried = data_type if self._narrow is None else CARRIERS[self._narrow]
        with translated():
            return self._context._core.create_tensor(list(shape), carried, readable=True, writable=True)

    @property
    def data_type(self) -> str:
        return (self._narrow or self._core.data_type).value

    @property
    def shape(self) -> list[int]:
        return list(self._core.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self._core.shape)

    @property
    def readable(self) -> bool:
        return self._readable

    @property
    def writable(self) -> bool:
        return self._writable

    @property
    def exportable_to_gpu(self) -> bool:
        """As it was asked for; it has no effect: there are no textures here."""
        return self._exportable

    def destroy(self) -> None:
        """Give the memory back. Raises RuntimeError when that was done before."""
        if self._core.destroyed:
            raise StateError("destroy: the tensor is already destroyed")
        self._core.destroy()

    def _alive(self, where: str) -> core.MLTensor:
        if self._core.destroyed:
            raise StateError(f"{where}: the tensor has been destroyed")
        return self._core

    def _resize(self, shape: Sequence[int]) -> None:
        """Another shape, zeroed. A capacity that was set is a limit for each dimension."""
        self._alive("resize_tensor")
        if self._capacity is not None and (
            len(shape) != len(self._capacity) or any(s > c for s, c in zip(shape, self._capacity, strict=True))
        ):
            raise ArgumentError(f"resize_tensor: {list(shape)} is beyond the tensor's capacity {self._capacity}")
        if list(shape) != self.shape:
            fresh = self._allocate(shape, self.data_type)
            self._core.destroy()
            self._core = fresh

    def _set_capacity(self, max_shape: Sequence[int]) -> None:
        self._alive("set_tensor_capacity")
        if len(max_shape) != len(self.shape) or any(s > c for s, c in zip(self.shape, max_shape, strict=True)):
            raise ArgumentError(f"set_tensor_capacity: {list(max_shape)} is less than the tensor's shape {self.shape}")
        self._capacity = list(max_shape)

    def __repr__(self) -> str:
        state = ", destroyed" if self._core.destroyed else ""
        flags = f"readable={self._readable}, writable={self._writable}{state}"
        return f"{type(self).__name__}(shape={self.shape}, dtype={self.data_type}, {flags})"


class MLDeviceTensor(MLTensor):
    """Older pywebnn's tensor on a device, read and written by its own methods."""

    def __init__(self, context: MLContext, shape: Sequence[int], data_type: str, device: str) -> None:
        super().__init__(context, shape, data_type, True, True)
        self._device = device

    @property
    def device(self) -> str:
        return self._device

    def read(self) -> Array:
        return self._context.read_tensor(self)

    def write(self, data: object) -> None:
        self._context.write_tensor(self, data)
