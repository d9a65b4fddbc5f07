"""Memory that carries a run's inputs and outputs between numpy and the GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..converter.model import TensorSpec, numpy_dtype
from ..native import Binding
from .base import Array
from .cuda import Device, DeviceMemory, PinnedMemory
from .memory_use import MemoryUse

MAPPED_INPUT_BYTES = 128 * 1024
MAPPED_OUTPUT_BYTES = 1024 * 1024
"""Up to these sizes the GPU reads and writes pinned host memory itself; above, copies. On an H200 mapped memory is
as fast up to 512 KiB of input that is read once, and 4 MiB of output; a convolution reads its input more often."""
ALIGNMENT = 256


class Staging:
    """One pinned block for all tensors, one block on the GPU for those that are copied."""

    def __init__(self, device: Device, tensors: Sequence[tuple[TensorSpec, tuple[int, ...], bool]]) -> None:
        dtypes = [numpy_dtype(spec.carrier or spec.data_type) for spec, _, _ in tensors]
        sizes = [byte_size(shape, dtype) for (_, shape, _), dtype in zip(tensors, dtypes, strict=True)]
        limits = [MAPPED_OUTPUT_BYTES if is_output else MAPPED_INPUT_BYTES for _, _, is_output in tensors]
        pinned_at, pinned_size = _offsets(sizes)
        copied = [size if size > limit else 0 for size, limit in zip(sizes, limits, strict=True)]
        device_at, device_size = _offsets(copied)
        self._pinned = PinnedMemory(device, pinned_size)
        try:
            self._device = DeviceMemory(device, device_size) if device_size else None
        except BaseException:
            self._pinned.close()
            raise
        self.use = MemoryUse(host_staging=pinned_size, device_staging=device_size)
        base = self._pinned.view()
        base[...] = 0
        self.bindings: list[Binding] = []
        self.views: list[Array] = []
        for i, ((spec, shape, is_output), dtype) in enumerate(zip(tensors, dtypes, strict=True)):
            mapped = not copied[i] or self._device is None
            where = self._pinned.device_address + pinned_at[i]
            if not mapped and self._device is not None:
                where = self._device.address + device_at[i]
            staging = self._pinned.address + pinned_at[i]
            self.bindings.append(Binding(spec.onnx_name, is_output, staging, where, sizes[i], mapped))
            raw = base[pinned_at[i] : pinned_at[i] + sizes[i]]
            self.views.append(_as_user(raw.view(dtype).reshape(shape), spec.numpy))

    def close(self) -> None:
        self.views.clear()
        self._pinned.close()
        if self._device is not None:
            self._device.close()


def pinned_empty(device: Device, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An uninitialised array in pinned host memory, which lives as long as the array or a view of it.

    Raises DeviceOutOfMemoryError."""
    size = byte_size(shape, dtype)
    return PinnedMemory(device, size).view()[:size].view(dtype).reshape(shape)


def byte_size(shape: Sequence[int], dtype: np.dtype[Any]) -> int:
    return int(np.prod(shape, dtype=np.int64)) * dtype.itemsize


def _as_user(view: Array, dtype: np.dtype[Any]) -> Array:
    """The same memory under the user's type where the bits mean the same: uint32 travels as int32."""
    same = view.dtype.itemsize == dtype.itemsize and view.dtype.kind in "iu" and dtype.kind in "iu"
    return view.view(dtype) if same else view


def _offsets(sizes: Sequence[int]) -> tuple[list[int], int]:
    """Where each piece starts in one block, and the block's size. Pieces of size 0 get a place too."""
    starts, end = [], 0
    for size in sizes:
        starts.append(end)
        end += -(-size // ALIGNMENT) * ALIGNMENT
    return starts, end
