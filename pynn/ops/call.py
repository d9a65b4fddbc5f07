"""One call of an operator method while it is validated: operands, attributes, and errors that name them."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, TypeGuard, cast

import numpy as np

from ..errors import ValidationError
from ..graph import InputValue, Operand
from ..sizes import Size, plain, sizes_in
from ..types import MAX_DIMENSION, DataType, OperandDescriptor, Shape, cast_number, is_uint
from .registry import Operator, Param

_MAX_FLOAT = sys.float_info.max
_MAX_UINT = 2**32 - 1
_BIDI = {c: f"\\u{c:04x}" for c in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}
_UNPRINTABLE = {c: f"\\x{c:02x}" for c in (*range(0x20), 0x7F)} | _BIDI


def sanitize(text: str) -> str:
    """Escape control and bidirectional-override characters, so that a label cannot disturb a message or a log."""
    return text if text.isprintable() else text.translate(_UNPRINTABLE)


def _describe(value: object) -> str:
    return f"a {type(value).__name__}" if isinstance(value, np.ndarray) else repr(value)


def _is_sequence(value: object) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim == 1
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


class Call:
    """``operands`` holds the present ones by parameter name, ``attributes`` the method's other arguments.

    ``infer`` reads both through this object and may replace attributes by their normalised values; ``lower`` sees what
    is left there. ``None`` is a missing option.
    """

    __slots__ = ("attributes", "label", "operands", "operator")

    def __init__(self, operator: Operator, attributes: dict[str, Any], label: str) -> None:
        self.operator = operator
        self.operands: dict[str, InputValue] = {}
        self.attributes = attributes
        self.label = label

    # -- errors

    @property
    def where(self) -> str:
        label = f" {sanitize(self.label)!r}" if self.label else ""
        return f"{self.operator.method}{label}"

    def fail(self, message: str) -> NoReturn:
        raise ValidationError(f"{self.where}: {message}", operator=self.operator.method, label=self.label)

    # -- operands

    def operand(self, name: str) -> Operand:
        return cast(Operand, self.operands[name])

    def optional(self, name: str) -> Operand | None:
        return cast("Operand | None", self.operands.get(name))

    def bind(self, owner: object, values: Mapping[str, object]) -> None:
        """Check every operand against the operator's table, in parameter order."""
        for param in self.operator.params:
            value = values.get(param.name)
            if value is None:
                if param.optional:
                    continue
                self.fail(f"{param.name} is missing")
            if param.variadic:
                if isinstance(value, (Operand, str, bytes)) or not isinstance(value, Sequence):
                    self.fail(f"{param.name} must be a sequence of operands, got {_describe(value)}")
                many = tuple(value)
                for i, one in enumerate(many):
                    self._check(owner, param, one, f"{param.name}[{i}]")
                self.operands[param.name] = many
            else:
                self._check(owner, param, value, param.name)
                self.operands[param.name] = cast(Operand, value)

    def _check(self, owner: object, param: Param, value: object, name: str) -> None:
        if type(value) is not Operand:
            self.fail(f"{name} must be an operand of this builder, got {_describe(value)}")
        if value._owner is not owner:
            self.fail(f"{name} {value!r} belongs to another builder")
        if param.like:
            reference = self.operands[param.like]
            first = reference[0] if isinstance(reference, tuple) else reference
            if value.data_type is not first.data_type:
                self.fail(f"{name} is {value.data_type} but {param.like} is {first.data_type}; cast one of them")
        if value.data_type not in param.types:
            allowed = ", ".join(t for t in DataType if t in param.types)
            self.fail(f"{name} is {value.data_type}; allowed: {allowed}")
        low, high = param.rank_range
        if not low <= len(value.shape) <= high:
            wanted = str(low) if low == high else f"at least {low}" if high > 64 else f"{low} to {high}"
            self.fail(f"{name} has rank {len(value.shape)} (shape {list(value.shape)}); rank must be {wanted}")

    # -- attributes: each checks, stores the normalised value, and returns it

    def uint(self, name: str, *, minimum: int = 0, maximum: int = 2**32 - 1, named: bool = False) -> int:
        value = self.attributes[name]
        if named and type(value) is Size and value >= minimum:
            return value
        if not is_uint(value) or not minimum <= value <= maximum:
            self.fail(f"{name} must be an integer in {minimum}..{maximum}, got {value!r}")
        self.attributes[name] = result = int(value)
        return result

    def axis(self, rank: int, name: str = "axis") -> int:
        value = self.attributes[name]
        if not is_uint(value) or value >= rank:
            self.fail(f"{name} must be an integer in 0..{rank - 1} for rank {rank} (no negative axes), got {value!r}")
        self.attributes[name] = result = int(value)
        return result

    def axes(self, rank: int, name: str = "axes") -> tuple[int, ...]:
        values = self.uints(name)
        if len(set(values)) != len(values) or any(v >= rank for v in values):
            self.fail(f"{name} {list(values)} must be distinct integers in 0..{rank - 1} for rank {rank}")
        return values

    def uints(self, name: str, *, length: int | None = None, minimum: int = 0) -> tuple[int, ...]:
        values = self.attributes[name]
        if type(values) is not tuple and type(values) is not list and not _is_sequence(values):
            self.fail(f"{name} must be a sequence of integers, got {values!r}")
        if length is not None and len(values) != length:
            self.fail(f"{name} {list(values)} must have {length} items, has {len(values)}")
        exact = True
        for value in values:
            if type(value) is int and minimum <= value <= _MAX_UINT:
                continue
            exact = False
            if value < minimum if type(value) is Size else not is_uint(value) or value < minimum:
                self.fail(f"{name} {list(values)}: {value!r} is not an integer of at least {minimum}")
        self.attributes[name] = result = tuple(values) if exact else tuple(map(plain, values))
        return result

    def finite(self, name: str, data_type: DataType | None = None) -> float:
        """A finite number; with ``data_type`` rounded to it by the spec's cast rule."""
        value = self.attributes[name]
        result = float(value) if _is_number(value) and abs(value) <= _MAX_FLOAT else math.nan
        if not math.isfinite(result):
            self.fail(f"{name} must be a finite number, got {value!r}")
        if data_type is not None:
            result = float(cast_number(result, data_type))
        self.attributes[name] = result
        return result

    def number(self, name: str, data_type: DataType) -> np.generic | None:
        """An MLNumber option converted to ``data_type`` by the spec's cast rule; None stays None."""
        value = self.attributes[name]
        if value is None:
            return None
        if not _is_number(value):
            self.fail(f"{name} must be a number, got {value!r}")
        self.attributes[name] = result = cast_number(value, data_type)
        return result

    def enum(self, name: str, *values: str) -> str:
        value = self.attributes[name]
        if value not in values:
            self.fail(f"{name} must be one of {', '.join(map(repr, values))}; got {value!r}")
        return cast(str, value)

    def flag(self, name: str) -> bool:
        value = self.attributes[name]
        if not isinstance(value, (bool, np.bool_)):
            self.fail(f"{name} must be True or False, got {value!r}")
        self.attributes[name] = result = bool(value)
        return result

    # -- results

    def descriptor(self, data_type: DataType, shape: Shape) -> OperandDescriptor:
        """An output descriptor whose shape passed the dimension check; a named dimension is a sample of unknown
        size, which has no upper limit here."""
        total = 1
        for dim in shape:
            total *= dim
            if not 1 <= dim <= MAX_DIMENSION and (dim < 1 or type(dim) is not Size):
                self.fail(f"the result would have shape {list(shape)}; every dimension must be in 1..{MAX_DIMENSION}")
        if total > MAX_DIMENSION and not any(sizes_in(shape)):
            self.fail(f"the result would have shape {list(shape)}: more than {MAX_DIMENSION} elements")
        return OperandDescriptor(data_type, shape)

    def broadcast(self, a: Shape, b: Shape, what: str = "a and b") -> Shape:
        """The spec's bidirectional broadcast."""
        if a == b:
            return a
        short, long = (a, b) if len(a) < len(b) else (b, a)
        out = list(long)
        for i in range(1, len(short) + 1):
            x, y = short[-i], long[-i]
            if x != y and x != 1 and y != 1:
                self.fail(f"shapes {list(a)} and {list(b)} of {what} cannot be broadcast together")
            out[-i] = max(x, y)
        return tuple(out)
