"""Sizes of dynamic dimensions: what ``shapes=`` allows, resolved against a model's inputs, and checked at run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..converter.model import TensorSpec
from ..errors import InputError, ValidationError
from ..types import MAX_DIMENSION

ShapeRange = int | tuple[int, int, int]
"""One size, or (min, opt, max)."""

Range = tuple[int, int, int]

ShapeSizes = Mapping[str, ShapeRange | Sequence[ShapeRange]]
"""Sizes by input name (its whole shape) or by the name of a dimension."""

Ranges = Mapping[str, tuple[Range | None, ...]]
"""By input name, what each dimension may be; None where nothing was said."""


def resolve_profiles(
    inputs: Sequence[TensorSpec], shapes: ShapeSizes, profiles: Sequence[ShapeSizes] = ()
) -> tuple[Ranges, ...]:
    """``resolve_shapes`` for each of ``profiles``; without any, for ``shapes`` alone.

    Raises ValidationError also for a dimension that only some of several profiles give a size.
    """
    if not profiles:
        return (resolve_shapes(inputs, shapes),)
    resolved = []
    for i, one in enumerate(profiles):
        try:
            resolved.append(resolve_shapes(inputs, one))
        except ValidationError as error:
            raise ValidationError(f"profile {i}: {error}" if len(profiles) > 1 else str(error)) from None
    for spec in inputs:
        for axis, dim in enumerate(spec.shape):
            given = [one[spec.name][axis] is not None for one in resolved]
            if any(given) and not all(given):
                what = repr(dim) if isinstance(dim, str) else f"{axis} of input {spec.name!r}"
                raise ValidationError(
                    f"profile {given.index(False)} gives dimension {what} no size, but profile {given.index(True)} "
                    "does; every profile must"
                )
    return tuple(resolved)


def hull(profiles: Sequence[Ranges]) -> dict[str, tuple[Range | None, ...]]:
    """The ranges that reach over all profiles; the best sizes are those of the first."""
    return {
        name: tuple(_over([one[name][axis] for one in profiles]) for axis in range(len(first)))
        for name, first in profiles[0].items()
    }


def _over(ranges: Sequence[Range | None]) -> Range | None:
    known = [one for one in ranges if one is not None]
    return (min(one[0] for one in known), known[0][1], max(one[2] for one in known)) if known else None


def resolve_shapes(inputs: Sequence[TensorSpec], shapes: ShapeSizes) -> dict[str, tuple[Range | None, ...]]:
    """By input name, the (min, opt, max) of each dimension; None for a dynamic one that ``shapes`` says nothing about.

    A key of ``shapes`` is an input's name (its whole shape) or the name of a symbolic dimension (one size). Equal
    symbols are equal sizes, so a symbol that one input's shape fixes is fixed everywhere. Raises ValidationError for an
    unknown key, a rank that differs, a range out of order, and sizes that contradict the model or each other.
    """
    by_name = {spec.name: spec for spec in inputs}
    symbols: dict[str, Range] = {}
    direct: dict[str, list[Range]] = {}
    known_symbols = {dim for spec in inputs for dim in spec.shape if isinstance(dim, str)}
    for key, value in shapes.items():
        spec = by_name.get(key)
        if spec is not None and not isinstance(value, int):
            direct[key] = _whole_shape(spec, value, symbols)
        elif key in known_symbols:
            _tie(symbols, key, _range(f"shapes[{key!r}]", value))
        else:
            dynamic = ", ".join(map(repr, sorted(known_symbols))) or "none"
            listing = ", ".join(map(str, inputs)) or "none"
            raise ValidationError(
                f"shapes names {key!r}, which is neither an input nor a symbolic dimension; inputs: {listing}; "
                f"symbolic dimensions: {dynamic}"
            )
    resolved: dict[str, tuple[Range | None, ...]] = {}
    for spec in inputs:
        given = direct.get(spec.name)
        resolved[spec.name] = tuple(_one(dim, symbols, given[i] if given else None) for i, dim in enumerate(spec.shape))
    return resolved


def _one(dim: int | str | None, symbols: Mapping[str, Range], given: Range | None) -> Range | None:
    if isinstance(dim, int):
        return (dim, dim, dim)
    return symbols.get(dim) if isinstance(dim, str) else given


def _whole_shape(spec: TensorSpec, value: object, symbols: dict[str, Range]) -> list[Range]:
    where = f"shapes[{spec.name!r}]"
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != len(spec.shape):
        raise ValidationError(
            f"{where} must be {len(spec.shape)} sizes, one for each dimension of {spec}; got {value!r}"
        )
    ranges = []
    for i, (dim, size) in enumerate(zip(spec.shape, value, strict=True)):
        one = _range(f"{where}[{i}]", size)
        if isinstance(dim, int) and one != (dim, dim, dim):
            raise ValidationError(f"{where}[{i}] is {_text(one)}, but the model fixes that dimension to {dim} ({spec})")
        if isinstance(dim, str):
            _tie(symbols, dim, one)
        ranges.append(one)
    return ranges


def _tie(symbols: dict[str, Range], symbol: str, one: Range) -> None:
    known = symbols.setdefault(symbol, one)
    if known != one:
        raise ValidationError(
            f"shapes gives dimension {symbol!r} both {_text(known)} and {_text(one)}; equal names are equal"
        )


def _range(where: str, value: object) -> Range:
    sizes = value if isinstance(value, (tuple, list)) else (value, value, value)
    if len(sizes) != 3 or not all(type(n) is int and 1 <= n <= MAX_DIMENSION for n in sizes):
        raise ValidationError(f"{where} must be a size of at least 1 or (min, opt, max), got {value!r}")
    low, best, high = sizes
    if not low <= best <= high:
        raise ValidationError(f"{where}: {tuple(sizes)} is not in order min <= opt <= max")
    return low, best, high


def _text(one: Range) -> str:
    return str(one[0]) if one[0] == one[2] else f"{one[0]}..{one[2]} (best {one[1]})"


class ShapeRules:
    """Checks the shapes of one call: ranks, fixed sizes, ranges, equal symbols being equal, and all in one profile."""

    def __init__(
        self, inputs: Sequence[TensorSpec], resolved: Ranges | None = None, profiles: Sequence[Ranges] = ()
    ) -> None:
        self._specs = {spec.name: spec for spec in inputs}
        self._ranges = resolved or {}
        self._profiles = tuple(profiles) if len(profiles) > 1 else ()

    def check(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
        """The size of each symbol. Raises InputError naming the input and the dimension."""
        symbols: dict[str, tuple[int, str]] = {}
        for name, shape in shapes.items():
            spec = self._specs[name]
            check_shape(spec, shape)
            ranges = self._ranges.get(name)
            for i, (dim, size) in enumerate(zip(spec.shape, shape, strict=True)):
                allowed = ranges[i] if ranges else None
                if allowed is not None and not allowed[0] <= size <= allowed[2]:
                    called = f" ({dim!r})" if isinstance(dim, str) else ""
                    raise InputError(
                        f"input {name!r}: dimension {i}{called} is {size}, outside the compiled {_text(allowed)}; "
                        f"compile with shapes that include it",
                        tensor=name,
                    )
                if isinstance(dim, str):
                    known, first = symbols.setdefault(dim, (size, name))
                    if known != size:
                        raise InputError(
                            f"input {name!r}: dimension {i} ({dim!r}) is {size}, but input {first!r} has {known} there",
                            tensor=name,
                        )
        if self._profiles and not any(contains(profile, shapes) for profile in self._profiles):
            raise self._between(shapes)
        return {symbol: size for symbol, (size, _) in symbols.items()}

    def _between(self, shapes: Mapping[str, tuple[int, ...]]) -> InputError:
        """The error of shapes that no profile takes: the dimension that none takes, else all that are dynamic."""
        listed: dict[str, str] = {}
        for name, shape in shapes.items():
            for axis, size in enumerate(shape):
                ranges = [profile[name][axis] for profile in self._profiles]
                if all(one is None or one[0] == one[2] == size for one in ranges):
                    continue
                dim = self._specs[name].shape[axis]
                called = f" ({dim!r})" if isinstance(dim, str) else ""
                texts = " or ".join("any size" if one is None else _text(one) for one in ranges)
                if not any(one is None or one[0] <= size <= one[2] for one in ranges):
                    return InputError(
                        f"input {name!r}: dimension {axis}{called} is {size}, outside the compiled profiles, which "
                        f"take {texts}; compile with a profile that includes it",
                        tensor=name,
                    )
                key = repr(dim) if isinstance(dim, str) else f"{axis} of {name!r}"
                listed[key] = f"dimension {key} is {size} (profiles: {texts})"
        return InputError(
            f"no profile takes these sizes together: {', '.join(listed.values())}; compile with one that does",
            tensor=next(iter(shapes)),
        )


def contains(profile: Ranges, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether all ``shapes`` are in the ranges of ``profile``."""
    return all(
        one is None or one[0] <= size <= one[2]
        for name, shape in shapes.items()
        for one, size in zip(profile[name], shape, strict=True)
    )


def check_shape(spec: TensorSpec, shape: tuple[int, ...], side: str = "input") -> None:
    """Raise InputError unless rank and fixed sizes are the spec's."""
    if len(shape) != len(spec.shape) or any(dim != size for dim, size in _fixed(spec, shape)):
        raise InputError(f"{side} {spec.name!r} has shape {list(shape)}, expected {spec}", tensor=spec.name)


def _fixed(spec: TensorSpec, shape: tuple[int, ...]) -> Iterator[tuple[int, Any]]:
    return ((dim, size) for dim, size in zip(spec.shape, shape, strict=True) if isinstance(dim, int))
