"""Data types, descriptors and number conversion: what every layer shares.

Spec: https://www.w3.org/TR/webnn/#enumdef-mloperanddatatype, #dictdef-mloperanddescriptor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from .errors import ValidationError

MAX_DIMENSION = 2**31 - 1


class DataType(str, Enum):
    """MLOperandDataType, and ``int4``/``uint4``: an extension, for constants of quantised weights only."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT32 = "int32"
    UINT32 = "uint32"
    INT64 = "int64"
    UINT64 = "uint64"
    INT8 = "int8"
    UINT8 = "uint8"
    INT4 = "int4"
    UINT4 = "uint4"

    __str__ = str.__str__
    __hash__ = str.__hash__
    __eq__ = str.__eq__
    __ne__ = str.__ne__

    @property
    def is_float(self) -> bool:
        return self in (DataType.FLOAT32, DataType.FLOAT16)

    @property
    def bits(self) -> int:
        return _BITS[self]

    @property
    def numpy(self) -> np.dtype[Any]:
        """The numpy dtype; ``int4`` and ``uint4`` come from ``ml_dtypes`` (one element a byte)."""
        try:
            return _NUMPY[self]
        except KeyError:
            import ml_dtypes

            extended: np.dtype[Any] = np.dtype(getattr(ml_dtypes, self.value))
            return extended

    @classmethod
    def parse(cls, value: object) -> DataType:
        """Accept a member or its spec string; anything else is a TypeError."""
        try:
            return _BY_NAME[value]  # type: ignore[index]
        except (KeyError, TypeError):
            known = ", ".join(_BY_NAME)
            raise ValidationError(f"unknown data type {value!r}; one of: {known}") from None


_BITS = {
    DataType.FLOAT32: 32, DataType.FLOAT16: 16, DataType.INT32: 32, DataType.UINT32: 32, DataType.INT64: 64,
    DataType.UINT64: 64, DataType.INT8: 8, DataType.UINT8: 8, DataType.INT4: 4, DataType.UINT4: 4,
}  # fmt: skip
_BY_NAME = {member.value: member for member in DataType}
_NUMPY = {member: np.dtype(member.value) for member in DataType if member.bits >= 8}

FLOAT_TYPES = frozenset({DataType.FLOAT32, DataType.FLOAT16})
ALL_TYPES = frozenset(member for member in DataType if member.bits >= 8)
SIGNED_TYPES = FLOAT_TYPES | {DataType.INT64, DataType.INT32, DataType.INT8}

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class OperandDescriptor:
    """MLOperandDescriptor: a data type and a shape; ``()`` is a scalar."""

    data_type: DataType
    shape: Shape

    @property
    def element_count(self) -> int:
        return math.prod(self.shape)

    @property
    def byte_length(self) -> int:
        return (self.element_count * self.data_type.bits + 7) // 8


def is_uint(value: object, limit: int = 2**32 - 1) -> bool:
    """A Python or numpy integer in [0, limit]; bools and floats are not integers."""
    return (type(value) is int or isinstance(value, np.integer)) and bool(0 <= value <= limit)


def check_shape(shape: object, *, what: str = "shape") -> Shape:
    """The spec's dimension check: each dimension and the element count in 1..2147483647."""
    if isinstance(shape, (str, bytes)) or not isinstance(shape, (Sequence, np.ndarray)):
        raise ValidationError(f"{what} must be a sequence of integers, got {shape!r}")
    dims = tuple(shape)
    for dim in dims:
        if not is_uint(dim, MAX_DIMENSION) or dim == 0:
            raise ValidationError(f"{what} {list(dims)}: dimension {dim!r} is not an integer in 1..{MAX_DIMENSION}")
    if math.prod(dims) > MAX_DIMENSION:
        raise ValidationError(f"{what} {list(dims)} has more than {MAX_DIMENSION} elements")
    return tuple(int(dim) for dim in dims)


def cast_number(value: float, data_type: DataType) -> np.generic:
    """Convert an MLNumber to ``data_type`` by the spec's cast rule.

    Floats round to nearest even and overflow to infinity; integers take NaN as 0, saturate, and round half to even.
    Spec: https://www.w3.org/TR/webnn/#mlnumber (casting of numbers, not the ``cast`` operator).
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        raise ValidationError(f"expected a number, got {value!r}")
    dtype = data_type.numpy
    scalar: Callable[[Any], np.generic] = dtype.type
    if data_type.is_float:
        try:
            wide = float(value)
        except OverflowError:
            wide = math.inf if value > 0 else -math.inf
        if abs(wide) <= 65504:
            return scalar(wide)
        with np.errstate(over="ignore"):
            return scalar(wide)
    if data_type.bits < 8:
        low, high = (0, 15) if data_type is DataType.UINT4 else (-8, 7)
    else:
        info = np.iinfo(dtype)
        low, high = int(info.min), int(info.max)
    if isinstance(value, (float, np.floating)):
        if math.isnan(value):
            return scalar(0)
        value = low if value < low else high if value > high else round(float(value))
    return scalar(min(max(int(value), low), high))
