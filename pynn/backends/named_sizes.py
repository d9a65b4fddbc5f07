"""What a graph with named dimensions is compiled for: names with one size become numbers, and every operator is checked
at the ends of the ranges."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from ..converter.model import TensorSpec
from ..graph import Graph, Operand
from ..ops.dimensions import bind_dimensions
from ..sizes import Size, sizes_in
from .base import CompileOptions
from .shapes import Range, Ranges, resolve_profiles

_MAX_CORNERS = 8


def settle_sizes(graph: Graph, options: CompileOptions) -> tuple[Graph, CompileOptions]:
    """The graph and options with which back ends go on. A static graph stays as it is.

    Raises ValidationError for wrong ``shapes``, and naming the operator whose rules do not hold for sizes in a range.
    """
    if not graph.dimensions:
        return graph, options
    specs = tuple(_spec(name, operand) for name, operand in graph.inputs.items())
    given = [_by_name(specs, one) for one in resolve_profiles(specs, options.shapes, options.profiles)]
    samples = {size.name: size for size in sizes_in(x.shape for x in graph.inputs.values()) if size.name is not None}
    for sizes in dict.fromkeys(corner for ranges in given for corner in _corners(ranges)):
        bind_dimensions(graph, {**samples, **dict(sizes)})
    fixed = {name: one[0] for name, one in given[0].items() if one[0] == one[2] and all(g[name] == one for g in given)}
    if not fixed:
        return graph, options
    rest = tuple({name: one for name, one in ranges.items() if name not in fixed} for ranges in given)
    bound = bind_dimensions(graph, {**samples, **fixed})
    return bound, replace(options, shapes=rest[0], profiles=rest if len(rest) > 1 else ())


def _spec(name: str, operand: Operand) -> TensorSpec:
    shape = tuple(dim.name if isinstance(dim, Size) else dim for dim in operand.shape)
    return TensorSpec(name, name, operand.data_type.value, shape)


def _by_name(specs: Sequence[TensorSpec], ranges: Ranges) -> dict[str, Range]:
    dims = ((dim, one) for spec in specs for dim, one in zip(spec.shape, ranges[spec.name], strict=True))
    return {dim: one for dim, one in dims if isinstance(dim, str) and one is not None}


def _corners(ranges: Mapping[str, Range]) -> Iterator[tuple[tuple[str, int], ...]]:
    """The best sizes, and the ends in all combinations; of many dimensions the least and the greatest alone."""
    ends = [sorted({one[0], one[2]}) for one in ranges.values()]
    few = 2 ** len(ends) <= _MAX_CORNERS
    yield tuple((name, one[1]) for name, one in ranges.items())
    for sizes in itertools.product(*ends) if few else ([one[0] for one in ends], [one[-1] for one in ends]):
        yield tuple(zip(ranges, sizes, strict=True))
