"""Size: a dimension that has a name instead of a number, and what arithmetic makes of it.

A Size is an int, a sample of the numbers that the dimension may have, so that every rule about shapes works on it as it
is; and an expression of named dimensions, which sums, differences, products, quotients, remainders, ``min_size`` and
``max_size`` with integers and other Sizes keep. Equality, order and hash go by the sample.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, SupportsIndex

import numpy as np


@dataclass(frozen=True, slots=True)
class Part:
    """An indivisible piece of an expression: a quotient ("//"), remainder ("%"), "min" or "max" of two others."""

    operation: str
    left: Terms
    right: Terms

    def __str__(self) -> str:
        left, right = text(self.left), text(self.right)
        if self.operation in ("min", "max"):
            return f"{self.operation}({left}, {right})"
        return f"{_in_brackets(left)}{self.operation}{_in_brackets(right)}"


Atom = str | Part
"""A dimension's name, or a part."""
Terms = tuple[tuple[tuple[Atom, ...], int], ...]
"""A polynomial: products of atoms, each with its factor; the product of none is the number alone."""


class Size(int):
    """A dimension known by name: ``print`` shows the expression, ``at`` gives the number for given sizes."""

    terms: Terms
    __array_ufunc__ = None  # numpy's integers leave the arithmetic to this class

    def __new__(cls, sample: int, terms: Terms) -> Size:
        size = super().__new__(cls, sample)
        size.terms = terms
        return size

    @classmethod
    def named(cls, name: str, sample: int) -> Size:
        """The dimension ``name`` itself."""
        return cls(sample, (((name,), 1),))

    def __getnewargs__(self) -> tuple[int, Terms]:  # type: ignore[override]
        return int(self), self.terms

    @property
    def name(self) -> str | None:
        """The dimension's name; None for an expression."""
        if len(self.terms) == 1 and self.terms[0][1] == 1 and len(self.terms[0][0]) == 1:
            (atom,) = self.terms[0][0]
            return atom if isinstance(atom, str) else None
        return None

    @property
    def names(self) -> frozenset[str]:
        """The dimensions in the expression."""
        return frozenset(_names(self.terms))

    def at(self, sizes: Mapping[str, int]) -> int:
        """The value where the dimensions have ``sizes``, which may be Sizes. KeyError names one that has none."""
        return evaluate(self.terms, sizes)

    def sampled(self, sizes: Mapping[str, int]) -> Size:
        """The same expression with the sample that ``sizes`` give."""
        return Size(self.at(sizes), self.terms)

    def __repr__(self) -> str:
        return text(self.terms)

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(text(self.terms), spec)

    # -- arithmetic: the result is a Size, or a number where the names cancel

    def __add__(self, other: Any) -> Any:
        terms = _terms(other)
        return NotImplemented if terms is None else _size(int(self) + int(other), _sum(self.terms, terms))

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        terms = _terms(other)
        if terms is None:
            return NotImplemented
        return _size(int(self) - int(other), _sum(self.terms, _scaled(terms, -1)))

    def __rsub__(self, other: Any) -> Any:
        return (-self) + other

    def __mul__(self, other: Any) -> Any:
        terms = _terms(other)
        return NotImplemented if terms is None else _size(int(self) * int(other), _product(self.terms, terms))

    __rmul__ = __mul__

    def __neg__(self) -> Any:
        return _size(-int(self), _scaled(self.terms, -1))

    def __pos__(self) -> Size:
        return self

    def __floordiv__(self, other: Any) -> Any:
        terms = _terms(other)
        return NotImplemented if terms is None else _size(int(self) // int(other), _quotient(self.terms, terms))

    def __rfloordiv__(self, other: Any) -> Any:
        terms = _terms(other)
        return NotImplemented if terms is None else _size(int(other) // int(self), _quotient(terms, self.terms))

    def __mod__(self, other: Any) -> Any:
        terms = _terms(other)
        return NotImplemented if terms is None else _size(int(self) % int(other), _remainder(self.terms, terms))

    def __rmod__(self, other: Any) -> Any:
        terms = _terms(other)
        return NotImplemented if terms is None else _size(int(other) % int(self), _remainder(terms, self.terms))


def min_size(a: int, b: int) -> int:
    """The lesser of two, as an expression where either is a Size; Python's ``min`` picks one by its sample."""
    return _extreme("min", a, b)


def max_size(a: int, b: int) -> int:
    """The greater of two, as an expression where either is a Size."""
    return _extreme("max", a, b)


def plain(value: SupportsIndex) -> int:
    """A Size as it is, any other integer as an int."""
    return value if isinstance(value, Size) else int(value)


def value_at(value: Any, sizes: Mapping[str, int]) -> Any:
    """``value`` with a number in place of each Size, inside tuples and lists too."""
    if isinstance(value, Size):
        return value.at(sizes)
    if isinstance(value, (tuple, list)) and any(isinstance(item, (Size, tuple, list)) for item in value):
        return type(value)(value_at(item, sizes) for item in value)
    return value


def sampled_at(value: Any, sizes: Mapping[str, int]) -> Any:
    """``value`` with each Size resampled at ``sizes``, inside tuples and lists too."""
    if isinstance(value, Size):
        return value.sampled(sizes)
    if isinstance(value, (tuple, list)):
        return type(value)(sampled_at(item, sizes) for item in value)
    return value


def sizes_in(values: Iterable[Any]) -> Iterator[Size]:
    """Every Size among ``values``, inside tuples and lists too."""
    for value in values:
        if isinstance(value, Size):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from sizes_in(value)


def next_prime(least: int) -> int:
    """The first prime from ``least`` on: a sample that few other sizes equal or divide."""
    while any(least % divisor == 0 for divisor in range(2, math.isqrt(least) + 1)):
        least += 1
    return least


# -- expressions ----------------------------------------------------------------------------


def evaluate(terms: Terms, sizes: Mapping[str, int]) -> int:
    return sum(factor * math.prod(_atom_at(atom, sizes) for atom in atoms) for atoms, factor in terms)


def text(terms: Terms) -> str:
    """``batch``, ``2*batch + 1``, ``(height - 1)//2``."""
    made = ""
    for atoms, factor in sorted(terms, key=lambda term: not term[0]):
        factors = [str(abs(factor))] if abs(factor) != 1 or not atoms else []
        alone = len(factors) + len(atoms) == 1
        factors += [str(atom) if alone or isinstance(atom, str) else _in_brackets(str(atom)) for atom in atoms]
        sign = ("-" if factor < 0 else "") if not made else (" - " if factor < 0 else " + ")
        made += sign + "*".join(factors)
    return made or "0"


def _in_brackets(made: str) -> str:
    return made if made.isalnum() or made.isidentifier() or made.startswith(("min(", "max(")) else f"({made})"


def _atom_at(atom: Atom, sizes: Mapping[str, int]) -> int:
    if isinstance(atom, str):
        return sizes[atom]
    left, right = evaluate(atom.left, sizes), evaluate(atom.right, sizes)
    if atom.operation == "//":
        return left // right
    if atom.operation == "%":
        return left % right
    return _extreme(atom.operation, left, right)


def _names(terms: Terms) -> Iterator[str]:
    for atoms, _ in terms:
        for atom in atoms:
            if isinstance(atom, str):
                yield atom
            else:
                yield from _names(atom.left)
                yield from _names(atom.right)


def _size(value: int, terms: Terms) -> int:
    return Size(value, terms) if any(atoms for atoms, _ in terms) else value


def _terms(value: object) -> Terms | None:
    if isinstance(value, Size):
        return value.terms
    if isinstance(value, (int, np.integer)):
        return (((), int(value)),) if value else ()
    return None


def _collected(terms: Iterable[tuple[tuple[Atom, ...], int]]) -> Terms:
    found: dict[tuple[Atom, ...], int] = {}
    for atoms, factor in terms:
        found[atoms] = found.get(atoms, 0) + factor
    return tuple(sorted(((a, f) for a, f in found.items() if f), key=lambda term: tuple(map(str, term[0]))))


def _sum(a: Terms, b: Terms) -> Terms:
    return _collected((*a, *b))


def _scaled(a: Terms, factor: int) -> Terms:
    return tuple((atoms, factor * old) for atoms, old in a)


def _product(a: Terms, b: Terms) -> Terms:
    return _collected((tuple(sorted((*x, *y), key=str)), f * g) for x, f in a for y, g in b)


def _number(terms: Terms) -> int | None:
    """The value of an expression without names."""
    if not terms:
        return 0
    return terms[0][1] if len(terms) == 1 and not terms[0][0] else None


def _quotient(a: Terms, b: Terms) -> Terms:
    """``a // b``: what ``b`` divides comes out of it; a negated quotient is rounded up, and written so that no
    numerator is negative."""
    divisor = _number(b)
    if divisor is None or divisor < 0:
        if a == b:
            return (((), 1),)
        return (((Part("//", a, b),), 1),)
    whole = tuple((atoms, factor // divisor) for atoms, factor in a if factor % divisor == 0)
    rest = tuple(term for term in a if term[1] % divisor)
    if not any(atoms for atoms, _ in rest):
        return _sum(whole, _constant((_number(rest) or 0) // divisor))
    if all(factor < 0 for atoms, factor in rest if atoms):  # -(-x // d) is (x + d - 1) // d
        upper = _sum(_scaled(rest, -1), _constant(divisor - 1))
        return _sum(whole, _scaled(_quotient(upper, b), -1))
    return _sum(whole, (((Part("//", rest, b),), 1),))


def _remainder(a: Terms, b: Terms) -> Terms:
    divisor = _number(b)
    if divisor is None or divisor < 0:
        return () if a == b else (((Part("%", a, b),), 1),)
    rest = tuple((atoms, factor % divisor) for atoms, factor in a if factor % divisor)
    number = _number(rest)
    return _constant(number % divisor) if number is not None else (((Part("%", rest, b),), 1),)


def _constant(value: int) -> Terms:
    return (((), value),) if value else ()


def _extreme(operation: str, a: int, b: int) -> int:
    value = min(int(a), int(b)) if operation == "min" else max(int(a), int(b))
    if not isinstance(a, Size) and not isinstance(b, Size):
        return value
    left, right = _terms(a), _terms(b)
    assert left is not None and right is not None
    difference = _number(_sum(left, _scaled(right, -1)))
    if difference is not None:
        return a if (difference <= 0) == (operation == "min") else b
    return Size(value, (((Part(operation, left, right),), 1),))
