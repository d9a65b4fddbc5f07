"""DLPack: memory handed between array libraries without a copy. Spec: https://dmlc.github.io/dlpack/latest/.

Capsules are made by numpy, for memory of a GPU too: its deleters are C code that takes the interpreter lock and leaves
a dead interpreter alone, which no Python function could.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import InputError, ValidationError
from .types import DataType, OperandDescriptor, Shape

Array = np.ndarray[Any, Any]

CPU, CUDA, CUDA_HOST, CUDA_MANAGED = 1, 2, 3, 13
"""DLDeviceType."""
VERSION = (1, 0)
"""What is asked of producers. A newer minor version changes nothing of what is read here."""
_TITLES = {CPU: "the CPU", CUDA: "CUDA", CUDA_HOST: "pinned host memory", CUDA_MANAGED: "CUDA managed memory"}
_OLD, _NEW = b"dltensor", b"dltensor_versioned"
_USED_OLD, _USED_NEW = b"used_dltensor", b"used_dltensor_versioned"
_READ_ONLY, _IS_COPIED = 1, 2
_KINDS = {0: "int", 1: "uint", 2: "float", 3: "opaque", 4: "bfloat", 5: "complex", 6: "bool"}
"""DLDataTypeCode."""


class _Tensor(ctypes.Structure):
    """DLTensor."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _Managed(ctypes.Structure):
    """DLManagedTensor, before DLPack 1.0."""

    _fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p))


class _Versioned(ctypes.Structure):
    """DLManagedTensorVersioned."""

    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    )


_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_IsValid", ctypes.pythonapi))
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
_set_name = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_SetName", ctypes.pythonapi))
_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def export(array: Array, device: tuple[int, int], max_version: tuple[int, int] | None, *, copied: bool) -> Any:
    """A capsule over the memory of ``array``, which it keeps alive, said to be of ``device``.

    It is versioned if the consumer knows DLPack 1.0 and numpy (2.1) does. Raises BufferError for a read-only array when
    it is not.
    """
    capsule: Any
    try:
        capsule = array.__dlpack__(max_version=max_version)
    except TypeError:
        capsule = array.__dlpack__()
    managed = _managed(capsule)
    assert managed is not None
    managed.tensor.device_type, managed.tensor.device_id = device
    if copied and isinstance(managed, _Versioned):
        managed.flags |= _IS_COPIED
    return capsule


def array_at(address: int, shape: Shape, dtype: np.dtype[Any], owner: object, *, writable: bool = True) -> Array:
    """An array over memory that ``owner`` owns and the array keeps alive. Memory of a GPU must not be touched by it."""
    return np.asarray(_Place(address, shape, dtype, owner, writable))


@dataclass(frozen=True, slots=True)
class _Place:
    address: int
    shape: Shape
    dtype: np.dtype[Any]
    owner: object
    writable: bool

    @property
    def __array_interface__(self) -> dict[str, Any]:
        place = (self.address, not self.writable)
        return {"shape": self.shape, "typestr": self.dtype.str, "data": place, "version": 3}


class Lease:
    """A producer's memory, taken over from its capsule: ``close``, or garbage collection, tells the producer that it is
    not needed any more, once. Not at exit nor in a child of fork, where the producer's threads are gone."""

    def __init__(self, managed: _Managed | _Versioned, descriptor: OperandDescriptor) -> None:
        tensor = managed.tensor
        self.address = int(tensor.data or 0) + int(tensor.byte_offset)
        self.descriptor = descriptor
        self.device = (int(tensor.device_type), int(tensor.device_id))
        self._finalizer = weakref.finalize(self, _delete, managed.deleter, ctypes.addressof(managed), os.getpid())
        self._finalizer.atexit = False

    def close(self) -> None:
        self._finalizer()


def _delete(deleter: int | None, managed: int, process: int) -> None:
    if deleter and process == os.getpid():
        _Deleter(deleter)(managed)


def device_of(where: str, producer: object) -> tuple[int, int]:
    """What ``producer`` says of its place: a DLDeviceType and a number. Raises ValidationError."""
    ask = getattr(producer, "__dlpack_device__", None)
    if ask is None or not hasattr(producer, "__dlpack__"):
        raise ValidationError(
            f"{where}: {type(producer).__name__} does not speak DLPack: it lacks __dlpack__ or __dlpack_device__"
        )
    kind, number = ask()
    return int(kind), int(number)


def device_title(device: tuple[int, int]) -> str:
    kind, number = device
    title = _TITLES.get(kind, f"DLPack device type {kind}")
    return f"{title}:{number}" if kind in (CUDA, CUDA_MANAGED) else title


def take(where: str, producer: Any, stream: int | None, device: tuple[int, int], *, to_read: bool = False) -> Lease:
    """The memory of ``producer``, ordered before what is put on ``stream`` from now on.

    Raises InputError for a data type, strides or a version that cannot be taken, and for read-only memory unless it is
    only ``to_read``. The capsule is consumed only when all is well.
    """
    capsule = _capsule(where, producer, stream)
    managed = _managed(capsule)
    if managed is None:
        raise InputError(f"{where}: __dlpack__ of {type(producer).__name__} gave no unused DLPack capsule")
    if isinstance(managed, _Versioned):
        if managed.major != VERSION[0]:
            raise InputError(
                f"{where}: the capsule is of DLPack {managed.major}.{managed.minor}; pynn knows {VERSION[0]}.x"
            )
        if managed.flags & _READ_ONLY and not to_read:
            raise InputError(f"{where}: the memory is read-only, and a tensor may be written to; pass copy=True")
    found = (int(managed.tensor.device_type), int(managed.tensor.device_id))
    if found != device:
        raise InputError(f"{where}: the capsule is on {device_title(found)}, not on {device_title(device)} as was said")
    descriptor = _descriptor(where, managed.tensor)
    if not _set_name(capsule, _USED_NEW if isinstance(managed, _Versioned) else _USED_OLD):
        return Lease(managed, descriptor)
    raise InputError(f"{where}: the capsule cannot be marked as used")


def _capsule(where: str, producer: Any, stream: int | None) -> object:
    arguments = {} if stream is None else {"stream": stream}
    try:
        try:
            return producer.__dlpack__(**arguments, max_version=VERSION)
        except TypeError:  # made before DLPack 1.0
            return producer.__dlpack__(**arguments)
    except (BufferError, RuntimeError) as error:
        raise InputError(f"{where}: {type(producer).__name__} does not give its memory away: {error}") from error


def _managed(capsule: object) -> _Managed | _Versioned | None:
    if _is_valid(capsule, _NEW):
        return _Versioned.from_address(_pointer(capsule, _NEW))
    if _is_valid(capsule, _OLD):
        return _Managed.from_address(_pointer(capsule, _OLD))
    return None


def _descriptor(where: str, tensor: _Tensor) -> OperandDescriptor:
    kind = _KINDS.get(tensor.code, f"type code {tensor.code}, bits ")
    name = "bool" if kind == "bool" else f"{kind}{tensor.bits}"
    if tensor.lanes != 1:
        name += f" in vectors of {tensor.lanes}"
    try:
        data_type = DataType.parse(name)
        if data_type.bits < 8:
            raise ValidationError(f"{name} exists for constants of a builder only")
    except ValidationError as error:
        raise InputError(f"{where}: {error}; convert it first") from None
    shape = tuple(tensor.shape[: tensor.ndim])
    if tensor.strides:
        strides = tuple(tensor.strides[: tensor.ndim])
        if not is_contiguous(shape, strides):
            raise InputError(
                f"{where}: the array is not C-contiguous (shape {list(shape)}, strides in elements {list(strides)}); "
                "make it contiguous first, with .contiguous() or ascontiguousarray()"
            )
    return OperandDescriptor(data_type, shape)


def is_contiguous(shape: Shape, strides: Shape) -> bool:
    """Whether strides, in elements, are those of C order. Those of dimensions of size 1 do not matter."""
    if 0 in shape:
        return True
    expected = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True
