"""The shapes an engine is built for: ``shapes=`` of the user, a batch of 1 where nothing was said."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..converter.model import OnnxModel, TensorSpec
from ..errors import InputError, UnsupportedModelError
from .base import CompileOptions
from .shapes import Range, contains, hull, resolve_profiles

Profile = Mapping[str, tuple[Range, ...]]
"""By input name, (min, opt, max) of each dimension."""


@dataclass(frozen=True)
class BuildShapes:
    """``inputs`` and ``outputs`` have a number for every dimension that the engine fixes.

    ``profiles`` give (min, opt, max) for all dimensions of all inputs, at least one; ``ranges`` reach over all of them.
    ``profile`` has the inputs that need optimisation profiles; ``notes`` say which sizes were assumed.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    ranges: Profile
    profiles: tuple[Profile, ...]
    profile: tuple[str, ...]
    notes: tuple[str, ...]


def plan_shapes(model: OnnxModel, options: CompileOptions) -> BuildShapes:
    """Raises ValidationError for wrong ``shapes``, UnsupportedModelError naming a dimension nobody gave a size."""
    given = resolve_profiles(model.inputs, options.shapes, options.profiles)
    fixed, notes = _assume_batches(model.inputs, given[0])
    profiles = tuple(
        {
            spec.name: tuple(known or _default(spec, axis, fixed) for axis, known in enumerate(one[spec.name]))
            for spec in model.inputs
        }
        for one in given
    )
    ranges = {name: tuple(one for one in dims if one) for name, dims in hull(profiles).items()}
    sizes = {
        dim: one[0]
        for spec in model.inputs
        for dim, one in zip(spec.shape, ranges[spec.name], strict=True)
        if isinstance(dim, str) and one[0] == one[2]
    }
    inputs = tuple(_pin(spec, ranges[spec.name]) for spec in model.inputs)
    outputs = tuple(
        replace(spec, shape=tuple(sizes.get(dim, dim) if isinstance(dim, str) else dim for dim in spec.shape))
        for spec in model.outputs
    )
    dynamic = tuple(spec.name for spec in model.inputs if not spec.is_static)
    return BuildShapes(inputs, outputs, ranges, profiles, dynamic, notes)


def choose_profile(profiles: Sequence[Profile], shapes: Mapping[str, tuple[int, ...]]) -> int:
    """The profile for these input shapes: the first that is best at them, else the one with the smallest greatest
    shapes of those that take them. Raises InputError when none does; ``ShapeRules`` tells in detail."""
    fitting = [i for i, profile in enumerate(profiles) if contains(profile, shapes)]
    if not fitting:
        listing = ", ".join(f"{name}: {list(shape)}" for name, shape in shapes.items())
        raise InputError(f"none of {len(profiles)} profiles takes the shapes {listing}; compile with one that does")
    for i in fitting:
        if all(tuple(best for _, best, _ in profiles[i][name]) == shape for name, shape in shapes.items()):
            return i
    return min(fitting, key=lambda i: sum(math.prod(one[2] for one in profiles[i][name]) for name in shapes))


def _assume_batches(
    inputs: Sequence[TensorSpec], given: Mapping[str, tuple[Range | None, ...]]
) -> tuple[dict[str, Range], tuple[str, ...]]:
    """Leading dimensions without a size become 1: by symbol, wherever it stands, and the notes that say so."""
    fixed: dict[str, Range] = {}
    notes: dict[str, None] = {}
    for spec in inputs:
        if not spec.shape or given[spec.name][0] is not None:
            continue
        symbol = spec.shape[0]
        if isinstance(symbol, str):
            fixed[symbol] = (1, 1, 1)
            what, key = f"dimension {symbol!r}", f"{{{symbol!r}: N}}"
        else:
            shape = ", ".join(str(dim) if isinstance(dim, int) else "N" for dim in spec.shape)
            what, key = f"dimension 0 of input {spec.name!r}", f"{{{spec.name!r}: [{shape}]}}"
        notes[f"{what} has no size and was compiled as 1; shapes={key} compiles for N, or for a (min, opt, max)"] = None
    return fixed, tuple(notes)


def _default(spec: TensorSpec, axis: int, fixed: Mapping[str, Range]) -> Range:
    dim = spec.shape[axis]
    if isinstance(dim, str) and dim in fixed:
        return fixed[dim]
    if axis == 0:
        return (1, 1, 1)
    if isinstance(dim, str):
        what, key = f"dimension {dim!r} of input {spec.name!r}", f"{{{dim!r}: (1, 128, 512)}}"
    else:
        shape = ", ".join(str(size) if isinstance(size, int) else "(1, 128, 512)" for size in spec.shape)
        what, key = f"dimension {axis} of input {spec.name!r}", f"{{{spec.name!r}: [{shape}]}}"
    raise UnsupportedModelError(
        f"{what} has no size, and TensorRT builds for sizes it is told ({spec}): compile with shapes={key} for a "
        "(min, opt, max) range, or one number for a fixed size"
    )


def _pin(spec: TensorSpec, ranges: tuple[Range, ...]) -> TensorSpec:
    """The spec with a number where the range has one size."""
    sizes = zip(spec.shape, ranges, strict=True)
    return replace(spec, shape=tuple(low if low == high else dim for dim, (low, _, high) in sizes))
