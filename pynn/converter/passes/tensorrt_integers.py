"""Narrow and unsigned integers inside TensorRT: what type carries them, and how their arithmetic stays exact.

A value of a type that TensorRT lacks is *carried* by one it has: types of up to 16 bits by int32, uint32 by int64, each
as the number itself, always within its own range; uint64 by int64, as the same 64 bits. After arithmetic ``wrap``
brings it back into range, modulo two to the bits. Order on uint64 is by signed order and sign bits: adding a bias of
2^63 to both sides is folded away by TensorRT's compiler on a real GPU, and gives wrong answers.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...ops.emitter import Tensor
from . import Rewriter

CARRIERS = {
    "uint8": "int32", "int8": "int32", "uint16": "int32", "int16": "int32", "uint32": "int64", "uint64": "int64",
    "int4": "int32", "uint4": "int32",
}  # fmt: skip
"""The type inside the graph of each type that TensorRT cannot compute with."""

_BITS = {f"{sign}int{bits}": bits for bits in (4, 8, 16, 32, 64) for sign in ("", "u")}
_TOP = 2**63


def integer_range(data_type: str) -> tuple[int, int]:
    """The least and the greatest number of an integer type."""
    bits = _BITS[data_type]
    return (0, 2**bits - 1) if data_type.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def compare(e: Rewriter, op_type: str, a: Tensor, b: Tensor) -> Tensor:
    """A comparison or logical operator with the broadcast shape, as bool."""
    return e.op(op_type, a, b, data_type="bool", shape=broadcast(a.shape, b.shape))


def broadcast(*shapes: Sequence[int]) -> tuple[int, ...]:
    """The common shape of shapes known to be compatible."""
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(shape)) + tuple(shape) for shape in shapes]
    return tuple(next((d for d in dims if d != 1), 1) for dims in zip(*padded, strict=True))


def binary(e: Rewriter, op_type: str, a: Tensor, b: Tensor | int) -> Tensor:
    """An arithmetic operator with the broadcast shape; a number becomes a scalar of the other side's type."""
    other = e.scalar(b, a.data_type) if isinstance(b, int) else b
    return e.op(op_type, a, other, shape=broadcast(a.shape, other.shape))


def select(e: Rewriter, condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return e.op("Where", condition, a, b, data_type=a.data_type, shape=broadcast(condition.shape, a.shape, b.shape))


def wrap(e: Rewriter, x: Tensor, data_type: str) -> Tensor:
    """``x``, int32 or int64, brought into the range of ``data_type`` modulo two to its bits; the type stays."""
    if _BITS[data_type] >= _BITS[x.data_type]:
        return x
    modulus = 2 ** _BITS[data_type]
    low = binary(e, "Mod", x, modulus)
    if data_type.startswith("u"):
        return low
    negative = compare(e, "GreaterOrEqual", low, e.scalar(modulus // 2, x.data_type))
    return select(e, negative, binary(e, "Sub", low, modulus), low)


def to_integer(e: Rewriter, x: Tensor, source: str, target: str) -> Tensor:
    """A carrier of integer type ``source`` as a carrier (or the plain value) of integer type ``target``."""
    wanted = CARRIERS.get(target, target)
    low, high = integer_range(source)
    fits = integer_range(target)[0] <= low and high <= integer_range(target)[1]
    if wanted == "int64":
        x = e.cast(x, wanted)
    if not fits or (source == "uint64" and target != "uint64"):
        x = wrap(e, x, target)
    return e.cast(x, wanted)


def float_to_integer(e: Rewriter, x: Tensor, target: str) -> Tensor:
    """Truncate floats to a carrier of ``target``; numbers out of its range give any number within."""
    if target != "uint64":
        return wrap(e, e.cast(x, CARRIERS[target]), target)
    wide = e.cast(x, "float32")
    top = e.scalar(float(_TOP), "float32")
    large = compare(e, "GreaterOrEqual", wide, top)
    rest = e.op("Where", large, e.op("Sub", wide, top), wide, data_type="float32", shape=wide.shape)
    part = e.cast(rest, "int64")
    return select(e, large, binary(e, "Add", part, -_TOP), part)


def integer_to_float(e: Rewriter, x: Tensor, source: str, target: str) -> Tensor:
    """A carrier of ``source`` as floats, rounded once."""
    if source != "uint64":
        return e.cast(x, target)
    half = _unsigned_half(e, x)
    odd = binary(e, "Mod", x, 2)
    even_half = binary(e, "Sub", half, binary(e, "Mod", half, 2))
    sticky = binary(e, "Add", even_half, binary(e, "Max", odd, binary(e, "Mod", half, 2)))
    doubled = e.op("Mul", e.cast(sticky, "float32"), e.scalar(2.0, "float32"))
    plain = e.cast(x, "float32")
    return e.cast(select(e, _is_negative(e, x), doubled, plain), target)


def _is_negative(e: Rewriter, x: Tensor) -> Tensor:
    return compare(e, "Less", x, e.scalar(0, x.data_type))


def unsigned_less(e: Rewriter, a: Tensor, b: Tensor) -> Tensor:
    """``a < b`` for uint64 carriers: signed order, turned round where the sign bits differ."""
    signed = compare(e, "Less", a, b)
    differ = compare(e, "Xor", _is_negative(e, a), _is_negative(e, b))
    return compare(e, "Xor", signed, differ)


def unsigned_extreme(e: Rewriter, values: Sequence[Tensor], *, largest: bool) -> Tensor:
    """Max or Min of any number of uint64 carriers."""
    result = values[0]
    for value in values[1:]:
        less = unsigned_less(e, result, value)
        result = select(e, less, value, result) if largest else select(e, less, result, value)
    return result


def _unsigned_half(e: Rewriter, x: Tensor) -> Tensor:
    """A uint64 carrier shifted right by one bit: in 0 .. 2^63-1."""
    floor = binary(e, "Div", binary(e, "Sub", x, binary(e, "Mod", x, 2)), 2)
    shifted = binary(e, "Add", binary(e, "Add", floor, 2**62), 2**62)
    return select(e, _is_negative(e, x), shifted, floor)


def unsigned_divide(e: Rewriter, a: Tensor, b: Tensor) -> Tensor:
    """Quotient of uint64 carriers: divide half of ``a``, double, correct by one. A divisor of 2^63 or more goes once or
    never."""
    at_most_once = e.cast(e.op("Not", unsigned_less(e, a, b), data_type="bool"), "int64")
    twice = binary(e, "Mul", binary(e, "Div", _unsigned_half(e, a), b), 2)
    rest = binary(e, "Sub", a, binary(e, "Mul", twice, b))
    fits = e.cast(e.op("Not", unsigned_less(e, rest, b), data_type="bool"), "int64")
    return select(e, _is_negative(e, b), at_most_once, binary(e, "Add", twice, fits))


def unsigned_halves(e: Rewriter, x: Tensor) -> tuple[Tensor, Tensor]:
    """A uint64 carrier as its high and low 32 bits, each in 0 .. 2^32-1."""
    low = binary(e, "Mod", x, 2**32)
    high = binary(e, "Mod", binary(e, "Div", binary(e, "Sub", x, low), 2**32), 2**32)
    return high, low


def from_halves(e: Rewriter, high: Tensor, low: Tensor) -> Tensor:
    """The uint64 carrier of two halves."""
    return binary(e, "Add", binary(e, "Mul", wrap(e, high, "int32"), 2**32), low)


def integer_power(e: Rewriter, base: Tensor, exponent: Tensor) -> Tensor:
    """``base ** exponent`` on int32 or int64 by squaring: exact modulo two to the bits for exponents in 0 .. 63.

    A larger one overflows, and gives any number, unless the base is 0, 1 or -1, for which 62 and 63 do as well. A
    negative exponent gives any number.
    """
    known = e.constant_value(exponent)
    if known is not None and known.size == 1 and 0 <= int(known.reshape(-1)[0]) <= 64:
        return _constant_power(e, base, int(known.reshape(-1)[0]), broadcast(base.shape, exponent.shape))
    left = e.cast(exponent, base.data_type)
    parity = binary(e, "Add", binary(e, "Mod", left, 2), 62)
    left = select(e, compare(e, "Greater", left, e.scalar(63, left.data_type)), parity, left)
    result = e.scalar(1, base.data_type)
    power = base
    for bit in range(6):
        odd = compare(e, "Equal", binary(e, "Mod", left, 2), e.scalar(1, left.data_type))
        result = select(e, odd, binary(e, "Mul", power, result), result)
        if bit < 5:
            power = binary(e, "Mul", power, power)
            left = binary(e, "Div", left, 2)
    return result


def _constant_power(e: Rewriter, base: Tensor, exponent: int, shape: tuple[int, ...]) -> Tensor:
    result: Tensor | None = None
    power = base
    while exponent:
        if exponent & 1:
            result = power if result is None else binary(e, "Mul", result, power)
        exponent >>= 1
        if exponent:
            power = binary(e, "Mul", power, power)
    one = e.scalar(1, base.data_type)
    if result is None:
        return e.op("Expand", one, e.ints(shape), shape=shape)
    return result if result.shape == shape else e.op("Expand", result, e.ints(shape), shape=shape)
